r"""Losses of score gaps weighed by a lambda weight, by sorted scores, without the pairs.

The weight of a pair is the difference of two gains times a factor of two ranks. Of the ranks the upper and the lower
one may add factors of their own, and their distance one that is a sum of exponentials (``decays``). Such an
exponential separates as those of score gaps do in ``kernels``, so that a pair of blocks costs as many products as
there are powers of :math:`t = e^{-|s_i - s_j|}` times exponentials of the rank distance. Pairs inside a block are taken
one by one, with the factor of their distance as it is.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfrankloss.functional import carries, decays, gains, kernels, lists, sorted_pairs
from tfrankloss.functional.lambda_weights import RankTerm

Tensor = Any

# Powers of t between blocks for a factor of the rank distance, which itself is no more precise than these.
DEGREE = 6


class Sums(NamedTuple):
    """For each place the sums over others, (B, L, C), of channels times the factor of the rank distance.

    Attributes:
        one: Of that alone.
        gap: Times the size of the score gap; None for the places below.
        value: Times the kernel of the loss.
        slope: Times the kernel of its slope.
    """

    one: Tensor
    gap: Tensor | None
    value: Tensor
    slope: Tensor

    def times(self, factor: Any) -> "Sums":
        """All of them times a factor (B, L, 1) of the places."""
        return Sums(*(None if values is None else values * factor for values in self))


def losses_and_slopes(
    labels: Tensor,
    scores: Tensor,
    mask: Tensor,
    item_gains: Tensor,
    ranking: tuple[Tensor, Tensor],
    terms: Sequence[RankTerm],
    form: sorted_pairs.GapForm,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """For each item the loss of the pairs in which it is better, and the slope of all losses in its score, (B, L).

    Args:
        labels: (B, L) labels that tell which item is better, clean at padding.
        scores: (B, L) scores, clean at padding.
        mask: (B, L) booleans, False at padding.
        item_gains: (B, L) gains, which rise with the labels.
        ranking: Indices (B, L) that sort the lists by rank, and the ranks (B, L) in that order.
        terms: What the factor of ranks is the sum of.
        form: The loss of a gap.
        weights: (B, L) what the loss of each better item weighs in the slopes; None for 1.
    """
    order, ranks = ranking
    places, count = lists.places(ranks), ops.sum(ops.cast(mask, ranks.dtype), axis=1, keepdims=True)
    no_ties = ops.all(ops.logical_or(ops.equal(ranks, places), places > count))

    grade_gains, one_each = _gains_of_grades(labels, mask, item_gains)

    def of_digit(digit, of_classes=None):
        own_ranks = ranks if digit.prefixes is None else lists.take(ranks, digit.orders[1])
        blocks = _blocks_of(digit.scores, own_ranks, digit.prefixes, no_ties)
        own_weights = None if weights is None else digit.sort(weights)
        of_items = _Channels(digit, digit.sort(item_gains), own_weights, of_classes)
        values, slopes = 0.0, 0.0
        for term in terms:
            of_upper, of_lower = (
                1.0 if factor is None else factor(own_ranks)[:, :, None] for factor in (term.of_upper, term.of_lower)
            )
            above, below = _sums(
                blocks, of_items.channels * of_upper, of_items.channels * of_lower, term.discount, form
            )
            above, below = above.times(of_lower), below.times(of_upper)
            new_values, new_slopes = of_items.losses_and_slopes(above, below, form)
            values, slopes = values + new_values, slopes + new_slopes
        return values, slopes

    def of_grades():
        return sorted_pairs.of_only_digit(labels, scores, mask, lambda digit: of_digit(digit, grade_gains), order)

    def of_all_labels():
        return sorted_pairs.sum_over_digits(labels, scores, mask, of_digit, 2, order)

    if weights is not None:
        return of_all_labels()
    return ops.cond(ops.logical_and(lists.are_grades(labels), one_each), of_grades, of_all_labels)


def _gains_of_grades(labels: Tensor, mask: Tensor, item_gains: Tensor) -> tuple[Tensor, Tensor]:
    """The gain (B, 1, BASE) of each grade, 0 where a list has none, and whether every item of a grade has the same.

    They may differ where labels only tell relevant items from others.
    """
    grades = ops.where(mask, ops.cast(labels, "int32"), -1)
    own = ops.equal(grades[:, :, None], ops.arange(sorted_pairs.BASE)[None, None, :])
    infinite = float("inf")
    highest = ops.max(ops.where(own, item_gains[:, :, None], -infinite), axis=1, keepdims=True, initial=-infinite)
    lowest = ops.min(ops.where(own, item_gains[:, :, None], infinite), axis=1, keepdims=True, initial=infinite)
    return ops.where(highest >= lowest, highest, 0.0), ops.all(highest <= lowest)


class _Channels:
    """What items add to sums over a list, by their digit, and what items make of such sums.

    Args:
        digit: The sorted lists.
        gains: (B, L) sorted gains.
        weights: (B, L) what the loss of each better item weighs in the slopes; None for 1.
        of_classes: (B, 1, BASE) the gain of all items of a digit, so that counts of them tell the sum of gains; None
            where they differ.
    """

    def __init__(self, digit: sorted_pairs.Digit, gains: Tensor, weights: Tensor | None, of_classes: Tensor | None):
        self._digit = digit
        self._gains, self._weights = gains[:, :, None], None if weights is None else weights[:, :, None]
        self._of_classes = of_classes
        self.channels = digit.own
        if of_classes is None:
            self.channels = ops.concatenate([digit.own, digit.own * self._gains], axis=2)
        self._each = self.channels.shape[2]
        if weights is not None:
            self.channels = ops.concatenate([self.channels, self.channels * self._weights], axis=2)

    def losses_and_slopes(self, above: "Sums", below: "Sums", form: sorted_pairs.GapForm) -> tuple[Tensor, Tensor]:
        """The losses and slopes (B, L) of items from the sums over the places above and below them."""
        better, worse = self._digit.better, self._digit.worse
        # A better item that stands below loses more than above, or the rest of a bounded loss.
        if form.grows:
            value = above.gap + above.value + below.value
            as_better = above.one - above.slope + below.slope
            as_worse = above.slope + below.one - below.slope
        else:
            value = above.one - above.value + below.value
            as_better = as_worse = above.slope + below.slope
        slopes = -self._gained(as_better, worse)
        if self._weights is not None:
            slopes = slopes * self._weights[:, :, 0]
        return self._gained(value, worse), slopes - self._gained(as_worse, better, weighed=True)

    def _gained(self, sums: Tensor, classes: Tensor, weighed: bool = False) -> Tensor:
        """Sums of channels over the digits ``classes``, times what the own gain is above theirs."""
        start = self._each if weighed and self._weights is not None else 0
        counts = sums[:, :, start : start + sorted_pairs.BASE]
        if self._of_classes is not None:
            return ops.sum(classes * (self._gains - self._of_classes) * counts, axis=2)
        totals = sums[:, :, start + sorted_pairs.BASE : start + 2 * sorted_pairs.BASE]
        return ops.sum(classes * (self._gains * counts - totals), axis=2)


class _Blocks(NamedTuple):
    """Lists in the order of ranks, cut into n blocks of T places.

    Attributes:
        scores: (B, n, T) scores, descending in a run.
        ranks: (B, n, T) ranks, ascending in a run.
        runs: (B, n, T) the run of each place; None where a list is one run.
        length: The length of the lists before the last block was filled up.
        no_ties: Whether ranks are places, so that those of a block are always as far apart.
    """

    scores: Tensor
    ranks: Tensor
    runs: Tensor | None
    length: Any
    no_ties: Tensor

    def in_run(self, place: int) -> Any:
        """1 where a place (B, n, T) is in the run of the first (0) or last (-1) place of its block."""
        if self.runs is None:
            return 1.0
        return ops.cast(ops.equal(self.runs, self.runs[:, :, place][:, :, None]), self.scores.dtype)


def _blocks_of(scores: Tensor, ranks: Tensor, runs: Tensor | None, no_ties: Tensor) -> _Blocks:
    runs = None if runs is None else kernels.cut(runs, repeat_last=True)
    length = ops.shape(scores)[1]
    scores, ranks = (kernels.cut(values, repeat_last=True) for values in (scores, ranks))
    return _Blocks(scores, ranks, runs, length, no_ties)


def _sums(
    blocks: _Blocks, of_above: Tensor, of_below: Tensor, discount: str | None, form: sorted_pairs.GapForm
) -> tuple[Sums, Sums]:
    """The sums over the places above each one and over those below it.

    Args:
        blocks: The lists.
        of_above: (B, L, C) what a place adds to those below it, 0 at padding.
        of_below: (B, L, C) what it adds to those above it.
        discount: As in ``RankTerm``.
        form: The loss of a gap.
    """
    dtype = keras.backend.standardize_dtype(blocks.scores.dtype)
    length = blocks.length if isinstance(blocks.length, int) else 2**20
    decay = decays.CONSTANT if discount is None else decays.decay(discount, length)
    terms, degree = len(decay.rates), kernels.DEGREES[dtype] if discount is None else DEGREE
    of_above, of_below = kernels.cut(of_above), kernels.cut(of_below)

    from_first = _features(
        blocks.scores[:, :, :1] - blocks.scores, blocks.ranks - blocks.ranks[:, :, :1], blocks.in_run(0), decay, degree
    )
    distances = (blocks.scores - blocks.scores[:, :, -1:]) * blocks.in_run(-1)
    from_last = _features(distances, blocks.ranks[:, :, -1:] - blocks.ranks, blocks.in_run(-1), decay, degree)
    own_gaps = ops.matmul(from_last.of_ranks, of_above * distances[:, :, :, None])
    first, last = (
        carries.End(
            (blocks.scores[:, :, end], blocks.ranks[:, :, end]), None if blocks.runs is None else blocks.runs[:, :, end]
        )
        for end in (0, -1)
    )
    rates = [np.arange(degree + 1), decay.rates]
    from_above = carries.carried(carries.Sums(from_last.moments(of_above), own_gaps), first, last, rates)
    from_below = carries.carried(carries.Sums(from_first.moments(of_below)), last, first, rates, upwards=True)

    weights = decay.weights.astype(dtype)[:, None]
    value, slope = (
        np.outer(kernel.coefficients(dtype, degree), weights).reshape(-1, 1).astype(dtype)
        for kernel in (form.value, form.slope)
    )

    def seen(features, moments, *others):
        """What the moments of other blocks add up to at the places of a block, (B, n, T, C) each."""
        near = ops.concatenate([part * weights for part in (moments[:, :, :terms], *others)], axis=3)
        far = ops.concatenate([moments[:, :, terms:] * value, moments[:, :, terms:] * slope], axis=3)
        near = ops.split(ops.einsum("bnft,bnfc->bntc", features.of_ranks, near), 1 + len(others), axis=3)
        return [*near, *ops.split(ops.einsum("bnft,bnfc->bntc", features.of_both, far), 2, axis=3)]

    one, gap, of_value, of_slope = seen(from_first, from_above.one, from_above.way)
    across = (blocks.scores[:, :, :1] - blocks.scores)[:, :, :, None]
    above = [one, gap + across * one, of_value, of_slope]
    below = seen(from_last, from_below.one)

    inside = _inside(blocks, discount, form)
    inside_above = [ops.matmul(factors, of_above) for factors in inside]
    inside_below = [ops.einsum("bnjk,bnjc->bnkc", inside[place], of_below) for place in (0, 2, 3)]
    above = [kernels.joined(x + y, blocks.length) for x, y in zip(above, inside_above, strict=True)]
    one, of_value, of_slope = (kernels.joined(x + y, blocks.length) for x, y in zip(below, inside_below, strict=True))
    return Sums(*above), Sums(one, None, of_value, of_slope)


class _Features(NamedTuple):
    """exp(-m d - b_q n) of places for a score distance d and a rank distance n, 0 where they are not counted.

    Attributes:
        of_ranks: (B, n, M, T) for m = 0 and each b_q.
        of_both: (B, n, K M, T) for m = 1, ..., K and each b_q.
    """

    of_ranks: Tensor
    of_both: Tensor

    def moments(self, channels: Tensor) -> Tensor:
        """Their sums (B, n, (K + 1) M, C) over a block, times channels (B, n, T, C)."""
        return ops.concatenate([ops.matmul(features, channels) for features in self], axis=2)


def _features(distances: Tensor, steps: Tensor, counted: Any, decay: decays.Decay, degree: int) -> _Features:
    """The features of score distances and rank distances, (B, n, T) both; ``counted`` is 1 or 0, (B, n, T) or 1."""
    distances, steps = distances * counted, steps * counted
    by_rank = ops.exp(-steps[:, :, None, :] * decay.rates[:, None].astype(keras.backend.standardize_dtype(steps.dtype)))
    if not isinstance(counted, float):
        by_rank = by_rank * counted[:, :, None, :]
    numbers = ops.cast(ops.arange(1, degree + 1), distances.dtype)
    powers = ops.exp(-numbers[:, None] * distances[:, :, None, :])
    of_both = powers[:, :, :, None, :] * by_rank[:, :, None, :, :]
    batch, blocks, _, terms, places = ops.shape(of_both)
    return _Features(by_rank, ops.reshape(of_both, (batch, blocks, degree * terms, places)))


def _inside(blocks: _Blocks, discount: str | None, form: sorted_pairs.GapForm) -> list[Tensor]:
    """The factors (B, n, T, T) of places j and the places i above them in a block, as the fields of ``Sums``."""
    dtype = blocks.scores.dtype
    size = blocks.scores.shape[2]
    below = ops.convert_to_tensor(np.tri(size, k=-1), dtype=dtype)
    if blocks.runs is not None:
        below = ops.where(ops.equal(blocks.runs[:, :, :, None], blocks.runs[:, :, None, :]), below, 0.0)
    gaps = ops.abs(blocks.scores[:, :, None, :] - blocks.scores[:, :, :, None])
    one = ops.broadcast_to(below, ops.shape(gaps))
    if discount is not None:
        places = np.arange(size)
        in_order = ops.convert_to_tensor(places[:, None] - places[None, :], dtype=dtype)
        # Where every place is a rank of its own, one block tells of all.
        one = one * ops.cond(
            blocks.no_ties if blocks.runs is None else False,
            lambda: ops.broadcast_to(_lost(in_order, discount), ops.shape(gaps)),
            lambda: _lost(blocks.ranks[:, :, :, None] - blocks.ranks[:, :, None, :], discount),
        )
    t = ops.exp(-gaps)
    return [one, one * gaps, one * form.value.of_tensor(t), one * form.slope.of_tensor(t)]


def _lost(steps: Tensor, discount: str) -> Tensor:
    """d(n) - d(n + 1) at rank distances n = ``steps`` (B, n, T, T) of at least 1, anything elsewhere."""
    function = gains.DISCOUNTS[discount]
    steps = ops.maximum(steps, 1.0)
    return function(steps) - function(steps + 1)
