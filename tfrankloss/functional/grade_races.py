"""The exponential races of ``races`` between grades: few groups, of many items each, by ``race_tables``.

The integrals are those of ``races``. A group that likely wins is moved so that its slowest member has log rate 0: then
all integrands lie within the tables.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from tfrankloss.functional import gradients, lists
from tfrankloss.functional.race_tables import DEPTH, EARLIEST, HIGHEST, POWERS, Tables, powers, tables
from tfrankloss.functional.races import log_arrived

Tensor = Any

# Lists up to this length are served where the length is not known.
LONGEST = 2**20
# Nodes of an integral, and of the second grid that finds them.
NODES, ZOOM = 32, 16
# Places of the first grid in each panel.
GRID = np.array([-0.75, -0.25, 0.25, 0.75])


class Grades(NamedTuple):
    """Items and their grades; a group is the items of one grade in one list, and G is GRADES.

    Attributes:
        members: (B, G, L) whether an item is of a grade.
        places: (B, L) the group of an item among all of the batch; that of padding is any.
        terms: (B, L) exp(score - largest score of the group), 0 at padding.
        largest: (B, G) the largest score of a group, without gradient.
        below: The logsumexp of all scores below a group, (B, G).
        rates: (B, L) score minus ``below``, 0 where not counted.
        slowest: (B, G) the smallest of ``rates`` in each group, without gradient.
        counted: (B, G) whether a group has items, and some below it.
        weights: (B, L) 1 at items of groups that are counted, 0 elsewhere.
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


class Nodes(NamedTuple):
    """Log times of each group, (R, N) for the R groups of a batch, and its sums there.

    Attributes:
        times: Log times, moved by those of ``Race``.
        step: (R, 1) how far apart they are.
        panels: The panel of a time among those of all groups.
        inside: Its place there, from -1 to 1.
        arrived: S, the log probability that all members have arrived, less its part that does not depend on time.
        late: Its derivative.
    """

    times: Tensor
    step: Tensor
    panels: Tensor
    inside: Tensor
    arrived: Tensor
    late: Tensor


class Race(NamedTuple):
    """What the integrands of the R groups of a batch are made of.

    Attributes:
        basis: (B, L, POWERS) powers of the place of an item in its bin, 0 where not counted.
        bins: (B * L,) the bin of an item among those of all groups.
        constant: (R, 1) what items in the lowest bin add to S at all times.
        panels: (R, panels, 2 * POWERS) coefficients of S and of its derivative in each panel.
        likely: (R, 1) whether a group likely wins.
        moved: (R, 1) what is taken from the log rates of a group and added to its log times.
    """

    basis: Tensor
    bins: Tensor
    constant: Tensor
    panels: Tensor
    likely: Tensor
    moved: Tensor


def log_grade_probabilities(scores: Tensor, numbers: Tensor) -> Tensor:
    """log of the probability that each grade comes before all lower ones, its items in any order.

    Args:
        scores: (B, L) scores.
        numbers: (B, L) grades from 0 to GRADES - 1, and GRADES at padding, as floats.

    Returns:
        (B, GRADES) log probabilities, 0 for grades without items or with none below.
    """
    table = tables(LONGEST if scores.shape[1] is None else scores.shape[1])

    # Numbers are an argument: JAX takes no function with a gradient of its own into a branch if it looks beyond those.
    @gradients.custom_gradient
    def log_probability(scores, numbers):
        grades = _grades(scores, numbers)
        race = _race(grades, table)
        nodes = _nodes(race)
        value, density = _integral(race, nodes)
        shape = ops.shape(grades.largest)

        def gradient(*args, upstream=None):
            upstream = ops.where(grades.counted, args[0] if upstream is None else upstream, 0.0)
            # What raises a score below a group takes from that.
            total = upstream * ops.reshape(ops.sum(density * nodes.late, axis=1), shape)
            largest, excess = (part[:, :, None] for part in grades.below)
            shares = _lower(ops.exp(ops.minimum((grades.largest[:, None, :] - largest) - excess, 0.0)))
            pushed = ops.sum(total[:, :, None] * shares, axis=1)
            own, pushed = _to_items(ops.stack([upstream, pushed], axis=-1), grades.places)
            return own * _slopes(race, nodes, density, table) - pushed * grades.terms, ops.zeros_like(numbers)

        return ops.where(grades.counted, ops.reshape(value, shape), 0.0), gradient

    return log_probability(scores, numbers)


def _grades(scores: Tensor, numbers: Tensor) -> Grades:
    members = ops.equal(numbers[:, None, :], ops.cast(ops.arange(lists.GRADES), numbers.dtype)[:, None])
    valid = numbers < lists.GRADES
    places = ops.cast(ops.minimum(numbers, lists.GRADES - 1), "int32")
    places = places + lists.GRADES * ops.arange(ops.shape(numbers)[0], dtype="int32")[:, None]
    constant = ops.stop_gradient(scores)[:, None, :]
    largest = ops.max(ops.where(members, constant, lists.LOWEST), axis=2, initial=lists.LOWEST)
    smallest = -ops.max(ops.where(members, -constant, lists.LOWEST), axis=2, initial=lists.LOWEST)
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
    slowest = ops.stop_gradient((smallest - top) - excess)
    return Grades(members, places, terms, largest, lists.LogSum(top, excess), rates, slowest, counted, weights)


def _lower(values: Tensor, filling: float = 0.0) -> Tensor:
    """Values (B, G or 1, G) where the last grade is below the one before it, else ``filling``."""
    is_lower = np.tri(lists.GRADES, k=-1, dtype=bool)
    return ops.where(is_lower, values, filling)


def _of_groups(values: Tensor, members: Tensor) -> Tensor:
    """The sums (B, G) of values (B, L) over the members of each group."""
    return ops.sum(ops.where(members, values[:, None, :], 0.0), axis=2)


def _to_items(values: Tensor, places: Tensor) -> list[Tensor]:
    """Each column of values (B, G, C) at each item, (B, L)."""
    taken = ops.take(ops.reshape(values, (-1, values.shape[2])), places, axis=0)
    return [taken[..., column] for column in range(values.shape[2])]


def _race(grades: Grades, table: Tables) -> Race:
    """The items of each group by bin of their log rates, and what follows for each panel of log times."""
    groups = ops.shape(grades.largest)[0] * lists.GRADES
    likely = _likely(grades)
    moved = ops.where(likely, grades.slowest, 0.0)
    rates = grades.rates - _to_items(moved[:, :, None], grades.places)[0]
    position = ops.minimum(rates, float(HIGHEST)) - table.lowest
    start = ops.clip(ops.floor(ops.stop_gradient(position)), -1.0, table.bins - 2.0)
    is_slow = position < 0
    slow = ops.where(is_slow, position, 0.0)
    basis = powers(2 * ops.where(is_slow, ops.exp(slow), position - start) - 1, grades.weights)
    bins = ops.reshape(grades.places * table.bins + ops.cast(start + 1, "int32"), (-1,))
    sums = ops.segment_sum(ops.reshape(basis, (-1, POWERS)), bins, num_segments=groups * table.bins)
    matrix = ops.convert_to_tensor(table.matrix, dtype=sums.dtype)
    panels = ops.matmul(ops.reshape(sums, (groups, table.bins * POWERS)), matrix)
    constant = _of_groups(slow * grades.weights, grades.members)
    constant, likely, moved = (ops.reshape(part, (-1, 1)) for part in (constant, likely, moved))
    panels = ops.reshape(panels, (groups, table.panels, 2 * POWERS))
    return Race(basis, bins, constant, panels, likely, moved)


def _likely(grades: Grades) -> Tensor:
    """Which groups (B, G) likely win: all members have arrived by the median of the items below."""
    arrived = log_arrived(ops.stop_gradient(grades.rates) + math.log(math.log(2))) * grades.weights
    return _of_groups(arrived, grades.members) > -math.log(2)


def _nodes(race: Race) -> Nodes:
    """Nodes where the integrand is, which two grids find: one of all panels, and one of where it is on that."""
    nodes = _grid(race)
    for count in (ZOOM, NODES):
        log_integrand = ops.stop_gradient(_log_integrand(race, nodes))
        there = log_integrand > ops.max(log_integrand, axis=1, keepdims=True) - DEPTH
        start = ops.min(ops.where(there, nodes.times, float("inf")), axis=1, keepdims=True) - nodes.step
        stop = ops.max(ops.where(there, nodes.times, -float("inf")), axis=1, keepdims=True) + nodes.step
        nodes = _between(race, ops.stop_gradient(start), ops.stop_gradient(stop), count)
    return nodes


def _grid(race: Race) -> Nodes:
    """The same places of all panels, for all groups."""
    groups, panels, _ = ops.shape(race.panels)
    dtype = race.panels.dtype
    by_power = ops.convert_to_tensor(np.vander(GRID, POWERS, increasing=True).T, dtype=dtype)
    sums = ops.matmul(ops.reshape(race.panels, (groups, panels, 2, POWERS)), by_power)
    arrived, late = (ops.reshape(sums[:, :, part], (groups, panels * len(GRID))) for part in range(2))
    places = ops.convert_to_tensor((GRID + 1) / 2, dtype=dtype)
    times = ops.reshape(EARLIEST + ops.cast(ops.arange(panels), dtype)[:, None] + places, (1, -1))
    # Where they are in their panels matters only at the nodes of the integral.
    return Nodes(times, places[1] - places[0], times, times, arrived, late)


def _between(race: Race, start: Tensor, stop: Tensor, count: int) -> Nodes:
    """Equally spaced nodes."""
    groups, panels, _ = ops.shape(race.panels)
    step = (stop - start) / count
    times = start + step * (ops.cast(ops.arange(count), start.dtype) + 0.5)
    panel = ops.clip(ops.floor(times) - EARLIEST, 0.0, panels - 1.0)
    inside = 2 * (times - EARLIEST - panel) - 1
    panel = ops.cast(panel, "int32") + panels * ops.arange(groups, dtype="int32")[:, None]
    coefficients = ops.take(ops.reshape(race.panels, (-1, 2 * POWERS)), panel, axis=0)
    terms = powers(inside)
    arrived, late = (ops.sum(part * terms, axis=-1) for part in ops.split(coefficients, 2, axis=-1))
    return Nodes(times, step, panel, inside, arrived, late)


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


def _slopes(race: Race, nodes: Nodes, density: Tensor, table: Tables) -> Tensor:
    """d log P / d log rate (B, L): the mean of the derivative of g over the nodes."""
    groups = ops.shape(density)[0]
    terms = ops.reshape(powers(nodes.inside, density), (-1, POWERS))
    sums = ops.segment_sum(terms, ops.reshape(nodes.panels, (-1,)), num_segments=groups * table.panels)
    of_slopes = table.matrix.reshape(-1, table.panels, 2, POWERS)[:, :, 1].reshape(-1, table.panels * POWERS)
    matrix = ops.convert_to_tensor(of_slopes.T, dtype=sums.dtype)
    by_bin = ops.matmul(ops.reshape(sums, (groups, table.panels * POWERS)), matrix)
    coefficients = ops.take(ops.reshape(by_bin, (-1, POWERS)), race.bins, axis=0)
    return ops.sum(ops.reshape(coefficients, ops.shape(race.basis)) * race.basis, axis=-1)
