"""Metrics of graded relevance: discounted gain, and where the labels stand."""

from typing import Any

from keras import ops

from tfrankloss import errors
from tfrankloss.functional import gains, lists
from tfrankloss.functional.metrics.ranking import Ranking, item_weights, rank, shared_discounts

Tensor = Any


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
    item_gains = ops.where(mask, gains.relative_gains(gain, labels), 0.0) * item_weights(weights, mask, scores)
    ranking = rank(scores, mask)
    rising = gains.rising(gain, labels) if weights is None else None
    ideal = gains.ideal_dcg(item_gains, mask, discount, k, rising)
    return lists.ratio(_gain_found(item_gains, ranking, discount, k), ideal) + ranking.fault


def dcg(
    labels: Tensor,
    scores: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    k: int | None = None,
    gain: str | gains.Transform = "exponential",
    discount: str | gains.Transform = "log2",
) -> Tensor:
    r"""Discounted cumulative gain of each list.

    For lists whose gains are an amount of their own, as revenue is: lists with more to gain count more than in NDCG.
    Tied items share the mean discount of their places. Item weights multiply the gains, and their mean over the gains
    divides the sum: it is the weight of the list among others, not part of its value.

    .. math:: \sum_i w_i g(y_i) d(r_i) [r_i \le k] / \bar w, \quad \bar w = \sum_i w_i g(y_i) / \sum_i g(y_i)

    Args:
        labels: (B, L) relevance of at least 0; negative marks padding.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        weights: (B, L) item weights; None for 1.
        k: Places that count; None for all.
        gain: "exponential" (2^y - 1), "linear" or a function of labels.
        discount: "log2" (1 / log2(1 + rank)), "reciprocal" or a function of 1-based ranks.

    Returns:
        (B,) values of at least 0; 0 for a list without gain.

    Raises:
        ValueError: If the shapes differ or are not (batch, list_size), or an option has a wrong value.
        TypeError: If ``k`` is not an integer.

    Example:
        >>> from tfrankloss.functional import dcg
        >>> print(round(float(dcg([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])[0]), 6))
        2.13093

    Source: Jarvelin and Kekalainen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002; the weights are
    those of TensorFlow Ranking.
    """
    errors.check_positive_integer("k", k, optional=True)
    gain, discount = gains.get_gain(gain), gains.get_discount(discount)
    labels, scores, mask = lists.prepare(labels, scores, mask)
    item_gains = ops.where(mask, gain(labels), 0.0)
    weighed = item_gains * item_weights(weights, mask, scores)
    ranking = rank(scores, mask)
    list_weights = lists.ratio(ops.sum(weighed, axis=1), ops.sum(item_gains, axis=1))
    return lists.ratio(_gain_found(weighed, ranking, discount, k), list_weights) + ranking.fault


def average_relevance_position(
    labels: Tensor, scores: Tensor, mask: Tensor | None = None, weights: Tensor | None = None
) -> Tensor:
    r"""Mean rank of each list's items, weighed by their labels: from 1, and smaller is better.

    Tells how far down one reads to meet what is relevant. Tied items share the mean of their places.

    .. math:: \sum_i w_i y_i r_i / \sum_i w_i y_i

    Args:
        labels: (B, L) relevance of at least 0; negative marks padding.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        weights: (B, L) item weights of the mean; None for 1.

    Returns:
        (B,) mean ranks; 0 for a list whose labels are all 0, which has none.

    Raises:
        ValueError: If the shapes differ or are not (batch, list_size).

    Example:
        >>> from tfrankloss.functional import average_relevance_position
        >>> print(round(float(average_relevance_position([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])[0]), 6))
        2.666667

    Source: TensorFlow Ranking, ``ARPMetric``.
    """
    labels, scores, mask = lists.prepare(labels, scores, mask)
    ranking = rank(scores, mask)
    weighed = lists.take(labels * item_weights(weights, mask, scores), ranking.order)
    ranks = ranking.groups.first + (ranking.groups.size - 1) / 2
    return lists.ratio(ops.sum(weighed * ranks, axis=1), ops.sum(weighed, axis=1)) + ranking.fault


def _gain_found(item_gains: Tensor, ranking: Ranking, discount: gains.Transform, k: int | None) -> Tensor:
    """The expected discounted sum (B,) of gains (B, L) in the order of the input."""
    return ops.sum(lists.take(item_gains, ranking.order) * shared_discounts(ranking, discount, k), axis=1)
