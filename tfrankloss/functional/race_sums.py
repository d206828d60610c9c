r"""Sums of what arrives late, item by item: what ``grade_races`` integrates in short lists.

At log time x an item of log rate y adds :math:`\log(1 - e^{-w}) = -\log(1 + v)` with :math:`w = e^{y + x}` and
:math:`v = 1 / (e^w - 1)`, and its derivative is :math:`w v`. Both keep all digits at both ends.
"""

from typing import Any

import numpy as np
from keras import ops

from tfrankloss.functional.race_tables import EARLIEST

Tensor = Any

# Between these, and at all times looked at, exponentials of log rates are finite and not 0; slower items add their log
# rate, faster ones have arrived.
SLOWEST, FASTEST = -60.0, 60.0
# A w that is surely late, whose exponential is finite.
ARRIVED = 80.0
# How far apart the log times are at which all groups are looked at.
STEP = 1.0


class DirectSums:
    """The sums of the groups of a batch at log times; arguments as those of ``race_tables.TabledSums``.

    Attributes:
        constant: (B, L) what slow items add at all times.
        zooms: How many times there are in each grid after the first one.
    """

    zooms = ()

    def __init__(self, rates: Tensor, weights: Tensor, members: Tensor, places: Tensor, latest: int):
        bounded = ops.clip(rates, SLOWEST, FASTEST)
        self.constant = ops.minimum(rates - bounded, 0.0) * weights
        self._members = members * weights[:, None, :]
        self._places = places
        self._rates = ops.exp(bounded)[:, :, None]
        self._latest = latest

    def grid(self) -> tuple[Tensor, float, Tensor, Tensor]:
        """Log times (1, N) up to the latest, how far apart they are, the sums (R, N) there and their derivatives."""
        times = np.arange(EARLIEST + STEP / 2, self._latest, STEP)[None]
        passed = ops.convert_to_tensor(np.exp(times), dtype=self._rates.dtype)
        arrived, late = self._sums(passed[:, None, :])
        return ops.convert_to_tensor(times, dtype=self._rates.dtype), STEP, arrived, late

    def at(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """The sums at log times (R, N), and their derivatives."""
        return self._sums(ops.take(ops.exp(times), self._places, axis=0))

    def _sums(self, passed: Tensor) -> tuple[Tensor, Tensor]:
        """The sums at times (B, L, N) of the group of each item."""
        waited = ops.minimum(self._rates * passed, ARRIVED)
        odds = 1 / ops.expm1(waited)
        self._late = waited * odds
        arrived, late = (ops.matmul(self._members, values) for values in (-ops.log1p(odds), self._late))
        return tuple(ops.reshape(sums, (-1, ops.shape(sums)[2])) for sums in (arrived, late))

    def slopes(self, density: Tensor) -> Tensor:
        """The mean (B, L) of the derivative of each item over a density (R, N) at the times last asked for."""
        return ops.sum(ops.take(density, self._places, axis=0) * self._late, axis=2)
