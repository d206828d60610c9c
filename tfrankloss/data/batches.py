"""Batches of lists of like length, so that short lists do not pay for the padding of long ones."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tfrankloss.data.lists import RankingLists, map_columns
from tfrankloss.errors import check_bool, check_positive_integer

if TYPE_CHECKING:
    import tensorflow as tf


def batch_lists(
    lists: "RankingLists[Any]", batch_size: int, *, shuffle: bool = True, seed: int = 0
) -> "tf.data.Dataset":
    """Batches of lists of like length as a ``tf.data.Dataset``, for `model.fit(batch_lists(lists, 32))`.

    Use it where the lengths of lists differ much: a batch is cut after the longest of its lists, rounded up to a power
    of two. So a model whose list size is None sees one new shape at most per power of two (and one for what is left
    over), where JAX compiles again for every shape.

    Args:
        lists: B lists of up to L items.
        batch_size: Lists per batch; the last one of the longest lists may have fewer.
        shuffle: Whether every epoch draws anew which lists of like length meet, and the order of batches; False keeps
            lists of like length in their order, short ones first.
        seed: Of the draws; the same seed gives the same epochs.

    Returns:
        A dataset of pairs of features and labels, (batch_size, length, ...) each, whose length is B / batch_size.

    Raises:
        ValueError: If ``batch_size`` is below 1.
        TypeError: If ``batch_size`` is not an integer or ``shuffle`` not a bool.

    Examples:
        >>> from tfrankloss.data import to_lists
        >>> lists = to_lists([1, 1, 1, 2, 3, 3], [2, 0, 0, 1, 1, 0], np.zeros((6, 4)))
        >>> [labels.shape.as_list() for _, labels in batch_lists(lists, 2, shuffle=False)]
        [[2, 2], [1, 3]]
    """
    import tensorflow as tf

    check_positive_integer("batch_size", batch_size)
    check_bool("shuffle", shuffle)
    random = np.random.default_rng(seed)
    lengths = _lengths(lists)

    def batches() -> Iterator[tuple[Any, np.ndarray]]:
        order = random.permutation(len(lists)) if shuffle else np.arange(len(lists))
        order = order[np.argsort(lengths[order], kind="stable")]
        parts = np.split(order, np.arange(batch_size, len(order), batch_size))
        for index in random.permutation(len(parts)) if shuffle else range(len(parts)):
            rows = parts[index]
            length = lengths[rows].max()
            yield (
                map_columns(lists.features, lambda column: column[rows, :length]),  # noqa: B023 (used at once)
                lists.labels[rows, :length],
            )

    def spec(column: np.ndarray) -> tf.TensorSpec:
        dtype = tf.string if column.dtype.kind in "OSU" else tf.as_dtype(column.dtype)
        return tf.TensorSpec((None, None, *column.shape[2:]), dtype)

    dataset = tf.data.Dataset.from_generator(
        batches, output_signature=(map_columns(lists.features, spec), spec(lists.labels))
    )
    return dataset.apply(tf.data.experimental.assert_cardinality(-(-len(lists) // batch_size)))


def _lengths(lists: "RankingLists[Any]") -> np.ndarray:
    """The least power of two (B,) that holds all items of each list, or the size of the longest list."""
    size = lists.labels.shape[1]
    used = np.where(lists.mask, np.arange(1, size + 1), 1).max(axis=1, initial=1)
    return np.minimum(2 ** np.ceil(np.log2(used)).astype(int), size)
