r"""Where the integrals of ``grade_races`` are summed, and what an item adds to their integrands there, as constants.

What a group of n items contributes to its integral at log time x is :math:`S(x) = \sum_i g(y_i + x)` with
:math:`g(z) = \log(1 - e^{-e^z})` and :math:`y_i` the log rate of item i. Taken item by item that is n transcendental
functions for every node of the integral. But g is smooth: with log rates in bins, :math:`g(y + x)` is at each log time
a polynomial in the place of y in its bin. So a constant matrix turns powers of places, added up by bin, into S at all
nodes, and another one into its derivative. The lowest bin has no end: there g is z plus a polynomial in :math:`e^y`.
Items beyond the highest one have arrived.

Nodes cost little then, and all groups share theirs: as many at each log time as any group needs for the trapezoid rule
to err by less than 1e-6. An integrand is the steeper the more members arrive at once. Of n slow ones the last arrives
at time n, more or less sqrt(n); of n that arrive at time t, more or less a part of t whose square is
1 / (t log(1 + n / t)); and while those below the group hardly arrive, within a log time of 1 / log(n). At early times a
part of the integral counts as the square of the time, and may err by more.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

# Nodes lie from this log time on.
FIRST = -7.5
# How dense they are by log time, see ``density``: the least, that of large groups by the logarithm of their size, and
# the place and width of its rise.
LEAST, STEEP, RISE, WIDTH = 0.6, 1.2, -4.0, 1.4
# Nodes end where integrands have fallen to exp(-15) of their largest value.
DEPTH = 15.0
# They end no earlier than those whose mode is at this time.
SOON = 20.0
# Where the last bin ends: what is beyond it has arrived by the first node, to 1e-14.
HIGHEST = 11
# The width of bins, and how many powers there are, from 0 on: to 1e-8, and to 1e-7 in lists of up to SHORT items, which
# are many groups and so many bins.
SHORT = 64
SHORT_BINS, BINS = (1.0, 8), (0.5, 7)


class Tables(NamedTuple):
    """The constants for lists of up to some length.

    Attributes:
        log_times: (K,) the nodes.
        log_weights: (K,) logarithms of what they stand for of log time.
        lowest: Where the first bin of log rates ends.
        width: Width of the other ones.
        bins: Number of bins, up to ``HIGHEST``.
        powers: Number of powers, P.
        arrived: (bins * P, K) what the powers of an item in a bin add to the sum of g at each node; in the lowest bin
            without z.
        late: (bins * P, K) what they add to its derivative by log time.
    """

    log_times: np.ndarray
    log_weights: np.ndarray
    lowest: int
    width: float
    bins: int
    powers: int
    arrived: np.ndarray
    late: np.ndarray


@functools.lru_cache(maxsize=32)
def tables(length: int) -> Tables:
    """The tables for lists of up to ``length`` items."""
    log_times, log_weights = _nodes(length)
    width, powers = SHORT_BINS if length <= SHORT else BINS
    # Times of the lowest bin are at most exp(0.5), where its polynomial is nearly that of a straight line.
    lowest = -math.ceil(last(length) - 0.5)
    places = np.cos((np.arange(powers) + 0.5) * np.pi / powers)
    coefficients = np.linalg.inv(np.vander(places, powers, increasing=True))
    inside = (places + 1) / 2
    log_rates = np.arange(lowest - width, HIGHEST, width)[:, None] + width * inside
    log_rates[0] = np.log(inside) + lowest
    # Beyond 700 the exponential of a time is infinite, and all have arrived.
    times = np.minimum(np.exp(log_rates[:, :, None] + log_times), 700.0)
    arrived, late = np.log(-np.expm1(-times)), times / np.expm1(times)
    arrived[0] -= np.log(times[0])
    bins = len(log_rates)
    arrived, late = (np.reshape(coefficients @ part, (bins * powers, -1)) for part in (arrived, late))
    return Tables(log_times, log_weights, lowest, width, bins, powers, arrived, late)


def last(length: int | np.ndarray) -> np.ndarray:
    """The log time at which all integrands of lists of up to ``length`` items have fallen.

    Of slow members an integrand has its mode at a time T of at most length + 1, and is at most exp(-T d * d / 2) of its
    largest value at a log time d later. Where a group likely wins, and in short lists, it ends with that of mode SOON.
    """
    latest_mode = np.maximum(length + 1.0, SOON)
    return np.log(latest_mode) + np.sqrt(2 * DEPTH / latest_mode)


def density(log_times: np.ndarray, length: int) -> np.ndarray:
    """Nodes by log time for lists of up to ``length`` items."""
    times = np.exp(log_times)
    at_once = STEEP * math.log(length) / (1 + np.exp((RISE - log_times) / WIDTH))
    return LEAST + np.sqrt(at_once**2 + times * np.log1p((length + 1) / times))


def _nodes(length: int) -> tuple[np.ndarray, np.ndarray]:
    """``Tables.log_times`` and ``Tables.log_weights``, by numbers that grow as the density says."""
    fine = np.linspace(FIRST, last(length), 20001)
    dense = density(fine, length)
    numbers = np.concatenate([[0], np.cumsum((dense[1:] + dense[:-1]) / 2)]) * (fine[1] - fine[0])
    count = math.ceil(numbers[-1])
    log_times = np.interp((np.arange(count) + 0.5) * numbers[-1] / count, numbers, fine)
    # As they are in float32: what a list of thousands adds up has no digits to lose.
    log_times = log_times.astype("float32").astype("float64")
    return log_times, np.log(numbers[-1] / count / density(log_times, length))
