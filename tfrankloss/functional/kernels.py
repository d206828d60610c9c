r"""Sums over all pairs of a list without its pairs: functions of score gaps, in time that grows with L log L.

A list in descending order of its scores is cut into blocks of ``BLOCK`` items. Pairs inside a block are taken one by
one. Between blocks, a function f of :math:`t = e^{-|s_i - s_j|}` that vanishes at 0 is a polynomial in t, whose
powers separate: :math:`t^m = e^{-m(s_i - e)} e^{-m(e - b)} e^{-m(b - s_j)}` for the last score e of the block of i
and the first score b of the block of j. Every exponent is at most 0 and every term has one sign, so nothing
overflows or cancels, however far or near the scores are. The sums of a block over its own items, its moments, are
carried to the others by ``carries``.

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

from tfrankloss.functional import carries, lists

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
        return _pair_signs(self, np.tri(self.scores.shape[2], k=-1))


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


def _moments(blocks: Blocks, weights: Tensor, gaps_above: bool) -> tuple[Tensor, Tensor | None]:
    """What the items of other blocks add up to for each block, (B, n, 2 K, C), of weights (B, n, T, C).

    The first half holds the sums over all blocks above, as seen from the first score of a block, the second half those
    over all blocks below, as seen from its last score. With ``gaps_above`` also the sums (B, n, T, C) over the places
    i of the blocks above of (s_i - s_j) w_i, for each place j.
    """
    own = ops.matmul(blocks.features, weights)
    degree = own.shape[2] // 2
    first, last = (
        carries.End((blocks.scores[:, :, end],), None if blocks.runs is None else blocks.runs[:, :, end])
        for end in (0, -1)
    )
    rates = np.arange(degree + 1) / blocks.temperature
    below = carries.carried(carries.Sums(own[:, :, :degree]), last, first, [rates[1:]], upwards=True).one
    if not gaps_above:
        above = carries.carried(carries.Sums(own[:, :, degree:]), first, last, [rates[1:]]).one
        return ops.concatenate([above, below], axis=2), None
    of_last = weights if blocks.runs is None else weights * blocks.in_run(-1)[:, :, :, None]
    counts = ops.sum(of_last, axis=2, keepdims=True)
    ways = ops.sum(of_last * (blocks.scores - blocks.scores[:, :, -1:])[:, :, :, None], axis=2, keepdims=True)
    # Items without a factor are the power 0.
    held = carries.Sums(ops.concatenate([counts, own[:, :, degree:]], axis=2), ways)
    above = carries.carried(held, first, last, [rates])
    gaps = (
        above.way + (blocks.scores[:, :, :1] - blocks.scores)[:, :, :, None] * above.one[:, :, :1]
    ) / blocks.temperature
    if blocks.runs is not None:
        gaps = gaps * blocks.in_run(0)[:, :, :, None]
    return ops.concatenate([above.one[:, :, 1:], below], axis=2), gaps


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
    moments, gaps = _moments(blocks, inside, any(term.gaps_above for term in terms))
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
    places = np.arange(blocks.scores.shape[2])
    signs = np.sign(places[:, None] - places[None, :])
    sums = []
    for number, term in enumerate(terms):
        pairs = term.kernel.of_tensor(t) * _pair_signs(blocks, signs if term.signed else np.abs(signs))
        if term.gaps_above:
            pairs = pairs + blocks.gaps * blocks.above()
        total = ops.matmul(pairs, inside) + across[:, :, :, number * channels : (number + 1) * channels]
        if term.gaps_above:
            total = total + gaps
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
    held = ops.sum(inside * blocks.in_run(leaving)[:, :, :, None], axis=2, keepdims=True)
    entry, exit_ = (carries.End((blocks.scores[:, :, end],), runs[:, :, end]) for end in (entering, leaving))
    # What is held does not fade.
    across = carries.carried(carries.Sums(held), entry, exit_, [np.zeros(1)], upwards=below).one
    pairs = np.tri(inside.shape[2], k=-1)
    pairs = pairs.T if below else pairs
    across = across * blocks.in_run(entering)[:, :, :, None]
    return joined(ops.matmul(_pair_signs(blocks, pairs), inside) + across, length)


def _pair_signs(blocks: Blocks, signs: np.ndarray) -> Tensor:
    """The signs (T, T) of the pairs (j, i) of a block, 0 for places of different runs."""
    signs = ops.convert_to_tensor(signs, dtype=blocks.scores.dtype)
    if blocks.runs is None:
        return signs
    return ops.where(ops.equal(blocks.runs[:, :, :, None], blocks.runs[:, :, None, :]), signs, 0.0)


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


def _powers(distances: Tensor, degree: int) -> Tensor:
    """e^{-m d} for m = 1, ..., K and distances (B, n, T), as (B, n, K, T)."""
    powers = ops.exp(-distances)[:, :, None, :]
    while powers.shape[2] < degree:
        powers = ops.concatenate([powers, powers * powers[:, :, -1:, :]], axis=2)
    return powers[:, :, :degree, :]
