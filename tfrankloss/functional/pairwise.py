"""Pairwise losses: each supplies the loss of a score gap to the pair engine.

Every function takes ``labels``, ``scores`` (B, L) and an optional boolean ``mask`` and returns the loss of each item,
(B, L): the sum over the pairs in which it is the better one.
"""

from typing import Any

from keras import ops

from tfrankloss import errors
from tfrankloss.functional import lists, sorted_hinge, sorted_pairs
from tfrankloss.functional.dense_pairs import (
    LOGISTIC,
    SOFT_ZERO_ONE,
    SQUARE,
    GapLoss,
    PairRule,
    slopes_over_pairs,
    sum_over_pairs,
)
from tfrankloss.functional.lambda_weights import PairWeight
from tfrankloss.functional.pairs import (
    by_sorting,
    check_method,
    check_pairs,
    compared_labels,
    items_of,
    pair_losses,
    reduce_pairs,
    sorting,
)

Tensor = Any


def rank_net_loss(
    labels: Tensor,
    scores: Tensor,
    mask: Tensor | None = None,
    *,
    pairs: str = "graded",
    ties: str = "skip",
    pair_reduction: str = "sum",
    lambda_weight: PairWeight | None = None,
    method: str = "auto",
) -> Tensor:
    r"""Logistic loss of every pair of items with different labels (RankNet).

    The sturdy pairwise choice for graded labels; TensorFlow Ranking's ``PairwiseLogisticLoss``. The sum over pairs
    grows with the list; ``pair_reduction="mean"`` lets every list count the same. With a lambda weight it is LambdaRank
    and LambdaLoss.

    .. math:: \ell_i = \sum_{j: y_i > y_j} w_{ij} \log(1 + e^{-(s_i - s_j)})

    Args:
        labels: (B, L) relevance of at least 0; negative marks padding.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        pairs: "graded" compares every two labels, "binary" only labels above 0 with labels of 0.
        ties: "skip" leaves pairs of equal labels out; "half" counts each once with target probability 1/2, half of it
            at either item.
        pair_reduction: "sum", or "mean" to divide by the number of pairs counted in the list.
        lambda_weight: How much each pair matters, w, at the present order of the scores; None for 1. It gets no
            gradient.
        method: How pairs are summed: "dense" takes every pair by itself, "sorted" sums over sorted scores in time that
            grows with L log L, and "auto" sorts long lists, of more than 64 items, or with a lambda weight of more
            than 96, where ties are skipped and the lambda weight, if there is one, has ``rank_terms``.

    Returns:
        (B, L) loss per item, 0 at padding.

    Raises:
        ValueError: If the shapes differ or are not (batch, list_size), or an option has a wrong value.

    Example:
        >>> from tfrankloss.functional import rank_net_loss
        >>> loss = rank_net_loss([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])
        >>> print([round(float(item), 4) for item in loss[0]])
        [0.7981, 0.0, 2.0773]

    Source: Burges et al., "Learning to Rank using Gradient Descent", ICML 2005.
    """
    return pair_losses(
        labels,
        scores,
        mask,
        LOGISTIC,
        pairs=pairs,
        ties=ties,
        pair_reduction=pair_reduction,
        lambda_weight=lambda_weight,
        method=method,
    )


def rank_net_lambdas(
    labels: Tensor,
    scores: Tensor,
    mask: Tensor | None = None,
    *,
    pairs: str = "graded",
    ties: str = "skip",
    pair_reduction: str = "sum",
    lambda_weight: PairWeight | None = None,
    method: str = "auto",
) -> Tensor:
    r"""The gradient of a list's ``rank_net_loss`` with respect to its scores, in closed form.

    These are the lambdas of RankNet and LambdaRank: the force on each item, negative upwards.

    .. math:: \lambda_i = \sum_j w_{ij} (\sigma(s_i - s_j) - t_{ij})

    over the j that i is compared with, where the target t is 1 if i is better, 0 if j is and 1/2 for a counted tie, and
    w is the lambda weight of the pair.

    Args:
        labels: (B, L) relevance of at least 0; negative marks padding.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        pairs: As in ``rank_net_loss``.
        ties: As in ``rank_net_loss``.
        pair_reduction: As in ``rank_net_loss``.
        lambda_weight: As in ``rank_net_loss``.
        method: As in ``rank_net_loss``.

    Returns:
        (B, L) lambdas, 0 at padding; each list sums to 0.

    Raises:
        ValueError: As in ``rank_net_loss``.

    Example:
        >>> from tfrankloss.functional import rank_net_lambdas
        >>> lambdas = rank_net_lambdas([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])
        >>> print([round(float(item), 4) for item in lambdas[0]])
        [0.0726, 1.218, -1.2906]

    Source: Burges, "From RankNet to LambdaRank to LambdaMART: An Overview", 2010.
    """
    check_pairs(pairs, ties, pair_reduction)
    check_method(method, ties=ties, lambda_weight=lambda_weight)
    labels, scores, mask = lists.prepare(labels, scores, mask)
    compared = compared_labels(labels, pairs)
    if by_sorting(method, scores.shape[1], ties=ties, lambda_weight=lambda_weight):
        _, lambdas = sorting(labels, compared, mask, sorted_pairs.LOGISTIC, lambda_weight)(scores)
    else:
        items = items_of(labels, scores, mask, lambda_weight)._replace(labels=compared)
        lambdas = slopes_over_pairs(items, LOGISTIC, PairRule(ties, lambda_weight))
    return reduce_pairs(lambdas, compared, mask, ties, pair_reduction)


def pairwise_hinge_loss(
    labels: Tensor,
    scores: Tensor,
    mask: Tensor | None = None,
    *,
    margin: float = 1.0,
    pairs: str = "graded",
    pair_reduction: str = "sum",
    lambda_weight: PairWeight | None = None,
    method: str = "auto",
) -> Tensor:
    r"""Hinge loss of every pair of items with different labels: a pair costs nothing once it is ``margin`` apart.

    .. math:: \ell_i = \sum_{j: y_i > y_j} w_{ij} \max(0, m - (s_i - s_j))

    Args:
        labels: (B, L) relevance of at least 0; negative marks padding.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        margin: m > 0, the distance of scores that is enough.
        pairs: As in ``rank_net_loss``.
        pair_reduction: As in ``rank_net_loss``.
        lambda_weight: As in ``rank_net_loss``.
        method: As in ``rank_net_loss``, but with a lambda weight "auto" sorts lists of more than 160 items. Without
            one, sums over sorted scores are as exact as those of pairs.

    Returns:
        (B, L) loss per item, 0 at padding.

    Raises:
        ValueError: As in ``rank_net_loss``, or if ``margin`` is not positive.

    Example:
        >>> from tfrankloss.functional import pairwise_hinge_loss
        >>> loss = pairwise_hinge_loss([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])
        >>> print([round(float(item), 4) for item in loss[0]])
        [1.2, 0.0, 3.2]

    Source: Herbrich, Graepel and Obermayer, "Large Margin Rank Boundaries for Ordinal Regression", 2000; "Margin
    Ranking Loss" of the project's documents.
    """
    errors.check_positive("margin", margin)
    return pair_losses(
        labels,
        scores,
        mask,
        hinge(margin),
        pairs=pairs,
        pair_reduction=pair_reduction,
        lambda_weight=lambda_weight,
        method=method,
    )


def pairwise_soft_zero_one_loss(
    labels: Tensor,
    scores: Tensor,
    mask: Tensor | None = None,
    *,
    pairs: str = "graded",
    pair_reduction: str = "sum",
    lambda_weight: PairWeight | None = None,
    method: str = "auto",
) -> Tensor:
    r"""Smooth number of pairs in the wrong order.

    Bounded by the number of pairs, so that hopeless pairs have no say; gradients vanish far from 0.

    .. math:: \ell_i = \sum_{j: y_i > y_j} w_{ij} \sigma(-(s_i - s_j))

    Args:
        labels: (B, L) relevance of at least 0; negative marks padding.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        pairs: As in ``rank_net_loss``.
        pair_reduction: As in ``rank_net_loss``.
        lambda_weight: As in ``rank_net_loss``.
        method: As in ``rank_net_loss``.

    Returns:
        (B, L) loss per item, 0 at padding.

    Raises:
        ValueError: As in ``rank_net_loss``.

    Example:
        >>> from tfrankloss.functional import pairwise_soft_zero_one_loss
        >>> loss = pairwise_soft_zero_one_loss([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])
        >>> print([round(float(item), 4) for item in loss[0]])
        [0.5498, 0.0, 1.2906]

    Source: TensorFlow Ranking's ``PairwiseSoftZeroOneLoss``.
    """
    return pair_losses(
        labels,
        scores,
        mask,
        SOFT_ZERO_ONE,
        pairs=pairs,
        pair_reduction=pair_reduction,
        lambda_weight=lambda_weight,
        method=method,
    )


def pairwise_mse_loss(
    labels: Tensor,
    scores: Tensor,
    mask: Tensor | None = None,
    *,
    pairs: str = "graded",
    pair_reduction: str = "sum",
    lambda_weight: PairWeight | None = None,
    method: str = "auto",
) -> Tensor:
    r"""Squared difference between the gaps of scores and the gaps of labels, over all ordered pairs of a list.

    For labels whose distances mean something, such as a teacher's scores. Items of equal label are pairs too, with a
    target of 0, as in TensorFlow Ranking; every pair counts once from either side.

    .. math:: \ell_i = \sum_{j \ne i} w_{ij} ((s_i - s_j) - (y_i - y_j))^2

    Args:
        labels: (B, L) relevance of at least 0; negative marks padding.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        pairs: "graded" takes all pairs, "binary" only labels above 0 against labels of 0.
        pair_reduction: As in ``rank_net_loss``.
        lambda_weight: As in ``rank_net_loss``.
        method: "dense" takes every pair by itself; "auto" takes moments of the list, in time that grows with L, where
            pairs have no weights.

    Returns:
        (B, L) loss per item, 0 at padding.

    Raises:
        ValueError: As in ``rank_net_loss``.

    Example:
        >>> from tfrankloss.functional import pairwise_mse_loss
        >>> loss = pairwise_mse_loss([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])
        >>> print([round(float(item), 4) for item in loss[0]])
        [3.69, 8.73, 9.54]

    Source: TensorFlow Ranking's ``PairwiseMSELoss``.
    """
    check_pairs(pairs, "skip", pair_reduction)
    errors.check_choice("method", method, ("auto", "dense"))
    labels, scores, mask = lists.prepare(labels, scores, mask)
    # The gap of both gaps is one gap; centered scores keep the digits of near ones however large they are.
    surplus = lists.centered(scores, mask) - labels
    compared, ties = (labels, "all") if pairs == "graded" else (compared_labels(labels, pairs), "other")
    if lambda_weight is None and method == "auto":
        losses = _squares_of_gaps(surplus, compared, mask, ties)
    else:
        items = items_of(labels, scores, mask, lambda_weight)._replace(labels=compared, scores=surplus)
        losses = sum_over_pairs(items, SQUARE, PairRule(ties, lambda_weight))
    return reduce_pairs(losses, compared, mask, ties, pair_reduction)


def _squares_of_gaps(surplus: Tensor, labels: Tensor, mask: Tensor, ties: str) -> Tensor:
    """For each item i the sum over j of (z_i - z_j)^2, (B, L), from the moments of z about its mean.

    Over all items of the list if ``ties`` is "all", else over those whose label, 0 or 1, is the other one.
    """
    items = ops.cast(mask, surplus.dtype)
    relevant = items * labels
    groups = [(items, items)] if ties == "all" else [(relevant, items - relevant), (items - relevant, relevant)]
    total = ops.zeros_like(surplus)
    for own, others in groups:
        count = ops.sum(others, axis=1, keepdims=True)
        mean = lists.ratio(ops.sum(others * surplus, axis=1, keepdims=True), count)
        scatter = ops.sum(others * ops.square(surplus - mean), axis=1, keepdims=True)
        total = total + own * (count * ops.square(surplus - mean) + scatter)
    return total


def hinge(margin: float) -> GapLoss:
    """The hinge loss of a gap, whose derivative is -1 below the margin."""
    return GapLoss(
        lambda gaps: ops.relu(margin - gaps),
        lambda gaps: -ops.cast(gaps < margin, gaps.dtype),
        sorted_hinge.HingeForm(margin),
    )
