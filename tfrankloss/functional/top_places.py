r"""The exponential race of ``races`` for a group of ties that the last counted place cuts in two.

The group then fills only the places left: with n of them, P is the probability that n of its members arrive before the
items below. The product over members becomes the upper tail of a count of independent events, which is followed item
by item in logarithms, for every node of the integral over time at once. A member's share in the gradient is the
probability that exactly n - 1 of the others have arrived, from the counts of the items before and after it: sums of
positive terms only. Both directions are loops whose derivative is never taken, so they also compile under XLA.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from tfrankloss.functional import lists, log_sums
from tfrankloss.functional.races import DEPTH, log_arrived

Tensor = Any

# Spacing of the nodes in log time, and how far beyond the last place they reach.
STEP, MARGIN = 0.15, 30.0


class Counts(NamedTuple):
    """What the loops over items need.

    Attributes:
        exponents: (B, L, Q) log(rate * time) of each item at each node.
        members: (B, L) True at members of the cut group.
        above: (B,) items above the cut group; the count starts there, so that ``top_k`` ends every list.
        top_k: The last place that counts.
    """

    exponents: Tensor
    members: Tensor
    above: Tensor
    top_k: int


def log_top_places_probability(rates: Tensor, cut: Tensor, first: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """log probability that the places from ``first`` to ``top_k`` all go to members of the group they cut, and slopes.

    Args:
        rates: (B, L) logarithms of the rates, in sorted lists.
        cut: (B, L) booleans, True at the members of the group that place ``top_k`` cuts.
        first: (B, L) place of the first member of each group.
        top_k: The last place, at least 1.

    Returns:
        (B, 1) log probabilities, of no meaning in lists without a cut group, and (B, L) their derivative by each log
        rate.
    """
    begin, end = -DEPTH, math.log(top_k + MARGIN)
    nodes = begin + STEP * np.arange(math.ceil((end - begin) / STEP))
    above = ops.max(ops.where(cut, first - 1, 0.0), axis=1)
    times, log_weights = (
        ops.convert_to_tensor(values, dtype=rates.dtype) for values in (nodes, nodes - np.exp(nodes) + math.log(STEP))
    )
    counts = Counts(rates[:, :, None] + times, cut, above, top_k)
    value = ops.logsumexp(_tail(counts) + log_weights, axis=1, keepdims=True)
    densities = counts.exponents - ops.exp(ops.minimum(counts.exponents, 60.0))
    shares = _all_but_one(counts) + densities + log_weights - value[:, :, None]
    slopes = ops.where(cut, ops.sum(ops.exp(ops.minimum(shares, 0.0)), axis=2), 0.0)
    return ops.minimum(value, 0.0), slopes


def _start(counts: Counts, from_above: bool) -> Tensor:
    """The count before the first item (B, Q, top_k + 1): surely ``above``, or 0."""
    numbers = ops.arange(counts.top_k + 1)
    sure = ops.cast(counts.above, "int32")[:, None, None] if from_above else 0
    at_start = ops.where(ops.equal(numbers, sure), 0.0, lists.LOWEST)
    return ops.cast(at_start, counts.exponents.dtype) + ops.zeros_like(counts.exponents[:, 0, :, None])


def _add_item(counts: Counts, index: Any, state: Tensor) -> Tensor:
    """The count with one more item; its last entry stands for "at least ``top_k``"."""
    member = ops.take(counts.members, index, axis=1)[:, None]
    exponents = ops.take(counts.exponents, index, axis=1)
    arrived = ops.where(member, log_arrived(exponents), lists.LOWEST)[:, :, None]
    waiting = ops.where(member, -ops.exp(ops.minimum(exponents, 60.0)), 0.0)[:, :, None]
    stay = ops.concatenate([state[:, :, :-1] + waiting, state[:, :, -1:]], axis=2)
    rise = ops.concatenate([ops.full_like(state[:, :, :1], lists.LOWEST), state[:, :, :-1] + arrived], axis=2)
    return ops.maximum(log_sums.log_add(stay, rise), lists.LOWEST)


def _tail(counts: Counts) -> Tensor:
    """log probability (B, Q) that at least ``top_k`` have arrived."""
    length = ops.shape(counts.exponents)[1]
    state = ops.fori_loop(0, length, lambda index, state: _add_item(counts, index, state), _start(counts, True))
    return state[:, :, -1]


def _all_but_one(counts: Counts) -> Tensor:
    """For each item the log probability (B, L, Q) that exactly ``top_k - 1`` of all others have arrived."""
    length = ops.shape(counts.exponents)[1]
    start = _start(counts, True)
    before = ops.zeros((length, *ops.shape(start)), start.dtype)

    def forward(index, carry):
        state, before = carry
        before = ops.slice_update(before, (index, 0, 0, 0), state[None])
        return _add_item(counts, index, state), before

    _, before = ops.fori_loop(0, length, forward, (start, before))
    others = ops.zeros((length, *ops.shape(start)[:2]), start.dtype)

    def backward(step, carry):
        after, others = carry
        index = length - 1 - step
        both = ops.take(before, index, axis=0)[:, :, :-1] + ops.flip(after[:, :, :-1], axis=2)
        others = ops.slice_update(others, (index, 0, 0), ops.logsumexp(both, axis=2)[None])
        return _add_item(counts, index, after), others

    _, others = ops.fori_loop(0, length, backward, (_start(counts, False), others))
    return ops.transpose(others, (1, 0, 2))
