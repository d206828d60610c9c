"""In-batch losses as Keras classes."""

from typing import Any

import keras
from keras import ops

from tfrankloss import errors, functional, inputs
from tfrankloss.functional.in_batch import DUPLICATES
from tfrankloss.functional.lists import computing_dtype
from tfrankloss.functional.similarity import SIMILARITIES
from tfrankloss.losses.base import RankingLoss, Tensor

TARGETS = ("relevance", "candidate_ids")
# A batch of up to this many rows has all its scores at once.
ROWS_AT_ONCE = 512


@keras.saving.register_keras_serializable(package="tfrankloss")
class InBatchSoftmaxLoss(RankingLoss):
    """Softmax over all candidates of the batch, each row's own one being right: ``functional.in_batch_softmax_loss``.

    ``y_pred`` is (B, 2 + K, D): query, candidate and K explicit negatives of each row, as a two-tower model gives them
    in its in-batch mode; or (B, B + K) scores. ``y_true`` is (B,) or (B, 1): relevance, where rows above 0 count and
    rows below 0 are padding; or with ``targets="candidate_ids"`` the integer ids of the candidates, by which accidental
    hits are found ((B, 1 + K) to know the explicit negatives too; a negative id is a padded row). ``sample_weight`` is
    (B,).

    Args:
        targets: What ``y_true`` holds, "relevance" or "candidate_ids".
        similarity: "dot", "cosine" or "euclidean", for embeddings. A two-tower model with "cosine" has normalized its
            embeddings already and takes "dot" as well.
        duplicates: What columns with the row's own candidate are, where ids are known: "mask" leaves them out,
            "positive" adds their probability to the candidate's own, "negative" keeps them as negatives.
        chunk_size: Queries of embeddings to take at a time, so that there is no (B, B) tensor; None takes all of a
            batch that is known to have at most 512 rows, and otherwise as many as fit a few megabytes.
        temperature: Divides the scores; greater than 0.
        reduction: As in ``keras.losses.Loss``, over rows.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``.

    Raises:
        ValueError: If an argument has a wrong value.
        TypeError: If ``chunk_size`` is not an integer.

    Example:
        >>> from tfrankloss import InBatchSoftmaxLoss
        >>> embeddings = [[[1.0, 0.0], [1.0, -1.0]], [[0.0, 1.0], [-1.0, 1.0]]]
        >>> print(round(float(InBatchSoftmaxLoss()([1.0, 1.0], embeddings)), 6))
        0.126928
    """

    def __init__(
        self,
        targets: str = "relevance",
        similarity: str = "dot",
        duplicates: str = "mask",
        chunk_size: int | None = None,
        temperature: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "in_batch_softmax_loss",
        dtype: Any = None,
    ):
        errors.check_choice("targets", targets, TARGETS)
        errors.check_choice("similarity", similarity, SIMILARITIES)
        errors.check_choice("duplicates", duplicates, DUPLICATES)
        errors.check_positive_integer("chunk_size", chunk_size, optional=True)
        super().__init__(
            targets=targets,
            similarity=similarity,
            duplicates=duplicates,
            chunk_size=chunk_size,
            temperature=temperature,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )
        self.similarity = similarity

    def list_losses(self, y_true: Any, y_pred: Any, sample_weight: Any) -> tuple[Tensor, Tensor | None]:
        """The loss (B,) of each row, and the weights (B,) of the rows."""
        batch = inputs.read_rows(y_true, y_pred, sample_weight, computing_dtype(self.dtype))
        predictions = batch.predictions
        ids: dict[str, Tensor] = {}
        labels = batch.targets[:, 0]
        if self.settings["targets"] == "candidate_ids":
            ids = self._read_ids(batch.targets, predictions)
            labels = ops.ones_like(labels)
        elif batch.targets.shape[1] not in (1, None):
            raise ValueError(
                f"`y_true` must have shape (batch,) or (batch, 1). Received: y_true.shape={tuple(batch.targets.shape)}"
            )
        duplicates = self.settings["duplicates"]
        if len(predictions.shape) == 3 and self._in_chunks(predictions.shape[0]):
            chosen = {key: self.settings[key] for key in ("similarity", "duplicates", "chunk_size")}
            values = functional.in_batch_embedding_loss(
                labels, predictions, batch.mask, temperature=self.temperature, **chosen, **ids
            )
        else:
            if len(predictions.shape) == 3:
                predictions = functional.in_batch_scores(predictions, similarity=self.similarity)
            scores = predictions / self.temperature
            values = functional.in_batch_softmax_loss(labels, scores, batch.mask, duplicates=duplicates, **ids)
        return values, batch.row_weights

    def _in_chunks(self, rows: int | None) -> bool:
        return self.settings["chunk_size"] is not None or rows is None or rows > ROWS_AT_ONCE

    def item_losses(self, labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        """The loss (B,) of each row from (B, B) scores."""
        return functional.in_batch_softmax_loss(labels, scores, mask, duplicates=self.settings["duplicates"])

    @staticmethod
    def _read_ids(targets: Tensor, predictions: Tensor) -> dict[str, Tensor]:
        if "int" not in str(targets.dtype):
            raise TypeError(
                '`y_true` must hold integers with targets="candidate_ids": floats cannot tell large ids apart. '
                f"Received: y_true.dtype={keras.backend.standardize_dtype(targets.dtype)}"
            )
        if targets.shape[1] == 1:
            return {"candidate_ids": targets[:, 0]}
        rows, width, *dimension = predictions.shape
        # Embeddings (B, 2 + K, D) tell K whatever the batch; of scores (B, B + K) both lengths must be known.
        before = 2 if dimension else rows
        extra = None if width is None or before is None else width - before
        if extra is not None and extra != targets.shape[1] - 1:
            raise ValueError(
                f"`y_true` must have shape (batch,), (batch, 1) or an id for each explicit negative too, "
                f"(batch, {1 + extra}). Received: y_true.shape={tuple(targets.shape)}"
            )
        return {"candidate_ids": targets[:, 0], "negative_ids": targets[:, 1:]}
