r"""Sums over all pairs of a list without its pairs: losses of score gaps, in time that grows with L log L.

A list in descending order of its scores is cut into blocks of T places. Pairs inside a block are taken one by one.
Between blocks, a function of :math:`t = e^{-|s_i - s_j|}` that vanishes at 0 is a polynomial in t (``kernels``), whose
powers separate: :math:`t^m = e^{-m(s_i - e)} e^{-m(e - b)} e^{-m(b - s_j)}` for the last score e of the block of i and
the first score b of the block of j. Every exponent is at most 0 and every term has one sign, so nothing overflows or
cancels, however far or near the scores are. The sums of a block over its own items, its moments, are carried to the
others by ``carries``.

Pairs may have a factor of the ranks of the two: the upper and the lower one add factors of their own, and their
distance one that is a sum of exponentials (``decays``), which separates just as those of scores do.

Lists may be cut into runs, of which only pairs of one run count.

Source: the project's own; the expansion is that of fast Gauss transforms (Greengard and Strain 1991) for other
kernels.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfrankloss.functional import carries, decays, gains, kernels, lists
from tfrankloss.functional.lambda_weights import RankTerm

Tensor = Any

ALL_ALIKE = (RankTerm(),)
SUMS = ("value", "as_better", "as_worse")


class GapKernels(NamedTuple):
    """The loss of a gap d = s_i - s_j of a better item i and another one j, by kernels of t = exp(-|d|).

    Attributes:
        value: f, the loss where the better item is above.
        slope: g, minus the derivative there.
        grows: What the loss is where the better item is below: |d| + f with the derivative g - 1, or, if False, 1 - f
            with the derivative -g.
        rates: Powers of t that make both kernels between blocks where ranks have a factor of their distance, which
            itself is no more precise than these.
    """

    value: kernels.Kernel
    slope: kernels.Kernel
    grows: bool
    rates: tuple[float, ...]


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

    def in_run(self, place: int) -> Any:
        """1 where a place (B, n, T) is in the run of the first (0) or last (-1) place of its block."""
        if self.runs is None:
            return 1.0
        return ops.cast(ops.equal(self.runs, self.runs[:, :, place][:, :, None]), self.scores.dtype)

    def end(self, place: int, with_ranks: bool) -> carries.End:
        """The first (0) or last (-1) place of each block."""
        runs = None if self.runs is None else self.runs[:, :, place]
        return carries.End(tuple(values[:, :, place] for values in self.coordinates(with_ranks)), runs)

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
    form: GapKernels,
    terms: Sequence[RankTerm] = ALL_ALIKE,
    wanted: Sequence[str] = SUMS,
) -> list[Tensor]:
    """For each place the sums (B, n, C, T) over the others of its run of channels times something of the pair.

    Args:
        blocks: The lists.
        channels: (B, n, C, T) what a place adds, 0 at padding.
        form: The loss of a gap.
        terms: What the factor of ranks is the sum of.
        wanted: Of these: "value", the loss if the place is the better one of the two; "as_better", the size of its
            slope then; "as_worse", that of the slope if it is the worse one.
    """
    total = _inside(blocks, channels, form, terms, wanted)
    for term in terms:
        total = [one + other for one, other in zip(total, _across(blocks, channels, form, term, wanted), strict=True)]
    return total


class Channels:
    """What items add to sums over a list, by their digit, and what items make of such sums.

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


def _across(blocks: Blocks, channels: Tensor, form: GapKernels, term: RankTerm, wanted: Sequence[str]) -> list[Tensor]:
    """``sums`` over the places of other blocks, for one term of the factor of ranks."""
    dtype = keras.backend.standardize_dtype(channels.dtype)
    by_distance, decay = term.discount is not None, decays.CONSTANT
    if term.discount is not None:
        decay = decays.decay(term.discount, blocks.length if isinstance(blocks.length, int) else 2**20)
    terms, few = len(decay.rates), form.rates if by_distance else None
    powers = np.array([0, *(few or range(1, kernels.DEGREES[dtype] + 1))]) / blocks.temperature
    rates = [powers, decay.rates] if by_distance else [powers]
    of_features = [np.repeat(powers, terms), np.tile(decay.rates, len(powers))][: len(rates)]
    first, last = blocks.end(0, by_distance), blocks.end(-1, by_distance)

    def features(end, place, factor):
        """Those of the ways to one end, of items that are in its run."""
        here = zip(blocks.coordinates(by_distance), end.coordinates, strict=True)
        ways = [ops.abs(values - at[:, :, None]) for values, at in here]
        return _features(ways, rates, blocks.in_run(place), None if factor is None else factor(blocks.ranks))

    # Items that are seen from those below them have the factor of upper ranks, and those below that of lower ones.
    from_first, from_last = features(first, 0, term.of_lower), features(last, -1, term.of_upper)
    above = carries.carried(carries.Sums(_moments(channels, from_last)), first, last, of_features)
    below = carries.carried(carries.Sums(_moments(channels, from_first)), last, first, of_features, upwards=True)

    one, value, slope = (
        np.outer(coefficients, decay.weights).reshape(-1).astype(dtype)
        for coefficients in (
            [1, *np.zeros(len(powers) - 1)],
            [0, *form.value.coefficients(dtype, few)],
            [0, *form.slope.coefficients(dtype, few)],
        )
    )
    # The slope of a loss that grows is g above the better item and 1 - g below it; the ones are counted apart.
    with_value, with_slope = "value" in wanted, set(wanted) != {"value"}
    of_above = with_value * [value if form.grows else one - value] + with_slope * [slope]
    of_below = with_value * [value] + with_slope * [-slope if form.grows else slope]
    total = _seen(from_first, above.one, of_above) + _seen(from_last, below.one, of_below)
    names = with_value * ["value"] + with_slope * ["slope"]
    found = dict(zip(names, ops.split(total, len(names), axis=2), strict=True))
    if not form.grows:
        return [found["value" if name == "value" else "slope"] for name in wanted]
    weights, of_counts = one[:terms], [of_one[:terms] for of_one in of_features]
    gap, upper = _gaps_across(
        blocks, channels, (from_last[:, :, :terms], from_first[:, :, :terms]), (first, last), of_counts, weights
    )
    if with_value:
        found["value"] = found["value"] + gap
    if with_slope:
        lower = lists.product(below.one[:, :, :, :terms] * weights, from_last[:, :, :terms])
        found |= {"as_better": upper - found["slope"], "as_worse": lower + found["slope"]}
    return [found[name] for name in wanted]


def _gaps_across(
    blocks: Blocks,
    channels: Tensor,
    features: tuple[Tensor, Tensor],
    ends: tuple[carries.End, carries.End],
    rates: carries.Rates,
    weights: np.ndarray,
) -> tuple[Tensor, Tensor]:
    """The sums over the places of the blocks above of the sizes of gaps, and of 1, for the features of the power 0.

    From block to block the former grow by the way between them, so that small gaps keep their digits.
    """
    from_last, from_first = features
    way = channels * (blocks.scores - blocks.scores[:, :, -1:])[:, :, None, :]
    held = carries.Sums(_moments(channels, from_last), _moments(way, from_last))
    above = carries.carried(held, *ends, rates)
    near = ops.concatenate([above.way * weights, above.one * weights], axis=2)
    way, count = ops.split(lists.product(near, from_first), 2, axis=2)
    gap = way + (blocks.scores[:, :, :1] - blocks.scores)[:, :, None, :] * count
    return gap if blocks.temperature == 1 else gap / blocks.temperature, count


def _features(distances: Sequence[Tensor], rates: Sequence[np.ndarray], counted: Any, factor: Tensor | None) -> Tensor:
    """exp(-rate * distance) of places, (B, n, F, T), 0 where they are not counted.

    Args:
        distances: (B, n, T) of scores, and of ranks where they matter.
        rates: Those of either; features are all combinations, of which the rates of ranks change first.
        counted: (B, n, T) 1 or 0; or 1.
        factor: (B, n, T) what features are multiplied by; None for 1.
    """
    dtype = keras.backend.standardize_dtype(distances[0].dtype)
    parts = [
        ops.exp(-(distance * counted)[:, :, None, :] * of_one[:, None].astype(dtype))
        for distance, of_one in zip(distances, rates, strict=True)
    ]
    if not isinstance(counted, float):
        factor = counted if factor is None else factor * counted
    if factor is not None:
        parts[-1] = parts[-1] * factor[:, :, None, :]
    if len(parts) == 1:
        return parts[0]
    features = parts[0][:, :, :, None, :] * parts[1][:, :, None, :, :]
    batch, blocks, powers, terms, places = ops.shape(features)
    return ops.reshape(features, (batch, blocks, powers * terms, places))


def _moments(channels: Tensor, features: Tensor) -> Tensor:
    """The sums (B, n, C, F) over each block of channels (B, n, C, T) times features (B, n, F, T)."""
    return ops.einsum("bnct,bnft->bncf", channels, features)


def _seen(features: Tensor, moments: Tensor, coefficients: Sequence[np.ndarray]) -> Tensor:
    """What moments (B, n, C, F), times each of R coefficients (F,), add up to at places: (B, n, R C, T)."""
    batch, blocks, channels, count = ops.shape(moments)
    moments = moments[:, :, None] * np.stack(coefficients)[:, None, :]
    return lists.product(ops.reshape(moments, (batch, blocks, len(coefficients) * channels, count)), features)


def _inside(
    blocks: Blocks, channels: Tensor, form: GapKernels, terms: Sequence[RankTerm], wanted: Sequence[str]
) -> list[Tensor]:
    """``sums`` over the other places of the own block."""
    size = blocks.scores.shape[2]
    gaps = blocks.scores[:, :, None, :] - blocks.scores[:, :, :, None]
    gaps = gaps if blocks.temperature == 1 else gaps / blocks.temperature
    t = ops.exp(-ops.abs(gaps))
    # 1 where place i = 0, 1, ... of the columns stands above place j of the rows, which loses more as the better one.
    is_above = ops.convert_to_tensor(np.tri(size, k=-1), dtype=t.dtype)
    sign = 1 - 2 * is_above
    values, slopes = form.value.of_tensor(t), form.slope.of_tensor(t)
    if form.grows:
        values, slopes = values + ops.relu(gaps), is_above + sign * slopes
    else:
        values = is_above + sign * values

    def weighed(ranks):
        """Both times the factor of ranks (B, n, T), or of ranks (1, 1, T) that are those of all blocks."""
        factors = sum(_factors(term, ranks, is_above) for term in terms)
        if blocks.runs is not None:
            same = ops.equal(blocks.runs[:, :, :, None], blocks.runs[:, :, None, :])
            factors = factors * ops.cast(same, t.dtype)
        return values * factors, slopes * factors

    by_distance = any(term.discount is not None for term in terms)
    if by_distance and blocks.runs is None and all(term.of_upper is term.of_lower is None for term in terms):
        # Distances of ranks alone matter; where every place is a rank of its own, one block tells of all.
        places = ops.convert_to_tensor(np.arange(size)[None, None, :], dtype=t.dtype)
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
