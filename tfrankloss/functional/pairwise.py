"""Pairwise losses: each supplies the loss of a score gap to the pair engine.

Every function takes ``labels``, ``scores`` (B, L) and an optional boolean ``mask`` and returns the loss of each item,
(B, L): the sum over the pairs in which it is the better one.
"""

from typing import Any

from keras import ops

from tfrankloss.functional import lists
from tfrankloss.functional.pairs import check_pairs, pair_losses, pair_weights, reduce_pairs

Tensor = Any


def rank_net_loss(
    labels: Tensor,
    scores: Tensor,
    mask: Tensor | None = None,
    *,
    pairs: str = "graded",
    ties: str = "skip",
    pair_reduction: str = "sum",
) -> Tensor:
    r"""Logistic loss of every pair of items with different labels (RankNet).

    The sturdy pairwise choice for graded labels; TensorFlow Ranking's ``PairwiseLogisticLoss``. The sum over pairs
    grows with the list; ``pair_reduction="mean"`` lets every list count the same.

    .. math:: \ell_i = \sum_{j: y_i > y_j} \log(1 + e^{-(s_i - s_j)})

    Args:
        labels: (B, L) relevance of at least 0; negative marks padding.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        pairs: "graded" compares every two labels, "binary" only labels above 0 with labels of 0.
        ties: "skip" leaves pairs of equal labels out; "half" counts each once with target probability 1/2, half of it
            at either item.
        pair_reduction: "sum", or "mean" to divide by the number of pairs counted in the list.

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
    check_pairs(pairs, ties, pair_reduction)
    labels, scores, mask = lists.prepare(labels, scores, mask)
    weights = pair_weights(labels, mask, pairs=pairs, ties=ties)
    losses = pair_losses(scores, weights, logistic, logistic_gradient)
    return reduce_pairs(losses, weights, pair_reduction)


def rank_net_lambdas(
    labels: Tensor,
    scores: Tensor,
    mask: Tensor | None = None,
    *,
    pairs: str = "graded",
    ties: str = "skip",
    pair_reduction: str = "sum",
) -> Tensor:
    r"""The gradient of a list's ``rank_net_loss`` with respect to its scores, in closed form.

    These are the lambdas of RankNet and LambdaRank: the force on each item, negative upwards.

    .. math:: \lambda_i = \sum_j \sigma(s_i - s_j) - t_{ij}

    over the j that i is compared with, where the target t is 1 if i is better, 0 if j is and 1/2 for a counted tie.

    Args:
        labels: (B, L) relevance of at least 0; negative marks padding.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        pairs: As in ``rank_net_loss``.
        ties: As in ``rank_net_loss``.
        pair_reduction: As in ``rank_net_loss``.

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
    labels, scores, mask = lists.prepare(labels, scores, mask)
    weights = pair_weights(labels, mask, pairs=pairs, ties=ties)
    compared = weights + ops.transpose(weights, (0, 2, 1))
    win_probability = ops.sigmoid(scores[:, :, None] - scores[:, None, :])
    lambdas = ops.sum(compared * win_probability - weights, axis=2)
    return reduce_pairs(lambdas, weights, pair_reduction)


def logistic(gaps: Tensor) -> Tensor:
    """log(1 + exp(-d))."""
    return ops.softplus(-gaps)


def logistic_gradient(gaps: Tensor) -> Tensor:
    """The derivative of ``logistic``."""
    return -ops.sigmoid(-gaps)
