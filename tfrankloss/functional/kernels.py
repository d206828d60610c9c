r"""Sums over all pairs of a list without its pairs: functions of score gaps, in time that grows with L log L.

A list in descending order of its scores is cut into blocks of ``BLOCK`` items. Pairs inside a block are taken one by
one. Between blocks, a function f of :math:`t = e^{-|s_i - s_j|}` that vanishes at 0 is a polynomial in t, whose
powers separate: :math:`t^m = e^{-m(s_i - e)} e^{-m(e - b)} e^{-m(b - s_j)}` for the last score e of the block of i
and the first score b of the block of j. Every exponent is at most 0 and every term has one sign, so nothing
overflows or cancels, however far or near the scores are. The sums of a block over its own items, its moments, are
carried from block to block by doubling the distance over which they reach.

Lists may be cut into runs, of which only pairs of one run count.

Source: the project's own; the expansion is that of fast Gauss transforms (Greengard and Strain 1991) for other
kernels.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

Tensor = Any

BLOCK = 32
# Degrees at which the polynomials below are exact to the last digit or two of their dtype.
DEGREES = {"float32": 10, "float64": 20}


class Kernel(NamedTuple):
    """A function of t from 0 to 1 that is 0 at 0.

    Attributes:
        of_tensor: The function.
        of_array: The same for NumPy arrays.
    """

    of_tensor: Callable[[Tensor], Tensor]
    of_array: Callable[[np.ndarray], np.ndarray]

    def coefficients(self, dtype: str) -> np.ndarray:
        """a_1, ..., a_K of the polynomial a_1 t + ... + a_K t^K that is the function."""
        return _coefficients(self, dtype)


@functools.cache
def _coefficients(kernel: Kernel, dtype: str) -> np.ndarray:
    degree = DEGREES[dtype]
    # Interpolating f(t) / t at Chebyshev nodes keeps the relative precision of small t.
    nodes = (np.cos((np.arange(degree) + 0.5) * np.pi / degree) + 1) / 2
    values, powers = kernel.of_array(nodes) / nodes, nodes[:, None] ** np.arange(degree)
    coefficients = np.linalg.solve(powers, values)
    # Coefficients alternate in sign and are larger than the function, and all items share their rounding: so each one
    # that is rounded leaves its error to the smaller ones.
    rounded = np.zeros(degree, dtype)
    left = list(np.argsort(-np.abs(coefficients)))
    while left:
        fitted = np.linalg.lstsq(powers[:, left], values - powers @ rounded.astype("float64"), rcond=None)[0]
        rounded[left[0]] = fitted[0]
        left.pop(0)
    return rounded


def _over(power: int) -> Callable[[Any], Any]:
    return lambda t: t / (1 + t) ** power


# With d the size of the gap and t = exp(-d): sigmoid(-d), its slope, and what softplus(-d) is.
SIGMOID = Kernel(_over(1), _over(1))
SIGMOID_SLOPE = Kernel(_over(2), _over(2))
SOFTPLUS = Kernel(ops.log1p, np.log1p)


class Blocks(NamedTuple):
    """Lists in descending order of scores, cut into n blocks of T places.

    Attributes:
        scores: (B, n, T) scores.
        runs: (B, n, T) the run of each place, ascending; None where a list is one run.
        gaps: (B, n, T, T) sizes of the gaps inside a block.
        to_first: (B, n, K, T) e^{-m (b - s)} for the first score b of a block; 0 outside its first run.
        to_last: (B, n, K, T) e^{-m (s - e)} for the last score e of a block; 0 outside its last run.
        length: The length of the lists before the last block was filled up.
        temperature: What gaps of scores have been divided by.
    """

    scores: Tensor
    runs: Tensor | None
    gaps: Tensor
    to_first: Tensor
    to_last: Tensor
    length: Any
    temperature: float

    def in_run(self, place: int) -> Tensor:
        """1 where a place (B, n, T) is in the run of the first (0) or last (-1) place of its block."""
        if self.runs is None:
            return ops.ones_like(self.scores)
        return ops.cast(ops.equal(self.runs, self.runs[:, :, place][:, :, None]), self.scores.dtype)


def blocks_of(scores: Tensor, runs: Tensor | None = None, temperature: float = 1.0) -> Blocks:
    """Blocks of lists (B, L) in descending order within each run; padding stands last and has a finite score.

    The temperature divides gaps and not scores, which may be large beside them and lose their digits.
    """
    length = ops.shape(scores)[1]
    scores = _cut(scores, repeat_last=True)
    runs = None if runs is None else _cut(runs, repeat_last=True)
    degree = DEGREES[keras.backend.standardize_dtype(scores.dtype)]
    gaps = ops.abs(scores[:, :, :, None] - scores[:, :, None, :]) / temperature
    blocks = Blocks(scores, runs, gaps, scores, scores, length, temperature)
    # Gaps between runs mean nothing and may have any sign: they count as 0, and are left out afterwards.
    first, last = blocks.in_run(0), blocks.in_run(-1)
    to_first = _powers((scores[:, :, :1] - scores) * first / temperature, degree) * first[:, :, None, :]
    to_last = _powers((scores - scores[:, :, -1:]) * last / temperature, degree) * last[:, :, None, :]
    return blocks._replace(to_first=to_first, to_last=to_last)


class Moments(NamedTuple):
    """What the items of other blocks add up to, for each block.

    Attributes:
        above: (B, n, K, C) sums over all blocks before, as seen from the first score of a block.
        below: (B, n, K, C) sums over all blocks behind, as seen from the last score of a block.
    """

    above: Tensor
    below: Tensor


def moments_of(blocks: Blocks, weights: Tensor) -> Moments:
    """The moments of weights (B, L, C)."""
    weights = _cut(weights)
    degree = blocks.to_last.shape[2]
    steps = ops.cast(ops.arange(1, degree + 1), weights.dtype)

    def fade(state, distance, counts):
        factors = ops.exp(-distance[:, :, None] * steps)
        return state * (factors if counts is None else factors * counts[:, :, None])[:, :, :, None]

    return Moments(
        _carry(ops.matmul(blocks.to_last, weights), blocks, fade),
        _carry(ops.matmul(blocks.to_first, weights), blocks, fade, upwards=True),
    )


def kernel_sums(blocks: Blocks, weights: Tensor, moments: Moments, kernel: Kernel, signed: bool = False) -> Tensor:
    """For each place j the sum over the other places i of its run of f(t_ij) w_i, (B, L, C).

    Args:
        blocks: The lists.
        weights: (B, L, C) weights w, 0 at padding.
        moments: Those of the weights.
        kernel: f, a function of t = exp(-|s_i - s_j|).
        signed: Whether places below j count with a minus.
    """
    inside = kernel.of_tensor(ops.exp(-blocks.gaps)) * _pair_signs(blocks, signed)
    coefficients = kernel.coefficients(keras.backend.standardize_dtype(weights.dtype))[:, None]
    features = ops.concatenate([blocks.to_first, blocks.to_last], axis=2)
    below = -moments.below if signed else moments.below
    across = ops.concatenate([moments.above * coefficients, below * coefficients], axis=2)
    sums = ops.matmul(inside, _cut(weights)) + ops.einsum("bnkt,bnkc->bntc", features, across)
    return _joined(sums, blocks.length)


def sums_above(blocks: Blocks, weights: Tensor) -> tuple[Tensor, Tensor]:
    """For each place j the sums, over the places i above it in its run, of w_i and of (s_i - s_j) w_i, (B, L, C)."""
    weights = _cut(weights)
    first, last = blocks.in_run(0), blocks.in_run(-1)
    of_last = weights * last[:, :, :, None]
    distances = (blocks.scores - blocks.scores[:, :, -1:])[:, :, :, None] / blocks.temperature
    own = ops.stack([ops.sum(of_last, axis=2), ops.sum(of_last * distances, axis=2)], axis=2)

    def move(state, distance, counts):
        count, total = state[:, :, 0], state[:, :, 1]
        moved = ops.stack([count, total + distance[:, :, None] * count], axis=2)
        return moved if counts is None else moved * counts[:, :, None, None]

    carried = _carry(own, blocks, move)
    above = ops.cast(_pair_signs(blocks, signed=True) > 0, weights.dtype)
    count = ops.matmul(above, weights) + first[:, :, :, None] * carried[:, :, None, 0]
    from_first = (blocks.scores[:, :, :1] - blocks.scores)[:, :, :, None] / blocks.temperature
    across = carried[:, :, None, 1] + from_first * carried[:, :, None, 0]
    gap = ops.matmul(above * blocks.gaps, weights) + first[:, :, :, None] * across
    return _joined(count, blocks.length), _joined(gap, blocks.length)


def _pair_signs(blocks: Blocks, signed: bool) -> Tensor:
    """For the pairs (j, i) of a block: 1 where i is above j, -1 (1 unless ``signed``) below, 0 for j and other runs."""
    places = np.arange(BLOCK)
    signs = np.sign(places[:, None] - places[None, :])
    signs = ops.convert_to_tensor(signs if signed else np.abs(signs), dtype=blocks.scores.dtype)
    if blocks.runs is None:
        return signs
    return ops.where(ops.equal(blocks.runs[:, :, :, None], blocks.runs[:, :, None, :]), signs, 0.0)


def _carry(state: Tensor, blocks: Blocks, move: Callable[..., Tensor], upwards: bool = False) -> Tensor:
    """What the blocks before each block add up to, (B, n, ...), or those behind it if ``upwards``.

    Args:
        state: (B, n, ...) what each block holds, as seen from its last score (first, if ``upwards``).
        blocks: The blocks.
        move: What a state is as seen from a distance (B, n) on, where a third argument (B, n) is 1; None for all.
        upwards: Whether to carry from the end of the list to its start.
    """
    leaving, entering = (0, -1) if upwards else (-1, 0)
    own, entry = blocks.scores[:, :, leaving], blocks.scores[:, :, entering]
    runs = None if blocks.runs is None else (blocks.runs[:, :, leaving], blocks.runs[:, :, entering])
    count = ops.shape(own)[1]

    def from_afar(state, shift, to, to_runs):
        """The states of the blocks ``shift`` before, as seen from here; 0 where there is none."""
        shifted = _shifted(own, shift, upwards)
        # Where there is no such block its state is 0, whatever the distance.
        distance = ops.abs(shifted - to) / blocks.temperature
        counts = None
        if runs is not None:
            counts = ops.cast(ops.equal(_shifted(runs[0], shift, upwards), to_runs), state.dtype)
            distance = distance * counts
        return move(_shifted(state, shift, upwards), distance, counts)

    def double(shift, state):
        return 2 * shift, state + from_afar(state, shift, own, None if runs is None else runs[0])

    if isinstance(count, int):
        shift = 1
        while shift < count:
            shift, state = double(shift, state)
    else:
        _, state = ops.while_loop(lambda shift, _: shift < count, double, (ops.ones((), "int32"), state))
    return from_afar(state, 1, entry, None if runs is None else runs[1])


def _shifted(values: Tensor, shift: Any, upwards: bool) -> Tensor:
    """The values (B, n, ...) of the blocks ``shift`` before each block (behind, if ``upwards``), else 0."""
    count = ops.shape(values)[1]
    if isinstance(count, int) and isinstance(shift, int):
        shift = min(shift, count)
        kept = values[:, shift:] if upwards else values[:, : count - shift]
        padding = [[0, 0], [0, shift] if upwards else [shift, 0], *[[0, 0]] * (len(values.shape) - 2)]
        return ops.pad(kept, padding)
    index = ops.arange(count)
    source = index + shift if upwards else index - shift
    exists = ops.logical_and(source >= 0, source < count)
    exists = ops.reshape(exists, (1, -1, *[1] * (len(values.shape) - 2)))
    moved = ops.take(values, ops.clip(source, 0, count - 1), axis=1)
    return ops.where(exists, moved, ops.zeros_like(moved))


def _cut(values: Tensor, repeat_last: bool = False) -> Tensor:
    """(B, L, ...) as (B, n, T, ...), the last block filled up with zeros or with the last place."""
    batch, length, *others = ops.shape(values)
    missing = (BLOCK - length % BLOCK) % BLOCK
    if not isinstance(missing, int) or missing > 0:
        last = values[:, -1:] if repeat_last else ops.zeros_like(values[:, -1:])
        values = ops.concatenate([values, ops.broadcast_to(last, (batch, missing, *others))], axis=1)
    return ops.reshape(values, (batch, (length + missing) // BLOCK, BLOCK, *others))


def _joined(values: Tensor, length: Any) -> Tensor:
    """The reverse of ``_cut``."""
    batch, count, places, *others = ops.shape(values)
    return ops.reshape(values, (batch, count * places, *others))[:, :length]


def _powers(distances: Tensor, degree: int) -> Tensor:
    """e^{-m d} for m = 1, ..., K and distances (B, n, T), as (B, n, K, T)."""
    powers = ops.exp(-distances)[:, :, None, :]
    while powers.shape[2] < degree:
        powers = ops.concatenate([powers, powers * powers[:, :, -1:, :]], axis=2)
    return powers[:, :, :degree, :]
