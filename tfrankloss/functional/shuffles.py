"""Random orders of lists, without sorting draws for every item of a batch.

Items of short lists are compared. Of longer ones a few orders are drawn for the whole batch. Each list takes one of
them and moves place p in it to a p + c modulo the length, with factor and start of its own. What was a uniform order
remains one, whatever these are. And whatever the order that lists share, a random factor and start put each item at
every place, and each of two items first, equally often: what lists lose to chance is not correlated, and averages out
over the batch.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from tfrankloss.functional import branches, lists, meetings

Tensor = Any

# Lists of up to so many items of few grades are put in order by comparing every two of them, which takes less time than
# to move them to random places first.
COMPARED = 32
# Draws of these are whole numbers below this, whose last digits are the index of the item: no two items have the same.
# With the grade before them float32 holds them as they are.
DRAWS = 2**21
# Orders are drawn by sorting in lists of up to so many items, and as many items of shorter ones: these can be moved in
# few ways.
SORTED = 512
# Of an order of more items. With fewer than four, statistics of neighbours tell such orders from uniform ones.
STEPS = 6
# Draws, and products of factors with places, are at most this.
LARGEST = 2**31 - 1


def places(like: Tensor, seed: Any) -> Tensor:
    """Where the items of each list go in a random order: indices (B, L).

    Args:
        like: (B, L) values.
        seed: An integer or ``keras.random.SeedGenerator``.
    """
    batch, length = ops.shape(like)
    if like.shape[1] is None:
        # Nothing says which factors have no divisor in common with the length.
        return ops.cast(ops.argsort(keras.random.uniform((batch, length), seed=seed), axis=1), "int32")
    if length == 0:
        return lists.indices(like)
    count, possible = max(1, SORTED // length), factors(length)
    needed = count * length if length <= SORTED else 2 * STEPS
    draws = keras.random.randint((needed + batch,), 0, LARGEST, seed=seed, dtype="int32")
    if length <= SORTED:
        orders = ops.cast(ops.argsort(ops.reshape(draws[:needed], (count, length)), axis=1), "int32")
    else:
        orders = _long_order(length, draws)[None, :]
    # One draw of a list tells its order, start and factor: draws take long under XLA.
    which = draws[needed:]
    start = which // count
    factor = ops.take(ops.convert_to_tensor(possible), start // length % len(possible))
    return (factor[:, None] * ops.take(orders, which % count, axis=0) + start[:, None] % length) % length


def are_compared(like: Tensor) -> bool:
    """Whether lists (B, L) are known to be so short that ``descending_places`` is there for them."""
    return like.shape[1] is not None and 0 < like.shape[1] <= COMPARED


def descending_places(labels: Tensor, mask: Tensor, seed: Any) -> Tensor:
    """Where the items of short lists go in descending order of their labels, ties at random: indices (B, L).

    Args:
        labels: (B, L) labels of at least 0.
        mask: (B, L) booleans, False at padding, which goes last.
        seed: As in ``places``.
    """
    batch, length = ops.shape(labels)
    # One column more than needed: XLA makes draws that are all used in the midst of what follows, ten times slower.
    draws = keras.random.uniform((batch, length + 1), 0.0, DRAWS // COMPARED, seed=seed, dtype="float32")[:, :-1]
    draws = COMPARED * ops.floor(draws) + lists.places(draws) - 1

    def by_comparing():
        # Padding is a grade below 0.
        grades = ops.cast(labels, "float32") + ops.cast(mask, "float32")
        met = meetings.of_length(labels.shape[1])
        key, other = met.of(draws - DRAWS * grades, nobody=-float("inf"))
        return ops.cast(met.passes(ops.cast(key > other, "float32")), "int32")

    def by_sorting():
        return lists.inverse(lists.refined(ops.argsort(draws, axis=1), labels, mask))

    return ops.cond(lists.are_grades(labels), by_comparing, branches.lazily(by_sorting))


def factors(length: int) -> np.ndarray:
    """Factors below ``length`` that have no divisor in common with it, and whose products with places fit integers."""
    possible = np.arange(1, min(length, LARGEST // length), dtype="int32") if length > 1 else np.ones(1, "int32")
    return possible[np.gcd(possible, length) == 1]


def _long_order(length: int, draws: Tensor) -> Tensor:
    """A random order (L,) of a long list from a few draws.

    The numbers below a power of 2 are put in another order by steps that can be undone: a number is multiplied by an
    odd one and moved, which hands its low digits up, and takes its high digits into the low ones, as in the ciphers
    that permute small domains. Places are where numbers stand among those of all items.
    """
    digits = (length - 1).bit_length()
    numbers = ops.arange(length, dtype="int32")
    for step in range(STEPS):
        # What overflows is cut off with the other digits.
        numbers = ops.bitwise_and(numbers * ops.bitwise_or(draws[2 * step], 1) + draws[2 * step + 1], 2**digits - 1)
        numbers = ops.bitwise_xor(numbers, ops.right_shift(numbers, (digits + 1) // 2))
    taken = ops.segment_sum(ops.ones_like(numbers), numbers, num_segments=2**digits)
    before = lists.sums_before(ops.cast(taken, "float32")[None, :])[0]
    return ops.cast(ops.take(before, numbers), "int32")
