"""Random orders of the items of lists without sorting draws, and from few of them.

The numbers below a power of 2 are put in another order by steps that can be undone: a number is multiplied by an odd
one and moved, which hands its low digits up, and takes its high digits into the low ones. With the factors drawn
anew for every list, a few steps leave no trace of the order before, as in the ciphers that permute small domains.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from tfrankloss.functional import lists

Tensor = Any

# With fewer than five, statistics of neighbours in lists of 1,000 items tell such orders from those of sorted draws.
STEPS = 6
# A power of 2 above the numbers of classes that items are sorted into: grades, padding, and nobody.
CLASSES = 8


def slots(shape: tuple[Any, int], seed: Any) -> Tensor:
    """Different random numbers (B, L) for the items of each list, from 0 to less than ``slot_count(L)``.

    Args:
        shape: B, and L as a number.
        seed: An integer or ``keras.random.SeedGenerator``.
    """
    batch, length = shape
    highest = slot_count(length) - 1
    half = (highest.bit_length() + 1) // 2
    draws = keras.random.randint((2 * STEPS, batch, 1), 0, 2**31 - 1, seed=seed, dtype="int32")
    numbers = ops.arange(length, dtype="int32")[None, :]
    for step in range(STEPS):
        # What overflows is cut off with the other digits.
        numbers = ops.bitwise_and(numbers * ops.bitwise_or(draws[2 * step], 1) + draws[2 * step + 1], highest)
        numbers = ops.bitwise_xor(numbers, ops.right_shift(numbers, half))
    return numbers


def slot_count(length: int) -> int:
    """The smallest power of 2 that is at least ``length``."""
    return 1 << (length - 1).bit_length()


def order_of_grades(labels: Tensor, mask: Tensor, numbers: Tensor) -> Tensor:
    """Indices (B, L) that sort lists by descending grade, ties in the order of their ``slots``; padding is last."""
    batch, length = ops.shape(labels)[0], labels.shape[1]
    count = slot_count(length)
    # Padding is class 1, grade 0 class 2 and so on; a slot of nobody is 0.
    classes = np.arange(lists.GRADES + 1, 0, -1, dtype="int32")[:, None, None]
    held = ops.cast((labels + 1) * ops.cast(mask, labels.dtype), "int32") + 1 + CLASSES * lists.indices(labels)
    held = _moved(held, numbers, batch, count)
    is_of = ops.cast(ops.equal(ops.bitwise_and(held, CLASSES - 1), classes), "float32")
    higher = lists.product(ops.convert_to_tensor(np.tri(len(classes), k=-1), "float32"), ops.sum(is_of, axis=2))
    places = ops.sum(is_of * (lists.sums_before(is_of) + higher[:, :, None]), axis=0)
    return _moved(ops.right_shift(held, CLASSES.bit_length() - 1), ops.cast(places, "int32"), batch, length)


def _moved(values: Tensor, places: Tensor, batch: Any, length: int) -> Tensor:
    """Whole numbers (B, M) at other places (B, M) of lists of this length; those that are 0 may share a place."""
    places = ops.reshape(places + length * ops.arange(batch, dtype="int32")[:, None], (-1,))
    moved = ops.segment_sum(ops.reshape(values, (-1,)), places, num_segments=batch * length)
    return ops.reshape(moved, (batch, length))
