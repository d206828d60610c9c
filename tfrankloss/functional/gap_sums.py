r"""Sums over all pairs of a list without its pairs: losses of score gaps, in time that grows with L log L.

A list in descending order of its scores is cut into blocks of T places. Pairs inside a block are taken one by one.
Those of two blocks are for the loss to separate (a ``GapForm``): those of ``gap_kernels`` are polynomials in
:math:`t = e^{-|s_i - s_j|}`, the hinge of ``hinge_sums`` is linear or 0. Powers of t are products,
:math:`t^m = e^{-m(s_i - e)} e^{-m(e - b)} e^{-m(b - s_j)}` for a score e where the block of i ends and the first score
b of the block of j, and polynomials are sums of products (``bernstein``). Every exponent is at most 0 and every term
has one sign, so nothing overflows or cancels, however far or near the scores are. The sums of a block over its own
items, its moments, are carried to the others by ``carries``.

Pairs may have a factor of the ranks of the two: the upper and the lower one add factors of their own, and their
distance one that is a sum of exponentials (``decays``), which separates just as those of scores do.

Lists may be cut into runs, of which only pairs of one run count.

Source: the project's own; the expansion is that of fast Gauss transforms (Greengard and Strain 1991) for other
kernels.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import keras
import numpy as np
from keras import ops

from tfrankloss.functional import carries, decays, gains, kernels, lists
from tfrankloss.functional.bernstein import Bernstein
from tfrankloss.functional.lambda_weights import RankTerm

Tensor = Any

ALL_ALIKE = (RankTerm(),)
SUMS = ("value", "as_better", "as_worse")


class GapForm(Protocol):
    """The loss of a gap d = s_i - s_j of a better item i and another one j, as these sums take it."""

    @property
    def short(self) -> int:
        """The length up to which lists take less time pair by pair, where pairs have weights; measured."""

    def inside(self, blocks: "Blocks", gaps: Tensor, is_above: Tensor) -> tuple[Tensor, Tensor]:
        """The loss and the size of its slope for gaps -d (B, n, T, T) inside blocks.

        ``is_above`` is 1 where the better item is the lower one, 0 where it is the upper one.
        """

    def across(
        self, blocks: "Blocks", channels: Tensor, terms: Sequence[RankTerm], wanted: Sequence[str]
    ) -> list[Tensor]:
        """``sums`` over the places of other blocks."""


class Blocks(NamedTuple):
    """Lists in descending order of scores, cut into n blocks of T places.

    Attributes:
        scores: (B, n, T) scores, descending in a run.
        runs: (B, n, T) the run of each place, ascending; None where a list is one run.
        ranks: (B, n, T) ranks, ascending in a run; None where they do not matter.
        no_ties: Whether ranks are places, so that those of a block are always as far apart.
        length: The length of the lists before the last block was filled up.
        temperature: What gaps of scores are divided by.
    """

    scores: Tensor
    runs: Tensor | None
    ranks: Tensor | None
    no_ties: Tensor | None
    length: Any
    temperature: float

    def end(self, at: Callable[[Tensor], Tensor], with_ranks: bool) -> carries.End:
        """An end of each block, which ``at`` takes out of what places are told by."""
        return carries.End(tuple(map(at, self.coordinates(with_ranks))), None if self.runs is None else at(self.runs))

    def coordinates(self, with_ranks: bool) -> tuple[Tensor, ...]:
        """What places are told by, (B, n, T) each: scores, and ranks where they matter."""
        return (self.scores, self.ranks) if with_ranks else (self.scores,)


def blocks_of(
    scores: Tensor,
    runs: Tensor | None = None,
    ranks: Tensor | None = None,
    no_ties: Tensor | None = None,
    temperature: float = 1.0,
) -> Blocks:
    """Blocks of lists (B, L) in descending order within each run; padding stands last and has a finite score.

    The temperature divides gaps and not scores, which may be large beside them and lose their digits.
    """
    length = ops.shape(scores)[1]
    scores, runs, ranks = (
        None if values is None else kernels.cut(values, repeat_last=True) for values in (scores, runs, ranks)
    )
    return Blocks(scores, runs, ranks, no_ties, length, temperature)


def sums(
    blocks: Blocks,
    channels: Tensor,
    form: GapForm,
    terms: Sequence[RankTerm] = ALL_ALIKE,
    wanted: Sequence[str] = SUMS,
) -> list[Tensor]:
    """For each place the sums (B, n, C, T) over the others of its run of channels times something of the pair.

    Of lists that are one run, and pairs that are all alike, the place itself is one of the others, at a gap of 0.

    Args:
        blocks: The lists.
        channels: (B, n, C, T) what a place adds, 0 at padding.
        form: The loss of a gap.
        terms: What the factor of ranks is the sum of.
        wanted: Of these: "value", the loss if the place is the better one of the two; "as_better", the size of its
            slope then; "as_worse", that of the slope if it is the worse one.
    """
    near = _inside(blocks, channels, form, terms, wanted)
    return [one + other for one, other in zip(near, form.across(blocks, channels, terms, wanted), strict=True)]


class Channels:
    """What items add to sums over a list, by their digit, and what items make of such sums over other digits.

    Args:
        digits: (B, L) digits in sorted order, -1 at padding.
        dtype: Of the sums.
        item_gains: (B, L) gains in that order, whose differences weigh the pairs; None where all weigh 1.
        of_digits: (B, GRADES) the gain of all items of a digit, so that counts of them tell the sum of gains; None
            where they differ.
        weights: (B, L) what the loss of each better item weighs in the slopes; None for 1.
    """

    def __init__(
        self,
        digits: Tensor,
        dtype: Any,
        item_gains: Tensor | None = None,
        of_digits: Tensor | None = None,
        weights: Tensor | None = None,
    ):
        # The last block is filled up with padding.
        digits, classes = kernels.cut(digits + 1)[:, :, None, :] - 1, ops.arange(lists.GRADES)[:, None]
        own = ops.cast(ops.equal(digits, classes), dtype)
        # What the own gain is above theirs, over the digits that are worse and those that are better.
        self._worse = ops.cast(digits > classes, dtype)
        self._better = -ops.cast(ops.logical_and(digits >= 0, digits < classes), dtype)
        self.values, self._gains = own, None
        if item_gains is not None:
            item_gains = kernels.cut(item_gains)[:, :, None, :]
            if of_digits is None:
                self.values, self._gains = ops.concatenate([own, own * item_gains], axis=2), item_gains
            else:
                gaps = item_gains - of_digits[:, None, :, None]
                self._worse, self._better = self._worse * gaps, -self._better * gaps
        self._each = self.values.shape[2]
        self._weights = None if weights is None else kernels.cut(weights)
        if self._weights is not None:
            self.values = ops.concatenate([self.values, self.values * self._weights[:, :, None, :]], axis=2)

    def losses(self, value: Tensor) -> Tensor:
        """The losses (B, n, T) of the pairs in which an item is the better one, from the sums of that name."""
        return self._gained(value[:, :, : self._each], self._worse)

    def slopes(self, as_better: Tensor, as_worse: Tensor) -> Tensor:
        """The slopes (B, n, T) of all losses, from the sums of those names."""
        as_better = self._gained(as_better[:, :, : self._each], self._worse)
        as_worse = self._gained(as_worse[:, :, -self._each :], self._better)
        return -((as_better if self._weights is None else as_better * self._weights) + as_worse)

    def _gained(self, values: Tensor, digits: Tensor) -> Tensor:
        """Sums of the channels over digits, times what the own gain is above theirs."""
        if self._gains is None:
            return ops.sum(digits * values, axis=2)
        counts, totals = ops.split(values, 2, axis=2)
        return ops.sum(ops.abs(digits) * (self._gains * counts - totals), axis=2)


class Separated(NamedTuple):
    """Powers of t times a factor of ranks, as sums of products of features of the two places, in different blocks.

    Attributes:
        first: The first place of each block, from which those above it are seen.
        last: The last one, or, if they touch, the first one of the next block.
        from_first: (B, n, F, T) features of lower places, for the way to the first place of their block; None for the
            power 0 where places count alike, of which all are 1.
        from_last: (B, n, F, T) features of upper places, for the way to the last one; None likewise.
        rates: How features fade.
        weights: (M,) what each exponential of ranks is multiplied by; features are all powers, with all M each. One of
            1 without ranks.
        touching: Whether blocks end where the next ones begin: a way less to go.
    """

    first: carries.End
    last: carries.End
    from_first: Tensor | None
    from_last: Tensor | None
    rates: carries.Rates
    weights: np.ndarray
    touching: bool

    def above(self, held: carries.Sums) -> carries.Sums:
        """What the blocks above each one hold, seen from their last places, as seen from its first place."""
        return carries.carried(held, self.last, self.rates, entry=None if self.touching else self.first)

    def below(self, held: carries.Sums) -> carries.Sums:
        """What the blocks below each one hold, seen from their first places, as seen from its last place."""
        return carries.carried(held, self.first, self.rates, upwards=True, entry=None if self.touching else self.last)

    def seen(self, held: Tensor, features: Tensor | None) -> Tensor:
        """What sums (B, n, C, F) over other blocks add up to at places (B, n, C, T), or (B, n, C, 1) where alike."""
        return held if features is None else lists.product(held * self.weights.astype(_dtype(held)), features)


def separated(
    blocks: Blocks, term: RankTerm, powers: np.ndarray | Bernstein, with_ranks: bool, touching: bool = False
) -> Separated:
    """The features of powers of t and a term of the factor of ranks, or of no powers but a polynomial and no ranks."""
    decay = decays.CONSTANT
    if term.discount is not None:
        decay = decays.decay(term.discount, blocks.length if isinstance(blocks.length, int) else 2**20)
    rates: carries.Rates
    of_features: carries.Rates
    if isinstance(powers, Bernstein):
        rates = of_features = powers
    else:
        rates = [powers, decay.rates] if with_ranks else [powers]
        of_features = [np.repeat(powers, len(decay.rates)), np.tile(decay.rates, len(powers))][: len(rates)]
    first = blocks.end(lambda values: values[:, :, 0], with_ranks)
    last = blocks.end(_next_first if touching else lambda values: values[:, :, -1], with_ranks)

    alike = blocks.runs is None and term.of_upper is None and term.of_lower is None
    if alike and not carries.fade(rates):
        return Separated(first, last, None, None, of_features, decay.weights, touching)

    def features(end, of_ranks):
        """Those of the ways to one end, of items that are in its run."""
        here = zip(blocks.coordinates(with_ranks), end.coordinates, strict=True)
        ways = [ops.abs(values - at[:, :, None]) for values, at in here]
        factor = None if of_ranks is None else of_ranks(blocks.ranks)
        if end.run is not None:
            in_run = ops.cast(ops.equal(blocks.runs, end.run[:, :, None]), blocks.scores.dtype)
            factor = in_run if factor is None else factor * in_run
        return _features(ways, rates, factor)

    # Items that are seen from those below them have the factor of upper ranks, and those below that of lower ones.
    from_first, from_last = features(first, term.of_lower), features(last, term.of_upper)
    return Separated(first, last, from_first, from_last, of_features, decay.weights, touching)


def _next_first(values: Tensor) -> Tensor:
    """Of places (B, n, T) the first one of the next block, (B, n), or the last one of all."""
    return ops.concatenate([values[:, 1:, 0], values[:, -1:, -1]], axis=1)


def gaps_across(blocks: Blocks, channels: Tensor, parts: Separated) -> tuple[Tensor, Tensor]:
    """The sums over the places of the blocks above of the sizes of gaps, and ``counts_above``.

    From block to block the former grow by the way between them, so that small gaps keep their digits.
    """
    way = channels * (blocks.scores - parts.last.coordinates[0][:, :, None])[:, :, None, :]
    above = parts.above(carries.Sums(moments(channels, parts.from_last), moments(way, parts.from_last)))
    together = parts.seen(ops.concatenate([above.way, above.one], axis=2), parts.from_first)
    way, count = ops.split(together, 2, axis=2)
    gap = way + (blocks.scores[:, :, :1] - blocks.scores)[:, :, None, :] * count
    return gap if blocks.temperature == 1 else gap / blocks.temperature, count


def counts_above(channels: Tensor, parts: Separated) -> Tensor:
    """The sums over the places of the blocks above, for parts of the power 0, in a shape that broadcasts to theirs."""
    return parts.seen(parts.above(carries.Sums(moments(channels, parts.from_last))).one, parts.from_first)


def counts_below(channels: Tensor, parts: Separated) -> Tensor:
    """The sums over the places of the blocks below, for parts of the power 0, in a shape that broadcasts to theirs."""
    return parts.seen(parts.below(carries.Sums(moments(channels, parts.from_first))).one, parts.from_last)


def _dtype(values: Tensor) -> str:
    return keras.backend.standardize_dtype(values.dtype)


def _features(distances: Sequence[Tensor], rates: carries.Rates, factor: Tensor | None) -> Tensor:
    """exp(-rate * distance) of places, (B, n, F, T), or what they mix of it.

    Args:
        distances: (B, n, T) of scores, and of ranks where they matter.
        rates: Those of either; features are all combinations, of which the rates of ranks change first.
        factor: (B, n, T) what features are multiplied by; None for 1.
    """
    if isinstance(rates, Bernstein):
        parts = [rates.features(distances[0])]
    else:
        dtype = _dtype(distances[0])
        parts = [
            ops.exp(-distance[:, :, None, :] * of_one[:, None].astype(dtype))
            for distance, of_one in zip(distances, rates, strict=True)
        ]
    if factor is not None:
        parts[-1] = parts[-1] * factor[:, :, None, :]
    if len(parts) == 1:
        return parts[0]
    features = parts[0][:, :, :, None, :] * parts[1][:, :, None, :, :]
    batch, blocks, powers, terms, places = ops.shape(features)
    return ops.reshape(features, (batch, blocks, powers * terms, places))


def moments(channels: Tensor, features: Tensor | None) -> Tensor:
    """The sums (B, n, C, F) over each block of channels (B, n, C, T) times features (B, n, F, T), or None for 1."""
    if features is None:
        return ops.sum(channels, axis=3, keepdims=True)
    return ops.einsum("bnct,bnft->bncf", channels, features)


def _inside(
    blocks: Blocks, channels: Tensor, form: GapForm, terms: Sequence[RankTerm], wanted: Sequence[str]
) -> list[Tensor]:
    """``sums`` over the places of the own block."""
    size = blocks.scores.shape[2]
    gaps = blocks.scores[:, :, None, :] - blocks.scores[:, :, :, None]
    gaps = gaps if blocks.temperature == 1 else gaps / blocks.temperature
    # 1 where place i = 0, 1, ... of the columns stands above place j of the rows, which loses more as the better one.
    is_above = ops.convert_to_tensor(np.tri(size, k=-1), dtype=gaps.dtype)
    values, slopes = form.inside(blocks, gaps, is_above)

    def weighed(ranks):
        """Both times the factor of ranks (B, n, T), or of ranks (1, 1, T) that are those of all blocks."""
        factors = sum(_factors(term, ranks, is_above) for term in terms)
        if blocks.runs is not None:
            same = ops.equal(blocks.runs[:, :, :, None], blocks.runs[:, :, None, :])
            factors = factors * ops.cast(same, gaps.dtype)
        return values * factors, slopes * factors

    by_distance = any(term.discount is not None for term in terms)
    if blocks.runs is None and tuple(terms) == ALL_ALIKE:
        # As they are: a factor of 1 but for the diagonal would take a pass over all pairs of two tensors.
        pass
    elif by_distance and blocks.runs is None and all(term.of_upper is term.of_lower is None for term in terms):
        # Distances of ranks alone matter; where every place is a rank of its own, one block tells of all.
        places = ops.convert_to_tensor(np.arange(size)[None, None, :], dtype=gaps.dtype)
        values, slopes = ops.cond(blocks.no_ties, lambda: weighed(places), lambda: weighed(blocks.ranks))
    else:
        values, slopes = weighed(blocks.ranks)
    # The slope of a place as the worse one is that of the other as the better one.
    products = {
        "value": lambda: ops.einsum("bnci,bnji->bncj", channels, values),
        "as_better": lambda: ops.einsum("bnci,bnji->bncj", channels, slopes),
        "as_worse": lambda: lists.product(channels, slopes),
    }
    return [products[name]() for name in wanted]


def _factors(term: RankTerm, ranks: Any, is_above: Tensor) -> Tensor:
    """A term of the factor of ranks (B, n, T) for the pairs of a block, (B, n, T, T), 0 on the diagonal."""
    factors = is_above
    if term.discount is not None:
        factors = factors * _lost(ranks[:, :, :, None] - ranks[:, :, None, :], term.discount)
    if term.of_upper is not None:
        factors = factors * term.of_upper(ranks)[:, :, None, :]
    if term.of_lower is not None:
        factors = factors * term.of_lower(ranks)[:, :, :, None]
    return factors + ops.swapaxes(factors, -1, -2)


def _lost(steps: Tensor, discount: str) -> Tensor:
    """d(n) - d(n + 1) at rank distances n = ``steps`` (B, n, T, T) of at least 1, anything finite elsewhere."""
    return gains.discount_step(gains.DISCOUNTS[discount], ops.maximum(steps, 1.0))
