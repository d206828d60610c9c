"""What the blocks of sorted lists add up to for the blocks behind them, where it fades with the way.

The n blocks of a list have n^2 pairs, each with a factor exp(-rate * distance) that separates: so the pairs of
``GROUP`` blocks are taken one by one, and what such a group adds up to is carried to the groups behind it in the same
way, groups of groups and so on.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

Tensor = Any
Rates = Sequence[np.ndarray]

# Blocks whose pairs are taken one by one.
GROUP = 16
# Levels of groups for lists of unknown length, of which the last one takes all pairs.
LEVELS = 4


class End(NamedTuple):
    """One end of each block.

    Attributes:
        coordinates: Where it is, (B, n) each, ascending or descending over the blocks of a run.
        run: (B, n) the run it is in; None where a list is one run.
    """

    coordinates: tuple[Tensor, ...]
    run: Tensor | None

    def each(self, function: Callable[[Tensor], Tensor]) -> "End":
        """The end with a function applied to all of its tensors."""
        return End(tuple(map(function, self.coordinates)), None if self.run is None else function(self.run))


class Sums(NamedTuple):
    """Features of many items, added up.

    Attributes:
        one: (B, n, F, C) the sums.
        way: (B, n, M, C) those of the first M features times the distance in the first coordinate; None if not asked.
    """

    one: Tensor
    way: Tensor | None = None

    def each(self, function: Callable[[Tensor], Tensor]) -> "Sums":
        """Sums with a function applied to both."""
        return Sums(*(None if values is None else function(values) for values in self))


def carried(held: Sums, entry: End, exit_: End, rates: Rates, upwards: bool = False) -> Sums:
    """What the blocks before each one add up to, of the same run, as seen from where it is entered.

    Args:
        held: What each block holds, as seen from where it is left.
        entry: The end at which a block is entered.
        exit_: The end at which a block is left.
        rates: For each coordinate how fast features fade with it, (R,). The F features are all combinations of one rate
            for each, the last coordinate's changing first.
        upwards: Whether the blocks before are those of higher index.
    """
    dtype = keras.backend.standardize_dtype(held.one.dtype)
    return _carried(held, entry, exit_, [of_one.astype(dtype) for of_one in rates], upwards, level=1)


def _carried(held: Sums, entry: End, exit_: End, rates: Rates, upwards: bool, level: int) -> Sums:
    count = ops.shape(held.one)[1]
    alone = count <= GROUP if isinstance(count, int) else level == LEVELS
    size = count if alone else GROUP
    missing = 0 if alone else (GROUP - count % GROUP) % GROUP

    def grouped(values, filling):
        """Values (B, n, ...) as (B, g, T, ...), the last group filled up."""
        batch, _, *others = ops.shape(values)
        if not isinstance(missing, int) or missing > 0:
            values = ops.concatenate([values, ops.broadcast_to(filling, (batch, missing, *others))], axis=1)
        return ops.reshape(values, (batch, (count + missing) // size, size, *others))

    def joined(values):
        values = ops.transpose(values, (0, 1, 3, 2, 4))
        batch, groups, _, *others = ops.shape(values)
        return ops.reshape(values, (batch, groups * size, *others))[:, :count]

    # Features stand before blocks, for products of matrices.
    inside = held.each(lambda values: ops.transpose(grouped(values, ops.zeros_like(values[:, :1])), (0, 1, 3, 2, 4)))
    entry, exit_ = (end.each(lambda values: grouped(values, values[:, -1:])) for end in (entry, exit_))
    place = ops.arange(size)
    before = place[:, None] < place[None, :] if upwards else place[:, None] > place[None, :]
    total = _moved(inside, exit_, entry, rates, before)
    if alone:
        return total.each(joined)

    # A group is entered where its first block is, and left where its last one is.
    first, last = (-1, 0) if upwards else (0, -1)
    group_entry = entry.each(lambda values: values[:, :, first])
    group_exit = exit_.each(lambda values: values[:, :, last])
    of_groups = _moved(inside, exit_, group_exit.each(_alone), rates).each(lambda values: values[:, :, :, 0])
    outside = _carried(of_groups, group_entry, group_exit, rates, upwards, level + 1)
    outside = outside.each(lambda values: ops.expand_dims(values, 3))
    more = _moved(outside, group_entry.each(_alone), entry, rates)
    return Sums(
        *(None if values is None else joined(values + others) for values, others in zip(total, more, strict=True))
    )


def _alone(values: Tensor) -> Tensor:
    """Values (B, g) as (B, g, 1)."""
    return ops.expand_dims(values, 2)


def _moved(held: Sums, start: End, stop: End, rates: Rates, counted: Tensor | None = None) -> Sums:
    """What is held (B, g, F, T, C) at T places, added up as seen from J others of the same run.

    Args:
        held: What is held.
        start: Where it is held, (B, g, T).
        stop: Where it is seen from, (B, g, J).
        rates: How fast features fade.
        counted: (J, T) booleans, which start counts at which stop; None for all.
    """

    def across(compare, here, there):
        """A function of each stop and each start, (B, g, 1, J, T)."""
        return ops.expand_dims(compare(ops.expand_dims(here, 3), ops.expand_dims(there, 2)), 2)

    distances = [ops.abs(across(ops.subtract, *both)) for both in zip(stop.coordinates, start.coordinates, strict=True)]
    if start.run is not None:
        same = across(ops.equal, stop.run, start.run)
        counted = same if counted is None else ops.logical_and(same, counted)
    fading = [ops.exp(-way * rate[:, None, None]) for way, rate in zip(distances, rates, strict=True)]
    if counted is not None:
        fading[0] = fading[0] * ops.cast(counted, held.one.dtype)
    factors = functools.reduce(_combined, fading)
    one = ops.matmul(factors, held.one)
    if held.way is None:
        return Sums(one)
    asked = held.way.shape[2]
    factors = factors[:, :, :asked]
    way = ops.matmul(factors, held.way) + ops.matmul(factors * distances[0], held.one[:, :, :asked])
    return Sums(one, way)


def _combined(one: Tensor, other: Tensor) -> Tensor:
    """All products of factors (B, g, R, J, T) and (B, g, Q, J, T), as (B, g, R Q, J, T)."""
    product = ops.expand_dims(one, 3) * ops.expand_dims(other, 2)
    batch, groups, count, others, *places = ops.shape(product)
    return ops.reshape(product, (batch, groups, count * others, *places))
