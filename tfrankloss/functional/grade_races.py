r"""The exponential races of ``races`` between grades, of which there are few groups.

The integrals are those of ``races`` over log time, on nodes that all groups share (``race_tables``). A group that
likely wins is moved so that its slowest member has log rate 0. Then all integrands end soon, and fall at least as
the square of time towards early ones.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from tfrankloss.functional import lists, race_tables, races
from tfrankloss.functional.race_sums import GroupSums, of_groups

Tensor = Any

# Lists up to this length are served where the length is not known.
LONGEST = 2**20
# Grades that may have others below them.
GROUPS = lists.GRADES - 1
# A group likely wins if all of it has more likely arrived than not at this time: P is more than 0.2 then.
FAIR = 0.6
# A time by which the items below a group have arrived, whose exponential is finite.
LATEST = 60.0


class Grades(NamedTuple):
    """Items of all groups; a group is the items of one grade in one list, and G is GROUPS.

    Attributes:
        members: (B, G, L) 1 where an item is of a group that is counted, 0 elsewhere.
        places: (B, L) the group of an item among the R = B * G of the batch; that of items of none is any.
        rates: (B, L) score minus the logsumexp of all scores below its group, 0 at items of none.
        slowest: (B, G) the smallest of ``rates`` in each group, without gradient.
        terms: (B, G, L) exp(score - largest score below the group) at items below each group, 0 elsewhere.
        total: (B, G, 1) their sum, 1 where there are none.
        counted: (B, G) 1 at groups that have items, and some below them, 0 elsewhere.
    """

    members: Tensor
    places: Tensor
    rates: Tensor
    slowest: Tensor
    terms: Tensor
    total: Tensor
    counted: Tensor


class Race(NamedTuple):
    """What the integrands are made of.

    Attributes:
        sums: What the members of groups add up to at log times.
        likely: (B, G, 1) 1 where a group likely wins, 0 elsewhere.
        moved: (B, G, 1) what is taken from the log rates of a group and added to its log times.
    """

    sums: GroupSums
    likely: Tensor
    moved: Tensor


def log_grade_probabilities(scores: Tensor, numbers: Tensor, members: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """log of the probability that each grade comes before all lower ones, its items in any order, and slopes.

    Args:
        scores: (B, L) scores.
        numbers: (B, L) grades from 0 to GROUPS, and more than that at padding, as floats.
        members: (B, G, L) 1 where an item is of a grade, from 1 to GROUPS, and 0 elsewhere.
        weights: (B, G) what each log probability weighs in the slopes.

    Returns:
        (B, G) log probabilities, 0 for grades without items or with none below; and the gradient (B, L) of their
        weighed sum.
    """
    grades = _grades(scores, numbers, members)
    race = _race(grades)
    value, density, whole = _integral(race)
    weights = (grades.counted * weights)[:, :, None]
    # What raises a score below a group takes from all its members.
    pushed = weights * whole / grades.total
    return grades.counted * value, race.sums.slopes(weights * density) - ops.sum(grades.terms * pushed, axis=1)


def _grades(scores: Tensor, numbers: Tensor, members: Tensor) -> Grades:
    grades = ops.cast(ops.arange(1, GROUPS + 1), numbers.dtype)[:, None]
    lower = ops.cast(ops.less(numbers[:, None, :], grades), scores.dtype)
    constant = ops.stop_gradient(scores)[:, None, :]
    largest = ops.max(lists.filled(constant, lower), axis=2, keepdims=True, initial=lists.LOWEST)
    # Bounded for items that are not lower, but not where the largest of those that are has a gradient.
    terms = lower * ops.exp(ops.minimum(scores[:, None, :] - largest, 1.0))
    total = ops.sum(terms, axis=2, keepdims=True)
    total = total + ops.cast(total <= 0, total.dtype)
    counted = ops.max(members, axis=2, initial=0.0) * ops.max(lower, axis=2, initial=0.0)
    members = members * counted[:, :, None]
    places = ops.cast(ops.clip(numbers - 1, 0.0, GROUPS - 1.0), "int32")
    places = places + GROUPS * ops.arange(ops.shape(numbers)[0], dtype="int32")[:, None]
    # Of items of no group the first part may be any, but is finite.
    largest = largest * counted[:, :, None]
    below = ops.concatenate([largest, ops.log(total)], axis=2)
    below = _to_items(below, places)
    rates = ((scores - below[:, :, 0]) - below[:, :, 1]) * ops.sum(members, axis=1)
    slowest = -ops.max(lists.filled(-ops.stop_gradient(rates)[:, None, :], members), axis=2, initial=lists.LOWEST)
    return Grades(members, places, rates, slowest * counted, terms, total, counted)


def _to_items(values: Tensor, places: Tensor) -> Tensor:
    """The row of values (B, G, N) of each item, (B, L, N)."""
    return ops.take(ops.reshape(values, (-1, ops.shape(values)[2])), places, axis=0)


def _race(grades: Grades) -> Race:
    arrived = of_groups(grades.members, races.log_arrived(ops.stop_gradient(grades.rates) + math.log(FAIR)))
    likely = ops.cast(arrived > -math.log(2), grades.rates.dtype)
    moved = likely * grades.slowest[:, :, None]
    rates = (grades.rates - _to_items(moved, grades.places)[:, :, 0]) * ops.sum(grades.members, axis=1)
    length = grades.rates.shape[1]
    table = race_tables.tables(LONGEST if length is None else length)
    nodes = None if length is not None else _needed(table.log_times, ops.shape(grades.rates)[1])
    return Race(GroupSums(rates, grades.members, grades.places, table, nodes), likely, moved)


def _needed(log_times: np.ndarray, length: Tensor) -> Tensor:
    """How many nodes lists of some length need."""
    from_length = np.searchsorted(race_tables.last(np.arange(LONGEST)), log_times)
    return ops.sum(ops.cast(ops.convert_to_tensor(from_length, dtype="int32") <= length, "int32"))


def _integral(race: Race) -> tuple[Tensor, Tensor, Tensor]:
    """log P (B, G); the share of each node in P, (B, G, K); and the derivative (B, G, 1) by all log rates at once."""
    arrived, late = race.sums.at_nodes()
    passed = ops.exp(race.sums.log_times) * ops.exp(-race.moved)
    exponents = arrived + race.sums.log_weights - passed
    peak = ops.stop_gradient(ops.max(exponents, axis=2, keepdims=True))
    terms = ops.exp(exponents - peak)
    early = terms * passed
    # The time of groups that surely win is past counting.
    won = ops.sum(early, axis=2, keepdims=True) + race.likely
    lost = ops.sum(terms * late * ops.expm1(ops.minimum(passed, LATEST)), axis=2, keepdims=True)
    winning = ops.log1p(-ops.minimum(race.likely * lost * ops.exp(race.likely * peak), 0.9))
    value = ops.where(race.likely > 0, winning, (ops.log(won) + peak) + race.sums.constant)
    share = race.likely * ops.exp(race.likely * (peak - winning)) + (1 - race.likely) / won
    density = share * early
    return value[:, :, 0], density, ops.sum(density * late, axis=2, keepdims=True)
