r"""The exponential races of ``races`` between grades: few groups, so that nodes are found by looking at all times.

The integrals are those of ``races`` over log time x. A group that likely wins is moved so that its slowest member has
log rate 0. Then all integrands fall doubly exponentially on the right and exponentially on the left. With
:math:`x = u - e^{-(u - KNEE)}` they do so on both sides of u, and few nodes suffice for the trapezoid rule.

Source: the change of variable is the double exponential formula of Takahasi and Mori, Publ. RIMS 1974.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from tfrankloss.functional import lists
from tfrankloss.functional.race_sums import FASTEST, SLOWEST, DirectSums, double_odds, log_arrived
from tfrankloss.functional.race_tables import TabledSums

Tensor = Any

# Lists up to this length are served where the length is not known.
LONGEST = 2**20
# Grades that may have others below them.
GROUPS = lists.GRADES - 1
# Log time follows u above this, and exp(-u) below.
KNEE = -2.0
# Where u starts: log time is -11 there.
FIRST = -3.95
# Lists of up to this many items are added up item by item.
DIRECT = 256
# Nodes of an integral in these, and in others, whose groups may be larger.
FEW, MANY = 20, 28
# To find nodes, groups are looked at at times that are at most so far apart; in lists of more than DIRECT items, then
# at so many more.
STEP, ZOOM = 0.5, 10
# Integrands are followed down to exp(-16) of their largest value, and a bit further as they are only nearly concave.
DEPTH = 17.0
# Too far to matter, in steps.
FAR = 100.0
# A time by which the items below a group have arrived, whose exponential is finite.
LATEST = 60.0
# Whose logarithm is finite.
TINY = 1e-36


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

    sums: DirectSums | TabledSums
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
    length = LONGEST if scores.shape[1] is None else scores.shape[1]
    grades = _grades(scores, numbers, members)
    race = _race(grades, length)
    value, density = _integral(race, *_nodes(race, length))
    slopes = race.sums.slopes(density * (grades.counted * weights)[:, :, None])
    # What raises a score below a group takes from that.
    pushed = ops.sum(grades.members * slopes[:, None, :], axis=2, keepdims=True) / grades.total
    return grades.counted * value, slopes - ops.sum(grades.terms * pushed, axis=1)


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


def _race(grades: Grades, length: int) -> Race:
    # All members have arrived by the median of the items below.
    median = 0.5 * math.log(2) * ops.exp(ops.clip(ops.stop_gradient(grades.rates), SLOWEST, FASTEST))
    arrived = ops.matmul(grades.members, log_arrived(double_odds(median[:, :, None], 1.0)[0]))
    likely = ops.cast(arrived > -math.log(2), grades.rates.dtype)
    moved = likely * grades.slowest[:, :, None]
    rates = (grades.rates - _to_items(moved, grades.places)[:, :, 0]) * ops.sum(grades.members, axis=1)
    if length <= DIRECT:
        return Race(DirectSums(rates, grades.members, grades.places), likely, moved)
    return Race(TabledSums(rates, grades.members, grades.places, math.ceil(_last(length))), likely, moved)


def _last(length: int) -> float:
    """Where u ends in lists of up to ``length`` items."""
    # The mode of an integral is at time T = 1 + (number of items) at most, and exp(-T (exp(d) - 1 - d)) bounds it at
    # a distance d from there.
    return math.log(length + 1 + math.sqrt(2 * DEPTH * (length + 1)) + DEPTH) + STEP


def _log_time(places: Tensor) -> tuple[Tensor, Tensor]:
    """Log time x at u, and log(dx / du)."""
    behind = ops.exp(KNEE - places)
    return places - behind, ops.log1p(behind)


def _nodes(race: Race, length: int) -> tuple[Tensor, Tensor]:
    """The u of the nodes (B, G, N) of each group, and how far apart they are (B, G, 1)."""
    dtype = race.likely.dtype
    # Integrals of n items are narrower than those of one by the root of n.
    places = np.arange(FIRST, _last(length), max(0.1, min(STEP, 4 / math.sqrt(length))))
    log_time = places - np.exp(KNEE - places)
    sums = race.sums.roughly(log_time)
    log_time, places, weight = (
        ops.convert_to_tensor(values[None, None, :], dtype=dtype)
        for values in (log_time, places, np.log1p(np.exp(KNEE - places)))
    )
    start, stop = _span(places, _log_integrand(race, *sums, log_time, weight))
    if length > DIRECT:
        places = start + (stop - start) * ops.cast(np.arange(ZOOM) / (ZOOM - 1), dtype)
        log_time, weight = _log_time(places)
        sums = race.sums.at(log_time, ops.zeros_like(race.likely))[:2]
        start, stop = _span(places, _log_integrand(race, *sums, log_time, weight))
    count = FEW if length <= DIRECT else MANY
    step = ops.stop_gradient(stop - start) / count
    return ops.stop_gradient(start) + step * (ops.cast(np.arange(count), dtype) + 0.5), step


def _log_integrand(race: Race, arrived: Tensor, late: Tensor, log_time: Tensor, weight: Tensor) -> Tensor:
    """About the logarithm of the integrand, but for a constant, from the sums of ``Race.sums``."""
    since = log_time - race.moved
    winning = ops.log(ops.maximum(late, TINY)) + ops.minimum(since, 0.0)
    losing = log_time - ops.exp(since)
    return arrived + weight + race.likely * winning + (1 - race.likely) * losing


def _span(places: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Between which u, (B, G, 1) each, values (B, G, K) at K places are not far below the largest.

    A concave function lies below the line through two of its points, beyond these: where that line has fallen far
    enough, so has the function.
    """
    largest = ops.max(values, axis=2, keepdims=True)
    level = largest - DEPTH
    first, last = places[:, :, :1], places[:, :, -1:]
    mode = first + ops.max((places - first) * ops.cast(values >= largest, values.dtype), axis=2, keepdims=True)
    # With what has fallen further, these lines start or end at the point where it has.
    values = ops.maximum(values, level)
    before, after = places[:, :, :-1], places[:, :, 1:]
    rise = values[:, :, 1:] - values[:, :, :-1]
    # Beyond the mode what has lost its digits may rise again.
    is_rising = ops.cast(ops.logical_and(rise > 0, after <= mode), rise.dtype)
    is_falling = ops.cast(ops.logical_and(rise < 0, before >= mode), rise.dtype)
    steps = ops.clip((level - values[:, :, :-1]) / (rise + (1 - is_rising - is_falling)), -FAR, FAR)
    crossing = before + (after - before) * steps
    start = first + ops.max(is_rising * (crossing - first), axis=2, keepdims=True)
    stop = last - ops.max(is_falling * (last - crossing), axis=2, keepdims=True)
    return start, stop


def _integral(race: Race, places: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """log P (B, G), and the share of each node in P, (B, G, N)."""
    log_time, weight = _log_time(places)
    arrived, late, constant = race.sums.at(log_time, 1 - race.likely)
    passed = ops.exp(log_time - race.moved)
    exponents = arrived + weight - passed
    peak = ops.stop_gradient(ops.max(exponents, axis=2, keepdims=True))
    terms = ops.exp(exponents - peak)
    early = terms * passed
    # The time of groups that surely win is past counting.
    won = ops.sum(early, axis=2, keepdims=True) + race.likely
    lost = ops.sum(terms * late * ops.expm1(ops.minimum(passed, LATEST)), axis=2, keepdims=True)
    winning = ops.log1p(-ops.minimum(race.likely * step * lost * ops.exp(race.likely * peak), 0.9))
    value = ops.where(race.likely > 0, winning, (ops.log(step * won) + peak) + constant)
    share = race.likely * step * ops.exp(race.likely * (peak - winning)) + (1 - race.likely) / won
    return value[:, :, 0], share * early
