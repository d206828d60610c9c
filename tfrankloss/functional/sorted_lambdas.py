"""Losses of score gaps weighed by a lambda weight, by sorted scores, without the pairs.

The weight of a pair is the difference of two gains, one more channel of ``gap_sums``, times a factor of two ranks.
"""

from collections.abc import Sequence
from typing import Any

from keras import ops

from tfrankloss.functional import branches, gap_sums, lists, sorted_pairs
from tfrankloss.functional.lambda_weights import RankTerm

Tensor = Any


def losses_and_slopes(
    labels: Tensor,
    scores: Tensor,
    mask: Tensor,
    item_gains: Tensor,
    ranking: tuple[Tensor, Tensor],
    terms: Sequence[RankTerm],
    gaps: gap_sums.GapForm,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """For each item the loss of the pairs in which it is better, and the slope of all losses in its score, (B, L).

    Args:
        labels: (B, L) labels that tell which item is better, clean at padding.
        scores: (B, L) scores, clean at padding.
        mask: (B, L) booleans, False at padding.
        item_gains: (B, L) gains, which rise with the labels.
        ranking: Indices (B, L) that sort the lists by rank, and the ranks (B, L) in that order.
        terms: What the factor of ranks is the sum of.
        gaps: The loss of a gap.
        weights: (B, L) what the loss of each better item weighs in the slopes; None for 1.
    """
    order, ranks = ranking
    places, count = lists.places(ranks), ops.sum(ops.cast(mask, ranks.dtype), axis=1, keepdims=True)
    no_ties = ops.all(ops.logical_or(ops.equal(ranks, places), places > count))

    grade_gains, one_each = _gains_of_grades(labels, mask, item_gains)

    def of_digit(digit, of_digits=None):
        own_ranks = ranks if digit.prefixes is None else lists.take(ranks, digit.orders[1])
        return sorted_pairs.losses_and_slopes_by_blocks(
            digit,
            gaps,
            terms,
            ranking=(own_ranks, no_ties),
            item_gains=digit.sort(item_gains),
            of_digits=of_digits,
            weights=None if weights is None else digit.sort(weights),
        )

    def of_grades():
        return sorted_pairs.of_only_digit(labels, scores, mask, lambda digit: of_digit(digit, grade_gains), order)

    def of_all_labels():
        return sorted_pairs.sum_over_digits(labels, scores, mask, of_digit, 2, order)

    if weights is not None:
        return of_all_labels()
    return ops.cond(ops.logical_and(lists.are_grades(labels), one_each), of_grades, branches.lazily(of_all_labels))


def _gains_of_grades(labels: Tensor, mask: Tensor, item_gains: Tensor) -> tuple[Tensor, Tensor]:
    """The gain (B, BASE) of each grade, 0 where a list has none, and whether every item of a grade has the same.

    They may differ where labels only tell relevant items from others.
    """
    grades = ops.where(mask, ops.cast(labels, "int32"), -1)
    own = ops.equal(grades[:, None, :], ops.arange(sorted_pairs.BASE)[None, :, None])
    infinite = float("inf")
    highest = ops.max(ops.where(own, item_gains[:, None, :], -infinite), axis=2, initial=-infinite)
    lowest = ops.min(ops.where(own, item_gains[:, None, :], infinite), axis=2, initial=infinite)
    return ops.where(highest >= lowest, highest, 0.0), ops.all(highest <= lowest)
