"""Losses of embeddings with classes as Keras classes."""

from typing import Any

import keras

from tfrankloss import errors, functional, inputs
from tfrankloss.functional.lists import computing_dtype
from tfrankloss.functional.metric_learning import check_classes, check_pairs_of_embeddings
from tfrankloss.functional.similarity import SIMILARITIES
from tfrankloss.losses.base import RankingLoss, Tensor


@keras.saving.register_keras_serializable(package="tfrankloss")
class NPairLoss(RankingLoss):
    """Softmax of each row's positive against the positives of other classes: ``functional.n_pair_loss``.

    ``y_pred`` is (B, 2, D), anchor (or query) and positive of each row, as a two-tower model gives them in its in-batch
    mode. ``y_true`` is (B,) or (B, 1), the integer class of each row; a negative one marks a padded row.
    ``sample_weight`` is (B,).

    Args:
        similarity: "dot", "cosine" or "euclidean".
        embedding_penalty: Weight of the mean squared length of a row's two embeddings, of at least 0; Sohn's
            regularisation.
        temperature: Divides the similarities; greater than 0.
        reduction: As in ``keras.losses.Loss``, over rows.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``.

    Raises:
        ValueError: If an argument has a wrong value.

    Example:
        >>> from tfrankloss import NPairLoss
        >>> embeddings = [[[1.0, 0.0], [1.0, -1.0]], [[0.0, 1.0], [-1.0, 1.0]]]
        >>> print(round(float(NPairLoss()([7, 8], embeddings)), 6))
        0.126928
    """

    def __init__(
        self,
        similarity: str = "dot",
        embedding_penalty: float = 0.0,
        temperature: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "n_pair_loss",
        dtype: Any = None,
    ):
        errors.check_choice("similarity", similarity, SIMILARITIES)
        errors.check_not_negative("embedding_penalty", embedding_penalty)
        super().__init__(
            similarity=similarity,
            embedding_penalty=embedding_penalty,
            temperature=temperature,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )
        self.similarity = similarity

    def list_losses(self, y_true: Any, y_pred: Any, sample_weight: Any) -> tuple[Tensor, Tensor | None]:
        """The loss (B,) of each row, and the weights (B,) of the rows."""
        batch = inputs.read_rows(y_true, y_pred, sample_weight, computing_dtype(self.dtype))
        check_classes("y_true", batch.targets)
        check_pairs_of_embeddings("y_pred", batch.predictions.shape)
        if batch.targets.shape[1] not in (1, None):
            raise ValueError(
                f"`y_true` must have shape (batch,) or (batch, 1). Received: y_true.shape={tuple(batch.targets.shape)}"
            )
        return self.item_losses(batch.targets[:, 0], batch.predictions, batch.mask), batch.row_weights

    def item_losses(self, labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        """The loss (B,) of each row from its class and its (2, D) embeddings."""
        return functional.n_pair_loss(labels, scores, mask, temperature=self.temperature, **self.settings)
