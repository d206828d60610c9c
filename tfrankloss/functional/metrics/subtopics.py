"""Metrics of diversity: labels (B, L, S) tell how relevant each item is to each subtopic of its query."""

from typing import Any

from keras import ops

from tfrankloss import errors
from tfrankloss.functional import gains, lists
from tfrankloss.functional.lists import ratio
from tfrankloss.functional.metrics.ranking import Ranking, above, count_within, found, item_weights, rank

Tensor = Any


def precision_ia(
    labels: Tensor, scores: Tensor, mask: Tensor | None = None, *, k: int | None = None, threshold: float = 1.0
) -> Tensor:
    """Intent-aware precision: the mean over a query's subtopics of the precision at ``k`` for each.

    Subtopics without a relevant item in the list do not count. A list shorter than ``k`` is divided by its own length,
    as in TensorFlow Ranking. Tied items share their places.

    Args:
        labels: (B, L, S) relevance by subtopic of at least 0; negative marks padding of items and of subtopics.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        k: Places that count; None for all.
        threshold: Labels of at least this are relevant.

    Returns:
        (B,) values from 0 to 1.

    Raises:
        ValueError: If the shapes do not fit, or ``k`` is less than 1.
        TypeError: If ``k`` is not an integer.

    Example:
        >>> from tfrankloss.functional import precision_ia
        >>> print(float(precision_ia([[[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]], [[3.0, 1.0, 2.0]], k=2)[0]))
        0.75

    Source: Clarke, Craswell and Soboroff, "Overview of the TREC 2009 Web Track", 2009.
    """
    errors.check_positive_integer("k", k, optional=True)
    errors.check_number("threshold", threshold)
    labels, scores, mask = lists.prepare_subtopics(labels, scores, mask)
    relevant = ops.cast(ops.logical_and(labels >= threshold, mask[:, :, None]), scores.dtype)
    subtopics = ops.sum(ops.max(relevant, axis=1, initial=0.0), axis=1)
    ranking = rank(scores, mask)
    relevance = lists.take(ops.sum(relevant, axis=2), ranking.order)
    places = count_within(ranking.mask, ranking, k)
    return ratio(found(relevance, ranking, k), places * subtopics) + ranking.fault


def alpha_dcg(
    labels: Tensor,
    scores: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    k: int | None = None,
    alpha: float = 0.5,
    discount: str | gains.Transform = "log2",
) -> Tensor:
    r"""Discounted gain of each list, where every item on a subtopic makes further items on it worth less.

    For rankings that should cover the meanings of a query. With ties the expectation over their order, exactly, in
    time that grows with the longest run of equal scores. Item weights multiply the gains, and their mean over the
    items with a positive label divides the sum: it is the weight of the list among others, not part of its value.

    .. math:: \sum_i d(r_i) [r_i \le k] w_i \sum_t y_{it} (1 - \alpha)^{\sum_{j: r_j < r_i} y_{jt}} / \bar w

    Args:
        labels: (B, L, S) relevance by subtopic of at least 0, usually 0 or 1; negative marks padding of items and of
            subtopics.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        weights: (B, L) item weights; None for 1.
        k: Places that count; None for all.
        alpha: From 0 (repetition costs nothing) to 1 (only the first item on a subtopic counts).
        discount: "log2" (1 / log2(1 + rank)), "reciprocal" or a function of 1-based ranks.

    Returns:
        (B,) values of at least 0; 0 for a list without a positive label.

    Raises:
        ValueError: If the shapes do not fit, or an option has a wrong value.
        TypeError: If ``k`` is not an integer, or ``alpha`` not a number.

    Example:
        >>> from tfrankloss.functional import alpha_dcg
        >>> print(round(float(alpha_dcg([[[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]], [[3.0, 1.0, 2.0]])[0]), 6))
        2.196395

    Source: Clarke et al., "Novelty and diversity in information retrieval evaluation", SIGIR 2008; the weights are
    those of TensorFlow Ranking.
    """
    errors.check_positive_integer("k", k, optional=True)
    errors.check_share("alpha", alpha)
    discount = gains.get_discount(discount)
    labels, scores, mask = lists.prepare_subtopics(labels, scores, mask)
    weights = item_weights(weights, mask, scores)
    covers = ops.cast(ops.any(labels > 0, axis=2), scores.dtype)
    list_weights = ratio(ops.sum(weights * covers, axis=1), ops.sum(covers, axis=1))
    ranking = rank(scores, mask)
    discounts = discount(ranking.ranks) * gains.cutoff(ranking.ranks, k)
    labels, weighed = (lists.take(part, ranking.order) for part in (labels, labels * weights[:, :, None]))
    gain = _expected_gains(labels, weighed, ranking, 1.0 - alpha)
    return ratio(ops.sum(discounts * gain, axis=1), list_weights) + ranking.fault


def _expected_gains(labels: Tensor, weighed: Tensor, ranking: Ranking, kept: float) -> Tensor:
    """The gain (B, L) to expect at each place, from sorted labels and weighed labels (B, L, S).

    At the place m after the first of a run, the gain is a mean over all choices of one item for the place and m others
    of the run above it. Both means (over m items above, and over those and the item) are built up item by item: an
    item that joins n others is among m chosen ones with chance m / (n + 1). All runs of all lists grow at once.
    """
    groups, subtopics = ranking.groups, ops.shape(labels)[2]
    offset, size = (ranking.ranks - groups.first)[:, :, None], groups.size[:, :, None]
    factors = ops.power(ops.cast(kept, labels.dtype), labels)
    batch, length = ops.shape(labels)[0], ops.shape(labels)[1]
    # One gather from flat rows is far cheaper than one along an axis, and there is one at every step.
    items = ops.reshape(ops.concatenate([factors, weighed], axis=2), (batch * length, 2 * subtopics))
    start = ops.cast(groups.first, "int32") - 1 + length * ops.arange(batch, dtype="int32")[:, None]

    def join(step, state):
        chosen, gain = state
        joining = ops.take(items, ops.minimum(start + step, batch * length - 1), axis=0)
        factor, own = joining[:, :, :subtopics], joining[:, :, subtopics:]
        count = ops.cast(step + 1, labels.dtype)
        among = offset / count * factor
        gain_now = (count - 1 - offset) / count * gain + among * _one_place_on(gain) + own * chosen / count
        chosen_now = (count - offset) / count * chosen + among * _one_place_on(chosen)
        grows = count <= size
        return ops.where(grows, chosen_now, chosen), ops.where(grows, gain_now, gain)

    chosen = ops.cast(ops.equal(offset, 0), labels.dtype) * ops.ones_like(labels)
    longest = ops.max(ops.where(ranking.mask, groups.size, 0.0), initial=0.0)
    _, gain = ops.fori_loop(0, ops.cast(longest, "int32"), join, (chosen, ops.zeros_like(labels)))
    before = ops.power(ops.cast(kept, labels.dtype), above(labels, groups))
    return ops.where(ranking.mask, ops.sum(before * gain, axis=2), 0.0)


def _one_place_on(values: Tensor) -> Tensor:
    """Values (B, L, S) moved one place towards the end of the list, 0 at the first."""
    return ops.concatenate([ops.zeros_like(values[:, :1]), values[:, :-1]], axis=1)
