"""Several replicas: what their losses gather from each other."""

from typing import Any

import keras
from keras import ops

Tensor = Any

# What collectives carry of integers.
_INTEGERS = ("int32", "int64")


def on_several_replicas() -> bool:
    """Whether this code runs as one of several replicas of a `tf.distribute` strategy, on TensorFlow only."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return tf.distribute.in_cross_replica_context() is False and tf.distribute.get_strategy().num_replicas_in_sync > 1


def in_symbolic_build() -> bool:
    """Whether `keras.Model.fit` only tries out shapes before it trains replicas: with the mean of integers, a float."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    several = tf.distribute.get_strategy().num_replicas_in_sync > 1
    return several and tf.distribute.in_cross_replica_context() and not tf.executing_eagerly()


def gather_rows(targets: Tensor, predictions: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """The rows of all replicas, those of this one first, as many as each of them has.

    The gradient of predictions is the sum of what all replicas make of them.

    Args:
        targets: (B, T) of numbers.
        predictions: (B, ...) of floats.
        mask: (B,) booleans.

    Returns:
        The same by name, (N, ...) for the N rows of all replicas.
    """
    if "int" in keras.backend.standardize_dtype(targets.dtype):
        dtype = keras.backend.standardize_dtype(targets.dtype)
        targets = ops.cast(targets, dtype if dtype in _INTEGERS else "int64")
    # No collective takes booleans, and one is cheaper than two.
    marked = ops.concatenate([targets, ops.cast(mask, targets.dtype)[:, None]], axis=1)
    marked, predictions = _own_first(marked, predictions)
    return {"targets": marked[:, :-1], "predictions": predictions, "mask": ops.not_equal(marked[:, -1], 0)}


def _own_first(*tensors: Tensor) -> list[Tensor]:
    """Tensors (B, ...) of this replica, and those of the others behind them."""
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    rows = tf.shape(tensors[0])[:1]
    sizes = context.all_gather(rows, axis=0)
    first = tf.reduce_sum(sizes[: context.replica_id_in_sync_group])
    found = []
    for tensor in tensors:
        everywhere = context.all_gather(tensor, axis=0)
        behind = everywhere[first + rows[0] :]
        found.append(tf.concat([tensor, behind, everywhere[:first]], axis=0))
    return [tf.ensure_shape(values, [None, *given.shape[1:]]) for values, given in zip(found, tensors, strict=True)]


def reduce_rows(values: Tensor, weights: Tensor | None, reduction: str | None) -> Tensor:
    """The losses of rows reduced over the rows of all replicas, as one device with all of them would.

    Keras divides by the number of replicas, which is right where all of them have equally many rows. Here the value is
    the loss of the whole batch divided by the number of replicas, so that their sum is that loss, and the gradient is
    that of the rows of this replica alone.

    Args:
        values: (B,) losses of the rows of this replica.
        weights: (B,), or None for 1.
        reduction: As in `keras.losses.Loss`.
    """
    import tensorflow as tf

    if weights is not None:
        values = values * ops.cast(weights, values.dtype)
    if reduction in (None, "none"):
        return values
    context = tf.distribute.get_replica_context()
    total, size = tf.reduce_sum(values), tf.cast(tf.size(values), values.dtype)
    if reduction == "mean_with_sample_weight" and weights is not None:
        size = tf.reduce_sum(tf.cast(weights, values.dtype))
    elif reduction == "sum":
        size = tf.zeros_like(size)
    whole, size = tf.unstack(context.all_reduce("SUM", tf.stop_gradient(tf.stack([total, size]))))
    if reduction == "sum":
        size = tf.ones_like(size)
    own = tf.math.divide_no_nan(total, size)
    whole = tf.math.divide_no_nan(whole, size) / context.num_replicas_in_sync
    return own + tf.stop_gradient(whole - own)
