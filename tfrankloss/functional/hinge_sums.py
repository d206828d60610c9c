"""The hinge of score gaps by blocks of sorted lists: sums of terms of one sign, in time that grows with L log L.

Where a better item stands below a worse one, the hinge is the margin plus the size of the gap. Where it stands above,
what is missing to the margin; this falls to 0 at the reach of the better item, and reaches never go back up the list.
So the blocks below each one are of three kinds. The nearest lie within the reach of all its places: they cost what is
missing at their last place, plus the gaps from there up. The furthest cost nothing. The pairs of those between are
taken one by one; such pairs of blocks are at most twice as many as there are blocks.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfrankloss.functional import carries, gap_sums, lists
from tfrankloss.functional.lambda_weights import RankTerm

Tensor = Any


class Hinge(NamedTuple):
    """max(0, m - d) of a gap d = s_i - s_j of a better item i and another one j: a ``gap_sums.GapForm``.

    Attributes:
        margin: m > 0.
        short: As in ``gap_sums.GapForm``.
    """

    margin: float
    short: int = 160

    def inside(self, blocks: gap_sums.Blocks, gaps: Tensor, is_above: Tensor) -> tuple[Tensor, Tensor]:
        """As in ``gap_sums.GapForm``."""
        return self._of_pairs(blocks.scores[:, :, :, None], blocks.scores[:, :, None, :])

    def across(
        self, blocks: gap_sums.Blocks, channels: Tensor, terms: Sequence[RankTerm], wanted: Sequence[str]
    ) -> list[Tensor]:
        """As in ``gap_sums.GapForm``."""
        parts = _all_terms(blocks, terms)
        ends = self._ends_of_reach(parts.first, parts.last)
        kinds = (
            self._better_below(blocks, channels, parts),
            self._within_reach(blocks, channels, parts, ends),
            self._where_reach_ends(blocks, channels, parts, ends),
        )
        found = dict(zip(gap_sums.SUMS, map(sum, zip(*kinds, strict=True)), strict=True))
        return [found[name] for name in wanted]

    def _better_below(self, blocks: gap_sums.Blocks, channels: Tensor, parts: gap_sums.Separated) -> list[Tensor]:
        """What pairs add whose better item is in the lower one of two blocks."""
        gaps, upper = gap_sums.gaps_across(blocks, channels, parts)
        return [gaps + self.margin * upper, upper, gap_sums.counts_below(channels, parts)]

    def _within_reach(
        self, blocks: gap_sums.Blocks, channels: Tensor, parts: gap_sums.Separated, ends: Tensor
    ) -> list[Tensor]:
        """What pairs add whose better item is above, of blocks before the end of its block's reach."""
        here = lists.indices(ends)
        gaps = channels * (blocks.scores - blocks.scores[:, :, -1:])[:, :, None, :]
        held = carries.Sums(*(gap_sums.moments(values, parts.from_first) for values in (channels, gaps)))
        below = carries.of_next(held, parts.first, parts.last, parts.rates, ops.maximum(ends - here - 1, 0))
        count = parts.seen(below.one, parts.from_last)
        lowest = lists.take(parts.last.coordinates[0], ops.maximum(ends - 1, here))
        missing = self.missing(blocks.scores, lowest[:, :, None])[:, :, None, :]
        # Of the blocks above, those whose reach ends before a block do not hold it.
        others = ops.minimum(lists.numbers_up_to(ends, ops.shape(ends)[1]), here)
        held = carries.Sums(gap_sums.moments(channels, parts.from_last))
        above = carries.of_next(held, parts.last, parts.first, parts.rates, here - others, upwards=True)
        value = parts.seen(below.way, parts.from_last) + missing * count
        return [value, count, parts.seen(above.one, parts.from_first)]

    def _where_reach_ends(
        self, blocks: gap_sums.Blocks, channels: Tensor, parts: gap_sums.Separated, ends: Tensor
    ) -> list[Tensor]:
        """What pairs add whose better item is above, of blocks from the end of its block's reach to that of the next.

        The end of the reach of a block's last place is not beyond that of the next block.
        """
        count, dtype = ops.shape(ends)[1], keras.backend.standardize_dtype(channels.dtype)
        # One after the other: the first block with all its lower ones, the second one, and so on.
        first = lists.indices(ends) + ends - ends[:, :1]
        upper = lists.numbers_up_to(first, 2 * count) - 1
        lower = lists.indices(upper) - upper + ends[:, :1]
        exist = ops.cast(ops.logical_and(upper < lower, lower < count), dtype)[:, :, None, None]
        lower = ops.minimum(lower, count - 1)
        of_upper, of_lower = (
            [lists.take(values, index) for values in (blocks.scores, channels, features)]
            for features, index in ((parts.from_last, upper), (parts.from_first, lower))
        )
        leaving = parts.last.each(lambda values: lists.take(values, upper))
        entering = parts.first.each(lambda values: lists.take(values, lower))
        weights = carries.ways(leaving, entering, parts.rates).fading * parts.weights.astype(dtype) * exist
        factors = (ops.swapaxes(of_upper[2], 2, 3) * weights) @ of_lower[2]
        values, slopes = (
            sums * factors for sums in self._of_pairs(of_upper[0][:, :, :, None], of_lower[0][:, :, None, :])
        )
        return [
            lists.total_at(ops.einsum("bkcj,bkij->bkci", of_lower[1], values), upper, count),
            lists.total_at(ops.einsum("bkcj,bkij->bkci", of_lower[1], slopes), upper, count),
            lists.total_at(of_upper[1] @ slopes, lower, count),
        ]

    def _of_pairs(self, better: Tensor, worse: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of scores, and the size of its slope: 1 where what float32 makes of the gap is below the margin."""
        costs = better - worse < self.margin
        return ops.where(costs, self.missing(better, worse), 0.0), ops.cast(costs, better.dtype)

    def missing(self, better: Tensor, worse: Tensor) -> Tensor:
        """The margin minus the gap of two scores, without the rounding of the gap."""
        gaps = better - worse
        back = gaps - better
        rounded = (better - (gaps - back)) - (worse + back)
        return (self.margin - gaps) - rounded

    def _ends_of_reach(self, first: carries.End, last: carries.End) -> Tensor:
        """The index (B, n) of the first block, from each one on, that is not within the reach of its first place."""
        scores, count = first.coordinates[0], ops.shape(first.coordinates[0])[1]

        def is_reached(index):
            before = last.each(lambda values: lists.take(values, index - 1))
            within = scores - before.coordinates[0] < self.margin
            return within if first.run is None else ops.logical_and(within, ops.equal(first.run, before.run))

        return lists.furthest(lists.indices(scores), is_reached, count, count + 1)


def _all_terms(blocks: gap_sums.Blocks, terms: Sequence[RankTerm]) -> gap_sums.Separated:
    """The factor of ranks in one: the features of all its terms."""
    with_ranks = any(term.discount is not None for term in terms)
    parts = [gap_sums.separated(blocks, term, np.zeros(1), with_ranks) for term in terms]
    alike = ops.ones_like(blocks.scores)[:, :, None, :]

    def joined(features):
        return ops.concatenate([alike if of_term is None else of_term for of_term in features], axis=2)

    return parts[0]._replace(
        from_first=joined(part.from_first for part in parts),
        from_last=joined(part.from_last for part in parts),
        rates=[np.concatenate(rates) for rates in zip(*(part.rates for part in parts), strict=True)],
        weights=np.concatenate([part.weights for part in parts]),
    )
