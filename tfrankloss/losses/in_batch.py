"""In-batch losses as Keras classes."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from tfrankloss import errors, functional, inputs
from tfrankloss.distribution import replicas
from tfrankloss.functional.in_batch_rows import DUPLICATES, RELEVANCE, check_smoothing
from tfrankloss.functional.lists import computing_dtype
from tfrankloss.functional.similarity import SIMILARITIES
from tfrankloss.losses.base import RankingLoss, Tensor

TARGETS = ("relevance", "candidate_ids")
PROBABILITY_COLUMNS = (None, "targets", "embeddings")
# A batch of up to this many rows has all its scores at once.
ROWS_AT_ONCE = 512


@keras.saving.register_keras_serializable(package="tfrankloss")
class InBatchSoftmaxLoss(RankingLoss):
    """Softmax over all candidates of the batch, each row's own one being right: ``functional.in_batch_softmax_loss``.

    ``y_pred`` is (B, 2 + K, D): query, candidate and K explicit negatives of each row, as a two-tower model gives them
    in its in-batch mode; or (B, B + K) scores. ``y_true`` is (B,) or (B, 1): relevance, where rows above 0 count and
    rows below 0 are padding; or with ``targets="candidate_ids"`` the integer ids of the candidates, by which accidental
    hits are found ((B, 1 + K) to know the explicit negatives too; a negative id is a padded row). Ids may be of any
    size, so hashes of strings will do (`tf.strings.to_hash_bucket_fast`; below 2^31 on JAX). ``sample_weight`` is (B,).
    With every option off this is a softmax cross entropy, its mean taken over rows. Embeddings with NaN, other than
    those of padded rows, give a loss of NaN, so that `keras.callbacks.TerminateOnNaN` stops a training.

    Args:
        targets: What ``y_true`` holds, "relevance" or "candidate_ids".
        similarity: "dot", "cosine" or "euclidean", for embeddings. A two-tower model with "cosine" has normalized its
            embeddings already and takes "dot" as well.
        duplicates: What columns with the row's own candidate are, where ids are known: "mask" leaves them out,
            "positive" adds their probability to the candidate's own, "negative" keeps them as negatives.
        candidate_probability: By what probability a candidate comes to be in a batch, whose logarithm is taken from its
            scores, so that popular candidates are not punished for being negatives often (log Q). A table of
            probabilities in (0, 1] by id, which needs ``targets="candidate_ids"`` and is kept in the config; "targets"
            where relevances in ``y_true`` are followed by the probability of the own candidate and of each explicit
            negative, (B, 2 + K); "embeddings" where the last coordinate of embeddings is the logarithm of the
            probability, as `two_tower(candidate_probability=)` puts it there (that of queries is not looked at).
            Columns that hold no probabilities are an error where values can be seen; in a compiled graph they make the
            loss NaN.
        known_positives: Which candidates are no negatives of a row since they are known to be right for it. A number P:
            the last P columns of ``y_true`` are their ids, filled up with negative numbers. Or a table (rows, P) of
            such ids, kept in the config, whose row is named by the last column of ``y_true``. Needs
            ``targets="candidate_ids"``.
        shared_negatives: Whether the explicit negatives of each row are negatives of all rows: mixed negative sampling.
        hardest_negatives: How many negatives of a row count, those with the highest scores; None for all.
        label_smoothing: The share of the target that goes to all columns of a row alike, at least 0 and below 1.
        margin: What is taken from the similarities of positives, at least 0.
        symmetric: Whether candidates look for their queries as well: the mean of both losses.
        relevance: What relevance does: "mask" counts rows above 0 alike, "weight" multiplies their losses by it.
        chunk_size: Queries of embeddings to take at a time, so that there is no (B, B) tensor; None takes all of a
            batch that is known to have at most 512 rows, and otherwise as many as fit a few megabytes.
        temperature: Divides the scores; greater than 0. `layers.LearnedTemperature` has one that is learned.
        reduction: As in ``keras.losses.Loss``, over rows.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``.

    Raises:
        ValueError: If an argument has a wrong value.
        TypeError: If ``chunk_size`` or ``hardest_negatives`` is not an integer, or ``symmetric`` or
            ``shared_negatives`` is no boolean.

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
        candidate_probability: Any = None,
        known_positives: Any = None,
        shared_negatives: bool = False,
        hardest_negatives: int | None = None,
        label_smoothing: float = 0.0,
        margin: float = 0.0,
        symmetric: bool = False,
        relevance: str = "mask",
        chunk_size: int | None = None,
        temperature: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "in_batch_softmax_loss",
        dtype: Any = None,
    ):
        errors.check_choice("targets", targets, TARGETS)
        errors.check_choice("similarity", similarity, SIMILARITIES)
        errors.check_choice("duplicates", duplicates, DUPLICATES)
        errors.check_bool("shared_negatives", shared_negatives)
        errors.check_positive_integer("hardest_negatives", hardest_negatives, optional=True)
        check_smoothing(label_smoothing)
        errors.check_not_negative("margin", margin)
        errors.check_bool("symmetric", symmetric)
        errors.check_choice("relevance", relevance, RELEVANCE)
        errors.check_positive_integer("chunk_size", chunk_size, optional=True)
        super().__init__(
            targets=targets,
            similarity=similarity,
            duplicates=duplicates,
            candidate_probability=_read_probabilities(candidate_probability, targets),
            known_positives=_read_known(known_positives, targets),
            shared_negatives=shared_negatives,
            hardest_negatives=hardest_negatives,
            label_smoothing=label_smoothing,
            margin=margin,
            symmetric=symmetric,
            relevance=relevance,
            chunk_size=chunk_size,
            temperature=temperature,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )
        self.similarity = similarity
        self._past_rows: Any = None

    @contextlib.contextmanager
    def beside(self, past_rows: Any) -> Iterator[None]:
        """While this lasts, rows of past batches take part as candidates, and those of the batch are put in front.

        Args:
            past_rows: Has ``rows()``, the ids (Q,), embeddings (Q, 2, D) and mask (Q,) of past rows, and
                ``add(ids, embeddings, mask)``, as a two-tower model with ``queue_size`` has them.

        Raises:
            ValueError: If a setting needs to know more of rows than that.
        """
        self.check_past_rows()
        self._past_rows = past_rows
        try:
            yield
        finally:
            self._past_rows = None

    def check_past_rows(self) -> None:
        """Raise unless the settings allow rows of past batches."""
        for name, without in (("candidate_probability", "targets"), ("shared_negatives", True)):
            given = self.settings[name]
            if isinstance(given, (str, bool)) and given == without:
                raise ValueError(
                    f"`{name}` must not be {without!r} beside rows of past batches, of which it is not known. "
                    f"Received: {name}={given!r}"
                )

    def list_losses(self, y_true: Any, y_pred: Any, sample_weight: Any) -> tuple[Tensor, Tensor | None]:
        """The loss (B,) of each row, and the weights (B,) of the rows."""
        batch = inputs.read_rows(y_true, y_pred, sample_weight, computing_dtype(self.dtype))
        given: dict[str, Any] = {}
        gathered = len(batch.predictions.shape) == 3 and replicas.on_several_replicas()
        if gathered and self._past_rows is not None:
            raise ValueError("`queue_size` must be None where several replicas train. Received: rows of past batches")
        if gathered:
            given["own_rows"] = ops.shape(batch.predictions)[0]
            batch = batch._replace(**replicas.gather_rows(batch.targets, batch.predictions, batch.mask))
        if self._past_rows is not None:
            given["own_rows"] = ops.shape(batch.predictions)[0]
            batch = batch._replace(**self._with_past_rows(batch))
        predictions = batch.predictions
        if isinstance(self.settings["candidate_probability"], str):
            predictions, targets, columns = self._split_probabilities(predictions, batch.targets)
            given["log_probabilities"] = self._logs(columns, batch.mask)
            batch = batch._replace(targets=targets)
        labels = batch.targets[:, 0]
        if self.settings["targets"] == "candidate_ids":
            given.update(self._read_ids(batch.targets, predictions))
            labels = ops.ones_like(labels)
        elif batch.targets.shape[1] not in (1, None):
            raise ValueError(
                f"`y_true` must have shape (batch,) or (batch, 1). Received: y_true.shape={tuple(batch.targets.shape)}"
            )
        if given.get("own_rows") is not None or (len(predictions.shape) == 3 and self._in_chunks(predictions.shape[0])):
            options = {**self._options(1.0), "similarity": self.similarity, "chunk_size": self.settings["chunk_size"]}
            values = functional.in_batch_embedding_loss(
                labels, predictions, batch.mask, temperature=self.temperature, **options, **given
            )
        else:
            if len(predictions.shape) == 3:
                shared = self.settings["shared_negatives"]
                predictions = functional.in_batch_scores(
                    predictions, similarity=self.similarity, shared_negatives=shared
                )
            values = functional.in_batch_softmax_loss(
                labels, predictions / self.temperature, batch.mask, **self._options(self.temperature), **given
            )
        return values, batch.row_weights

    def reduce(self, values: Tensor, weights: Tensor | None) -> Tensor:
        """The losses (B,) of rows reduced, over the rows of all replicas where there are several."""
        if replicas.on_several_replicas():
            return replicas.reduce_rows(values, weights, self.reduction)
        return super().reduce(values, weights)

    def _in_chunks(self, rows: int | None) -> bool:
        return self.settings["chunk_size"] is not None or rows is None or rows > ROWS_AT_ONCE

    def _options(self, temperature: float) -> dict[str, Any]:
        """Settings of the functions, with the margin as that of scores divided by ``temperature``."""
        names = ("duplicates", "shared_negatives", "hardest_negatives", "label_smoothing", "symmetric", "relevance")
        return {**{name: self.settings[name] for name in names}, "margin": self.settings["margin"] / temperature}

    def item_losses(self, labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        """The loss (B,) of each row from (B, B) scores."""
        return functional.in_batch_softmax_loss(labels, scores, mask, **self._options(self.temperature))

    def _with_past_rows(self, batch: inputs.RowBatch) -> dict[str, Tensor]:
        """Targets, predictions and mask with those of past rows behind them."""
        errors.check_rank("y_pred", batch.predictions.shape, 3, "(batch, 2 + negatives, dimension)")
        ids, embeddings, mask = self._past_rows.rows()
        # What is not kept of them is of no row and never looked at: explicit negatives, and known positives.
        first = (
            ops.cast(ids, batch.targets.dtype) if self.settings["targets"] == "candidate_ids" else ops.ones_like(ids)
        )
        found = {"mask": ops.concatenate([batch.mask, mask], axis=0)}
        for name, new, value in (("targets", first[:, None], -1), ("predictions", embeddings, 0)):
            own = getattr(batch, name)
            rows, columns, *others = ops.shape(new)
            new = ops.cast(new, own.dtype)
            filling = ops.full((rows, ops.shape(own)[1] - columns, *others), value, dtype=own.dtype)
            found[name] = ops.concatenate([own, ops.concatenate([new, filling], axis=1)], axis=0)
        # Last, as TensorFlow reads variables where they are used.
        self._past_rows.add(batch.targets[:, 0], batch.predictions[:, :2], batch.mask)
        return found

    def _split_probabilities(self, predictions: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Predictions and targets (B, T) without the columns of probabilities, and these (B, 1 + K)."""
        if self.settings["candidate_probability"] == "embeddings":
            errors.check_rank("y_pred", predictions.shape, 3, '(batch, 2 + negatives, dimension) with "embeddings"')
            return predictions[:, :, :-1], targets, predictions[:, 1:, -1]
        explicit = _explicit_negatives(predictions.shape, self.settings["shared_negatives"])
        if targets.shape[1] is not None and explicit is not None and targets.shape[1] != 2 + explicit:
            raise ValueError(
                "`y_true` must hold relevance and the probabilities of the own candidate and of each explicit "
                f"negative, (batch, {2 + explicit}). Received: y_true.shape={tuple(targets.shape)}"
            )
        return predictions, targets[:, :1], ops.cast(targets[:, 1:], predictions.dtype)

    def _logs(self, columns: Tensor, mask: Tensor) -> Tensor:
        """Logarithms (B, 1 + K) of the columns given: an error if any is of no probability, or NaN in a graph."""
        if self.settings["candidate_probability"] == "embeddings":
            argument, rule = "y_pred", "logarithms of probabilities, finite and at most 0, as last coordinates"
            right, logs = ops.logical_and(ops.isfinite(columns), columns <= 0), columns
        else:
            argument, rule = "y_true", "probabilities, greater than 0 and at most 1, behind the relevance"
            right = ops.logical_and(columns > 0, columns <= 1)
            logs = ops.log(ops.where(right, columns, 1.0))
        right = ops.logical_or(right, ops.logical_not(mask)[:, None])
        seen = inputs.concrete(right)
        if seen is not None and not seen.all():
            values = ops.convert_to_numpy(columns)
            row, column = np.argwhere(~seen)[0]
            # Keras learns the shapes of a model on torch from a batch of ones, which is no fault of the caller.
            if np.any(values != 1):
                raise ValueError(f"`{argument}` must hold {rule}. Received: {values[row, column]:g} in row {row}")
        # All of them, or the hardest negatives of a row might leave out the wrong ones.
        return ops.where(ops.all(right), logs, float("nan"))

    def _read_ids(self, targets: Tensor, predictions: Tensor) -> dict[str, Tensor]:
        """Ids, and what tables say of them, from targets (B, T)."""
        if replicas.in_symbolic_build():
            targets = ops.cast(targets, "int64")
        if "int" not in str(targets.dtype):
            raise TypeError(
                '`y_true` must hold integers with targets="candidate_ids": floats cannot tell large ids apart. '
                f"Received: y_true.dtype={keras.backend.standardize_dtype(targets.dtype)}"
            )
        known = self.settings["known_positives"]
        behind = 0 if known is None else known if isinstance(known, int) else 1
        width = targets.shape[1]
        # Embeddings (B, 2 + K, D) tell K whatever the batch; of scores (B, B + K) both lengths must be known.
        extra = _explicit_negatives(predictions.shape, self.settings["shared_negatives"])
        if width is not None and (width <= behind or (extra is not None and width - behind not in (1, 1 + extra))):
            also = f" and {behind} of known positives behind them" if behind else ""
            raise ValueError(
                "`y_true` must have shape (batch,), (batch, 1) or an id for each explicit negative too, "
                f"(batch, {1 + (extra or 0)}){also}. Received: y_true.shape={tuple(targets.shape)}"
            )
        ids, last = targets, targets[:, :0]
        if behind:
            ids, last = targets[:, :-behind], targets[:, -behind:]
        found = {"candidate_ids": ids[:, 0]}
        if ids.shape[1] != 1:
            found["negative_ids"] = ids[:, 1:]
        if known is not None:
            # Of padding, and of past rows, none are known.
            found["known_positives"] = (
                last if isinstance(known, int) else ops.where(last >= 0, _from_table(known, last[:, 0]), -1)
            )
        table = self.settings["candidate_probability"]
        if isinstance(table, np.ndarray):
            if extra and ids.shape[1] == 1:
                raise ValueError(
                    "`y_true` must hold the ids of explicit negatives too, whose probabilities are to be found. "
                    f"Received: y_true.shape={tuple(targets.shape)}"
                )
            found["log_probabilities"] = _from_table(np.log(table).astype(computing_dtype(self.dtype)), ids)
        return found


def _explicit_negatives(shape: errors.Shape, shared: bool) -> int | None:
    """How many explicit negatives each row has, by the shape of the predictions; None where it does not tell."""
    rows, width, *dimension = shape
    if dimension:
        return None if width is None else width - 2
    if width is None or rows is None:
        return None
    return width // rows - 1 if shared else width - rows


def _from_table(table: np.ndarray, ids: Tensor) -> Tensor:
    """The entries of a table for ids, of which negative ones are of padded rows."""
    return ops.take(ops.convert_to_tensor(table), ops.maximum(ids, 0), axis=0)


def _read_probabilities(given: Any, targets: str) -> Any:
    """``candidate_probability`` as it was given, a table as an array (N,)."""
    by_id = targets == "candidate_ids"
    name, rule = "candidate_probability", "probabilities by id, greater than 0 and at most 1"
    if given is None or isinstance(given, str):
        if given not in PROBABILITY_COLUMNS or (by_id and given == "targets"):
            columns = "None or 'embeddings'" if by_id else "None, 'targets' or 'embeddings'"
            raise ValueError(f"`{name}` must be a table of {rule}, or {columns}. {errors.received(name, given)}")
        return given
    table = _read_table(name, given, "f", 1, rule)
    wrong = table[~((table > 0) & (table <= 1))]
    if not by_id or not table.size or wrong.size:
        rule = rule if by_id else "no table without targets='candidate_ids'"
        raise ValueError(f"`{name}` must be {rule}. {errors.received(name, wrong[:3].tolist() if by_id else given)}")
    return table


def _read_known(given: Any, targets: str) -> Any:
    """``known_positives`` as it was given, a table as an array (rows, P) of integers."""
    name, is_count = "known_positives", isinstance(given, (int, float))
    if given is None:
        return None
    if is_count:
        errors.check_positive_integer(name, given)
    rule = "a number of columns or a table (rows, ids) of integer ids"
    table = given if is_count else _read_table(name, given, "iu", 2, rule)
    if targets != "candidate_ids":
        raise ValueError(f"`{name}` must be None without targets='candidate_ids'. {errors.received(name, given)}")
    return table


def _read_table(name: str, given: Any, kinds: str, rank: int, rule: str) -> np.ndarray:
    """A table as an array, of floats where those are asked for."""
    try:
        table = np.asarray(given, "float64" if kinds == "f" else None)
    except (TypeError, ValueError):  # Objects, words, or rows of different lengths.
        table = np.asarray(None)
    if table.dtype.kind not in kinds or table.ndim != rank:
        raise TypeError(f"`{name}` must be {rule}. {errors.received(name, given)}")
    return table
