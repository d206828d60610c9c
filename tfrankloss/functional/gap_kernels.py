"""Losses of score gaps that are kernels of t = exp(-|gap|): polynomials in t between blocks of sorted lists."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfrankloss.functional import carries, gap_sums, kernels, lists
from tfrankloss.functional.lambda_weights import RankTerm

Tensor = Any


class GapKernels(NamedTuple):
    """The loss of a gap d = s_i - s_j of a better item i and another one j, by kernels of t = exp(-|d|).

    Attributes:
        value: f, the loss where the better item is above.
        slope: g, minus the derivative there.
        grows: What the loss is where the better item is below: |d| + f with the derivative g - 1, or, if False, 1 - f
            with the derivative -g.
        rates: Powers of t that make both kernels between blocks where ranks have a factor of their distance, which
            itself is no more precise than these.
        short: As in ``gap_sums.GapForm``.
    """

    value: kernels.Kernel
    slope: kernels.Kernel
    grows: bool
    rates: tuple[float, ...]
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
        few = self.rates if term.discount is not None else None
        powers = np.array([0, *(few or range(1, kernels.DEGREES[dtype] + 1))]) / blocks.temperature
        parts = gap_sums.separated(blocks, term, powers, with_ranks=term.discount is not None)
        held_above = carries.Sums(gap_sums.moments(channels, parts.from_last))
        held_below = carries.Sums(gap_sums.moments(channels, parts.from_first))
        above = carries.carried(held_above, parts.first, parts.last, parts.rates)
        below = carries.carried(held_below, parts.last, parts.first, parts.rates, upwards=True)

        one, value, slope = (
            np.outer(coefficients, parts.weights).reshape(-1).astype(dtype)
            for coefficients in (
                [1, *np.zeros(len(powers) - 1)],
                [0, *self.value.coefficients(dtype, few)],
                [0, *self.slope.coefficients(dtype, few)],
            )
        )
        # The slope of a loss that grows is g above the better item and 1 - g below it; the ones are counted apart.
        with_value, with_slope = "value" in wanted, set(wanted) != {"value"}
        of_above = with_value * [value if self.grows else one - value] + with_slope * [slope]
        of_below = with_value * [value] + with_slope * [-slope if self.grows else slope]
        total = _seen(parts.from_first, above.one, of_above) + _seen(parts.from_last, below.one, of_below)
        names = with_value * ["value"] + with_slope * ["slope"]
        found = dict(zip(names, ops.split(total, len(names), axis=2), strict=True))
        if not self.grows:
            return [found["value" if name == "value" else "slope"] for name in wanted]
        terms = len(parts.weights)
        counted = parts.of_power_zero()
        gap, upper = gap_sums.gaps_across(blocks, channels, counted)
        if with_value:
            found["value"] = found["value"] + gap
        if with_slope:
            lower = lists.product(below.one[:, :, :, :terms] * one[:terms], counted.from_last)
            found |= {"as_better": upper - found["slope"], "as_worse": lower + found["slope"]}
        return [found[name] for name in wanted]


# Rates that a random search found: 4e-5 of either kernel, and 2.3e-4.
LOGISTIC = GapKernels(kernels.SOFTPLUS, kernels.SIGMOID, grows=True, rates=(1, 2.0147, 2.9077, 3.213, 5.8528))
SOFT_ZERO_ONE = GapKernels(
    kernels.SIGMOID, kernels.SIGMOID_SLOPE, grows=False, rates=(1, 2.0447, 2.8295, 3.0715, 4.3767)
)


def _seen(features: Tensor, moments: Tensor, coefficients: Sequence[np.ndarray]) -> Tensor:
    """What moments (B, n, C, F), times each of R coefficients (F,), add up to at places: (B, n, R C, T)."""
    batch, blocks, channels, count = ops.shape(moments)
    moments = moments[:, :, None] * np.stack(coefficients)[:, None, :]
    return lists.product(ops.reshape(moments, (batch, blocks, len(coefficients) * channels, count)), features)
