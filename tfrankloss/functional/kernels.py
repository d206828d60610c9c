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
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfrankloss.functional import lists

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

    def coefficients(self, dtype: str, degree: int | None = None) -> np.ndarray:
        """a_1, ..., a_K of the polynomial a_1 t + ... + a_K t^K that is the function; None for a K that is exact."""
        return _coefficients(self, dtype, degree or DEGREES[dtype])


@functools.cache
def _coefficients(kernel: Kernel, dtype: str, degree: int) -> np.ndarray:
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
        gaps: (B, n, T, T) sizes of the gaps inside a block; None where no kernel is summed.
        features: (B, n, 2 K, T) e^{-m (b - s)} for m = 1, ..., K and the first score b of a block, 0 outside its first
            run; then e^{-m (s - e)} for its last score e, 0 outside its last run. None where no kernel is summed.
        length: The length of the lists before the last block was filled up.
        temperature: What gaps of scores have been divided by.
    """

    scores: Tensor
    runs: Tensor | None
    gaps: Tensor
    features: Tensor
    length: Any
    temperature: float

    def in_run(self, place: int) -> Tensor:
        """1 where a place (B, n, T) is in the run of the first (0) or last (-1) place of its block."""
        runs: Tensor = self.runs
        return ops.cast(ops.equal(runs, runs[:, :, place][:, :, None]), self.scores.dtype)

    def above(self) -> Tensor:
        """For the places (j, i) of a block: 1 where i is above j, 0 elsewhere and for other runs."""
        return _pair_signs(self, np.tri(BLOCK, k=-1))


def blocks_of(scores: Tensor, runs: Tensor | None = None, temperature: float = 1.0) -> Blocks:
    """Blocks of lists (B, L) in descending order within each run; padding stands last and has a finite score.

    The temperature divides gaps and not scores, which may be large beside them and lose their digits.
    """
    length = ops.shape(scores)[1]
    scores = cut(scores, repeat_last=True)
    degree = DEGREES[keras.backend.standardize_dtype(scores.dtype)]
    gaps = ops.abs(scores[:, :, :, None] - scores[:, :, None, :]) / temperature
    distances = scores[:, :, :1] - scores, scores - scores[:, :, -1:]
    if runs is None:
        blocks = Blocks(scores, None, gaps, gaps, length, temperature)
        features = [_powers(distance / temperature, degree) for distance in distances]
    else:
        blocks = Blocks(scores, cut(runs, repeat_last=True), gaps, gaps, length, temperature)
        # Gaps between runs mean nothing and may have any sign: they count as 0, and are left out afterwards.
        counted = blocks.in_run(0), blocks.in_run(-1)
        features = [
            _powers(distance * count / temperature, degree) * count[:, :, None, :]
            for distance, count in zip(distances, counted, strict=True)
        ]
    return blocks._replace(features=ops.concatenate(features, axis=2))


def _moments(blocks: Blocks, weights: Tensor) -> Tensor:
    """What the items of other blocks add up to for each block, (B, n, 2 K, C), of weights (B, n, T, C).

    The first half holds the sums over all blocks above, as seen from the first score of a block, the second half those
    over all blocks below, as seen from its last score.
    """
    own = ops.matmul(blocks.features, weights)
    degree = own.shape[2] // 2
    steps = ops.cast(ops.arange(1, degree + 1), weights.dtype)

    def fade(state, distance, counts):
        factors = ops.exp(-distance[:, :, None] * steps)
        return state * (factors if counts is None else factors * counts[:, :, None])[:, :, :, None]

    above = _carry(own[:, :, degree:], blocks, fade)
    below = _carry(own[:, :, :degree], blocks, fade, upwards=True)
    return ops.concatenate([above, below], axis=2)


class Term(NamedTuple):
    """A sum to take over the other places i of a place's run.

    Attributes:
        kernel: f, the function of t = exp(-|s_i - s_j|) to be summed.
        signed: Whether places below count with a minus.
        gaps_above: Whether the sizes of the gaps to the places above are added.
    """

    kernel: Kernel
    signed: bool = False
    gaps_above: bool = False


def kernel_sums(blocks: Blocks, weights: Tensor, terms: Sequence[Term]) -> list[Tensor]:
    """For each term and each place j the sum over the other places i of its run of f(t_ij) w_i, (B, L, C).

    Args:
        blocks: The lists.
        weights: (B, L, C) weights w, 0 at padding.
        terms: The sums to take.
    """
    inside = cut(weights)
    moments = _moments(blocks, inside)
    degree = moments.shape[2] // 2
    dtype = keras.backend.standardize_dtype(weights.dtype)
    halves = np.repeat([1, -1], degree)[:, None].astype(dtype)
    across = [
        moments * (np.tile(term.kernel.coefficients(dtype), 2)[:, None] * (halves if term.signed else 1))
        for term in terms
    ]
    channels = weights.shape[2]
    across = ops.einsum("bnkt,bnkc->bntc", blocks.features, ops.concatenate(across, axis=3))
    t = ops.exp(-blocks.gaps)
    places = np.arange(BLOCK)
    signs = np.sign(places[:, None] - places[None, :])
    sums = []
    for number, term in enumerate(terms):
        pairs = term.kernel.of_tensor(t) * _pair_signs(blocks, signs if term.signed else np.abs(signs))
        if term.gaps_above:
            pairs = pairs + blocks.gaps * blocks.above()
        total = ops.matmul(pairs, inside) + across[:, :, :, number * channels : (number + 1) * channels]
        if term.gaps_above:
            total = total + _gaps_across(blocks, inside)
        sums.append(joined(total, blocks.length))
    return sums


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
    blocks = Blocks(ops.cast(runs, weights.dtype), runs, None, None, length, 1.0)
    leaving, entering = (0, -1) if below else (-1, 0)
    own = ops.sum(inside * blocks.in_run(leaving)[:, :, :, None], axis=2)
    carried = _carry(own, blocks, lambda state, _, counts: state * counts[:, :, None], upwards=below)
    across = carried[:, :, None] * blocks.in_run(entering)[:, :, :, None]
    pairs = np.tri(BLOCK, k=-1).T if below else np.tri(BLOCK, k=-1)
    return joined(ops.matmul(_pair_signs(blocks, pairs), inside) + across, length)


def _gaps_across(blocks: Blocks, weights: Tensor) -> Tensor:
    """For each place j the sum over the places i of its run in the blocks above of (s_i - s_j) w_i, (B, n, T, C)."""
    distances = (blocks.scores - blocks.scores[:, :, -1:])[:, :, :, None] / blocks.temperature
    of_last = weights if blocks.runs is None else weights * blocks.in_run(-1)[:, :, :, None]
    own = ops.stack([ops.sum(of_last, axis=2), ops.sum(of_last * distances, axis=2)], axis=2)

    def move(state, distance, counts):
        count, total = state[:, :, 0], state[:, :, 1]
        moved = ops.stack([count, total + distance[:, :, None] * count], axis=2)
        return moved if counts is None else moved * counts[:, :, None, None]

    carried = _carry(own, blocks, move)
    from_first = (blocks.scores[:, :, :1] - blocks.scores)[:, :, :, None] / blocks.temperature
    across = carried[:, :, None, 1] + from_first * carried[:, :, None, 0]
    return across if blocks.runs is None else across * blocks.in_run(0)[:, :, :, None]


def _pair_signs(blocks: Blocks, signs: np.ndarray) -> Tensor:
    """The signs (T, T) of the pairs (j, i) of a block, 0 for places of different runs."""
    signs = ops.convert_to_tensor(signs, dtype=blocks.scores.dtype)
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


def cut(values: Tensor, repeat_last: bool = False) -> Tensor:
    """(B, L, ...) as (B, n, T, ...), the last block filled up with zeros or with the last place."""
    batch, length, *others = ops.shape(values)
    missing = (BLOCK - length % BLOCK) % BLOCK
    if not isinstance(missing, int) or missing > 0:
        last = values[:, -1:] if repeat_last else ops.zeros_like(values[:, -1:])
        values = ops.concatenate([values, ops.broadcast_to(last, (batch, missing, *others))], axis=1)
    return ops.reshape(values, (batch, (length + missing) // BLOCK, BLOCK, *others))


def joined(values: Tensor, length: Any) -> Tensor:
    """The reverse of ``cut``."""
    batch, count, places, *others = ops.shape(values)
    return ops.reshape(values, (batch, count * places, *others))[:, :length]


def _powers(distances: Tensor, degree: int) -> Tensor:
    """e^{-m d} for m = 1, ..., K and distances (B, n, T), as (B, n, K, T)."""
    powers = ops.exp(-distances)[:, :, None, :]
    while powers.shape[2] < degree:
        powers = ops.concatenate([powers, powers * powers[:, :, -1:, :]], axis=2)
    return powers[:, :, :degree, :]
