"""Circle loss over the pairs of a list, without the pairs."""

from typing import Any

from keras import ops

from tfrankloss import errors
from tfrankloss.functional import list_softmax, lists, log_sums

Tensor = Any


def circle_loss(
    labels: Tensor, scores: Tensor, mask: Tensor | None = None, *, gamma: float = 64.0, margin: float = 0.25
) -> Tensor:
    r"""Circle loss: a soft maximum over all pairs in which the better item is not yet far enough above the other.

    For scores that are similarities: they are clipped to [0, 1], and an item outside gets no gradient. Each item pulls
    by how far it is from its own end, 1 as the better and 0 as the other of a pair. Items of equal label are no pair;
    a list without pairs has loss 0. Time and memory grow with L log L.

    .. math:: \ell = \log\Big(1 + \sum_{i, j: y_i > y_j}
        e^{\gamma (\alpha_i (1 - m - s_i) + \beta_j (s_j - m))}\Big),
        \quad \alpha_i = \max(0, 1 + m - s_i), \quad \beta_j = \max(0, s_j + m)

    where alpha and beta get no gradient.

    Args:
        labels: (B, L) relevance of at least 0; negative marks padding.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        gamma: Sharpness of the soft maximum; greater than 0.
        margin: m, at least 0: an item need not come nearer than this to its end.

    Returns:
        (B, L) the loss of the list, shared among its items in proportion to their labels; 0 at padding.

    Raises:
        ValueError: If the shapes differ or are not (batch, list_size), or a setting has a wrong value.
        TypeError: If a setting is not a number.

    Example:
        >>> from tfrankloss.functional import circle_loss
        >>> loss = circle_loss([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])
        >>> print([round(float(item), 3) for item in loss[0]])
        [28.267, 0.0, 56.533]

    Source: Sun et al., "Circle Loss: A Unified Perspective of Pair Similarity Optimization", CVPR 2020; the form for
    graded labels is TensorFlow Ranking's.
    """
    check_circle(gamma, margin)
    labels, scores, mask = lists.prepare(labels, scores, mask)
    scores = ops.clip(scores, 0.0, 1.0)
    fixed = ops.stop_gradient(scores)
    as_better = gamma * ops.relu(1 + margin - fixed) * (1 - margin - scores)
    as_worse = gamma * ops.relu(fixed + margin) * (scores - margin)
    exponents = log_sums.lower_logsumexp(labels, as_worse, mask).over(-as_better)
    losses = ops.softplus(list_softmax.masked_logsumexp(exponents, mask))
    return lists.share_by_label(losses[:, 0], labels)


def check_circle(gamma: float, margin: float) -> None:
    """Raise unless these are settings of ``circle_loss``."""
    errors.check_positive("gamma", gamma)
    errors.check_not_negative("margin", margin)
