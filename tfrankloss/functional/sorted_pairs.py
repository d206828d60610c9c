"""Sums over pairs of items by sorted scores, without the pairs: losses of gaps for any labels, and smooth ranks.

The distinct labels of a list are numbered, and two numbers first differ at one of their digits to the base ``BASE``.
So the pairs of different labels are, digit by digit, the pairs of one prefix and different digits: kernel sums with
one channel per digit, over lists cut into runs of equal prefix. Labels of a few grades need one such pass, and L
different labels log L of them.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from keras import ops

from tfrankloss.functional import branches, gap_kernels, gap_sums, gradients, kernels, lists
from tfrankloss.functional.lambda_weights import RankTerm

Tensor = Any

# Grades are one digit.
BASE = lists.GRADES


class Digit(NamedTuple):
    """Lists sorted by prefix and descending score, as one digit sees them.

    Attributes:
        scores: (B, L) sorted scores.
        prefixes: (B, L) what the digits before this one are, ascending; None where they are the same in all the list.
        orders: Indices (B, L) that sort the lists, one after the other.
        digits: (B, L) the digit of each item, -1 at padding.
    """

    scores: Tensor
    prefixes: Tensor | None
    orders: tuple[Tensor, ...]
    digits: Tensor

    def sort(self, values: Tensor) -> Tensor:
        """Values (B, L) in the order of the sorted scores."""
        for order in self.orders:
            values = lists.take(values, order)
        return values

    def classes(self) -> tuple[Tensor, Tensor, Tensor]:
        """(B, L, BASE) three times: 1 at the digit of each item, at those below it, at those above it, 0 at padding."""
        own = ops.one_hot(self.digits, BASE, dtype=self.scores.dtype)
        below = np.tri(BASE, k=-1)
        worse, better = (lists.product(own, ops.convert_to_tensor(pairs, own.dtype)) for pairs in (below, below.T))
        return own, worse, better


class Runs:
    """Sums over the places of a list that have the same prefix.

    Args:
        digit: The sorted lists.
    """

    def __init__(self, digit: Digit):
        self._prefixes, self._groups = digit.prefixes, None
        if digit.prefixes is not None:
            self._groups = lists.tie_groups(digit.prefixes, ops.ones_like(digit.prefixes, dtype="bool"))

    def above(self, weights: Tensor) -> Tensor:
        """The sum of ``weights`` (B, L, C) over the places above each one; exact for counts."""
        if self._groups is None:
            return kernels.sums_above(None, weights)
        sums = ops.cumsum(weights, axis=1) - weights
        return sums - lists.take(sums, ops.cast(self._groups.first, "int32") - 1)

    def from_here(self, weights: Tensor) -> Tensor:
        """The sum of ``weights`` (B, L, C) over each place and those below it, with nothing subtracted."""
        return kernels.sums_above(self._prefixes, weights, below=True) + weights

    def gaps_above(self, scores: Tensor, counts: Tensor) -> Tensor:
        """The sum (B, L, C) of the score gaps to the places above each one, of which there are ``counts`` (B, L, C).

        From place to place it grows by one gap for each of them, so that small gaps keep their digits.
        """
        steps = ops.concatenate([ops.zeros_like(scores[:, :1]), scores[:, :-1] - scores[:, 1:]], axis=1)
        # Where a run begins there is none above.
        grown = steps[:, :, None] * counts
        return kernels.sums_above(self._prefixes, grown) + grown

    def last(self, like: Tensor) -> Tensor:
        """The index of the last place of the run of each place, in a shape that broadcasts to ``like`` (B, L)."""
        if self._groups is None:
            return ops.shape(like)[1] - 1
        return ops.cast(self._groups.first + self._groups.size, "int32") - 2

    def total(self, weights: Tensor) -> Tensor:
        """The sum of ``weights`` (B, L, C) over all places, in a shape that broadcasts to theirs."""
        return (
            ops.sum(weights, axis=1, keepdims=True) if self._groups is None else lists.group_sum(weights, self._groups)
        )


def sum_over_digits(
    labels: Tensor,
    scores: Tensor,
    mask: Tensor,
    of_digit: Callable[[Digit], tuple[Tensor, ...]],
    columns: int,
    order: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """The sums over the digits of the labels of ``of_digit``, which gives C tensors (B, L) in sorted order.

    Args:
        labels: (B, L) labels, clean at padding.
        scores: (B, L) scores, clean at padding.
        mask: (B, L) booleans, False at padding.
        of_digit: What the pairs add that differ first at a digit.
        columns: C.
        order: Indices (B, L) that sort the lists by descending score, padding last; None for any such order.

    Returns:
        C tensors (B, L) in the order of the input.
    """
    grades = ops.where(mask, _grades(labels), -1)
    by_score = lists.descending_order(scores, mask) if order is None else order
    both = lists.take(ops.stack([_filled(scores, mask), ops.cast(grades, scores.dtype)], axis=2), by_score)
    scores, grades = both[:, :, 0], ops.cast(both[:, :, 1], "int32")
    top = ops.max(grades, initial=0)
    unit = ops.while_loop(lambda unit: unit * BASE <= top, lambda unit: unit * BASE, ops.ones((), "int32"))

    def next_digit(unit, *totals):
        # Padding has a run of its own, behind all others.
        prefixes = ops.where(grades >= 0, ops.floor_divide(grades, unit * BASE), top + 1)
        order = ops.argsort(prefixes, axis=1)
        sorted_scores, sorted_grades, prefixes = (lists.take(values, order) for values in (scores, grades, prefixes))
        digits = ops.where(sorted_grades >= 0, ops.floor_divide(sorted_grades, unit) % BASE, -1)
        sums = of_digit(Digit(sorted_scores, prefixes, (by_score, order), digits))
        return unit // BASE, *(total + each for total, each in zip(totals, _put_back(sums, order), strict=True))

    nothing = (ops.zeros_like(scores),) * columns
    _, *totals = ops.while_loop(lambda unit, *_: unit > 0, next_digit, (unit, *nothing))
    return _put_back(totals, by_score)


def sum_over_labels(
    labels: Tensor, scores: Tensor, mask: Tensor, of_digit: Callable[[Digit], tuple[Tensor, ...]], columns: int
) -> tuple[Tensor, ...]:
    """``sum_over_digits``, without its sorts by prefix where the labels are grades."""
    order = lists.descending_order(scores, mask)
    return ops.cond(
        lists.are_grades(labels),
        lambda: of_only_digit(labels, scores, mask, of_digit, order),
        branches.lazily(lambda: sum_over_digits(labels, scores, mask, of_digit, columns, order)),
    )


def of_only_digit(
    labels: Tensor, scores: Tensor, mask: Tensor, of_digit: Callable[[Digit], tuple[Tensor, ...]], order: Tensor
) -> tuple[Tensor, ...]:
    """``sum_over_digits`` of labels that are grades, whole numbers below ``BASE``, sorted by ``order``."""
    sorted_grades = lists.take(ops.where(mask, labels, -1.0), order)
    digit = Digit(lists.take(_filled(scores, mask), order), None, (order,), ops.cast(sorted_grades, "int32"))
    return _put_back(of_digit(digit), order)


def _put_back(columns: Sequence[Tensor], order: Tensor) -> tuple[Tensor, ...]:
    # One by one: TensorFlow moves numbers in a tenth of the time that rows of two take.
    return tuple(lists.put_back(column, order) for column in columns)


def _filled(scores: Tensor, mask: Tensor) -> Tensor:
    """Scores with the lowest of their list at padding."""
    lowest = ops.min(ops.where(mask, scores, lists.LARGEST_SCORE), axis=1, keepdims=True, initial=lists.LARGEST_SCORE)
    return ops.where(mask, scores, lowest)


def _grades(labels: Tensor) -> Tensor:
    """The places (B, L) of labels among the distinct ones of their list, ascending from 0."""
    order = ops.argsort(labels, axis=1)
    ordered = lists.take(labels, order)
    steps = ops.cast(ops.not_equal(ordered[:, 1:], ordered[:, :-1]), "int32")
    numbers = ops.concatenate([ops.zeros_like(order[:, :1], dtype="int32"), ops.cumsum(steps, axis=1)], axis=1)
    return lists.put_back(numbers, order)


class SortedForm(Protocol):
    """The loss of a score gap, summed over sorted scores, one digit of the labels at a time.

    Pairs are those of one prefix of which one item has a higher digit: that one is the better.
    """

    @property
    def gaps(self) -> gap_sums.GapForm:
        """The loss of a gap for sums by blocks, in which pairs may have weights."""

    def losses_and_slopes(self, digit: Digit) -> tuple[Tensor, Tensor]:
        """For each place the loss of the pairs in which it is better, and the slope of all losses, (B, L) each."""

    def weighed_slopes(self, digit: Digit, weights: Tensor) -> Tensor:
        """The slope (B, L) of all losses, where those of better places are weighed by ``weights`` (B, L)."""


def losses_and_slopes_by_blocks(
    digit: Digit,
    gaps: gap_sums.GapForm,
    terms: Sequence[RankTerm] = gap_sums.ALL_ALIKE,
    ranking: tuple[Tensor | None, Tensor | None] = (None, None),
    item_gains: Tensor | None = None,
    of_digits: Tensor | None = None,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """As in ``SortedForm``, with weights of pairs.

    Args:
        digit: The sorted lists.
        gaps: The loss of a gap.
        terms: What the factor of ranks is the sum of.
        ranking: The ranks (B, L) in sorted order, and whether they are places; None where they do not matter.
        item_gains: As for ``gap_sums.Channels``.
        of_digits: As there.
        weights: As there.
    """
    blocks = gap_sums.blocks_of(digit.scores, digit.prefixes, *ranking)
    channels = gap_sums.Channels(digit.digits, digit.scores.dtype, item_gains, of_digits, weights)
    value, as_better, as_worse = gap_sums.sums(blocks, channels.values, gaps, terms)
    losses, slopes = channels.losses(value), channels.slopes(as_better, as_worse)
    return kernels.joined(losses, blocks.length), kernels.joined(slopes, blocks.length)


class KernelForm(NamedTuple):
    """The loss of a gap that is made of kernels: a ``SortedForm``."""

    gaps: gap_kernels.GapKernels

    def losses_and_slopes(self, digit: Digit) -> tuple[Tensor, Tensor]:
        """As in ``SortedForm``."""
        return losses_and_slopes_by_blocks(digit, self.gaps)

    def weighed_slopes(self, digit: Digit, weights: Tensor) -> Tensor:
        """As in ``SortedForm``."""
        blocks = gap_sums.blocks_of(digit.scores, digit.prefixes)
        channels = gap_sums.Channels(digit.digits, digit.scores.dtype, weights=weights)
        slopes = channels.slopes(*gap_sums.sums(blocks, channels.values, self.gaps, wanted=("as_better", "as_worse")))
        return kernels.joined(slopes, blocks.length)


LOGISTIC = KernelForm(gap_kernels.LOGISTIC)
SOFT_ZERO_ONE = KernelForm(gap_kernels.SOFT_ZERO_ONE)


def losses_and_slopes(labels: Tensor, scores: Tensor, mask: Tensor, form: SortedForm) -> tuple[Tensor, Tensor]:
    """For each item the loss of the pairs in which it is better, and the slope of all losses in its score, (B, L).

    Args:
        labels: (B, L) labels, clean at padding.
        scores: (B, L) scores, clean at padding.
        mask: (B, L) booleans, False at padding.
        form: The loss of a gap.
    """
    losses, slopes = sum_over_labels(labels, scores, mask, form.losses_and_slopes, 2)
    return losses, slopes


def weighed_slopes(labels: Tensor, scores: Tensor, mask: Tensor, form: SortedForm, weights: Tensor) -> Tensor:
    """The slope (B, L), in the score of each item, of the losses of all items weighed by ``weights`` (B, L)."""
    weights = ops.where(mask, weights, 0.0)

    def of_digit(digit):
        return (form.weighed_slopes(digit, digit.sort(weights)),)

    # This is asked for in rare cases and keeps to the one way that all labels can go.
    (slopes,) = sum_over_digits(labels, scores, mask, of_digit, 1)
    return slopes


def smooth_ranks(scores: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """1/2 plus the sum of sigmoid((s_j - s_i) / T) over all items j, for each item i, (B, L); 1 at padding."""
    order = ops.stop_gradient(lists.descending_order(scores, mask))
    sorted_mask = lists.take(mask, order)
    items = ops.cast(sorted_mask, scores.dtype)

    @gradients.custom_gradient
    def ranks(scores):
        blocks = gap_sums.blocks_of(lists.take(_filled(scores, mask), order), temperature=temperature)

        def summed(channels, wanted):
            """The sums (B, L) of each channel (B, L)."""
            channels = ops.stack([kernels.cut(channel) for channel in channels], axis=2)
            (total,) = gap_sums.sums(blocks, channels, gap_kernels.SOFT_ZERO_ONE, wanted=[wanted])
            return [kernels.joined(total[:, :, channel], blocks.length) for channel in range(channels.shape[2])]

        (passed,) = summed([items], "value")

        def gradient(*args, upstream=None):
            upstream = items * lists.take(args[0] if upstream is None else upstream, order)
            slopes, weighed = summed([items, upstream], "as_better")
            return lists.put_back((weighed * items - upstream * slopes) / temperature, order)

        # Half an item is what each one passes of itself.
        return lists.put_back(1 + items * (passed - 0.5), order), gradient

    return ranks(scores)
