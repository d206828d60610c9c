"""The pair engine: which two items of a list are compared, and the sum of a loss over those pairs.

A pairwise loss supplies the loss of a score gap d = s_i - s_j, where i is the better item, and its derivative.
Everything else is here, with the gradient in closed form, so that no intermediate of the (B, L, L) pairs outlives its
sum.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops

from tfrankloss import errors
from tfrankloss.functional import lists
from tfrankloss.functional.lambda_weights import PairWeight, ranked_items

Tensor = Any
GapFunction = Callable[[Tensor], Tensor]


class GapLoss(NamedTuple):
    """The loss of a pair as a function of its score gap d = s_i - s_j, where i is the better item.

    Attributes:
        value: The loss.
        gradient: Its derivative.
    """

    value: GapFunction
    gradient: GapFunction


PAIRS = ("graded", "binary")
TIES = ("skip", "half")
PAIR_REDUCTIONS = ("sum", "mean")


def check_pairs(pairs: Any, ties: Any, pair_reduction: Any) -> None:
    """Raise unless these are settings of the pair engine."""
    errors.check_choice("pairs", pairs, PAIRS)
    errors.check_choice("ties", ties, TIES)
    errors.check_choice("pair_reduction", pair_reduction, PAIR_REDUCTIONS)


def pair_weights(labels: Tensor, mask: Tensor, *, pairs: str = "graded", ties: str = "skip") -> Tensor:
    """The weight (B, L, L) of each ordered pair: 1 where i is better than j, 1/2 where they tie and ties count.

    Args:
        labels: (B, L) relevance.
        mask: (B, L) booleans, False at padding.
        pairs: "graded" compares every two labels, "binary" only labels above 0 with labels of 0.
        ties: "skip" leaves equal items out; "half" counts each unordered pair of them once, with target 1/2; "all"
            counts every pair of two items, whatever their labels.
    """
    if pairs == "binary":
        labels = ops.cast(labels > 0, labels.dtype)
    valid = ops.logical_and(mask[:, :, None], mask[:, None, :])
    better = ops.logical_and(valid, labels[:, :, None] > labels[:, None, :])
    if ties == "skip":
        return ops.cast(better, labels.dtype)
    places = ops.arange(ops.shape(labels)[1])
    two = ops.cast(ops.logical_and(valid, ops.not_equal(places[:, None], places[None, :])), labels.dtype)
    if ties == "all":
        return two
    tied = ops.cast(ops.equal(labels[:, :, None], labels[:, None, :]), labels.dtype)
    return ops.cast(better, labels.dtype) + two * tied / 2


def weighted_pairs(
    weights: Tensor, lambda_weight: PairWeight | None, labels: Tensor, scores: Tensor, mask: Tensor
) -> Tensor:
    """``weights`` (B, L, L) times the lambda weights of the pairs, if there are any."""
    if lambda_weight is None:
        return weights
    items = ranked_items(lambda_weight, labels, scores, mask)
    return weights * lambda_weight.pair_weights(items.rows(), items.columns())


def pair_losses(
    labels: Tensor,
    scores: Tensor,
    mask: Tensor | None,
    gap_loss: GapLoss,
    *,
    pairs: str,
    ties: str = "skip",
    pair_reduction: str,
    lambda_weight: PairWeight | None,
) -> Tensor:
    """The loss of each item, (B, L): ``gap_loss`` summed over the pairs in which it is the better one.

    Arguments are those of ``rank_net_loss``.
    """
    check_pairs(pairs, ties, pair_reduction)
    labels, scores, mask = lists.prepare(labels, scores, mask)
    counted = pair_weights(labels, mask, pairs=pairs, ties=ties)
    weights = weighted_pairs(counted, lambda_weight, labels, scores, mask)
    return reduce_pairs(sum_over_pairs(scores, weights, gap_loss), counted, pair_reduction)


def sum_over_pairs(scores: Tensor, weights: Tensor, gap_loss: GapLoss) -> Tensor:
    """For each item i the sum over j of weight_ij * gap_loss(s_i - s_j), (B, L).

    Args:
        scores: (B, L) scores, clean at padding.
        weights: (B, L, L) weight of each pair, which gets no gradient.
        gap_loss: The loss of a score gap.
    """
    weights = ops.stop_gradient(weights)

    @ops.custom_gradient
    def losses(scores):
        values = ops.sum(weights * gap_loss.value(scores[:, :, None] - scores[:, None, :]), axis=2)

        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            slopes = weights * gap_loss.gradient(scores[:, :, None] - scores[:, None, :]) * upstream[:, :, None]
            return ops.sum(slopes, axis=2) - ops.sum(slopes, axis=1)

        return values, gradient

    return losses(scores)


def reduce_pairs(losses: Tensor, weights: Tensor, pair_reduction: str) -> Tensor:
    """``losses`` (B, L) as they are, or divided by the number of pairs counted in their list."""
    if pair_reduction == "sum":
        return losses
    return losses / ops.maximum(ops.sum(weights, axis=(1, 2)), 1.0)[:, None]
