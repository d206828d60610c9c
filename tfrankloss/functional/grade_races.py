r"""The exponential races of ``races`` between grades, of which there are few groups.

The integrals are those of ``races`` over log time x. A group that likely wins is moved so that its slowest member has
log rate 0. Then all integrands fall doubly exponentially on the right and exponentially on the left, where those of few
slow members go on for long. With :math:`x = u - e^{-(u - KNEE)}` these too fall doubly exponentially on both sides, and
few nodes suffice for the trapezoid rule. The others fall fast enough, and to bend time would thin out nodes where they
are steep: they have x = u.

Where an integrand ends follows from its slopes at a few times, which are those of sums over members: as a function of u
its logarithm is concave, and lies below its tangents.

Source: the change of variable is the double exponential formula of Takahasi and Mori, Publ. RIMS 1974.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from tfrankloss.functional import lists
from tfrankloss.functional.race_sums import FASTEST, SLOWEST, DirectSums, double_odds, log_arrived, of_groups
from tfrankloss.functional.race_tables import TabledSums

Tensor = Any

# Lists up to this length are served where the length is not known.
LONGEST = 2**20
# Grades that may have others below them.
GROUPS = lists.GRADES - 1
# Log time follows u above this, and exp(-u) below, in groups whose integrand starts before BENT; else it is u.
KNEE = -2.0
BENT = -7.0
# Where u may start: log time is -11 there.
FIRST = -3.95
# Lists of up to this many items are added up item by item.
DIRECT = 128
# To find nodes, slopes are taken at times from this on, at most so many times the one before: in lists up to DIRECT,
# and in longer ones, whose integrands are narrow.
EARLY, RATIO, LONG_RATIO = 0.0015, 3.0, 2.0
# How many nodes integrals take in lists of up to so many items, and in longer ones: the larger groups are, the steeper
# are integrands on one side alone.
NODES, MOST_NODES = ((32, 20), (128, 24)), 32
# Integrands are followed down to exp(-15) of their largest value.
DEPTH = 15.0
# Slopes below this count as this.
FLAT = 1e-3
# A group likely wins if all of it has more likely arrived than not at this time: P is more than 0.1 then.
FAIR = 1.2
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

    sums: DirectSums | TabledSums
    likely: Tensor
    moved: Tensor


class Nodes(NamedTuple):
    """Where integrals are summed.

    Attributes:
        log_times: (B, G, N) log times x.
        log_weights: (B, G, N) log(dx / du) there.
        step: (B, G, 1) how far apart they are in u.
    """

    log_times: Tensor
    log_weights: Tensor
    step: Tensor


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
    value, density = _integral(race, _nodes(race, length))
    slopes = race.sums.slopes(density * (grades.counted * weights)[:, :, None])
    # What raises a score below a group takes from that.
    pushed = of_groups(grades.members, slopes) / grades.total
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
    fair = 0.5 * FAIR * ops.exp(ops.clip(ops.stop_gradient(grades.rates), SLOWEST, FASTEST))
    arrived = of_groups(grades.members, log_arrived(double_odds(fair)[0]))
    likely = ops.cast(arrived > -math.log(2), grades.rates.dtype)
    moved = likely * grades.slowest[:, :, None]
    rates = (grades.rates - _to_items(moved, grades.places)[:, :, 0]) * ops.sum(grades.members, axis=1)
    if length <= DIRECT:
        return Race(DirectSums(rates, grades.members, grades.places), likely, moved)
    return Race(TabledSums(rates, grades.members, grades.places, math.ceil(_last(length))), likely, moved)


def _place(log_times: Any) -> np.ndarray:
    """The u of log times that are above that of FIRST, by Newton's method."""
    places = np.full(np.shape(log_times), FIRST)
    for _ in range(10):
        behind = np.exp(KNEE - places)
        places = places - (places - behind - log_times) / (1 + behind)
    return places


def _ends(times: np.ndarray) -> np.ndarray:
    """The log times at which integrands have fallen that have their mode at ``times`` T and do not win.

    A distance d beyond it they are exp(-T (exp(d) - 1 - d)) of their largest value at most.
    """
    fall = DEPTH / times
    reach = np.sqrt(2 * fall)
    for _ in range(20):
        reach = reach - (np.expm1(reach) - reach - fall) / np.expm1(reach)
    return np.log(times) + reach


def _nodes(race: Race, length: int) -> Nodes:
    """Nodes between the ends that slopes at a few times tell."""
    ratio = RATIO if length <= DIRECT else LONG_RATIO
    times = np.geomspace(EARLY, length + 1, 1 + math.ceil(math.log((length + 1) / EARLY, ratio)))
    # The slopes, by log time, of the logarithm of an integrand that does not win: its mode is where they are 0.
    slopes = 1.0 - ops.cast(times, race.likely.dtype) + ops.stop_gradient(race.sums.late_at(np.log(times)))
    start, is_bent = _starts(slopes - race.likely * ops.cast(times > 1, slopes.dtype), np.log(times))
    ends = _place(_ends(times))
    passed = ops.clip(slopes[:, :, :-1] / (slopes[:, :, :-1] - slopes[:, :, 1:]), 0.0, 1.0)
    stop = float(ends[0]) + ops.sum(passed * ops.cast(np.diff(ends), slopes.dtype), axis=2, keepdims=True)
    stop = stop + race.likely * (float(_place(_surely(length))) - stop)
    count = next((count for longest, count in NODES if length <= longest), MOST_NODES)
    step = (stop - start) / count
    places = start + step * (ops.cast(np.arange(count), step.dtype) + 0.5)
    behind = is_bent * ops.exp(KNEE - places)
    return Nodes(places - behind, ops.log1p(behind), step)


def _starts(slopes: Tensor, log_times: np.ndarray) -> tuple[Tensor, Tensor]:
    """The u (B, G, 1) where integrands of these slopes (B, G, K) start, and 1 where log time is bent there, or 0.

    Log times are in equal steps. From each one an integrand rises by what its slopes at later ones tell, at least.
    """
    later = np.tri(len(log_times), k=-1) * (log_times[1] - log_times[0])
    rise = lists.product(ops.maximum(slopes, 0.0), ops.convert_to_tensor(later, dtype=slopes.dtype))
    slopes = ops.maximum(slopes, FLAT)
    log_times, places = (ops.convert_to_tensor(part, dtype=slopes.dtype) for part in (log_times, _place(log_times)))
    straight = ops.max(log_times - (DEPTH - rise) / slopes, axis=2, keepdims=True)
    is_bent = straight < BENT
    # The tangents in terms of u.
    behind = ops.exp(KNEE - places)
    reach = (DEPTH - ops.maximum(rise - ops.log1p(behind), 0.0)) / (slopes * (1 + behind))
    bent = ops.maximum(ops.max(places - reach, axis=2, keepdims=True), FIRST)
    return ops.where(is_bent, bent, straight), ops.cast(is_bent, slopes.dtype)


def _last(length: int) -> float:
    """The log time at which all integrands of lists of up to ``length`` items have fallen."""
    return max(float(_ends(np.array(length + 1.0))), _surely(length))


def _surely(length: int) -> float:
    """The log time by which all of ``length`` items of log rates of at least 0 have arrived."""
    return math.log(DEPTH + 1 + math.log(length))


def _integral(race: Race, nodes: Nodes) -> tuple[Tensor, Tensor]:
    """log P (B, G), and the share of each node in P, (B, G, N)."""
    arrived, late, constant = race.sums.at(nodes.log_times, 1 - race.likely)
    passed = ops.exp(nodes.log_times - race.moved)
    exponents = arrived + nodes.log_weights - passed
    step = nodes.step
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
