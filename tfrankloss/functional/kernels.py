"""What sums over sorted scores are made of: functions of score gaps as polynomials, lists cut into blocks."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from tfrankloss.functional import carries, lists

Tensor = Any

BLOCK = 32


class Kernel(NamedTuple):
    """A function of t from 0 to 1 that is 0 at 0.

    Attributes:
        of_tensor: The function.
        of_array: The same for NumPy arrays.
    """

    of_tensor: Callable[[Tensor], Tensor]
    of_array: Callable[[np.ndarray], np.ndarray]

    def coefficients(self, rates: tuple[float, ...]) -> np.ndarray:
        """a_1, ..., a_K of the a_1 t^r_1 + ... + a_K t^r_K that is nearest to the function, relative to it."""
        return _coefficients(self, rates)


@functools.cache
def _coefficients(kernel: Kernel, rates: tuple[float, ...]) -> np.ndarray:
    count = 50 * len(rates)
    nodes = (np.cos((np.arange(count) + 0.5) * np.pi / count) + 1) / 2
    parts = nodes[:, None] ** np.array(rates) / kernel.of_array(nodes)[:, None]
    emphasis, coefficients = np.ones((count, 1)), np.zeros(len(rates))
    # What was most wrong weighs more in the next round, until the largest error is the least (Lawson's algorithm).
    for _ in range(60):
        root = np.sqrt(emphasis)
        coefficients = np.linalg.lstsq(root * parts, root[:, 0], rcond=None)[0]
        errors = np.abs(parts @ coefficients - 1)[:, None]
        emphasis = emphasis * (errors / errors.max() + 1e-2)
        emphasis = emphasis / emphasis.mean()
    return coefficients


def _over(power: int) -> Callable[[Any], Any]:
    return lambda t: t / (1 + t) ** power


# With d the size of the gap and t = exp(-d): sigmoid(-d), its slope, and what softplus(-d) is.
SIGMOID = Kernel(_over(1), _over(1))
SIGMOID_SLOPE = Kernel(_over(2), _over(2))
SOFTPLUS = Kernel(ops.log1p, np.log1p)


def sums_above(runs: Tensor | None, weights: Tensor, below: bool = False) -> Tensor:
    """For each place the sum of weights over the places of its run above it, (B, L, C); nothing is subtracted.

    Args:
        runs: (B, L) the run of each place, ascending; None where a list is one run.
        weights: (B, L, C) weights of any kind.
        below: Whether to sum over the places below it instead.
    """
    if runs is None:
        return ops.transpose(lists.sums_before(ops.transpose(weights, (0, 2, 1)), behind=below), (0, 2, 1))
    length = ops.shape(runs)[1]
    runs, inside = cut(runs, repeat_last=True), cut(weights)
    same = ops.cast(ops.equal(runs[:, :, :, None], runs[:, :, None, :]), weights.dtype)
    leaving, entering = (0, -1) if below else (-1, 0)
    held = ops.einsum("bnt,bntc->bnc", same[:, :, leaving], inside)[:, :, :, None]
    entry, exit_ = (
        carries.End((ops.cast(runs[:, :, end], weights.dtype),), runs[:, :, end]) for end in (entering, leaving)
    )
    # What is held does not fade.
    across = carries.carried(carries.Sums(held), exit_, [np.zeros(1)], upwards=below, entry=entry).one
    across = across[:, :, None, :, 0] * same[:, :, entering, :, None]
    pairs = np.tri(inside.shape[2], k=-1)
    pairs = ops.convert_to_tensor(pairs.T if below else pairs, dtype=weights.dtype)
    return joined(lists.product(same * pairs, inside) + across, length)


def cut(values: Tensor, repeat_last: bool = False) -> Tensor:
    """(B, L, ...) as (B, n, T, ...), the last block filled up with zeros or with the last place."""
    batch, length, *others = ops.shape(values)
    size = _block_size(values.shape[1])
    missing = (size - length % size) % size
    if not isinstance(missing, int) or missing > 0:
        last = values[:, -1:] if repeat_last else ops.zeros_like(values[:, -1:])
        values = ops.concatenate([values, ops.broadcast_to(last, (batch, missing, *others))], axis=1)
    return ops.reshape(values, (batch, (length + missing) // size, size, *others))


def _block_size(length: int | None) -> int:
    """``BLOCK``; of a list of few blocks a smaller part of its length, so that the last one is not filled up."""
    if length is None or length > 16 * BLOCK:
        return BLOCK
    return next((size for size in range(BLOCK, BLOCK // 2, -1) if length % size == 0), BLOCK)


def joined(values: Tensor, length: Any) -> Tensor:
    """The reverse of ``cut``."""
    batch, count, places, *others = ops.shape(values)
    return ops.reshape(values, (batch, count * places, *others))[:, :length]
