"""The exponential races of ``races`` between grades: few groups, so that nodes are found by looking at all times.

The integrals are those of ``races``. A group that likely wins is moved so that its slowest member has log rate 0: then
all integrands lie between ``EARLIEST`` and ``latest``. What the members of a group add up to at some time is taken from
them one by one in short lists, and from ``race_tables`` in others.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from tfrankloss.functional import gradients, lists
from tfrankloss.functional.race_sums import DirectSums
from tfrankloss.functional.race_tables import DEPTH, TabledSums
from tfrankloss.functional.races import log_arrived

Tensor = Any

# Lists up to this length are served where the length is not known.
LONGEST = 2**20
# Nodes of an integral.
NODES = 32


class Grades(NamedTuple):
    """Items and their grades; a group is the items of one grade in one list, and G is GRADES.

    Attributes:
        members: (B, G, L) 1 where an item is of a grade, 0 elsewhere.
        places: (B, L) the group of an item among all of the batch; that of padding is any.
        terms: (B, L) exp(score - largest score of the group), 0 at padding.
        largest: (B, G) the largest score of a group, without gradient.
        below: The logsumexp of all scores below a group, (B, G).
        rates: (B, L) score minus ``below``, 0 where not counted.
        slowest: (B, G) the smallest of ``rates`` in each group, without gradient.
        counted: (B, G) whether a group has items, and some below it.
        weights: (B, L) 1 at items of groups that are counted, 0 elsewhere.
        alone: (B, L) whether an item is the only one of its group.
    """

    members: Tensor
    places: Tensor
    terms: Tensor
    largest: Tensor
    below: lists.LogSum
    rates: Tensor
    slowest: Tensor
    counted: Tensor
    weights: Tensor
    alone: Tensor


class Nodes(NamedTuple):
    """Log times of each group, (R, N) for the R groups of a batch, and its sums there.

    Attributes:
        times: Log times, moved by those of ``Race``.
        step: (R, 1) how far apart they are.
        arrived: S, the log probability that all members have arrived, less its part that does not depend on time.
        late: Its derivative.
    """

    times: Tensor
    step: Tensor
    arrived: Tensor
    late: Tensor


class Race(NamedTuple):
    """What the integrands of the R groups of a batch are made of.

    Attributes:
        sums: What the members of groups add up to at log times.
        likely: (R, 1) whether a group likely wins.
        moved: (R, 1) what is taken from the log rates of a group and added to its log times.
        constant: (R, 1) what items that are slower than any time add to S at all times.
    """

    sums: DirectSums | TabledSums
    likely: Tensor
    moved: Tensor
    constant: Tensor


def log_grade_probabilities(scores: Tensor, numbers: Tensor) -> Tensor:
    """log of the probability that each grade comes before all lower ones, its items in any order.

    Args:
        scores: (B, L) scores.
        numbers: (B, L) grades from 0 to GRADES - 1, and GRADES at padding, as floats.

    Returns:
        (B, GRADES) log probabilities, 0 for grades without items or with none below.
    """
    length = LONGEST if scores.shape[1] is None else scores.shape[1]

    # Numbers are an argument: JAX takes no function with a gradient of its own into a branch if it looks beyond those.
    @gradients.custom_gradient
    def log_probability(scores, numbers):
        grades = _grades(scores, numbers)
        race = _race(grades, length)
        nodes = _nodes(race)
        value, density = _integral(race, nodes)
        value = ops.reshape(value, ops.shape(grades.largest))
        # A group of one has a closed form.
        rate_alone = _of_groups(ops.where(grades.alone, grades.rates, 0.0), grades.members)
        is_alone = _of_groups(ops.cast(grades.alone, scores.dtype), grades.members) > 0
        value = ops.where(is_alone, -ops.softplus(-rate_alone), value)

        def gradient(*args, upstream=None):
            upstream = ops.where(grades.counted, args[0] if upstream is None else upstream, 0.0)
            slopes = ops.where(grades.alone, ops.sigmoid(-grades.rates), race.sums.slopes(density)) * grades.weights
            # What raises a score below a group takes from that.
            total = upstream * _of_groups(slopes, grades.members)
            largest, excess = (part[:, :, None] for part in grades.below)
            shares = _lower(ops.exp(ops.minimum((grades.largest[:, None, :] - largest) - excess, 0.0)))
            pushed = ops.sum(total[:, :, None] * shares, axis=1)
            own, pushed = _to_items(ops.stack([upstream, pushed], axis=-1), grades.places)
            return own * slopes - pushed * grades.terms, ops.zeros_like(numbers)

        return ops.where(grades.counted, value, 0.0), gradient

    return log_probability(scores, numbers)


def _grades(scores: Tensor, numbers: Tensor) -> Grades:
    members = ops.equal(numbers[:, None, :], ops.cast(ops.arange(lists.GRADES), numbers.dtype)[:, None])
    members = ops.cast(members, scores.dtype)
    valid = numbers < lists.GRADES
    places = ops.cast(ops.minimum(numbers, lists.GRADES - 1), "int32")
    places = places + lists.GRADES * ops.arange(ops.shape(numbers)[0], dtype="int32")[:, None]
    constant = ops.stop_gradient(scores)[:, None, :]
    largest, smallest = (
        ops.max(lists.filled(values, members), axis=2, initial=lists.LOWEST) for values in (constant, -constant)
    )
    terms = ops.exp(ops.where(valid, scores - _to_items(largest[:, :, None], places)[0], lists.LOWEST))
    top = ops.max(_lower(largest[:, None, :], lists.LOWEST), axis=2)
    has_below = top > lists.LOWEST / 2
    shares = _lower(ops.exp(ops.minimum(largest[:, None, :] - top[:, :, None], 0.0)))
    total = ops.sum(shares * _of_groups(terms, members)[:, None, :], axis=2)
    excess = ops.log(ops.where(has_below, total, 1.0))
    counted = ops.logical_and(has_below, largest > lists.LOWEST / 2)
    weights = ops.cast(counted, scores.dtype)
    top_of, excess_of, weights = _to_items(ops.stack([top, excess, weights], axis=-1), places)
    weights = ops.where(valid, weights, 0.0)
    rates = ops.where(weights > 0, (scores - top_of) - excess_of, 0.0)
    slowest = ops.stop_gradient((-smallest - top) - excess)
    (size,) = _to_items(_of_groups(ops.cast(valid, scores.dtype), members)[:, :, None], places)
    alone = ops.logical_and(valid, size < 1.5)
    return Grades(members, places, terms, largest, lists.LogSum(top, excess), rates, slowest, counted, weights, alone)


def _lower(values: Tensor, filling: float = 0.0) -> Tensor:
    """Values (B, G or 1, G) where the last grade is below the one before it, else ``filling``."""
    is_lower = np.tri(lists.GRADES, k=-1, dtype=bool)
    return ops.where(is_lower, values, filling)


def _of_groups(values: Tensor, members: Tensor) -> Tensor:
    """The sums (B, G) of values (B, L) over the members of each group."""
    return ops.sum(members * values[:, None, :], axis=2)


def _to_items(values: Tensor, places: Tensor) -> list[Tensor]:
    """Each column of values (B, G, C) at each item, (B, L)."""
    taken = ops.take(ops.reshape(values, (-1, values.shape[2])), places, axis=0)
    return [taken[..., column] for column in range(values.shape[2])]


def _race(grades: Grades, length: int) -> Race:
    likely = _likely(grades)
    moved = ops.where(likely, grades.slowest, 0.0)
    rates = grades.rates - _to_items(moved[:, :, None], grades.places)[0]
    make = DirectSums if length <= lists.SHORT else TabledSums
    sums = make(rates, grades.weights, grades.members, grades.places, _latest(length))
    constant = _of_groups(sums.constant, grades.members)
    return Race(sums, *(ops.reshape(part, (-1, 1)) for part in (likely, moved, constant)))


def _latest(length: int) -> int:
    """When the integrals of lists of up to ``length`` items have ended."""
    # The mode of an integral is at time T = 1 + (number of items) at most, and exp(-T (exp(d) - 1 - d)) bounds it at
    # a distance d from there.
    return math.ceil(math.log(length + 1 + math.sqrt(2 * DEPTH * (length + 1)) + DEPTH))


def _likely(grades: Grades) -> Tensor:
    """Which groups (B, G) likely win: all members have arrived by the median of the items below."""
    arrived = log_arrived(ops.stop_gradient(grades.rates) + math.log(math.log(2))) * grades.weights
    return _of_groups(arrived, grades.members) > -math.log(2)


def _nodes(race: Race) -> Nodes:
    """Nodes where the integrand is, found by looking at all times, and then, as often as it takes, at fewer."""
    times, step, *sums = race.sums.grid()
    nodes = Nodes(times, step, *sums)
    for count in (*race.sums.zooms, NODES):
        log_integrand = ops.stop_gradient(_log_integrand(race, nodes))
        there = log_integrand > ops.max(log_integrand, axis=1, keepdims=True) - DEPTH
        start = ops.min(ops.where(there, nodes.times, float("inf")), axis=1, keepdims=True) - nodes.step
        stop = ops.max(ops.where(there, nodes.times, -float("inf")), axis=1, keepdims=True) + nodes.step
        step = ops.stop_gradient(stop - start) / count
        times = ops.stop_gradient(start) + step * (ops.cast(ops.arange(count), start.dtype) + 0.5)
        nodes = Nodes(times, step, *race.sums.at(times))
    return nodes


def _log_integrand(race: Race, nodes: Nodes) -> Tensor:
    """The logarithm of the integrand at nodes, less ``constant``, plus ``moved``."""
    since = nodes.times - race.moved
    # The early form has no large number that rounds it.
    early = nodes.times - ops.exp(ops.minimum(since, 0.0)) / 2
    passed = ops.where(since < -7.0, early, log_arrived(since) + race.moved)
    winning = nodes.arrived + passed + ops.log(ops.maximum(nodes.late, 1e-30))
    return ops.where(race.likely, winning, nodes.arrived + nodes.times - ops.exp(since))


def _integral(race: Race, nodes: Nodes) -> tuple[Tensor, Tensor]:
    """log P (R, 1), and the shares of the nodes (R, N) in the time at which the last member may arrive."""
    exponents = _log_integrand(race, nodes)
    # Apart, since it may be so large that nothing else would be left of a sum.
    peak = ops.stop_gradient(ops.max(exponents, axis=1, keepdims=True))
    exponents = exponents - peak
    log_step = ops.log(nodes.step)
    log_sum = ops.logsumexp(exponents, axis=1, keepdims=True) + log_step
    lost = ops.exp(ops.where(race.likely, log_sum + peak - race.moved, lists.LOWEST))
    winning = ops.log1p(-ops.minimum(lost, 0.9))
    first_form = nodes.arrived + nodes.times - ops.exp(nodes.times - race.moved)
    log_shares = ops.where(race.likely, first_form - (race.moved + winning), exponents - log_sum) + log_step
    value = ops.where(race.likely, winning, log_sum + peak + race.constant)
    return value, ops.exp(ops.minimum(log_shares, 0.0))
