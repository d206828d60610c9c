r"""Sums of what arrives late, as polynomials: what ``grade_races`` integrates in long lists.

What a group of n items contributes to its integral at log time x is :math:`S(x) = \sum_i g(y_i + x)` with
:math:`g(z) = \log(1 - e^{-e^z})` and :math:`y_i` the log rate of item i. Taken item by item that is n transcendental
functions for every node of the integral. But g is smooth: with log rates in bins and log times in panels of width 1,
:math:`g(y + x)` is a polynomial in the place of y in its bin times one in the place of x in its panel, to 1e-10. So the
powers of each item are added up by bin, and a constant matrix turns these sums into the polynomials of S in every
panel, whose derivatives are those of S. The gradient goes the same way back: densities at nodes are added up by panel,
the transposed matrix turns them into polynomials of the log rate, and each item takes its own.

The lowest bin has no end: there g is z plus a polynomial in :math:`e^y`. Items beyond the highest one have arrived.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from tfrankloss.functional.race_sums import of_groups

Tensor = Any

# Powers of a place in a bin or panel, from 0 on: g is met to 1e-10, its derivative to 2e-8.
POWERS = 12
# What the derivative of a power by log time, from the first on, has of the one before: a place goes from -1 to 1.
RAISED = 2.0 * np.arange(1, POWERS)
# Powers are added up for so many items of a list at a time: one by one, hundreds of equal numbers round the same way.
# Lists of more than SHORT items take larger blocks: small ones took a sixth of their time.
BLOCK, SHORT, LONG_BLOCK = 32, 512, 128
# The first log time, and where the last bin ends: what is beyond it has arrived by then, to 1e-23.
EARLIEST, HIGHEST = -11, 15


class Tables(NamedTuple):
    """The constants for log times up to some last one.

    Attributes:
        panels: Number of panels of log time, from ``EARLIEST`` on.
        lowest: Where the first bin of log rates ends.
        bins: Number of bins, up to ``HIGHEST``.
        matrix: (bins * POWERS, panels * POWERS) what the powers of an item in a bin add to the coefficients of each
            panel.
    """

    panels: int
    lowest: int
    bins: int
    matrix: np.ndarray


@functools.cache
def tables(latest: int) -> Tables:
    """The tables for log times up to ``latest``."""
    nodes = np.cos((np.arange(POWERS) + 0.5) * np.pi / POWERS)
    coefficients = np.linalg.inv(np.vander(nodes, POWERS, increasing=True))
    inside = (nodes + 1) / 2
    log_times = np.arange(EARLIEST, latest)[:, None] + inside
    log_rates = np.arange(-latest - 1, HIGHEST)[:, None] + inside
    log_rates[0] = np.log(inside) - latest
    values = np.log(-np.expm1(-np.exp(log_rates[:, :, None, None] + log_times)))
    # The logarithm that has no polynomial: it is added up apart.
    values[0] -= np.log(inside)[:, None, None]
    bins, panels = log_rates.size // POWERS, log_times.size // POWERS
    matrix = np.einsum("kp,mpjq,lq->mkjl", coefficients, values, coefficients, optimize=True)
    return Tables(panels, -latest, bins, matrix.reshape(bins * POWERS, panels * POWERS))


class TabledSums:
    """The sums of the groups of a batch; arguments, attributes and methods are those of ``race_sums.DirectSums``.

    Args:
        latest: The end of the last panel; log times are between ``EARLIEST`` and this.
    """

    def __init__(self, rates: Tensor, members: Tensor, places: Tensor, latest: int):
        self._table = table = tables(latest)
        self._batch, self._groups, _ = ops.shape(members)
        count = self._batch * self._groups
        position = ops.minimum(rates, float(HIGHEST)) - table.lowest
        start = ops.clip(ops.floor(ops.stop_gradient(position)), -1.0, table.bins - 2.0)
        # Where slow items are, and what they add at all times.
        slow = ops.minimum(position, 0.0)
        self.constant = of_groups(members, slow)
        is_slow = ops.cast(position < 0, rates.dtype)
        inside = is_slow * ops.exp(slow) + (1 - is_slow) * (position - start)
        # Powers of the place of an item in its bin, 0 where not counted.
        self._basis = powers(2 * inside - 1, ops.sum(members, axis=1))
        bins = places * table.bins + _index(start + 1, table.bins)
        self._bins = ops.reshape(bins, (-1,))
        length = ops.shape(rates)[1]
        block = BLOCK if rates.shape[1] is not None and rates.shape[1] <= SHORT else LONG_BLOCK
        blocks = (length + block - 1) // block
        parts = (ops.arange(length, dtype="int32") // block) * (count * table.bins) + bins
        sums = ops.segment_sum(
            ops.reshape(self._basis, (-1, POWERS)),
            ops.reshape(parts, (-1,)),
            num_segments=blocks * count * table.bins,
        )
        sums = ops.sum(ops.reshape(sums, (blocks, count, table.bins * POWERS)), axis=0)
        self._matrix = ops.convert_to_tensor(table.matrix, dtype=sums.dtype)
        self._raised = ops.convert_to_tensor(RAISED, dtype=sums.dtype)
        # The coefficients of the sums and of their derivatives in each panel.
        of_sums = ops.reshape(sums @ self._matrix, (-1, table.panels, POWERS))
        none = ops.zeros_like(of_sums[:, :, :1])
        self._panels = ops.concatenate([of_sums, self._raised * of_sums[:, :, 1:], none], axis=2)

    def late_at(self, times: np.ndarray) -> Tensor:
        """As ``DirectSums.late_at``."""
        panel = np.clip(np.floor(times) - EARLIEST, 0, self._table.panels - 1).astype("int32")
        inside = (2 * (times - EARLIEST - panel) - 1)[:, None] ** np.arange(POWERS)
        panels = ops.reshape(self._panels, (-1, self._table.panels, 2, POWERS))[:, :, 1]
        terms = ops.take(panels, panel, axis=1) * ops.convert_to_tensor(inside, dtype=panels.dtype)
        return self._by_group(ops.sum(terms, axis=2))

    def at(self, times: Tensor, is_relative: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As ``DirectSums.at``; no more than ``constant`` is taken off."""
        panels = self._table.panels
        times = ops.reshape(times, (-1, times.shape[2]))
        panel = ops.clip(ops.floor(times) - EARLIEST, 0.0, panels - 1.0)
        self._inside = 2 * (times - EARLIEST - panel) - 1
        first = panels * ops.arange(self._batch * self._groups, dtype="int32")[:, None]
        self._panel = _index(panel, panels) + first
        coefficients = ops.take(ops.reshape(self._panels, (-1, 2 * POWERS)), self._panel, axis=0)
        terms = powers(self._inside)
        arrived, late = (ops.sum(part * terms, axis=-1) for part in ops.split(coefficients, 2, axis=-1))
        return self._by_group(arrived), self._by_group(late), self.constant

    def slopes(self, density: Tensor) -> Tensor:
        """As ``DirectSums.slopes``."""
        table = self._table
        terms = ops.reshape(powers(self._inside, ops.reshape(density, (-1, density.shape[2]))), (-1, POWERS))
        count = self._batch * self._groups
        sums = ops.segment_sum(terms, ops.reshape(self._panel, (-1,)), num_segments=count * table.panels)
        # What each coefficient of the sums adds by its derivative.
        sums = ops.concatenate([ops.zeros_like(sums[:, :1]), self._raised * sums[:, :-1]], axis=1)
        by_bin = ops.einsum("gp,bp->gb", ops.reshape(sums, (count, table.panels * POWERS)), self._matrix)
        coefficients = ops.take(ops.reshape(by_bin, (-1, POWERS)), self._bins, axis=0)
        return ops.sum(ops.reshape(coefficients, ops.shape(self._basis)) * self._basis, axis=-1)

    def _by_group(self, values: Tensor) -> Tensor:
        # TensorFlow infers a wrong size where there are no lists.
        return ops.reshape(values, (self._batch, self._groups, values.shape[-1]))


def _index(numbers: Tensor, count: int) -> Tensor:
    """Whole numbers below ``count`` as integers, those that are NaN as any that is an index."""
    return ops.clip(ops.cast(numbers, "int32"), 0, count - 1)


def powers(values: Tensor, first: Tensor | None = None) -> Tensor:
    """``values`` to the powers from 0 to POWERS - 1 along a new last axis, times ``first``."""
    first = ops.ones_like(values) if first is None else first
    result = ops.stack([first, first * values, first * values * values])
    cube = values * values * values
    result = ops.concatenate([result, result * cube], axis=0)
    result = ops.concatenate([result, result * (cube * cube)], axis=0)
    # TensorFlow joins whole tensors and turns them in half the time in which it joins their last axes.
    return ops.reshape(ops.transpose(ops.reshape(result, (POWERS, -1))), (*ops.shape(values), POWERS))
