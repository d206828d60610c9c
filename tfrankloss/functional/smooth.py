"""Smooth ranks, and the losses that put them into the formulas of metrics: ApproxNDCG and ApproxMRR.

The loss of a list has no parts of its own per item; it is shared out in proportion to the labels.
"""

from typing import Any

from keras import ops

from tfrankloss import errors
from tfrankloss.functional import dense_pairs, gains, lists, sorted_pairs
from tfrankloss.functional.pairs import METHODS, by_sorting

Tensor = Any


def smooth_ranks(
    scores: Tensor, mask: Tensor | None = None, *, temperature: float = 1.0, method: str = "auto"
) -> Tensor:
    r"""The rank of each item as a smooth function of the scores, from 1 to the number of items.

    For losses made of ranks. Far apart scores give the ranks themselves; tied items share the mean of theirs.

    .. math:: r_i = \tfrac12 + \sum_j \sigma((s_j - s_i) / T)

    Args:
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where there is none.
        temperature: T > 0; the smaller, the nearer to the ranks themselves.
        method: How pairs are summed: "dense" takes every pair by itself, "sorted" sums over sorted scores in time that
            grows with L log L, and "auto" sorts lists of more than 64 items.

    Returns:
        (B, L) ranks; 1 at padding.

    Raises:
        ValueError: If the shapes differ or are not (batch, list_size), or T is not positive.

    Example:
        >>> from tfrankloss.functional import smooth_ranks
        >>> ranks = smooth_ranks([[0.6, 0.8, 0.1]], temperature=0.1)
        >>> print([round(float(rank), 4) for rank in ranks[0]])
        [1.8875, 1.1201, 2.9924]

    Source: Qin, Liu and Li, "A General Approximation Framework for Direct Optimization of Information Retrieval
    Measures", Information Retrieval 2010.
    """
    errors.check_positive("temperature", temperature)
    errors.check_choice("method", method, METHODS)
    _, scores, mask = lists.prepare(ops.zeros_like(scores), scores, mask)
    return _smooth_ranks(scores, mask, temperature, method)


def _smooth_ranks(scores: Tensor, mask: Tensor, temperature: float, method: str) -> Tensor:
    """``smooth_ranks`` of scores that are clean at padding."""
    if by_sorting(method, scores.shape[1]):
        return sorted_pairs.smooth_ranks(scores, mask, temperature)
    return dense_pairs.smooth_ranks(scores, mask, temperature)


def approx_ndcg_loss(
    labels: Tensor,
    scores: Tensor,
    mask: Tensor | None = None,
    *,
    gain: str | gains.Transform = "exponential",
    discount: str | gains.Transform = "log2",
    temperature: float = 0.1,
    method: str = "auto",
) -> Tensor:
    r"""Minus the NDCG of each list at smooth ranks (ApproxNDCG).

    The direct way to train for NDCG with graded labels. Tied scores share their mean rank, so that the order of the
    input never matters. The loss of a list lies between -1 and 0, and is -1 for a single item with a gain.

    .. math:: \ell = -\sum_i g(y_i) d(r_i) / \max_{\text{order}} \sum_i g(y_i) d(r_i)

    with the smooth ranks r of ``smooth_ranks``.

    Args:
        labels: (B, L) relevance of at least 0; negative marks padding.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        gain: "exponential" (2^y - 1), "linear" or a function of labels.
        discount: "log2" (1 / log2(1 + rank)), "reciprocal" or a function of 1-based ranks.
        temperature: T > 0 of the smooth ranks.
        method: As in ``smooth_ranks``.

    Returns:
        (B, L) loss per item, the list's own shared out by label; 0 at padding and in lists whose labels are all 0.

    Raises:
        ValueError: If the shapes differ or are not (batch, list_size), or an option has a wrong value.

    Example:
        >>> from tfrankloss.functional import approx_ndcg_loss
        >>> loss = approx_ndcg_loss([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])
        >>> print(round(sum(float(item) for item in loss[0]), 5))
        -0.59371

    Source: Qin, Liu and Li 2010; Bruch et al., "Revisiting Approximate Metric Optimization in the Age of Deep Neural
    Networks", SIGIR 2019.
    """
    gain, discount = gains.get_gain(gain), gains.get_discount(discount)
    errors.check_positive("temperature", temperature)
    errors.check_choice("method", method, METHODS)
    labels, scores, mask = lists.prepare(labels, scores, mask)
    ranks = _smooth_ranks(scores, mask, temperature, method)
    item_gains = lists.masked(gains.relative_gains(gain, labels), mask)
    dcg = gains.dcg(item_gains, ranks, discount)
    ideal = gains.ideal_dcg(item_gains, mask, discount, rising=gains.rising(gain, labels))
    return lists.share_by_label(-lists.ratio(dcg, ideal), labels)


def approx_mrr_loss(
    labels: Tensor, scores: Tensor, mask: Tensor | None = None, *, temperature: float = 0.1, method: str = "auto"
) -> Tensor:
    r"""Minus the mean reciprocal smooth rank of each list's items, weighed by their labels (ApproxMRR).

    For lists with one right answer; with several, each counts, and not the first one alone as in the metric. Tied
    scores share their mean rank. The loss of a list lies between -1 and 0, and is -1 for a single item with a label
    above 0.

    .. math:: \ell = -\sum_i \frac{y_i}{r_i} / \sum_i y_i

    with the smooth ranks r of ``smooth_ranks``.

    Args:
        labels: (B, L) relevance of at least 0; negative marks padding.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        temperature: T > 0 of the smooth ranks.
        method: As in ``smooth_ranks``.

    Returns:
        (B, L) loss per item, the list's own shared out by label; 0 at padding and in lists whose labels are all 0.

    Raises:
        ValueError: If the shapes differ or are not (batch, list_size), or T is not positive.

    Example:
        >>> from tfrankloss.functional import approx_mrr_loss
        >>> loss = approx_mrr_loss([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])
        >>> print(round(sum(float(item) for item in loss[0]), 5))
        -0.39939

    Source: Qin, Liu and Li 2010; TensorFlow Ranking's ``ApproxMRRLoss``.
    """
    errors.check_positive("temperature", temperature)
    errors.check_choice("method", method, METHODS)
    labels, scores, mask = lists.prepare(labels, scores, mask)
    ranks = _smooth_ranks(scores, mask, temperature, method)
    found = gains.dcg(labels, ranks, gains.reciprocal_discount)
    return lists.share_by_label(-lists.ratio(found, ops.sum(labels, axis=1)), labels)
