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

from tfrankloss.functional import lists

Tensor = Any

# Nodes of an integral, and how many of them are summed at once: memory grows with these.
NODES, CHUNK = 48, 8
# Integrands are followed down to exp(-18) of their largest value.
DEPTH = 18.0
# Newton's method finds the mode to a hundredth of the width of the integrand, and where it vanishes to 3 % of that.
MODE_STEPS, START_STEPS = 8, 6
# exp(-exp(LATE)) is 1e-36; before EARLY, 1 - exp(-exp(x)) is exp(x) to the last digit of float64.
LATE, EARLY = 4.4, -36.0


def log_tie_probability(rates: Tensor, counted: Tensor, groups: lists.TieGroups) -> tuple[Tensor, Tensor]:
    """log P of each group, at every member of it, and its derivative by the log rate of that member.

    Args:
        rates: (B, L) logarithms of the rates r_i, in sorted lists.
        counted: (B, L) booleans, False at padding and in groups with nothing below them.
        groups: The groups of tied items.

    Returns:
        Both (B, L), 0 where not counted.
    """
    members = ops.cast(counted, rates.dtype)
    several = members * ops.cast(groups.size > 1, rates.dtype)
    # Groups of one have a closed form, and often there are no others.
    alone = (-ops.softplus(-rates), ops.sigmoid(-rates))

    def of_all():
        race = _race(rates, several, _Groups(groups))
        return tuple(ops.where(several > 0, *parts) for parts in zip(race, alone, strict=True))

    value, slope = ops.cond(ops.any(several > 0), of_all, lambda: alone)
    return members * value, members * slope


class _Groups:
    """Sums and more over the members of each group, at every member of it."""

    def __init__(self, groups: lists.TieGroups):
        self.groups = groups
        self.same = None
        # Adding up all of a short list takes less time than finding the places of few sums.
        if lists.is_short(groups.first):
            self.same = ops.cast(ops.equal(groups.first[:, :, None], groups.first[:, None, :]), groups.first.dtype)

    def sum(self, values: Tensor) -> Tensor:
        """The sums of values (B, L) or (B, L, C)."""
        if self.same is None:
            return lists.group_sum(values, self.groups)
        if len(values.shape) == 2:
            return ops.einsum("bij,bj->bi", self.same, values)
        return ops.einsum("bij,bjc->bic", self.same, values)


def _race(rates: Tensor, members: Tensor, groups: _Groups) -> tuple[Tensor, Tensor]:
    """log P of the group (B, L), and its derivative by the log rate of the item."""
    start, step, likely = _nodes(rates, members, groups)
    middle = log_arrived(rates + start + step * (NODES / 2))
    # Sums over a group may be huge and nearly the same at all nodes: they are taken relative to one of them.
    offset = groups.sum(middle * members)
    # Nodes that add to the largest rate without rounding: else the same error would count for all equal members.
    largest = lists.group_max(rates, groups.groups)[:, :, None]

    def add(index, sums):
        highest, losing, late_sum, lost = sums
        numbers = ops.cast(index * CHUNK + ops.arange(CHUNK), rates.dtype) + 0.5
        times = ((start[:, :, None] + step[:, :, None] * numbers) + largest) - largest
        arrived, late = arrival(rates[:, :, None] + times)
        parts = ops.concatenate([arrived - middle[:, :, None], late], axis=-1) * members[:, :, None]
        parts = groups.sum(parts)
        passed = ops.exp(times)
        exponents = parts[..., :CHUNK] + (times - passed)
        before, highest = highest, ops.maximum(highest, ops.max(exponents, axis=-1))
        shrunk, terms = ops.exp(before - highest), ops.exp(exponents - highest[:, :, None])
        # The second integrand over the first one, each with its way to count the arrival of the items below.
        bounded = ops.clip(passed, 1e-30, 40.0)
        ratio = ops.where(likely[:, :, None], ops.expm1(bounded) / bounded, 0.0)
        return (
            highest,
            losing * shrunk + ops.sum(terms, axis=-1),
            late_sum * shrunk + ops.sum(terms * late, axis=-1),
            lost * shrunk + ops.sum(terms * ratio * parts[..., CHUNK:], axis=-1),
        )

    zeros = ops.zeros_like(rates)
    sums = ops.fori_loop(0, NODES // CHUNK, add, (zeros + lists.LOWEST, zeros, zeros, zeros))
    highest, losing, late_sum, lost = sums
    log_step = ops.log(step)
    log_losing = ops.log1p(-ops.minimum(lost * ops.exp(ops.where(likely, highest + offset + log_step, 0.0)), 0.9))
    log_winning = highest + ops.log(losing) + log_step
    value = ops.where(likely, log_losing, log_winning + offset)
    # The mean of ``late`` over the times at which the last member may arrive.
    share = ops.where(likely, ops.exp(ops.where(likely, highest + offset + log_step - log_losing, 0.0)), 1 / losing)
    return value, share * late_sum


def arrival(exponents: Tensor) -> tuple[Tensor, Tensor]:
    """log(1 - exp(-z)), the log probability to have arrived, for z = exp(x) = rate * time of any size, and its
    derivative by x, z / (exp(z) - 1), from 1 down to 0.
    """
    inside = ops.clip(exponents, EARLY, LATE)
    waited = ops.exp(inside)
    waiting = ops.expm1(waited)
    return ops.minimum(exponents - inside, 0.0) - ops.log1p(1 / waiting), waited / waiting


def log_arrived(exponents: Tensor) -> Tensor:
    """The first result of ``arrival``."""
    return arrival(exponents)[0]


def _nodes(rates: Tensor, members: Tensor, groups: _Groups) -> tuple[Tensor, Tensor, Tensor]:
    """The first log time to sample, the spacing, and which groups likely win, each (B, L)."""
    rates = ops.stop_gradient(rates)
    median = ops.zeros_like(rates) + math.log(math.log(2))
    likely = _arrived_by(median, rates, members, groups)[0] > -math.log(2)
    start, stop = _range(rates, members, groups, likely)
    return start, (stop - start) / NODES, likely


def _range(rates: Tensor, members: Tensor, groups: _Groups, likely: Tensor) -> tuple[Tensor, Tensor]:
    """First and last log time to sample, each (B, L).

    Where the group likely loses, the integrand is bounded by exp(-T (exp(d) - 1 - d)) at a distance d from its mode at
    about log T, on both sides. Where it likely wins, nothing happens after its slowest member has surely arrived. To
    the left the integrands follow a concave function, log F + log t, less t in the first case; Newton's method
    started below the place where that has fallen by DEPTH approaches it from below.
    """
    mode = _mode(rates, members, groups)
    drop = DEPTH / mode
    reach = drop + ops.sqrt(2 * drop)
    slowest = -lists.group_max(ops.where(members > 0, -rates, 0.0), groups.groups)
    surely = ops.log(DEPTH + 4 + ops.log(groups.groups.size))
    stop = ops.where(likely, surely - slowest, ops.log(mode) + ops.log1p(reach))
    log_time = ops.log(mode)
    at_mode = _arrived_by(log_time, rates, members, groups)[0] + log_time - mode
    level = -DEPTH + ops.where(likely, -4.0 - slowest, at_mode)
    start = ops.where(likely, -DEPTH / 2 - 2.0 - slowest, log_time - reach)

    def climb(_, start):
        time = ops.where(likely, 0.0, ops.exp(ops.minimum(start, 80.0)))
        value, late = _arrived_by(start, rates, members, groups)
        return start + ops.maximum(level - value - start + time, 0.0) / ops.maximum(late + 1 - time, 1e-3)

    start = ops.fori_loop(0, START_STEPS, climb, start)
    return start, stop


def _arrived_by(log_time: Tensor, rates: Tensor, members: Tensor, groups: _Groups) -> tuple[Tensor, Tensor]:
    """log F (B, L) at a time of each group's own, and its derivative by log time."""
    both = ops.stack(arrival(rates + log_time), axis=-1) * members[:, :, None]
    both = groups.sum(both)
    return both[..., 0], both[..., 1]


def _mode(rates: Tensor, members: Tensor, groups: _Groups) -> Tensor:
    """T, the solution of T = 1 + sum_i arrival(r_i T)[1], by Newton's method, which climbs to it from 1."""

    def climb(_, mode):
        exponents = rates + ops.log(mode)
        late = arrival(exponents)[1]
        curvature = late * (late + ops.exp(ops.minimum(exponents, LATE)) - 1)
        sums = groups.sum(ops.stack([late * members, curvature * members], axis=-1))
        return mode + (1 + sums[..., 0] - mode) / (1 + sums[..., 1] / mode)

    return ops.fori_loop(0, MODE_STEPS, climb, ops.ones_like(rates))
