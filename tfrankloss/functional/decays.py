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
STEPS = 200


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
    """The least squares fit of relative errors from 1 to 2^octaves, by the method of Levenberg and Marquardt."""
    terms = 3 + octaves + octaves // 8
    distances = np.unique(np.concatenate([np.arange(2, 129) / 2, np.geomspace(1, 2**octaves, 400)]))
    lost = DISCOUNTS[discount](distances) - DISCOUNTS[discount](distances + 1)

    def parts(logs):
        rates, weights = np.exp(logs[:terms]), np.exp(logs[terms:])
        return rates, np.exp(-np.outer(distances, rates)) * weights / lost[:, None]

    rates = np.geomspace(2.0**-octaves, 3.0, terms)
    start = np.linalg.lstsq(np.exp(-np.outer(distances, rates)) / lost[:, None], np.ones_like(lost), rcond=None)[0]
    logs = np.log(np.concatenate([rates, np.abs(start) + 1e-12]))
    (rates, found), damping = parts(logs), 1e-2
    for _ in range(STEPS):
        errors = found.sum(axis=1) - 1
        slopes = np.concatenate([-found * np.outer(distances, rates), found], axis=1)
        normal = slopes.T @ slopes
        step = np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-12), -slopes.T @ errors)
        tried = logs + np.clip(step, -1, 1)
        new_rates, new_found = parts(tried)
        if np.sum(np.square(new_found.sum(axis=1) - 1)) < np.sum(np.square(errors)):
            logs, rates, found, damping = tried, new_rates, new_found, damping / 5
        else:
            damping *= 4
    return Decay(np.exp(logs[:terms]), np.exp(logs[terms:]))
