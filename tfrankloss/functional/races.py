r"""Exponential races: the probability that a group of tied items comes before everything below it.

Let item i of a group arrive after an exponential time of rate :math:`r_i`, its phi(score) over the sum of phi(score) of
all items below the group. The items below then arrive, as one, at rate 1. With :math:`F(t) = \prod_i (1 - e^{-r_i t})`
the probability that the whole group has arrived by time t, the Plackett-Luce probability that its members precede the
items below, in any order, is

.. math:: P = \int_0^\infty e^{-t} F(t) dt, \qquad 1 - P = \int_0^\infty (1 - e^{-t}) F'(t) dt

Both are sampled at equally spaced x = log t, where the integrands are smooth and vanish at both ends, so that the
trapezoid rule converges exponentially. A group that likely loses takes the first form, one that likely wins the
second: neither ever subtracts from 1 what is nearly 1. The range to sample follows from the rates, see ``_range``.
The gradient has a closed form over the same nodes.

Source: Kalbfleisch and Prentice, "Marginal likelihoods based on Cox's regression and life model", Biometrika 1973, for
the likelihood; the way to integrate is the project's own.
"""

import math
from typing import Any

from keras import ops

from tfrankloss.functional import gradients, lists

Tensor = Any

NODES = 64
# Integrands are followed down to exp(-18) of their largest value.
DEPTH = 18.0
NEWTON_STEPS = 12
# exp(-exp(LATE)) is 0 in float32; before EARLY, 1 - exp(-exp(x)) is exp(x - exp(x) / 2) to the last digit.
LATE, EARLY = 4.4, -7.0


def log_tie_probability(rates: Tensor, counted: Tensor, groups: lists.TieGroups) -> Tensor:
    """log P of each group, at every member of it.

    Args:
        rates: (B, L) logarithms of the rates r_i, in sorted lists.
        counted: (B, L) booleans, False at padding and in groups with nothing below them.
        groups: The groups of tied items.

    Returns:
        (B, L) log probabilities, 0 where not counted.
    """
    members = ops.cast(counted, rates.dtype)

    @gradients.custom_gradient
    def log_probability(rates):
        times, log_step, likely = _nodes(rates, members, groups)
        exponents = rates[:, :, None] + times
        late = arrival_rate(exponents) * members[:, :, None]
        # Sums over a group may be huge and nearly the same at all nodes: they are taken relative to one of them.
        at_middle = log_arrived(exponents[:, :, NODES // 2])
        offset = lists.group_sum(at_middle * members, groups)
        rise = lists.group_sum((log_arrived(exponents) - at_middle[:, :, None]) * members[:, :, None], groups)
        log_weights = times - ops.exp(times) + log_step[:, :, None]
        log_winning = ops.logsumexp(rise + log_weights, axis=-1)
        lost = _lost(rise + offset[:, :, None], late, times, log_step, likely, groups)
        log_losing = ops.log1p(-ops.minimum(lost, 0.9))
        several = ops.where(likely, log_losing, log_winning + offset)
        log_total = ops.where(likely, log_losing - offset, log_winning)
        single = ops.equal(groups.size, 1)
        value = ops.where(counted, ops.where(single, -ops.softplus(-rates), several), 0.0)

        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            # d log P / d log r_i: the mean of arrival_rate over the times at which the last member may arrive.
            density = ops.exp(ops.minimum(rise + log_weights - log_total[:, :, None], 0.0))
            slope = ops.where(single, ops.sigmoid(-rates), ops.sum(density * late, axis=-1))
            return lists.group_sum(upstream * members, groups) * members * slope

        return value, gradient

    return log_probability(rates)


def _lost(log_all: Tensor, late: Tensor, times: Tensor, log_step: Tensor, likely: Tensor, groups: Any) -> Tensor:
    """1 - P (B, L) where the group likely wins, 0 elsewhere."""
    log_terms = ops.where(likely[:, :, None], log_all + log_arrived(times), lists.LOWEST)
    return ops.sum(ops.exp(log_terms) * lists.group_sum(late, groups), axis=-1) * ops.exp(log_step)


def log_arrived(exponents: Tensor) -> Tensor:
    """log(1 - exp(-exp(x))): log probability to have arrived, for x = log(rate * time) of any size.

    Exact to the rounding of a number near 1: it is only ever added to others and exponentiated.
    """
    waited = ops.exp(ops.clip(exponents, EARLY, LATE))
    early = exponents - ops.exp(ops.minimum(exponents, EARLY)) / 2
    return ops.where(exponents < EARLY, early, ops.log(-ops.expm1(-waited)))


def arrival_rate(exponents: Tensor) -> Tensor:
    """z / (exp(z) - 1) with z = exp(x): the derivative of ``log_arrived``, from 1 down to 0."""
    waited = ops.exp(ops.clip(exponents, EARLY, LATE))
    return ops.where(exponents < EARLY, 1 - ops.exp(ops.minimum(exponents, EARLY)) / 2, waited / ops.expm1(waited))


def _nodes(rates: Tensor, members: Tensor, groups: lists.TieGroups) -> tuple[Tensor, Tensor, Tensor]:
    """Log times to sample (B, L, NODES), the logarithm of their spacing, and which groups likely win, (B, L)."""
    likely = _log_arrived_by(math.log(math.log(2)), rates, members, groups) > -math.log(2)
    start, stop = _range(rates, members, groups, likely)
    step = (stop - start) / NODES
    index = ops.cast(ops.arange(NODES), rates.dtype) + 0.5
    times = start[:, :, None] + step[:, :, None] * index
    # Nodes that add to the largest rate without rounding: else the same error would count for all equal members.
    largest = lists.group_max(rates, groups)[:, :, None]
    return (times + largest) - largest, ops.log(step), likely


def _range(rates: Tensor, members: Tensor, groups: lists.TieGroups, likely: Tensor) -> tuple[Tensor, Tensor]:
    """First and last log time to sample, each (B, L).

    Where the group likely loses, the integrand is bounded by exp(-T (exp(d) - 1 - d)) at a distance d from its mode at
    about log T, on both sides. Where it likely wins, nothing happens after its slowest member has surely arrived. To
    the left both integrands follow a concave function, log F, with log t - t added in the first case; Newton's method
    started below the place where that has fallen by DEPTH approaches it from below.
    """
    mode = _mode(rates, members, groups)
    drop = DEPTH / mode
    reach = drop + ops.sqrt(2 * drop)
    slowest = -lists.group_max(ops.where(members > 0, -rates, lists.LOWEST), groups)
    surely = ops.log(DEPTH + 4 + ops.log(groups.size))
    stop = ops.where(likely, surely - slowest, ops.log(mode) + ops.log1p(reach))
    log_time = ops.log(mode)
    level = -DEPTH + ops.where(likely, 0.0, _log_arrived_by(log_time, rates, members, groups) + log_time - mode)
    start = ops.where(likely, -DEPTH - slowest, log_time - reach)

    def climb(_, start):
        time = ops.exp(ops.minimum(start, 80.0))
        value = _log_arrived_by(start, rates, members, groups) + ops.where(likely, 0.0, start - time)
        slope = lists.group_sum(arrival_rate(rates + start) * members, groups) + ops.where(likely, 0.0, 1 - time)
        return start + ops.maximum(level - value, 0.0) / ops.maximum(slope, 1e-3)

    start = ops.fori_loop(0, NEWTON_STEPS, climb, start)
    return start, stop


def _log_arrived_by(log_time: Tensor | float, rates: Tensor, members: Tensor, groups: lists.TieGroups) -> Tensor:
    """log F (B, L) at a time, common or of each group's own."""
    return lists.group_sum(log_arrived(rates + log_time) * members, groups)


def _mode(rates: Tensor, members: Tensor, groups: lists.TieGroups) -> Tensor:
    """T, the solution of T = 1 + sum_i arrival_rate(r_i T), by Newton's method, which climbs to it from 1."""

    def climb(_, mode):
        exponents = rates + ops.log(mode)
        late = arrival_rate(exponents)
        curvature = late * (late + ops.exp(ops.minimum(exponents, LATE)) - 1)
        sums = lists.group_sum(ops.stack([late * members, curvature * members], axis=-1), groups)
        return mode + (1 + sums[..., 0] - mode) / (1 + sums[..., 1] / mode)

    return ops.fori_loop(0, NEWTON_STEPS, climb, ops.ones_like(rates))
