"""What the members of a group add up to at a log time, item by item: what ``grade_races`` integrates in short lists."""

from typing import Any

import numpy as np
from keras import ops

Tensor = Any

# Exponentials of log rates between these, and at all times looked at, are finite and not 0. Slower items add their log
# rate, faster ones have arrived.
SLOWEST, FASTEST = -40.0, 60.0


def double_odds(waited: Tensor) -> tuple[Tensor, Tensor]:
    """Twice the odds not to have arrived, 1 / (exp(w) - 1) for w = rate * time, from w / 2; and both multiplied.

    The product is the derivative of the log probability to have arrived by the log time.
    """
    # 1 - exp(-w) is 2 / (1 + 1 / tanh(w / 2)) to all digits for any w, as is exp(-w).
    odds = (1 / ops.tanh(waited) + 1) * ops.exp(-2.0 * waited)
    return odds, waited * odds


def log_arrived(odds: Tensor) -> Tensor:
    """The log probability to have arrived, from the first result of ``double_odds``."""
    return -ops.log1p(0.5 * odds)


def of_groups(members: Tensor, values: Tensor) -> Tensor:
    """The sums (B, G, 1) of values (B, L) over the members (B, G, L) of each group."""
    return ops.sum(members * values[:, None, :], axis=2, keepdims=True)


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
        self.constant = of_groups(members, ops.minimum(rates - bounded, 0.0))
        self._members, self._places = members, places
        self._half_rates = 0.5 * ops.exp(bounded)[:, :, None]

    def late_at(self, times: np.ndarray) -> Tensor:
        """The derivatives (B, G, K) at K log times that are the same for all groups."""
        late = double_odds(self._half_rates * ops.convert_to_tensor(np.exp(times), dtype=self._half_rates.dtype))[1]
        return ops.matmul(self._members, late)

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
        odds, self._late = double_odds(self._half_rates * passed)
        # Sums over a group may be huge and nearly the same at all nodes: they are taken relative to one of them.
        middle = times.shape[2] // 2
        middle = odds[:, :, middle : middle + 1] * ops.take(ops.reshape(is_relative, (-1, 1)), self._places, axis=0)
        relative = ops.log1p((middle - odds) / (2 + odds))
        arrived, late = (ops.matmul(self._members, part) for part in (relative, self._late))
        return arrived, late, self.constant + of_groups(self._members, log_arrived(middle[:, :, 0]))

    def slopes(self, density: Tensor) -> Tensor:
        """The mean (B, L) of the derivative of each item over a density (B, G, N) at the times last asked for."""
        by_group = ops.matmul(density, ops.transpose(self._late, (0, 2, 1)))
        return ops.sum(by_group * self._members, axis=1)
