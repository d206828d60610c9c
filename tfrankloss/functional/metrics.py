r"""Ranking metrics: one value per list.

Every function takes ``labels``, ``scores`` (B, L), an optional boolean ``mask`` and optional item ``weights`` (B, L)
and returns (B,). Items of equal score stand in random order: the value is its expectation, in closed form (McSherry and
Najork, "Computing Information Retrieval Performance Measures Efficiently in the Presence of Tied Scores", ECIR 2008).
So it neither depends on the order of the input nor rewards a constant score. A list without a relevant item scores 0; a
list with a NaN among the scores of its items, NaN.
"""

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
        fault: (B,) 0, or NaN where the score of an item is NaN and there is no order: added to the value of the list.
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
    fault = ops.where(ops.any(ops.isnan(scores), axis=1), float("nan"), 0.0)
    return Ranking(order, sorted_mask, lists.places(scores), groups, ops.cast(fault, scores.dtype))


def ndcg(
    labels: Tensor,
    scores: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    k: int | None = None,
    gain: str | gains.Transform = "exponential",
    discount: str | gains.Transform = "log2",
) -> Tensor:
    r"""Normalized discounted cumulative gain of each list, from 0 to 1.

    The metric for graded relevance. Tied items share the mean discount of their places. Labels may be in the hundreds.

    .. math:: \sum_i g(y_i) d(r_i) [r_i \le k] / \max_{\text{order}} \sum_i g(y_i) d(r_i) [r_i \le k]

    Args:
        labels: (B, L) relevance of at least 0; negative marks padding.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        weights: (B, L) item weights, which multiply the gains; None for 1.
        k: Places that count, for the ideal order too; None for all.
        gain: "exponential" (2^y - 1), "linear" or a function of labels.
        discount: "log2" (1 / log2(1 + rank)), "reciprocal" or a function of 1-based ranks.

    Returns:
        (B,) values; 0 for a list without gain.

    Raises:
        ValueError: If the shapes differ or are not (batch, list_size), or an option has a wrong value.
        TypeError: If ``k`` is not an integer.

    Example:
        >>> from tfrankloss.functional import ndcg
        >>> print(round(float(ndcg([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])[0]), 6))
        0.586883

    Source: Jarvelin and Kekalainen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002; Burges et al. 2005.
    """
    errors.check_positive_integer("k", k, optional=True)
    gain, discount = gains.get_gain(gain), gains.get_discount(discount)
    labels, scores, mask = lists.prepare(labels, scores, mask)
    item_gains = ops.where(mask, gains.relative_gains(gain, labels), 0.0)
    if weights is not None:
        item_gains = item_gains * ops.where(mask, ops.cast(weights, scores.dtype), 0.0)
    ranking = rank(scores, mask)
    shared = lists.group_mean(lists.take(item_gains, ranking.order), ranking.groups)
    dcg = gains.dcg(shared, ranking.ranks, discount, k)
    return gains.ratio(dcg, gains.ideal_dcg(item_gains, mask, discount, k)) + ranking.fault


def precision_at_k(
    labels: Tensor, scores: Tensor, mask: Tensor | None = None, *, k: int | None = None, threshold: float = 1.0
) -> Tensor:
    """Share of relevant items among the first ``k`` places of each list.

    A list shorter than ``k`` is divided by its own length, as in TensorFlow Ranking. Tied items share their places.

    Args:
        labels: (B, L) relevance of at least 0; negative marks padding.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        k: Places that count; None for all.
        threshold: Labels of at least this are relevant.

    Returns:
        (B,) values from 0 to 1.

    Raises:
        ValueError: If the shapes differ or are not (batch, list_size), or ``k`` is less than 1.
        TypeError: If ``k`` is not an integer.

    Example:
        >>> from tfrankloss.functional import precision_at_k
        >>> print(float(precision_at_k([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]], k=2)[0]))
        0.5

    Source: Manning, Raghavan and Schuetze, "Introduction to Information Retrieval", 2008, section 8.4.
    """
    relevance, ranking = _relevance_ranking(labels, scores, mask, k, threshold)
    valid = ops.cast(ranking.mask, relevance.dtype)
    found = gains.ratio(_found(relevance, ranking, k), ops.sum(valid * gains.cutoff(ranking.ranks, k), axis=1))
    return found + ranking.fault


def recall_at_k(
    labels: Tensor, scores: Tensor, mask: Tensor | None = None, *, k: int | None = None, threshold: float = 1.0
) -> Tensor:
    """Share of a list's relevant items that stand in its first ``k`` places.

    Args:
        labels: (B, L) relevance of at least 0; negative marks padding.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        k: Places that count; None for all.
        threshold: Labels of at least this are relevant.

    Returns:
        (B,) values from 0 to 1; 0 for a list without a relevant item. Tied items share their places.

    Raises:
        ValueError: If the shapes differ or are not (batch, list_size), or ``k`` is less than 1.
        TypeError: If ``k`` is not an integer.

    Example:
        >>> from tfrankloss.functional import recall_at_k
        >>> print(float(recall_at_k([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]], k=2)[0]))
        0.5

    Source: Manning, Raghavan and Schuetze, "Introduction to Information Retrieval", 2008, section 8.3.
    """
    relevance, ranking = _relevance_ranking(labels, scores, mask, k, threshold)
    return gains.ratio(_found(relevance, ranking, k), ops.sum(relevance, axis=1)) + ranking.fault


def reciprocal_rank(
    labels: Tensor, scores: Tensor, mask: Tensor | None = None, *, k: int | None = None, threshold: float = 1.0
) -> Tensor:
    """1 / rank of the first relevant item of each list; 0 if it stands after place ``k``.

    Args:
        labels: (B, L) relevance of at least 0; negative marks padding.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        k: Places that count; None for all.
        threshold: Labels of at least this are relevant.

    Returns:
        (B,) values from 0 to 1; with ties the expectation of 1 / rank.

    Raises:
        ValueError: If the shapes differ or are not (batch, list_size), or ``k`` is less than 1.
        TypeError: If ``k`` is not an integer.

    Example:
        >>> from tfrankloss.functional import reciprocal_rank
        >>> print(float(reciprocal_rank([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])[0]))
        0.5

    Source: Voorhees, "The TREC-8 Question Answering Track Report", 1999.
    """
    relevance, ranking = _relevance_ranking(labels, scores, mask, k, threshold)
    groups = ranking.groups
    left = groups.size - (ranking.ranks - groups.first)
    here = ops.minimum(lists.group_sum(relevance, groups) / left, 1.0)
    # Probability that no place before this one holds a relevant item: a product over the places before it.
    before = ops.cumprod(1 - here, axis=1)
    before = ops.concatenate([ops.ones_like(before[:, :1]), before[:, :-1]], axis=1)
    return ops.sum(before * here / ranking.ranks * gains.cutoff(ranking.ranks, k), axis=1) + ranking.fault


def average_precision(
    labels: Tensor,
    scores: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    k: int | None = None,
    threshold: float = 1.0,
) -> Tensor:
    r"""Mean precision at the ranks of a list's relevant items.

    .. math:: \sum_i w_i [y_i \text{ relevant}] [r_i \le k] P@r_i / \sum_i w_i [y_i \text{ relevant}]

    Args:
        labels: (B, L) relevance of at least 0; negative marks padding.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        weights: (B, L) item weights of the mean; None for 1.
        k: Places that count; the divisor still holds all relevant items.
        threshold: Labels of at least this are relevant.

    Returns:
        (B,) values from 0 to 1; with ties the expectation over their order.

    Raises:
        ValueError: If the shapes differ or are not (batch, list_size), or ``k`` is less than 1.
        TypeError: If ``k`` is not an integer.

    Example:
        >>> from tfrankloss.functional import average_precision
        >>> print(round(float(average_precision([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])[0]), 6))
        0.583333

    Source: Manning, Raghavan and Schuetze, "Introduction to Information Retrieval", 2008, section 8.4.
    """
    relevance, ranking = _relevance_ranking(labels, scores, mask, k, threshold)
    groups = ranking.groups
    in_group = lists.group_sum(relevance, groups)
    offset = ranking.ranks - groups.first
    earlier = ops.cumsum(relevance, axis=1)
    above = lists.take(earlier, ops.cast(groups.first, "int32") - 1) - lists.take(
        relevance, ops.cast(groups.first, "int32") - 1
    )
    # Given a relevant item at this place of its run, the expected number of relevant ones up to here.
    beside = offset * ops.maximum(in_group - 1, 0.0) / ops.maximum(groups.size - 1, 1.0)
    precision = (above + beside + 1) / ranking.ranks * gains.cutoff(ranking.ranks, k)
    if weights is not None:
        relevance = relevance * lists.take(ops.cast(weights, relevance.dtype), ranking.order)
    mean = gains.ratio(ops.sum(relevance * lists.group_mean(precision, groups), axis=1), ops.sum(relevance, axis=1))
    return mean + ranking.fault


def _relevance_ranking(
    labels: Tensor, scores: Tensor, mask: Tensor | None, k: int | None, threshold: float
) -> tuple[Tensor, Ranking]:
    """Whether each item is relevant (1 or 0), in ranked order, and the ranking."""
    errors.check_positive_integer("k", k, optional=True)
    errors.check_number("threshold", threshold)
    labels, scores, mask = lists.prepare(labels, scores, mask)
    ranking = rank(scores, mask)
    relevant = ops.logical_and(mask, labels >= threshold)
    return lists.take(ops.cast(relevant, scores.dtype), ranking.order), ranking


def _found(relevance: Tensor, ranking: Ranking, k: int | None) -> Tensor:
    """Expected number (B,) of relevant items in the first ``k`` places."""
    within = gains.cutoff(ranking.ranks, k) * ops.ones_like(relevance)
    return ops.sum(relevance * lists.group_mean(within, ranking.groups), axis=1)
