"""The Keras boundary: what Keras hands to a loss or metric, turned into labels, scores, mask and weights.

``y_true``, ``y_pred`` and ``sample_weight`` exist only here and in the signatures of the shells.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfrankloss import errors
from tfrankloss.functional import lists
from tfrankloss.functional.in_batch import check_embeddings

Tensor = Any

LIST_SHAPE = "(batch, list_size)"
SUBTOPIC_SHAPE = "(batch, list_size, subtopics)"


class ListBatch(NamedTuple):
    """Lists as losses and metrics see them.

    Attributes:
        labels: (B, L) relevance, or (B, L, S) by subtopic; what stands at padding is for the functions to clean away.
        scores: (B, L) or (B, L, C) scores; likewise.
        mask: (B, L) booleans, True at items; an item of weight 0 is padding.
        item_weights: (B, L), or None for 1.
        list_weights: (B,), or None for 1.
    """

    labels: Tensor
    scores: Tensor
    mask: Tensor
    item_weights: Tensor | None
    list_weights: Tensor | None


class RowBatch(NamedTuple):
    """Rows as in-batch losses see them.

    Attributes:
        targets: (B, T) relevance (T = 1) or candidate ids, in their own dtype.
        predictions: (B, 2 + K, D) embeddings or (B, B + K) scores, 0 in padded rows.
        mask: (B,) booleans, True at rows; a row of weight 0 is padding.
        row_weights: (B,), or None for 1.
    """

    targets: Tensor
    predictions: Tensor
    mask: Tensor
    row_weights: Tensor | None


def read_lists(y_true: Any, y_pred: Any, sample_weight: Any, dtype: str, columns: int | str | None = None) -> ListBatch:
    """Labels, scores, mask and weights of a batch of lists.

    Args:
        y_true: (B, L) labels, dense or ragged; negative or NaN marks padding.
        y_pred: (B, L) scores, dense or ragged; a Keras mask on it marks padding too.
        sample_weight: None, shape () or (B,) or (B, 1) for lists, (B, L) for items.
        dtype: Computing dtype.
        columns: Scores per item where ``y_pred`` is (B, L, columns): a number, or a word for any number.

    Raises:
        TypeError: If there are no labels or scores, or they are text, sparse or a dict.
        ValueError: If a shape does not fit.
    """
    _check_tensors(y_true, y_pred)
    keras_mask = _mask_of(y_pred) if ops.is_tensor(y_pred) and not _is_ragged(y_pred) else None
    y_true, y_pred, sample_weight = _densify(y_true, y_pred, sample_weight)
    scores = ops.convert_to_tensor(y_pred, dtype=dtype)
    labels = ops.convert_to_tensor(y_true, dtype=dtype)
    if columns is None:
        _check_last_axis(scores.shape)
    lists.check_shapes("y_true", labels.shape, "y_pred", scores.shape, columns)
    item_weights, list_weights = _read_weights(sample_weight, scores)
    weights = list_weights[:, None] if list_weights is not None else item_weights
    valid = labels >= 0 if weights is None else ops.logical_and(labels >= 0, ops.not_equal(weights, 0))
    if keras_mask is not None:
        errors.check_same_shape("mask of y_pred", keras_mask.shape, "y_pred", scores.shape[:2])
        valid = ops.logical_and(valid, ops.cast(keras_mask, "bool"))
    return ListBatch(labels, scores, valid, item_weights, list_weights)


def read_subtopic_lists(y_true: Any, y_pred: Any, sample_weight: Any, dtype: str) -> ListBatch:
    """The same as ``read_lists`` for labels (B, L, S): an item without a label of at least 0 is padding.

    Args:
        y_true: (B, L, S) labels by subtopic, dense or ragged; negative or NaN marks padding.
        y_pred: As in ``read_lists``.
        sample_weight: As in ``read_lists``.
        dtype: Computing dtype.

    Raises:
        TypeError: If there are no labels or scores, or they are text, sparse or a dict.
        ValueError: If a shape does not fit.
    """
    _check_tensors(y_true, y_pred)
    y_true, y_pred, sample_weight = _densify(y_true, y_pred, sample_weight, SUBTOPIC_SHAPE)
    labels = ops.convert_to_tensor(y_true, dtype=dtype)
    shape = ops.convert_to_tensor(y_pred).shape
    _check_last_axis(shape)
    lists.check_subtopics("y_true", labels.shape, "y_pred", shape)
    judged = labels >= 0
    of_items = ops.where(ops.any(judged, axis=2), ops.cast(0.0, dtype), ops.cast(-1.0, dtype))
    batch = read_lists(of_items, y_pred, sample_weight, dtype)
    return batch._replace(labels=ops.where(ops.logical_and(judged, batch.mask[:, :, None]), labels, 0.0))


class _MaskOf(keras.layers.Layer):
    """The mask that Keras has attached to a tensor, or None: only the call of a layer hands it out on every backend."""

    def call(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor | None:
        return mask

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> None:
        return None


_mask_of = _MaskOf(autocast=False, name="mask_of_scores")


def read_rows(y_true: Any, y_pred: Any, sample_weight: Any, dtype: str) -> RowBatch:
    """Targets, predictions, mask and weights of a batch of rows for in-batch losses.

    Args:
        y_true: (B,) or (B, T) relevance or integer ids; negative marks padded rows. The dtype stays: ids do not pass
            through floats.
        y_pred: (B, 2 + K, D) embeddings or (B, B + K) scores.
        sample_weight: None, shape (), (B,) or (B, 1).
        dtype: Computing dtype.

    Raises:
        TypeError: If there are no labels or scores, or they are text, sparse or a dict.
        ValueError: If a shape does not fit.
    """
    _check_tensors(y_true, y_pred)
    predictions = ops.convert_to_tensor(y_pred, dtype=dtype)
    targets = ops.convert_to_tensor(y_true)
    if keras.backend.standardize_dtype(targets.dtype) == "bool":
        targets = ops.cast(targets, dtype)
    if len(predictions.shape) != 2:
        check_embeddings("y_pred", predictions.shape)
    if len(targets.shape) == 1:
        targets = targets[:, None]
    errors.check_rank("y_true", targets.shape, 2, "(batch,) or (batch, columns)")
    errors.check_same_shape("y_true", targets.shape[:1], "y_pred", predictions.shape[:1])
    _, row_weights = _read_weights(sample_weight, predictions, items=False)
    mask = targets[:, 0] >= 0
    if row_weights is not None:
        mask = ops.logical_and(mask, ops.not_equal(row_weights, 0))
    if len(predictions.shape) == 3:
        predictions = ops.where(mask[:, None, None], predictions, 0.0)
    return RowBatch(targets, predictions, mask, row_weights)


def concrete(tensor: Tensor) -> np.ndarray | None:
    """The values of a tensor, or None where there are none yet since a graph is being traced."""
    try:
        return ops.convert_to_numpy(tensor)
    except (TypeError, NotImplementedError):  # JAX's tracers, and TensorFlow's symbolic tensors.
        return None


def _check_tensors(y_true: Any, y_pred: Any) -> None:
    for name, value in (("y_true", y_true), ("y_pred", y_pred)):
        # Sparse tensors are known by their shape, so that TensorFlow is not loaded to ask.
        if value is None or isinstance(value, (str, bytes, Mapping)) or hasattr(value, "dense_shape"):
            raise TypeError(f"`{name}` must be a dense or ragged array of numbers. {errors.received(name, value)}")


def _check_last_axis(shape: errors.Shape) -> None:
    """Raise if scores have a last axis of one score per item, as the outputs of a dense layer have."""
    if len(shape) == 3 and shape[2] == 1:
        raise ValueError(
            f"`y_pred` must have shape {LIST_SHAPE}; end the model with keras.layers.Reshape((-1,)) to drop the last "
            f"axis. Received: y_pred.shape={tuple(shape)}"
        )


def _densify(y_true: Any, y_pred: Any, sample_weight: Any, label_shape: str = LIST_SHAPE) -> tuple[Any, Any, Any]:
    """Ragged tensors as padded ones, all as long as the scores: labels with -1, the rest with 0."""
    for name, value, shape in (("y_true", y_true, label_shape), ("sample_weight", sample_weight, LIST_SHAPE)):
        if _is_ragged(y_pred) and _is_ragged(value):
            errors.check_rank(name, value.shape, shape.count(",") + 1, shape)
            _check_row_lengths(name, value, y_pred)
    if _is_ragged(y_pred):
        y_pred = _with_columns_checked(y_pred)
        y_pred = y_pred.to_tensor(default_value=0)
    if _is_ragged(y_true):
        subtopics = [y_true.bounding_shape(2, out_type="int32")] if len(y_true.shape) == 3 else []
        y_true = y_true.to_tensor(default_value=-1, shape=(*ops.shape(y_pred)[:2], *subtopics))
    if _is_ragged(sample_weight):
        sample_weight = sample_weight.to_tensor(default_value=0, shape=ops.shape(y_pred)[:2])
    return y_true, y_pred, sample_weight


def _check_row_lengths(name: str, value: Any, y_pred: Any) -> None:
    """Raise unless two ragged tensors have rows of the same lengths; inside a graph, when it runs."""
    import tensorflow as tf

    errors.check_same_shape(name, value.shape[:1], "y_pred", y_pred.shape[:1])
    message = f"`{name}` and `y_pred` must have rows of the same lengths."
    if not tf.executing_eagerly():
        tf.debugging.assert_equal(value.row_splits, y_pred.row_splits, message=message)
    elif value.row_lengths().numpy().tolist() != y_pred.row_lengths().numpy().tolist():
        raise ValueError(
            f"{message} Received: row lengths {name}={value.row_lengths().numpy().tolist()}, "
            f"y_pred={y_pred.row_lengths().numpy().tolist()}"
        )


def _with_columns_checked(y_pred: Any) -> Any:
    """Ragged scores, of which all items have equally many, also where each item is a row of its own."""
    import tensorflow as tf

    if y_pred.ragged_rank < 2:
        return y_pred
    lengths = y_pred.values.row_lengths()
    message = "`y_pred` must have equally many scores for every item."
    if not tf.executing_eagerly():
        # Else what is computed with such scores may fail first, in other words.
        with tf.control_dependencies([tf.debugging.assert_equal(lengths, lengths[:1], message=message)]):
            return tf.identity(y_pred)
    if len(set(lengths.numpy().tolist())) > 1:
        raise ValueError(f"{message} {errors.received('scores per item', sorted(set(lengths.numpy().tolist())))}")
    return y_pred


def _is_ragged(value: Any) -> bool:
    # Known by its methods, so that TensorFlow is not loaded to ask.
    return hasattr(value, "to_tensor") and hasattr(value, "row_splits")


def _read_weights(sample_weight: Any, scores: Tensor, items: bool = True) -> tuple[Tensor | None, Tensor | None]:
    """Item weights (B, L) or list weights (B,); the other one is None."""
    if sample_weight is None:
        return None, None
    weights = ops.convert_to_tensor(sample_weight, dtype=scores.dtype)
    allowed = "(), (batch,), (batch, 1)" + (" or (batch, list_size)" if items else "")
    rank = len(weights.shape)
    expected = scores.shape[:rank]
    if rank == 2 and (weights.shape[1] == 1 or not items):
        expected = (*scores.shape[:1], 1)
    if rank > 2 or errors.shapes_differ(weights.shape, expected):
        raise ValueError(
            f"`sample_weight` must have shape {allowed}. Received: sample_weight.shape={tuple(weights.shape)}, "
            f"y_pred.shape={tuple(scores.shape)}"
        )
    if rank == 2 and weights.shape[1] != 1:
        return weights, None
    batch = ops.shape(scores)[0]
    return None, ops.broadcast_to(ops.reshape(weights, (-1,)), (batch,))


def mean_item_weight(batch: ListBatch) -> Tensor:
    """The mean item weight (B,) of each list, over its items; 0 for a list without items."""
    count = ops.sum(ops.cast(batch.mask, batch.scores.dtype), axis=1)
    total = ops.sum(ops.where(batch.mask, batch.item_weights, 0.0), axis=1)
    return total / ops.maximum(count, 1.0)
