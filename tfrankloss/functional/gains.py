"""Gains of labels, discounts of ranks, and the DCG they make.

A gain is a function of labels, a discount a function of ranks (1-based); both are given by name or as a function of a
tensor. Ranks are an argument, so that the same formula serves exact ranks and smooth ones.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from tfrankloss import errors
from tfrankloss.functional import lists, meetings

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
    if gain is not exponential_gain:
        return gain(labels)
    largest = ops.max(labels, axis=1, keepdims=True, initial=0)
    # TensorFlow raises to a power in ten times the time of exp().
    return ops.exp(math.log(2) * (labels - largest)) - ops.exp(-math.log(2) * largest)


def cutoff(ranks: Tensor, k: int | None) -> Tensor:
    """1 where the rank is at most ``k`` (everywhere if ``k`` is None), else 0."""
    return ops.ones_like(ranks) if k is None else ops.cast(ranks <= k, ranks.dtype)


def dcg(gains: Tensor, ranks: Tensor, discount: Transform, k: int | None = None) -> Tensor:
    """The sum (B,) of gains (B, L), 0 at padding, discounted by their ranks (B, L) or (1, L), exact or smooth."""
    return ops.sum(gains * discount(ranks) * cutoff(ranks, k), axis=1)


def ideal_dcg(
    gains: Tensor, mask: Tensor, discount: Transform, k: int | None = None, labels: Tensor | None = None
) -> Tensor:
    """The DCG (B,) of each list in the order of descending gain.

    Args:
        gains: (B, L) gains, finite.
        mask: (B, L) booleans, False at padding.
        discount: A function of ranks.
        k: Places that count; None for all.
        labels: (B, L) labels by which alone the gains rise, 0 at padding; grades are counted, in less time than sorting
            takes. None where there are no such.
    """
    if labels is None:
        return _ideal_dcg_by_sorting(gains, mask, discount, k)
    return ops.cond(
        lists.are_grades(labels),
        lambda: _ideal_dcg_by_counting(gains, mask, discount, k, labels),
        lambda: _ideal_dcg_by_sorting(gains, mask, discount, k),
    )


def rising_labels(gain: Transform, labels: Tensor) -> Tensor | None:
    """The labels if ``gain`` is known to rise with them, for ``ideal_dcg``."""
    return labels if gain in GAINS.values() else None


def _ideal_dcg_by_counting(gains: Tensor, mask: Tensor, discount: Transform, k: int | None, labels: Tensor) -> Tensor:
    grades = ops.cast(ops.arange(lists.GRADES), labels.dtype)[:, None, None]
    members = ops.cast(ops.logical_and(ops.equal(labels[None], grades), mask[None]), gains.dtype)
    sizes, totals = ops.sum(members, axis=2), ops.sum(members * gains, axis=2)
    better = ops.matmul(ops.convert_to_tensor(np.triu(np.ones((lists.GRADES,) * 2), k=1), gains.dtype), sizes)
    ranks = ops.cast(ops.arange(1, ops.shape(gains)[1] + 2), gains.dtype)[None, :]
    # The discounts of all places before each one; rounding of their sums is small beside an ideal list.
    before = lists.sums_before(discount(ranks) * cutoff(ranks, k))[0]
    first, last = (ops.take(before, ops.cast(count, "int32")) for count in (better, better + sizes))
    return ops.sum(lists.ratio(totals, sizes) * (last - first), axis=0)


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
