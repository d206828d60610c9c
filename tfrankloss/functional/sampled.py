"""Losses of one positive and its sampled negatives: softmax, BPR and triplet.

Every function takes ``labels``, ``scores`` (B, 1 + N) with the positive in column 0, and an optional boolean ``mask``,
and returns the loss of each item, (B, 1 + N): that of the whole row, in column 0. A row counts where the label of
column 0 is above 0; there is nothing to learn from a row where it is 0, and a negative one marks the row as padding.
The labels of the negatives only tell padding (below 0) from the rest.
"""

from collections.abc import Callable
from typing import Any

from keras import ops

from tfrankloss import errors
from tfrankloss.functional import list_softmax, lists
from tfrankloss.functional.pairs import PAIR_REDUCTIONS

Tensor = Any


def sampled_softmax_loss(labels: Tensor, scores: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Softmax cross entropy of the positive among itself and its sampled negatives.

    For retrieval with negatives drawn beforehand. Its gradient is strongest on the negatives that score highest, so it
    learns more from many negatives than the pairwise ``bpr_loss``. Where negatives were drawn by popularity,
    subtract the logarithms of their sampling probabilities from all scores first. Ties need no rule.

    .. math:: \ell_0 = -[y_0 > 0] \log \mathrm{softmax}(s)_0

    Args:
        labels: (B, 1 + N): above 0 in column 0 where the row counts; negative marks padding.
        scores: (B, 1 + N) scores, the positive's first.
        mask: (B, 1 + N) booleans, False at padding; None where labels alone tell.

    Returns:
        (B, 1 + N) loss of each row in column 0, 0 elsewhere.

    Raises:
        ValueError: If the shapes differ or are not (batch, list_size).

    Example:
        >>> from tfrankloss.functional import sampled_softmax_loss
        >>> loss = sampled_softmax_loss([[1.0, 0.0, 0.0]], [[0.6, 0.8, 0.1]])
        >>> print([round(float(item), 4) for item in loss[0]])
        [1.0395, 0.0, 0.0]

    Source: the list-wise recall mode of the project's documents; Jean et al., "On Using Very Large Target Vocabulary
    for Neural Machine Translation", ACL 2015.
    """
    labels, scores, mask = lists.prepare(labels, scores, mask)
    return ops.where(_first_column(labels), -_counted(labels) * list_softmax.masked_log_softmax(scores, mask), 0.0)


def bpr_loss(labels: Tensor, scores: Tensor, mask: Tensor | None = None, *, pair_reduction: str = "sum") -> Tensor:
    r"""Logistic loss of the positive against each of its sampled negatives (Bayesian personalized ranking).

    Every negative counts by itself, whatever the others score; "PairCE" of the project's documents is the same. A tie
    of the positive and a negative costs log 2.

    .. math:: \ell_0 = [y_0 > 0] \sum_{j \ge 1} \log(1 + e^{-(s_0 - s_j)})

    Args:
        labels: (B, 1 + N): above 0 in column 0 where the row counts; negative marks padding.
        scores: (B, 1 + N) scores, the positive's first.
        mask: (B, 1 + N) booleans, False at padding; None where labels alone tell.
        pair_reduction: "sum", or "mean" to divide by the number of negatives of the row.

    Returns:
        (B, 1 + N) loss of each row in column 0, 0 elsewhere.

    Raises:
        ValueError: If the shapes differ or are not (batch, list_size), or ``pair_reduction`` is unknown.

    Example:
        >>> from tfrankloss.functional import bpr_loss
        >>> loss = bpr_loss([[1.0, 0.0, 0.0]], [[0.6, 0.8, 0.1]])
        >>> print([round(float(item), 4) for item in loss[0]])
        [1.2722, 0.0, 0.0]

    Source: Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009.
    """
    return _against_negatives(labels, scores, mask, lambda gaps: ops.softplus(-gaps), pair_reduction)


def triplet_loss(
    labels: Tensor,
    scores: Tensor,
    mask: Tensor | None = None,
    *,
    margin: float = 1.0,
    pair_reduction: str = "sum",
) -> Tensor:
    r"""Hinge loss of the positive against each of its sampled negatives: 0 once they are ``margin`` apart.

    Scores are similarities, so that of a Euclidean tower is minus a squared distance. A tie of the positive and a
    negative costs ``margin``.

    .. math:: \ell_0 = [y_0 > 0] \sum_{j \ge 1} \max(0, m - s_0 + s_j)

    Args:
        labels: (B, 1 + N): above 0 in column 0 where the row counts; negative marks padding.
        scores: (B, 1 + N) scores, the positive's first.
        mask: (B, 1 + N) booleans, False at padding; None where labels alone tell.
        margin: m > 0, the distance of scores that is enough.
        pair_reduction: "sum", or "mean" to divide by the number of negatives of the row.

    Returns:
        (B, 1 + N) loss of each row in column 0, 0 elsewhere.

    Raises:
        ValueError: If the shapes differ or are not (batch, list_size), ``margin`` is not positive or
            ``pair_reduction`` is unknown.

    Example:
        >>> from tfrankloss.functional import triplet_loss
        >>> loss = triplet_loss([[1.0, 0.0, 0.0]], [[0.6, 0.8, 0.1]])
        >>> print([round(float(item), 4) for item in loss[0]])
        [1.7, 0.0, 0.0]

    Source: Schroff, Kalenichenko and Philbin, "FaceNet: A Unified Embedding for Face Recognition and Clustering", CVPR
    2015; "Triplet loss" of the project's documents.
    """
    errors.check_positive("margin", margin)
    return _against_negatives(labels, scores, mask, lambda gaps: ops.relu(margin - gaps), pair_reduction)


def _against_negatives(
    labels: Tensor,
    scores: Tensor,
    mask: Tensor | None,
    gap_loss: Callable[[Tensor], Tensor],
    pair_reduction: str,
) -> Tensor:
    """The loss (B, 1 + N) of the gaps between the positive and its negatives, all of it in column 0."""
    errors.check_choice("pair_reduction", pair_reduction, PAIR_REDUCTIONS)
    labels, scores, mask = lists.prepare(labels, scores, mask)
    first = _first_column(labels)
    negatives = ops.logical_and(mask, ops.logical_not(first))
    losses = _counted(labels) * ops.where(negatives, gap_loss(scores[:, :1] - scores), 0.0)
    total = ops.sum(losses, axis=1, keepdims=True)
    if pair_reduction == "mean":
        count = ops.sum(ops.cast(negatives, total.dtype), axis=1, keepdims=True)
        total = total / ops.maximum(count, 1.0)
    return ops.where(first, total, 0.0)


def _first_column(labels: Tensor) -> Tensor:
    """Booleans (1, 1 + N), True in column 0."""
    return ops.equal(ops.arange(ops.shape(labels)[1]), 0)[None, :]


def _counted(labels: Tensor) -> Tensor:
    """1 for rows (B, 1) whose positive is one, else 0; padded labels are 0 by now."""
    return ops.cast(labels[:, :1] > 0, labels.dtype)
