"""Losses of score gaps that are kernels of t = exp(-|gap|): polynomials in t between blocks of sorted lists."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfrankloss.functional import carries, gap_sums, kernels, lists
from tfrankloss.functional.bernstein import Bernstein
from tfrankloss.functional.lambda_weights import RankTerm

Tensor = Any


# The degree of polynomials that are the kernels to the last digits of float64.
IN_FLOAT64 = 20


class GapKernels(NamedTuple):
    """The loss of a gap d = s_i - s_j of a better item i and another one j, by kernels of t = exp(-|d|).

    Attributes:
        value: f, the loss where the better item is above.
        slope: g, minus the derivative there.
        grows: What the loss is where the better item is below: |d| + f with the derivative g - 1, or, if False, 1 - f
            with the derivative -g.
        rates: Powers of t that make both kernels between blocks where ranks have a factor of their distance, which
            itself is no more precise than these.
        degree: Of the polynomials that are both kernels in float32 elsewhere, to some 1e-7 of themselves.
        short: As in ``gap_sums.GapForm``.
    """

    value: kernels.Kernel
    slope: kernels.Kernel
    grows: bool
    rates: tuple[float, ...]
    degree: int
    short: int = 96

    def inside(self, blocks: gap_sums.Blocks, gaps: Tensor, is_above: Tensor) -> tuple[Tensor, Tensor]:
        """As in ``gap_sums.GapForm``."""
        t = ops.exp(-ops.abs(gaps))
        values, slopes = self.value.of_tensor(t), self.slope.of_tensor(t)
        sign = 1 - 2 * is_above
        if self.grows:
            return values + ops.relu(gaps), is_above + sign * slopes
        return is_above + sign * values, slopes

    def across(
        self, blocks: gap_sums.Blocks, channels: Tensor, terms: Sequence[RankTerm], wanted: Sequence[str]
    ) -> list[Tensor]:
        """As in ``gap_sums.GapForm``."""
        of_terms = (self._of_term(blocks, channels, term, wanted) for term in terms)
        return [sum(sums) for sums in zip(*of_terms, strict=True)]

    def _of_term(
        self, blocks: gap_sums.Blocks, channels: Tensor, term: RankTerm, wanted: Sequence[str]
    ) -> list[Tensor]:
        """``across`` for one term of the factor of ranks."""
        dtype = keras.backend.standardize_dtype(channels.dtype)
        with_ranks = term.discount is not None
        polynomial = Bernstein(self.degree if dtype == "float32" else IN_FLOAT64, blocks.temperature)
        powers = np.array(self.rates) / blocks.temperature if with_ranks else polynomial
        parts, counted = (
            gap_sums.separated(blocks, term, of_t, with_ranks, touching=True) for of_t in (powers, np.zeros(1))
        )
        above = parts.above(carries.Sums(gap_sums.moments(channels, parts.from_last)))
        below = parts.below(carries.Sums(gap_sums.moments(channels, parts.from_first)))

        def pairs(kernel):
            """By which sums of features make, of features of a place, a kernel between both."""
            if not with_ranks:
                return polynomial.of_kernel(kernel.of_array).astype(dtype)
            return np.outer(kernel.coefficients(self.rates), parts.weights).reshape(-1).astype(dtype)

        value, slope = pairs(self.value), pairs(self.slope)
        # The slope of a loss that grows is g above the better item and 1 - g below it, and one that does not is 1 - f
        # above it; the ones are counted apart.
        with_value, with_slope = "value" in wanted, set(wanted) != {"value"}
        of_above = with_value * [value if self.grows else -value] + with_slope * [slope]
        of_below = with_value * [value] + with_slope * [-slope if self.grows else slope]
        total = _seen(parts.from_first, above.one, of_above) + _seen(parts.from_last, below.one, of_below)
        names = with_value * ["value"] + with_slope * ["slope"]
        found = dict(zip(names, ops.split(total, len(names), axis=2), strict=True))
        if not self.grows:
            if with_value:
                found["value"] = gap_sums.counts_above(channels, counted) + found["value"]
            return [found["value" if name == "value" else "slope"] for name in wanted]
        gap, upper = gap_sums.gaps_across(blocks, channels, counted)
        if with_value:
            found["value"] = found["value"] + gap
        if with_slope:
            lower = gap_sums.counts_below(channels, counted)
            found |= {"as_better": upper - found["slope"], "as_worse": lower + found["slope"]}
        return [found[name] for name in wanted]


# Rates that a random search found: 4e-5 of either kernel, and 2.3e-4.
LOGISTIC = GapKernels(kernels.SOFTPLUS, kernels.SIGMOID, grows=True, rates=(1, 2.0147, 2.9077, 3.213, 5.8528), degree=9)
SOFT_ZERO_ONE = GapKernels(
    kernels.SIGMOID, kernels.SIGMOID_SLOPE, grows=False, rates=(1, 2.0447, 2.8295, 3.0715, 4.3767), degree=11
)


def _seen(features: Tensor, moments: Tensor, pairs: Sequence[np.ndarray]) -> Tensor:
    """What moments (B, n, C, F) add up to at places, by each of R matrices (F, F) or diagonals (F,): (B, n, R C, T)."""
    if pairs[0].ndim == 1:
        paired = [moments * of_both for of_both in pairs]
    else:
        # One product for all: these are small.
        both = ops.convert_to_tensor(np.concatenate(pairs, axis=1), dtype=moments.dtype)
        paired = ops.split(lists.product(moments, both), len(pairs), axis=3)
    return lists.product(ops.concatenate(paired, axis=2), features)
