r"""Sums of what arrives late, as polynomials: what ``grade_races`` integrates.

What a group of n items contributes to its integral at log time x is :math:`S(x) = \sum_i g(y_i + x)` with
:math:`g(z) = \log(1 - e^{-e^z})` and :math:`y_i` the log rate of item i. Taken item by item that is n transcendental
functions for every node of the integral. But g is smooth: with log rates in bins and log times in panels of width 1,
:math:`g(y + x)` is a polynomial in the place of y in its bin times one in the place of x in its panel, to 1e-10. So the
powers of each item are added up by bin, and a constant matrix turns these sums into the polynomials of S, and of its
derivative, in every panel. The gradient goes the same way back: densities at nodes are added up by panel, the
transposed matrix turns them into polynomials of the log rate, and each item takes its own.

The lowest bin has no end: there g is z plus a polynomial in :math:`e^y`. Items beyond the highest one have arrived.
"""

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from keras import ops

Tensor = Any

# Powers of a place in a bin or panel, from 0 on: g is met to 5e-11, its derivative to 6e-10.
POWERS = 12
# Integrands are followed down to exp(-18) of their largest value.
DEPTH = 18.0
# The first log time, and where the last bin ends: what is beyond it has arrived by then, to 1e-23.
EARLIEST, HIGHEST = -11, 15


class Tables(NamedTuple):
    """The constants for lists of up to some length.

    Attributes:
        panels: Number of panels of log time, from ``EARLIEST`` on.
        lowest: Where the first bin of log rates ends.
        bins: Number of bins, up to ``HIGHEST``.
        matrix: (bins * POWERS, panels * 2 * POWERS) what the powers of an item in a bin add to the coefficients of each
            panel: those of S, then those of its derivative.
    """

    panels: int
    lowest: int
    bins: int
    matrix: np.ndarray


def tables(length: int) -> Tables:
    """The tables for lists of up to ``length`` items."""
    # The mode of an integral is at time T = 1 + (number of items) at most, and exp(-T (exp(d) - 1 - d)) bounds it at
    # a distance d from there.
    return _tables(math.ceil(math.log(length + 1 + math.sqrt(2 * DEPTH * (length + 1)) + DEPTH)))


@functools.cache
def _tables(latest: int) -> Tables:
    nodes = np.cos((np.arange(POWERS) + 0.5) * np.pi / POWERS)
    coefficients = np.linalg.inv(np.vander(nodes, POWERS, increasing=True))
    inside = (nodes + 1) / 2
    log_times = np.arange(EARLIEST, latest)[:, None] + inside
    log_rates = np.arange(-latest - 1, HIGHEST)[:, None] + inside
    log_rates[0] = np.log(inside) - latest
    exponents = log_rates[:, :, None, None] + log_times
    waited = np.exp(exponents)
    arrived = -np.expm1(-waited)
    value, slope = np.log(arrived), waited * np.exp(-waited) / arrived
    # The logarithm that has no polynomial: it is added up apart.
    value[0] -= np.log(inside)[:, None, None]
    fitted = (np.einsum("kp,mpjq,lq->mkjl", coefficients, values, coefficients) for values in (value, slope))
    matrix = np.concatenate([*fitted], axis=-1)
    bins, panels = matrix.shape[0], matrix.shape[2]
    return Tables(panels, -latest, bins, matrix.reshape(bins * POWERS, panels * 2 * POWERS))


def powers(values: Tensor, first: Tensor | None = None) -> Tensor:
    """``values`` to the powers from 0 to POWERS - 1 along a new last axis, times ``first``."""
    first = ops.ones_like(values) if first is None else first
    result = ops.stack([first, first * values, first * values * values], axis=-1)
    cube = (values * values * values)[..., None]
    result = ops.concatenate([result, result * cube], axis=-1)
    return ops.concatenate([result, result * (cube * cube)], axis=-1)
