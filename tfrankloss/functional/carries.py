"""What the blocks of sorted lists add up to for the blocks behind them, where it fades with the way.

A factor exp(-rate * distance) of two blocks separates: what all blocks so far add up to, as seen from where the last
one is left, is carried to the next one and fades on the way. Many blocks take it over in ever longer steps, of twice as
many blocks each; where features mix on the way, which takes longer, groups of blocks do. What never fades is summed.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfrankloss.functional import lists
from tfrankloss.functional.bernstein import Bernstein

Tensor = Any
# For each coordinate how fast each feature fades with it, (F,); or one coordinate and features that mix on the way.
Rates = Sequence[np.ndarray] | Bernstein

# Blocks that are passed one after the other, which is faster but makes a graph that grows with them.
FEW = 32
# Blocks of a group.
GROUP = 8


def fade(rates: Rates) -> bool:
    """Whether any feature fades on any way."""
    return isinstance(rates, Bernstein) or any(of_coordinate.any() for of_coordinate in rates)


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
        one: (B, n, C, F) the sums.
        way: (B, n, C, F) the sums times the distance in the first coordinate; None if not asked.
    """

    one: Tensor
    way: Tensor | None = None

    def each(self, function: Callable[[Tensor], Tensor]) -> "Sums":
        """Sums with a function applied to both."""
        return Sums(*(None if values is None else function(values) for values in self))

    def plus(self, other: "Sums") -> "Sums":
        """The sums of two sets of items."""
        return Sums(self.one + other.one, None if self.way is None else self.way + other.way)


class Way(NamedTuple):
    """The way from one end to another.

    Attributes:
        fading: (B, n, 1, F) what is left of each feature, nothing between different runs; where features mix
            (B, n, F, F) what each one, by row, becomes of each one.
        length: (B, n, 1, 1) the distance in the first coordinate.
        mixes: Whether features mix.
    """

    fading: Tensor
    length: Tensor
    mixes: bool

    def after(self, held: Sums) -> Sums:
        """What is held at its start, as seen from its end."""
        one = lists.product(held.one, self.fading) if self.mixes else held.one * self.fading
        if held.way is None:
            return Sums(one)
        return Sums(one, held.way * self.fading + one * self.length)


def carried(held: Sums, exit_: End, rates: Rates, upwards: bool = False, entry: End | None = None) -> Sums:
    """What the blocks before each one add up to, of the same run, as seen from where it is entered.

    Args:
        held: What each block holds, as seen from where it is left.
        exit_: The end at which a block is left.
        rates: How features fade; those that mix have no ``Sums.way``.
        upwards: Whether the blocks before are those of higher index.
        entry: The end at which a block is entered; None for where the one before is left.
    """
    so_far = _so_far(held, exit_, rates, upwards)
    before = so_far.each(lambda values: _of_block_before(values, upwards, ops.zeros_like))
    if entry is None:
        return before
    return ways(exit_.each(lambda values: _of_block_before(values, upwards)), entry, rates).after(before)


def of_next(held: Sums, near: End, far: End, rates: Rates, counts: Tensor, upwards: bool = False) -> Sums:
    """What the next ``counts`` blocks after each one, all of its run, add up to.

    They are put together from groups of 1, 2, 4, ... blocks, so that nothing is subtracted.

    Args:
        held: What each block holds, as seen from where it is entered; times the distance to where it is left.
        near: The end at which a block is entered.
        far: The end at which it is left.
        rates: How features fade, without mixing.
        counts: (B, n) integers.
        upwards: Whether the next ones are those of lower index.

    Returns:
        The sums as seen from where each block is left; times the distance to where the last of the next ones is left.
    """
    if upwards:
        turned = held.each(_reversed), near.each(_reversed), far.each(_reversed)
        return of_next(*turned, rates, _reversed(counts)).each(_reversed)
    count = ops.shape(counts)[1]
    here = lists.indices(counts)
    start = ops.minimum(here + 1, count - 1)

    def at(values, index):
        return values.each(lambda each: lists.take(each, ops.minimum(index, count - 1)))

    def joined(first, second, way, last, moves_to, exists):
        """The sums of groups of blocks and of the groups behind them, which end elsewhere."""
        exists = exists[:, :, None, None]
        one = first.one + ops.where(exists, second.one * way.fading, 0.0)
        if first.way is None:
            return Sums(one)
        moved = ops.abs(at(far, moves_to).coordinates[0] - at(far, last).coordinates[0])[:, :, None, None]
        more = first.one * moved + second.way * way.fading
        return Sums(one, first.way + ops.where(exists, more, 0.0))

    def longer(size, done, *sums):
        groups, found = Sums(*sums[: len(sums) // 2]), Sums(*sums[len(sums) // 2 :])
        is_part = ops.equal(ops.floor_divide(counts, size) % 2, 1)
        place, ahead = start + done, here + size
        way = ways(at(near, start), at(near, place), rates)
        found = joined(found, at(groups, place), way, here + done, here + done + size, is_part)
        way = ways(near, at(near, ahead), rates)
        groups = joined(groups, at(groups, ahead), way, ahead - 1, ahead + size - 1, ahead < count)
        return 2 * size, done + size * ops.cast(is_part, "int32"), *_given(groups), *_given(found)

    state = ops.ones((), "int32"), ops.zeros_like(counts), *_given(held), *_given(held.each(ops.zeros_like))
    most = ops.max(counts, initial=0)
    _, _, *sums = ops.while_loop(lambda size, *_: size <= most, longer, state)
    fading = ways(far, at(near, start), rates).fading
    return Sums(*sums[len(sums) // 2 :]).each(lambda values: values * fading)


def _reversed(values: Tensor) -> Tensor:
    return ops.flip(values, axis=1)


def _given(sums: Sums) -> list[Tensor]:
    return [values for values in sums if values is not None]


def _so_far(held: Sums, exit_: End, rates: Rates, upwards: bool) -> Sums:
    """What the blocks up to each one, itself included, add up to, as seen from where it is left."""
    if exit_.run is None and not fade(rates):
        return _so_far_without_fading(held, exit_, upwards)
    count = ops.shape(held.one)[1]
    if isinstance(count, int) and exit_.run is None:
        if count <= FEW:
            return _so_far_in_turn(held, exit_, rates, upwards)
        if isinstance(rates, Bernstein):
            return _so_far_by_groups(held, exit_, rates, upwards)
    return _so_far_by_doubling(held, exit_, rates, upwards)


def _so_far_without_fading(held: Sums, exit_: End, upwards: bool) -> Sums:
    """``_so_far`` of a list that is one run, where nothing fades: sums."""

    def before(values):
        return ops.moveaxis(lists.sums_before(ops.moveaxis(values, 1, 3), behind=upwards), 3, 1)

    one = before(held.one)
    if held.way is None:
        return Sums(held.one + one)
    at = exit_.coordinates[0]
    way = held.way + one * ops.abs(at - _of_block_before(at, upwards))[:, :, None, None]
    return Sums(held.one + one, way + before(way))


def _so_far_in_turn(held: Sums, exit_: End, rates: Rates, upwards: bool) -> Sums:
    """``_so_far``, from block to block."""
    between = ways(exit_.each(lambda values: _of_block_before(values, upwards)), exit_, rates)
    # Taken apart at once: a graph would hold four operations for each block that is cut out by itself.
    parts = (ops.unstack(values, axis=1) for values in (between.fading, between.length, *_given(held)))
    blocks = [(Way(fading, length, between.mixes), Sums(*own)) for fading, length, *own in zip(*parts, strict=True)]
    so_far: list[Sums] = []
    for way, own in reversed(blocks) if upwards else blocks:
        so_far.append(own.plus(way.after(so_far[-1])) if so_far else own)
    so_far = so_far[::-1] if upwards else so_far
    one = ops.stack([sums.one for sums in so_far], axis=1)
    return Sums(one, None if held.way is None else ops.stack([sums.way for sums in so_far], axis=1))


def _so_far_by_groups(held: Sums, exit_: End, rates: Rates, upwards: bool) -> Sums:
    """``_so_far``, of groups of blocks, and then of all groups before: few ways, where features mix on each."""
    if upwards:
        return _so_far_by_groups(held.each(_reversed), exit_.each(_reversed), rates, False).each(_reversed)
    count = held.one.shape[1]
    groups = math.ceil(count / GROUP)

    def grouped(values):
        """(B * groups, GROUP, ...), the last block again where some are missing, which none comes behind."""
        batch, _, *others = ops.shape(values)
        again = ops.repeat(values[:, -1:], groups * GROUP - count, axis=1)
        return ops.reshape(ops.concatenate([values, again], axis=1), (batch * groups, GROUP, *others))

    def last(values):
        """Those of the last block of each group, (B, groups, ...)."""
        return ops.reshape(values[:, -1], (-1, groups, *ops.shape(values)[2:]))

    def of_group_before(values):
        """Those of the group before that of each block."""
        return ops.repeat(_of_block_before(values, False, ops.zeros_like), GROUP, axis=1)[:, :count]

    inside = _so_far_in_turn(held.each(grouped), exit_.each(grouped), rates, False)
    ends = exit_.each(grouped).each(last)
    before = _so_far_by_doubling(inside.each(last), ends, rates, False).each(of_group_before)
    inside = inside.each(lambda values: ops.reshape(values, (-1, groups * GROUP, *ops.shape(values)[2:]))[:, :count])
    return inside.plus(ways(ends.each(of_group_before), exit_, rates).after(before))


def _so_far_by_doubling(held: Sums, exit_: End, rates: Rates, upwards: bool) -> Sums:
    """``_so_far``, of the last block, then of the last two, the last four and so on."""
    count = ops.shape(held.one)[1]
    index = ops.arange(count)[None, :, None, None]
    index = count - 1 - index if upwards else index

    def further(reach, *so_far):
        def before(values):
            return ops.roll(values, -reach if upwards else reach, axis=1)

        more = ways(exit_.each(before), exit_, rates).after(Sums(*map(before, so_far)))
        exists = ops.cast(index >= reach, held.one.dtype)
        so_far = Sums(*so_far).plus(more.each(lambda values: values * exists))
        return 2 * reach, *_given(so_far)

    given = _given(held)
    _, *so_far = ops.while_loop(lambda reach, *_: reach < count, further, (ops.ones((), "int32"), *given))
    return Sums(*so_far)


def _of_block_before(values: Tensor, upwards: bool, of_none: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Values (B, n, ...) of the block before each one; the first one has its own, or what ``of_none`` makes of them."""
    first = values[:, -1:] if upwards else values[:, :1]
    first = first if of_none is None else of_none(first)
    return ops.concatenate([values[:, 1:], first] if upwards else [first, values[:, :-1]], axis=1)


def ways(start: End, stop: End, rates: Rates) -> Way:
    """The ways between two ends, (B, n) each."""
    distances = [ops.abs(there - here) for here, there in zip(start.coordinates, stop.coordinates, strict=True)]
    length = distances[0][:, :, None, None]
    if isinstance(rates, Bernstein):
        fading = rates.fading(distances[0])
    else:
        dtype = keras.backend.standardize_dtype(length.dtype)
        along = zip(distances, rates, strict=True)
        fading = ops.exp(-sum(distance[:, :, None, None] * rate.astype(dtype) for distance, rate in along))
    if start.run is not None:
        same = ops.equal(start.run, stop.run)[:, :, None, None]
        fading = fading * ops.cast(same, fading.dtype)
    return Way(fading, length, mixes=isinstance(rates, Bernstein))
