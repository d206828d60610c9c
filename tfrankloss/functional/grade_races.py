"""The exponential races of ``races`` between grades: few groups, of many items each, by ``race_tables``.

The integrals are those of ``races``. Two grids find where their nodes belong, one over all log times, the other where
the integrand is. A group that likely wins is moved so that its slowest member has log rate 0.
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
# Nodes of the integral, and of the grid before.
NODES, ZOOM = 48, 16
# Places of the first grid in each panel.
GRID = np.array([-0.75, -0.25, 0.25, 0.75])


class Grades(NamedTuple):
    """Items and their grades; what is called a group are the items of one grade in one list.

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


class Race(NamedTuple):
    """The integral of every group, (B * G, ...).

    Attributes:
        basis: (B, L, POWERS) powers of the place of an item in its bin, 0 where not counted.
        cells: (B * L,) the bin of an item among those of all groups.
        panels: (B * G, NODES) the panel of a node among those of all groups.
        inside: (B * G, NODES) its place there, from -1 to 1.
        late: (B * G, NODES) derivative of S at the nodes.
        density: (B * G, NODES) the share of the nodes in the integral.
        value: (B, G) log probabilities.
    """

    basis: Tensor
    cells: Tensor
    panels: Tensor
    inside: Tensor
    late: Tensor
    density: Tensor
    value: Tensor


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

        def gradient(*args, upstream=None):
            upstream = ops.where(grades.counted, args[0] if upstream is None else upstream, 0.0)
            total = ops.reshape(ops.sum(race.density * race.late, axis=1), ops.shape(upstream))
            # What raises a score below a group takes from it.
            exponents = (grades.largest[:, None, :] - grades.below.largest[:, :, None]) - grades.below.excess[
                :, :, None
            ]
            pushed = ops.sum((upstream * total)[:, :, None] * _lower(ops.exp(ops.minimum(exponents, 0.0))), axis=1)
            own, pushed = _to_items(ops.stack([upstream, pushed], axis=-1), grades.places)
            return own * _slopes(race, table) - pushed * grades.terms, ops.zeros_like(numbers)

        return race.value, gradient

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
    dtype = grades.rates.dtype
    shape = ops.shape(grades.largest)
    likely = _likely(grades)
    anchor = ops.where(likely, grades.slowest, 0.0)
    (moved,) = _to_items(anchor[:, :, None], grades.places)
    position = ops.minimum(grades.rates - moved, float(HIGHEST)) - table.lowest
    cell = ops.clip(ops.floor(ops.stop_gradient(position)), -1.0, table.bins - 2.0)
    tail = position < 0
    behind = ops.where(tail, position, 0.0)
    basis = powers(2 * ops.where(tail, ops.exp(behind), position - cell) - 1, grades.weights)
    cells = ops.reshape(grades.places * table.bins + ops.cast(cell + 1, "int32"), (-1,))
    groups = shape[0] * shape[1]
    moments = ops.segment_sum(ops.reshape(basis, (-1, POWERS)), cells, num_segments=groups * table.bins)
    matrix = ops.convert_to_tensor(table.matrix, dtype=dtype)
    sums = ops.matmul(ops.reshape(moments, (groups, table.bins * POWERS)), matrix)
    likely, anchor = ops.reshape(likely, (-1, 1)), ops.reshape(anchor, (-1, 1))

    # The first grid is the same for all groups.
    on_grid = ops.matmul(
        ops.reshape(sums, (groups, table.panels, 2, POWERS)),
        ops.convert_to_tensor(np.vander(GRID, POWERS, increasing=True).T, dtype=dtype),
    )
    times = EARLIEST + np.arange(table.panels)[:, None] + (GRID + 1) / 2
    times = ops.convert_to_tensor(np.reshape(times, (1, -1)), dtype=dtype)
    value, late = (ops.reshape(on_grid[:, :, part], (groups, table.panels * len(GRID))) for part in range(2))
    start, stop = _around(_log_integrand(times, value, late, likely, anchor), times, times[0, 1] - times[0, 0])
    by_panel = ops.reshape(sums, (groups * table.panels, 2 * POWERS))

    def at(start, stop, count):
        step = (stop - start) / count
        times = start + step * (ops.cast(ops.arange(count), dtype) + 0.5)
        cell = ops.clip(ops.floor(times) - EARLIEST, 0.0, table.panels - 1.0)
        inside = 2 * (times - EARLIEST - cell) - 1
        panels = ops.cast(cell, "int32") + table.panels * ops.arange(groups, dtype="int32")[:, None]
        rows = ops.take(by_panel, panels, axis=0)
        terms = powers(inside)
        value, late = ops.sum(rows[..., :POWERS] * terms, axis=-1), ops.sum(rows[..., POWERS:] * terms, axis=-1)
        return times, step, panels, inside, value, late

    times, step, _, _, value, late = at(start, stop, ZOOM)
    start, stop = _around(_log_integrand(times, value, late, likely, anchor), times, step)
    times, step, panels, inside, value, late = at(start, stop, NODES)
    log_step = ops.log(step)
    exponents = _log_integrand(times, value, late, likely, anchor)
    # Apart, since it may be huge.
    peak = ops.stop_gradient(ops.max(exponents, axis=1, keepdims=True))
    relative = exponents - peak
    log_total = ops.logsumexp(relative, axis=1, keepdims=True) + log_step
    log_losing = ops.log1p(-ops.minimum(ops.exp(ops.where(likely, log_total + peak - anchor, -1.0)), 0.9))
    log_shares = ops.where(
        likely, value + times - ops.exp(times - anchor) - (log_losing + anchor), relative - log_total
    )
    density = ops.exp(ops.minimum(log_shares + log_step, 0.0))
    log_total = log_total + peak
    tails = _of_groups(behind * grades.weights, grades.members)
    result = ops.reshape(ops.where(likely, log_losing, log_total), shape) + tails
    return Race(basis, cells, panels, inside, late, density, ops.where(grades.counted, result, 0.0))


def _likely(grades: Grades) -> Tensor:
    """Which groups (B, G) likely win: all members have arrived by the median of the items below."""
    arrived = log_arrived(ops.stop_gradient(grades.rates) + math.log(math.log(2))) * grades.weights
    return _of_groups(arrived, grades.members) > -math.log(2)


def _log_integrand(times: Tensor, value: Tensor, late: Tensor, likely: Tensor, anchor: Tensor) -> Tensor:
    """The logarithm of the integrand, of the first form or, plus the anchor, of the second one."""
    since = times - anchor
    # Without the rounding of a large anchor, which does not matter later.
    passed = ops.where(since < -7.0, times - ops.exp(ops.minimum(since, 0.0)) / 2, log_arrived(since) + anchor)
    winning = value + passed + ops.log(ops.maximum(late, 1e-30))
    return ops.where(likely, winning, value + since - ops.exp(since))


def _around(log_integrand: Tensor, times: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """The first and last time (B * G, 1) of what is not DEPTH below the largest value, one step beyond."""
    log_integrand = ops.stop_gradient(log_integrand)
    there = log_integrand > ops.max(log_integrand, axis=1, keepdims=True) - DEPTH
    start = ops.min(ops.where(there, times, float("inf")), axis=1, keepdims=True)
    stop = ops.max(ops.where(there, times, -float("inf")), axis=1, keepdims=True)
    return ops.stop_gradient(start - step), ops.stop_gradient(stop + step)


def _slopes(race: Race, table: Tables) -> Tensor:
    """d log P / d log rate (B, L): the mean of the derivative of g over the nodes."""
    groups = ops.shape(race.density)[0]
    terms = ops.reshape(powers(race.inside, race.density), (-1, POWERS))
    moments = ops.segment_sum(terms, ops.reshape(race.panels, (-1,)), num_segments=groups * table.panels)
    of_slopes = table.matrix.reshape(-1, table.panels, 2, POWERS)[:, :, 1].reshape(-1, table.panels * POWERS)
    by_bin = ops.matmul(
        ops.reshape(moments, (groups, table.panels * POWERS)),
        ops.convert_to_tensor(of_slopes.T, dtype=moments.dtype),
    )
    taken = ops.take(ops.reshape(by_bin, (groups * table.bins, POWERS)), race.cells, axis=0)
    return ops.sum(ops.reshape(taken, ops.shape(race.basis)) * race.basis, axis=-1)
