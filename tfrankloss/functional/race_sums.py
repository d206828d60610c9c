"""What the members of a group add up to at a log time, item by item: what ``grade_races`` integrates in short lists."""

from typing import Any

import numpy as np
from keras import ops

Tensor = Any

# Exponentials of log rates between these, and at all times looked at, are finite and not 0. Slower items add their log
# rate, faster ones have arrived.
SLOWEST, FASTEST = -40.0, 60.0
# To find where an integrand is, log rates are taken between multiples of BIN up to the last.
BIN, LAST_BIN = 0.25, 15.0
# What is added to -1 to have a finite logarithm.
ALMOST = 1e-7


def double_odds(half_rates: Tensor, passed: Tensor) -> tuple[Tensor, Tensor]:
    """Twice the odds not to have arrived, 1 / (exp(w) - 1) for w = rate * time, and w / 2."""
    waited = half_rates * passed
    # The probability to have arrived is 2 tanh(w / 2) / (1 + tanh(w / 2)), to all digits for any w, as is exp(-w).
    arrived = ops.tanh(waited)
    return ops.exp(-2.0 * waited) * (1 + arrived) / arrived, waited


def log_arrived(odds: Tensor) -> Tensor:
    """The log probability to have arrived, from the first result of ``double_odds``."""
    return -ops.log1p(0.5 * odds)


class DirectSums:
    """The sums of the groups of a batch.

    Args:
        rates: (B, L) log rates of items.
        members: (B, G, L) 1 where an item is of a group that is counted, 0 elsewhere.
        places: (B, L) the group of each item among the R = B * G groups.

    Attributes:
        constant: (B, G, 1) what slow items add at all times.
    """

    def __init__(self, rates: Tensor, members: Tensor, places: Tensor):
        bounded = ops.clip(rates, SLOWEST, FASTEST)
        self.constant = ops.sum(members * ops.minimum(rates - bounded, 0.0)[:, None, :], axis=2, keepdims=True)
        self._members, self._places, self._bounded = members, places, bounded
        self._half_rates = 0.5 * ops.exp(bounded)[:, :, None]

    def roughly(self, times: np.ndarray) -> tuple[Tensor, Tensor]:
        """About both sums, (B, G, K), at K log times that are the same for all groups, as ``at`` gives them."""
        lowest = -float(np.ceil(np.max(times))) - 2.0
        log_rates = np.arange(lowest, LAST_BIN + BIN, BIN)
        # Items are shared between the two bins next to them.
        position = ops.clip((ops.stop_gradient(self._bounded) - lowest) / BIN, 0.0, len(log_rates) - 1.001)
        bins = ops.floor(position)
        above = position - bins
        weights = ops.sum(self._members, axis=1)
        bins = ops.reshape(self._places * len(log_rates) + ops.cast(bins, "int32"), (-1,))
        batch, groups, _ = ops.shape(self._members)
        counts = [
            ops.segment_sum(ops.reshape(part, (-1,)), number, num_segments=batch * groups * len(log_rates))
            for part, number in ((weights * (1 - above), bins), (weights * above, bins + 1))
        ]
        counts = ops.reshape(counts[0] + counts[1], (batch, groups, len(log_rates)))
        waited = np.exp(log_rates[:, None] + times)
        arrived = -np.expm1(-waited)
        tables = np.log(arrived), waited * np.exp(-waited) / arrived
        return tuple(ops.matmul(counts, ops.convert_to_tensor(table, dtype=counts.dtype)) for table in tables)

    def at(self, times: Tensor, is_relative: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sums at log times (B, G, N).

        Args:
            times: Log times of each group.
            is_relative: (B, G, 1) 1 at groups whose first sums are to be less their constant part, 0 elsewhere.

        Returns:
            (B, G, N) the log probabilities that all members of a group have arrived, less their constant part;
            (B, G, N) the derivatives; and (B, G, 1) the constant part.
        """
        passed = ops.take(ops.exp(ops.reshape(times, (-1, times.shape[2]))), self._places, axis=0)
        odds, waited = double_odds(self._half_rates, passed)
        self._late = waited * odds
        # Sums over a group may be huge and nearly the same at all nodes: they are taken relative to one of them.
        middle = times.shape[2] // 2
        middle = odds[:, :, middle : middle + 1] * ops.take(ops.reshape(is_relative, (-1, 1)), self._places, axis=0)
        # Above -1, whose logarithm would be lost on those who multiply it by 0.
        ratio = ops.maximum((middle - odds) / (2 + odds), ALMOST - 1)
        values = ops.log1p(ratio), self._late, log_arrived(middle)
        arrived, late, taken = (ops.matmul(self._members, part) for part in values)
        return arrived, late, self.constant + taken

    def slopes(self, density: Tensor) -> Tensor:
        """The mean (B, L) of the derivative of each item over a density (B, G, N) at the times last asked for."""
        by_group = ops.matmul(density, ops.transpose(self._late, (0, 2, 1)))
        return ops.sum(by_group * self._members, axis=1)
