"""How much of a discount is lost from a rank to the next one, as a sum of exponentials.

Sums over pairs of ranks then separate: exp(-b (r_j - r_i)) is a product of a factor of either rank.

Source: the project's own; that completely monotone functions are near such sums, with an error that falls off
exponentially with the number of terms, is due to Braess and Hackbusch (2005).
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

DISCOUNTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "log2": lambda ranks: 1 / np.log2(1 + ranks),
    "reciprocal": lambda ranks: 1 / ranks,
}
# Terms beyond one for each octave of distances.
MORE_TERMS = {"log2": 1, "reciprocal": 2}


class Decay(NamedTuple):
    """A function of the distance n of two ranks: the sum over q of w_q exp(-b_q n), all w_q above 0.

    Attributes:
        rates: (M,) b_q.
        weights: (M,) w_q.
    """

    rates: np.ndarray
    weights: np.ndarray

    def at(self, distances: np.ndarray) -> np.ndarray:
        """The function at rank distances."""
        return np.exp(-np.multiply.outer(distances, self.rates)) @ self.weights


# Distance alone does not matter.
CONSTANT = Decay(np.zeros(1), np.ones(1))


def decay(discount: str, length: int) -> Decay:
    """d(n) - d(n + 1) of a discount d, to 1e-4 of itself for distances n from 1 to ``length``.

    Args:
        discount: A name in ``DISCOUNTS``.
        length: The largest distance.
    """
    return _fitted(discount, max(8, math.ceil(math.log2(max(length, 1)))))


@functools.cache
def _fitted(discount: str, octaves: int) -> Decay:
    """The fit from 1 to 2^octaves whose largest relative error is near the least.

    Least squares by the method of Levenberg and Marquardt, in rounds of which each one weighs more what was wrong in
    the last (Lawson's algorithm).
    """
    terms = octaves + MORE_TERMS[discount]
    # Ranks of ties lie half-way between places.
    distances = np.unique(np.concatenate([np.arange(2, 65) / 2, np.geomspace(1, 2**octaves, 25 * octaves)]))
    lost = DISCOUNTS[discount](distances) - DISCOUNTS[discount](distances + 1)

    def parts(logs):
        rates, weights = np.exp(logs[:terms]), np.exp(logs[terms:])
        return rates, np.exp(-np.outer(distances, rates)) * weights / lost[:, None]

    rates = np.geomspace(0.3 * 2.0**-octaves, 3.0, terms)
    start = np.linalg.lstsq(np.exp(-np.outer(distances, rates)) / lost[:, None], np.ones_like(lost), rcond=None)[0]
    logs = np.log(np.concatenate([rates, np.maximum(np.abs(start), 1e-9)]))
    (rates, found), emphasis = parts(logs), np.ones_like(lost)
    best, least = logs, np.inf
    for steps in [600] + 29 * [40]:
        damping = 1e-3
        for _ in range(steps):
            errors = found.sum(axis=1) - 1
            slopes = np.concatenate([-found * np.outer(distances, rates), found], axis=1)
            normal = slopes.T @ (emphasis[:, None] * slopes)
            damped = normal + damping * np.diag(np.diag(normal) + 1e-14)
            tried = logs + np.clip(np.linalg.solve(damped, -slopes.T @ (emphasis * errors)), -1, 1)
            new_rates, new_found = parts(tried)
            if emphasis @ np.square(new_found.sum(axis=1) - 1) < emphasis @ np.square(errors):
                logs, rates, found, damping = tried, new_rates, new_found, max(damping / 5, 1e-12)
            else:
                damping *= 4
        errors = np.abs(found.sum(axis=1) - 1)
        if errors.max() < least:
            best, least = logs, errors.max()
        emphasis = emphasis * (errors / errors.max() + 1e-2)
        emphasis = emphasis / emphasis.mean()
    return Decay(np.exp(best[:terms]), np.exp(best[terms:]))
