"""What the metrics share: lists in ranked order, and sums over them."""

from typing import Any, NamedTuple

from keras import ops

from tfrankloss import errors
from tfrankloss.functional import gains, lists

Tensor = Any


class Ranking(NamedTuple):
    """Lists in the order of descending score.

    Attributes:
        order: (B, L) the indices that sort them.
        mask: (B, L) True at items; padding stands last.
        ranks: (1, L) the places 1 to L.
        groups: The runs of equal scores.
        fault: (B,) 0, or NaN where there is no order: added to the value of the list.
    """

    order: Tensor
    mask: Tensor
    ranks: Tensor
    groups: lists.TieGroups
    fault: Tensor


def rank(scores: Tensor, mask: Tensor) -> Ranking:
    """The ranking by descending score."""
    order = lists.descending_order(scores, mask)
    sorted_mask = lists.take(mask, order)
    groups = lists.tie_groups(lists.take(scores, order), sorted_mask)
    return Ranking(order, sorted_mask, lists.places(scores), groups, fault(scores))


def fault(scores: Tensor) -> Tensor:
    """NaN (B,) where the score of an item is NaN, else 0."""
    missing = ops.any(ops.isnan(scores), axis=1)
    return ops.cast(ops.where(missing, float("nan"), 0.0), scores.dtype)


def rank_relevance(
    labels: Tensor, scores: Tensor, mask: Tensor | None, k: int | None, threshold: float
) -> tuple[Tensor, Ranking]:
    """Whether each item is relevant (1 or 0), in ranked order, and the ranking."""
    errors.check_positive_integer("k", k, optional=True)
    errors.check_number("threshold", threshold)
    labels, scores, mask = lists.prepare(labels, scores, mask)
    ranking = rank(scores, mask)
    relevant = ops.logical_and(mask, labels >= threshold)
    return lists.take(ops.cast(relevant, scores.dtype), ranking.order), ranking


def above(values: Tensor, groups: lists.TieGroups) -> Tensor:
    """The sum of sorted ``values`` (B, L) or (B, L, C) over the places above each place's run, at every place of it."""
    return lists.take(ops.cumsum(values, axis=1) - values, ops.cast(groups.first, "int32") - 1)


def shared_discounts(ranking: Ranking, discount: gains.Transform, k: int | None) -> Tensor:
    """The mean discount (B, L) of the places of each place's run, where places after ``k`` have none."""
    discounts = discount(ranking.ranks) * gains.cutoff(ranking.ranks, k)
    return lists.group_mean(discounts * ops.ones_like(ranking.groups.first), ranking.groups)


def found(relevance: Tensor, ranking: Ranking, k: int | None) -> Tensor:
    """Expected sum (B,) of the sorted ``relevance`` (B, L) in the first ``k`` places."""
    return ops.sum(relevance * shared_discounts(ranking, ops.ones_like, k), axis=1)


def count_within(mask: Tensor, ranking: Ranking, k: int | None) -> Tensor:
    """The number (B,) of items in the first ``k`` places."""
    return ops.sum(ops.cast(mask, ranking.ranks.dtype) * gains.cutoff(ranking.ranks, k), axis=1)


def item_weights(weights: Tensor | None, mask: Tensor, like: Tensor) -> Tensor:
    """Weights (B, L) in the dtype of ``like`` (B, L), 0 at padding; 1 at items where there are none."""
    given = ops.ones_like(like) if weights is None else ops.cast(weights, like.dtype)
    return ops.where(mask, given, 0.0)


def ranked_weights(weights: Tensor | None, ranking: Ranking) -> Tensor:
    """Item weights (B, L) in ranked order."""
    like = ranking.groups.first
    given = None if weights is None else lists.take(ops.cast(weights, like.dtype), ranking.order)
    return item_weights(given, ranking.mask, like)
