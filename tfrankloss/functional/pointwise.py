"""Pointwise losses: each item against its own label, whatever else its list holds.

Every function takes ``labels`` (B, L), ``scores`` and an optional boolean ``mask`` and returns the loss of each item,
(B, L); the loss of a list is the sum of its items.
"""

from typing import Any

from keras import ops

from tfrankloss import errors
from tfrankloss.functional import lists

Tensor = Any

ITEM_REDUCTIONS = ("sum", "mean")


def check_item_reduction(item_reduction: Any) -> None:
    """Raise unless this is a way to put the items of a list together."""
    errors.check_choice("item_reduction", item_reduction, ITEM_REDUCTIONS)


def check_ordinal(ordinal_size: Any, use_fraction_label: Any) -> None:
    """Raise unless these are settings of ``ordinal_loss``."""
    errors.check_positive_integer("ordinal_size", ordinal_size)
    errors.check_bool("use_fraction_label", use_fraction_label)


def sigmoid_cross_entropy_loss(
    labels: Tensor, scores: Tensor, mask: Tensor | None = None, *, item_reduction: str = "sum"
) -> Tensor:
    r"""Cross entropy of each item between its label and the sigmoid of its score.

    For clicks, or labels that are probabilities: a score is then a log-odds and can be read without the rest of its
    list. Labels above 1 push scores up without end; for grades use ``ordinal_loss``. Ties need no rule.

    .. math:: \ell_i = -y_i \log \sigma(s_i) - (1 - y_i) \log (1 - \sigma(s_i))

    Args:
        labels: (B, L) clicks or probabilities, from 0 to 1; negative marks padding.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        item_reduction: "sum", or "mean" to divide by the number of items of the list.

    Returns:
        (B, L) loss per item, 0 at padding.

    Raises:
        ValueError: If the shapes differ or are not (batch, list_size), or ``item_reduction`` has a wrong value.

    Example:
        >>> from tfrankloss.functional import sigmoid_cross_entropy_loss
        >>> loss = sigmoid_cross_entropy_loss([[1.0, 0.0, 1.0]], [[0.6, 0.8, 0.1]])
        >>> print([round(float(item), 4) for item in loss[0]])
        [0.4375, 1.1711, 0.6444]

    Source: TensorFlow Ranking's ``SigmoidCrossEntropyLoss``.
    """
    check_item_reduction(item_reduction)
    labels, scores, mask = lists.prepare(labels, scores, mask)
    return _reduce_items(cross_entropy(labels, scores), mask, item_reduction)


def mean_squared_loss(
    labels: Tensor, scores: Tensor, mask: Tensor | None = None, *, item_reduction: str = "sum"
) -> Tensor:
    r"""Squared difference of the score and the label of each item.

    Regression: for labels whose size means something, such as a price or a teacher's scores. Ties need no rule.

    .. math:: \ell_i = (s_i - y_i)^2

    Args:
        labels: (B, L) targets of at least 0; negative marks padding.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        item_reduction: "sum", or "mean" to divide by the number of items of the list.

    Returns:
        (B, L) loss per item, 0 at padding.

    Raises:
        ValueError: If the shapes differ or are not (batch, list_size), or ``item_reduction`` has a wrong value.

    Example:
        >>> from tfrankloss.functional import mean_squared_loss
        >>> loss = mean_squared_loss([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])
        >>> print([round(float(item), 4) for item in loss[0]])
        [0.16, 0.64, 3.61]

    Source: TensorFlow Ranking's ``MeanSquaredLoss``.
    """
    check_item_reduction(item_reduction)
    labels, scores, mask = lists.prepare(labels, scores, mask)
    return _reduce_items(ops.square(scores - labels), mask, item_reduction)


def ordinal_loss(
    labels: Tensor,
    scores: Tensor,
    mask: Tensor | None = None,
    *,
    ordinal_size: int = 1,
    use_fraction_label: bool = False,
) -> Tensor:
    r"""Cross entropy of each item at each grade: does its label reach that grade, or not?

    For graded labels, with one score per grade 1, ..., m: the sigmoid of score j is the probability of a label of at
    least j, so that the sum of the sigmoids is the expected grade, by which to rank. Ties need no rule.

    .. math:: \ell_i = -\sum_{j=1}^m t_{ij} \log \sigma(s_{ij}) + (1 - t_{ij}) \log (1 - \sigma(s_{ij})),
        \quad t_{ij} = [y_i \ge j]

    With ``use_fraction_label`` a label between two grades reaches the upper one in part, t = y - j + 1: the label 1.2
    has the targets 1 and 0.2 instead of 1 and 0.

    Args:
        labels: (B, L) grades of at least 0; negative marks padding.
        scores: (B, L, m) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        ordinal_size: m, the number of grades above 0.
        use_fraction_label: Whether the fraction of a label counts.

    Returns:
        (B, L) loss per item, 0 at padding.

    Raises:
        ValueError: If ``scores`` are not (batch, list_size, ordinal_size) or ``labels`` not (batch, list_size).
        TypeError: If ``ordinal_size`` is not an integer or ``use_fraction_label`` not a bool.

    Example:
        >>> from tfrankloss.functional import ordinal_loss
        >>> loss = ordinal_loss([[1.0, 0.0]], [[[0.6, 0.2], [0.8, 0.3]]], ordinal_size=2)
        >>> print([round(float(item), 4) for item in loss[0]])
        [1.2356, 2.0255]

    Source: Cheng, Wang and Pollastri, "A Neural Network Approach to Ordinal Regression", IJCNN 2008; TensorFlow
    Ranking's ``OrdinalLoss``.
    """
    check_ordinal(ordinal_size, use_fraction_label)
    labels, scores, mask = lists.prepare(labels, scores, mask, columns=ordinal_size)
    grades = ops.cast(ops.arange(1, ordinal_size + 1), scores.dtype)
    surplus = labels - grades[:, None, None]
    targets = ops.clip(surplus + 1, 0, 1) if use_fraction_label else ops.cast(surplus >= 0, scores.dtype)
    return lists.masked(ops.sum(cross_entropy(targets, scores), axis=0), mask)


def cross_entropy(targets: Tensor, scores: Tensor) -> Tensor:
    """Binary cross entropy of targets from 0 to 1 and the sigmoids of scores, without loss of digits at large ones."""
    is_positive, rest = softplus_parts(scores)
    return scores * (is_positive - targets) + rest


def softplus_parts(scores: Tensor) -> tuple[Tensor, Tensor]:
    """softplus(s) as s * the first + the second; softplus(-s) is s * (the first - 1) + the second."""
    # Of either sign the size of a score and its positive part have the derivatives of that side, at 0 too.
    is_positive = ops.cast(scores >= 0, scores.dtype)
    return is_positive, ops.log1p(ops.exp(scores * (1 - 2 * is_positive)))


def _reduce_items(losses: Tensor, mask: Tensor, item_reduction: str) -> Tensor:
    """``losses`` (B, L) with 0 at padding, as they are or divided by the number of items of their list."""
    losses = lists.masked(losses, mask)
    if item_reduction == "sum":
        return losses
    count = ops.sum(ops.cast(mask, losses.dtype), axis=1, keepdims=True)
    return losses / ops.maximum(count, 1.0)
