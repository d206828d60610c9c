r"""Kernels of t = exp(-distance) in Bernstein's basis, by which sums over separate blocks lose no digits.

Powers of t are products of a factor for each part of the way, and so carried from block to block one by one; but
kernels have coefficients of both signs for them, which cancel where t is near 1. Of degree n they are also sums of

.. math:: b_i(t) = t^i (1 - t)^{n - i}, \quad i = 0, \dots, n

with coefficients that are at least 0. A further part of the way, which multiplies t by some u from 0 to 1, makes of
each of these a sum of them all, since 1 - t u is 1 - t and t times 1 - u:

.. math:: b_i(t u) = \sum_{l \ge i} \binom{n - i}{l - i} u^i (1 - u)^{l - i} b_l(t)

So nothing cancels on any way, near or far.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from tfrankloss.functional import lists

Tensor = Any


class Bernstein(NamedTuple):
    """The features b_0, ..., b_n of t, F = n + 1 of them.

    Attributes:
        degree: n.
        temperature: What distances are divided by.
    """

    degree: int
    temperature: float = 1.0

    def features(self, distances: Tensor) -> Tensor:
        """(B, n, F, T) of places at distances (B, n, T)."""
        left, gone = self._powers(distances[:, :, None, :])
        return left * gone

    def fading(self, distances: Tensor) -> Tensor:
        """(B, n, F, F) what each feature, by row, becomes of each one on the way of distances (B, n)."""
        size = self.degree + 1
        left, gone = (ops.swapaxes(powers, 2, 3) for powers in self._powers(distances[:, :, None, None]))
        mixed = lists.product(gone, ops.convert_to_tensor(_mixing(self.degree), dtype=distances.dtype))
        return ops.reshape(mixed, (*ops.shape(mixed)[:2], size, size)) * left

    def of_kernel(self, kernel: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """(F, F) that makes a function of t, which is 0 at 0, of features at both ends of a way."""
        return _between(kernel, self.degree)

    def _powers(self, distances: Tensor) -> tuple[Tensor, Tensor]:
        """Of distances (B, n, 1, T) t to the powers 0, ..., n and 1 - t to the powers n, ..., 0, (B, n, F, T)."""
        distances = distances if self.temperature == 1 else distances / self.temperature
        numbers = ops.convert_to_tensor(np.arange(self.degree + 1)[:, None], dtype=distances.dtype)
        # Not by products, which near t = 1 would add up the rounding of t.
        left = ops.exp(-distances * numbers)
        gone, power, size = ops.ones_like(distances), -ops.expm1(-distances), 1
        while size <= self.degree:
            more = min(size, self.degree + 1 - size)
            gone = ops.concatenate([gone[:, :, size - more :] * power, gone], axis=2)
            power, size = power * power, size + more
        return left, gone


@functools.cache
def _mixing(degree: int) -> np.ndarray:
    """(F, F * F) what the powers n, ..., 0 of 1 - u add to ``Bernstein.fading``, but for those of u."""
    mixing = np.zeros((degree + 1, degree + 1, degree + 1))
    for of in range(degree + 1):
        for to in range(of + 1):
            mixing[degree - (of - to), of, to] = math.comb(degree - to, of - to)
    return mixing.reshape(degree + 1, -1)


@functools.cache
def _between(kernel: Callable[[np.ndarray], np.ndarray], degree: int) -> np.ndarray:
    """(F, F) of b_l(t) and b_m(u) in kernel(t u)."""
    coefficients = _coefficients(kernel, degree)
    matrix = np.zeros((degree + 1, degree + 1))
    for of in range(degree + 1):
        # As a function of u, what b_of(t) is multiplied by has degree ``of``: it is raised to that of all.
        for to in range(degree + 1):
            for i in range(max(0, to - (degree - of)), min(of, to) + 1):
                ways = math.comb(of, i) * math.comb(degree - of, to - i)
                matrix[of, to] += coefficients[i] * ways * math.comb(degree, of)
    return matrix


def _coefficients(kernel: Callable[[np.ndarray], np.ndarray], degree: int) -> np.ndarray:
    """Those of a kernel for Bernstein's polynomials, which are b_0, ..., b_n times binomials."""
    # Interpolating f(t) / t at Chebyshev nodes keeps the relative precision of small t.
    nodes = (np.cos((np.arange(degree) + 0.5) * np.pi / degree) + 1) / 2
    parts = [math.comb(degree, i) * nodes**i * (1 - nodes) ** (degree - i) for i in range(1, degree + 1)]
    found = np.linalg.solve(np.stack(parts, axis=1) / kernel(nodes)[:, None], np.ones(degree))
    return np.concatenate([[0.0], found])
