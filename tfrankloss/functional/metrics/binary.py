"""Metrics of binary relevance: an item is relevant if its label is at least a threshold."""

from typing import Any

from keras import ops

from tfrankloss.functional import gains, lists
from tfrankloss.functional.lists import ratio
from tfrankloss.functional.metrics.ranking import Ranking, above, count_within, found, rank_relevance, ranked_weights

Tensor = Any


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
    relevance, ranking = rank_relevance(labels, scores, mask, k, threshold)
    return ratio(found(relevance, ranking, k), count_within(ranking.mask, ranking, k)) + ranking.fault


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
    relevance, ranking = rank_relevance(labels, scores, mask, k, threshold)
    return ratio(found(relevance, ranking, k), ops.sum(relevance, axis=1)) + ranking.fault


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
    relevance, ranking = rank_relevance(labels, scores, mask, k, threshold)
    here = _chance_of_relevance(relevance, ranking)
    # Probability that no place before this one holds a relevant item: a product over the places before it.
    before = ops.cumprod(1 - here, axis=1)
    before = ops.concatenate([ops.ones_like(before[:, :1]), before[:, :-1]], axis=1)
    return ops.sum(before * here / ranking.ranks * gains.cutoff(ranking.ranks, k), axis=1) + ranking.fault


def hits_at_k(
    labels: Tensor, scores: Tensor, mask: Tensor | None = None, *, k: int | None = None, threshold: float = 1.0
) -> Tensor:
    """1 for each list that has a relevant item in its first ``k`` places, else 0.

    Also called hit rate or success at k. Without ``k`` it tells which lists have a relevant item at all.

    Args:
        labels: (B, L) relevance of at least 0; negative marks padding.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        k: Places that count; None for all.
        threshold: Labels of at least this are relevant.

    Returns:
        (B,) values 0 or 1; with ties at place ``k`` the probability of 1.

    Raises:
        ValueError: If the shapes differ or are not (batch, list_size), or ``k`` is less than 1.
        TypeError: If ``k`` is not an integer.

    Example:
        >>> from tfrankloss.functional import hits_at_k
        >>> print(float(hits_at_k([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]], k=2)[0]))
        1.0

    Source: TensorFlow Ranking, ``HitsMetric``.
    """
    relevance, ranking = rank_relevance(labels, scores, mask, k, threshold)
    missed = 1 - _chance_of_relevance(relevance, ranking) * gains.cutoff(ranking.ranks, k)
    return 1 - ops.prod(missed, axis=1) + ranking.fault


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
    relevance, ranking = rank_relevance(labels, scores, mask, k, threshold)
    groups = ranking.groups
    in_group = lists.group_sum(relevance, groups)
    offset = ranking.ranks - groups.first
    # Given a relevant item at this place of its run, the expected number of relevant ones up to here.
    beside = offset * ops.maximum(in_group - 1, 0.0) / ops.maximum(groups.size - 1, 1.0)
    precision = (above(relevance, groups) + beside + 1) / ranking.ranks * gains.cutoff(ranking.ranks, k)
    weighed = relevance * ranked_weights(weights, ranking)
    mean = ratio(ops.sum(weighed * lists.group_mean(precision, groups), axis=1), ops.sum(weighed, axis=1))
    return mean + ranking.fault


def _chance_of_relevance(relevance: Tensor, ranking: Ranking) -> Tensor:
    """The probability (B, L) that a place holds a relevant item if no place above it in its run does."""
    left = ranking.groups.size - (ranking.ranks - ranking.groups.first)
    return ops.minimum(lists.group_sum(relevance, ranking.groups) / left, 1.0)
