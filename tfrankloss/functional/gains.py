"""Gains of labels, discounts of ranks, and the DCG they make.

A gain is a function of labels, a discount a function of ranks (1-based); both are given by name or as a function of a
tensor. Ranks are an argument, so that the same formula serves exact ranks and smooth ones.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops

from tfrankloss import errors
from tfrankloss.functional import branches, lists, meetings

Tensor = Any
Transform = Callable[[Tensor], Tensor]


def exponential_gain(labels: Tensor) -> Tensor:
    """2^label - 1: the usual gain of graded relevance (Burges et al. 2005)."""
    return ops.power(ops.cast(2.0, labels.dtype), labels) - 1


def linear_gain(labels: Tensor) -> Tensor:
    """The label itself."""
    return labels


def binary_gain(labels: Tensor, threshold: float) -> Tensor:
    """1 for relevant items, those with a label of at least ``threshold``, else 0."""
    return ops.cast(labels >= threshold, labels.dtype)


def log2_discount(ranks: Tensor) -> Tensor:
    """1 / log2(1 + rank): the usual discount of DCG (Jarvelin and Kekalainen 2002)."""
    return 1 / ops.log2(1 + ranks)


def reciprocal_discount(ranks: Tensor) -> Tensor:
    """1 / rank."""
    return 1 / ranks


def discount_step(discount: Transform, ranks: Tensor) -> Tensor:
    """discount(r) - discount(r + 1) at ranks r; of far ranks, too, the named discounts keep all their digits."""
    if discount is reciprocal_discount:
        return 1 / (ranks * (ranks + 1))
    if discount is log2_discount:
        log, step = ops.log(1 + ranks), ops.log1p(1 / (1 + ranks))
        return math.log(2) * step / (log * (log + step))
    return discount(ranks) - discount(ranks + 1)


GAINS: dict[str, Transform] = {"exponential": exponential_gain, "linear": linear_gain}
DISCOUNTS: dict[str, Transform] = {"log2": log2_discount, "reciprocal": reciprocal_discount}


def get_gain(gain: str | Transform) -> Transform:
    """The gain function of a name, or the function itself."""
    return _get("gain", gain, GAINS)


def get_discount(discount: str | Transform) -> Transform:
    """The discount function of a name, or the function itself."""
    return _get("discount", discount, DISCOUNTS)


def product(first: str | Transform | None, second: str | Transform) -> Transform:
    """The product of two discounts, of which the first may be None for 1."""
    functions = [get_discount(discount) for discount in (first, second) if discount is not None]
    return lambda ranks: math.prod((function(ranks) for function in functions), start=ops.ones_like(ranks))


def _get(argument: str, identifier: str | Transform, table: dict[str, Transform]) -> Transform:
    if callable(identifier):
        return identifier
    errors.check_choice(argument, identifier, table)
    return table[identifier]


def relative_gains(gain: Transform, labels: Tensor) -> Tensor:
    """The gains (B, L) of labels up to one factor per list, finite however large the labels.

    For ratios of DCGs, such as NDCG, which the factor does not change: exponential gains are divided by 2 to the
    largest label of their list. Labels are 0 at padding.
    """
    return _gains_below(gain, labels, _largest(labels))


def _largest(labels: Tensor) -> Tensor:
    return ops.max(labels, axis=1, keepdims=True, initial=0)


def _gains_below(gain: Transform, labels: Tensor, largest: Tensor) -> Tensor:
    """``relative_gains`` of labels of lists whose largest one is ``largest``."""
    if gain is not exponential_gain:
        return gain(labels)
    # TensorFlow raises to a power in ten times the time of exp().
    return ops.exp(math.log(2) * (labels - largest)) - ops.exp(-math.log(2) * largest)


def cutoff(ranks: Tensor, k: int | None) -> Tensor:
    """1 where the rank is at most ``k`` (everywhere if ``k`` is None), else 0."""
    return ops.ones_like(ranks) if k is None else ops.cast(ranks <= k, ranks.dtype)


def dcg(gains: Tensor, ranks: Tensor, discount: Transform, k: int | None = None) -> Tensor:
    """The sum (B,) of gains (B, L), 0 at padding, discounted by their ranks (B, L) or (1, L), exact or smooth."""
    return ops.sum(gains * discount(ranks) * cutoff(ranks, k), axis=1)


class Rising(NamedTuple):
    """Gains that rise with the labels, from 0 for the label 0.

    Attributes:
        gain: Their function.
        labels: (B, L) the labels, 0 at padding.
        largest: (B, 1) the largest label of each list.
    """

    gain: Transform
    labels: Tensor
    largest: Tensor


def rising(gain: Transform, labels: Tensor) -> Rising | None:
    """``relative_gains`` of these labels as ``ideal_dcg`` takes them, or None if ``gain`` is not known to rise."""
    return Rising(gain, labels, _largest(labels)) if gain in GAINS.values() else None


def ideal_dcg(
    gains: Tensor, mask: Tensor, discount: Transform, k: int | None = None, rising: Rising | None = None
) -> Tensor:
    """The DCG (B,) of each list in the order of descending gain.

    Args:
        gains: (B, L) gains, finite.
        mask: (B, L) booleans, False at padding.
        discount: A function of ranks.
        k: Places that count; None for all.
        rising: What the gains are ``relative_gains`` of: grades are counted, in less time than sorting takes. None
            where they may be of something else.
    """
    if rising is None:
        return _ideal_dcg_by_sorting(gains, mask, discount, k)
    return ops.cond(
        lists.are_grades(rising.labels),
        lambda: _ideal_dcg_by_counting(rising, discount, k),
        branches.lazily(lambda: _ideal_dcg_by_sorting(gains, mask, discount, k)),
    )


def _ideal_dcg_by_counting(rising: Rising, discount: Transform, k: int | None) -> Tensor:
    gain, labels, largest = rising
    grades = ops.cast(ops.arange(lists.GRADES), labels.dtype)[:, None]
    grade_gains = _gains_below(gain, grades, ops.transpose(largest))
    # How many items have at least each grade above 0, (4, B): what it adds to the sum of the labels cut off there. Each
    # of them gains what its grade has above the one before.
    sums = [ops.sum(ops.minimum(labels, ops.cast(grade, labels.dtype)), axis=1) for grade in range(1, lists.GRADES)]
    counts = ops.stack([sums[0], *(more - less for less, more in itertools.pairwise(sums))])
    ranks = ops.cast(ops.arange(1, ops.shape(labels)[1] + 2), labels.dtype)[None, :]
    # The discounts of all places before each one; rounding of their sums is small beside an ideal list.
    before = lists.sums_before(discount(ranks) * cutoff(ranks, k))[0]
    return ops.sum((grade_gains[1:] - grade_gains[:-1]) * ops.take(before, ops.cast(counts, "int32")), axis=0)


def _ideal_dcg_by_sorting(gains: Tensor, mask: Tensor, discount: Transform, k: int | None) -> Tensor:
    gains = ops.where(mask, gains, -float("inf"))
    if lists.is_short(gains):
        met = meetings.of_length(gains.shape[1])
        first, second = met.of(gains, nobody=-float("inf"))
        # Equal gains come in the order of the list.
        behind = ops.cast(ops.where(met.turned, first <= second, first < second), gains.dtype)
        ranks = 1.0 + met.totals((behind, 1.0 - behind))[0]
    else:
        # Ascending: the last place is the first one by gain.
        gains = ops.sort(gains, axis=1)
        ranks = ops.flip(lists.places(gains), axis=1)
    return dcg(ops.where(ops.isfinite(gains), gains, 0.0), ranks, discount, k)
