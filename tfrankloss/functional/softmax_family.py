"""Softmax losses: each item against its whole list, against a virtual item too, or against the items of lower label.

Every function takes ``labels``, ``scores`` (B, L) and an optional boolean ``mask`` and returns the loss of each item,
(B, L); the loss of a list is the sum of its items.
"""

from typing import Any

from keras import ops

from tfrankloss import errors
from tfrankloss.functional import gains, list_softmax, lists, log_sums
from tfrankloss.functional.lambda_weights import ItemWeight, check_item_weight
from tfrankloss.functional.list_softmax import CrossEntropy

Tensor = Any


def softmax_loss(
    labels: Tensor, scores: Tensor, mask: Tensor | None = None, *, lambda_weight: ItemWeight | None = None
) -> Tensor:
    r"""Softmax cross entropy of each item, weighed by its label.

    The plain choice for clicks and for graded labels alike; it is not normalised, so a list counts in proportion to
    the sum of its labels. Ties need no rule. A list whose labels are all 0 has loss 0. With a lambda weight an item
    counts by what it adds to a metric at its present place, not by its label.

    .. math:: \ell_i = -y_i \log \mathrm{softmax}(s)_i

    Args:
        labels: (B, L) relevance of at least 0; negative marks padding.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        lambda_weight: A weight of discounted gains, which replace the labels y and get no gradient; None for the
            labels.

    Returns:
        (B, L) loss per item, 0 at padding.

    Raises:
        ValueError: If the shapes differ or are not (batch, list_size).
        TypeError: If ``lambda_weight`` has no discounted gains.

    Example:
        >>> from tfrankloss.functional import softmax_loss
        >>> loss = softmax_loss([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])
        >>> print([round(float(item), 4) for item in loss[0]])
        [1.0395, 0.0, 3.0791]

    Source: Bruch et al., "An Analysis of the Softmax Cross Entropy Loss for Learning-to-Rank", ICTIR 2019.
    """
    return softmax_cross_entropy(labels, scores, mask, lambda_weight=lambda_weight).losses()


def softmax_cross_entropy(
    labels: Tensor, scores: Tensor, mask: Tensor | None, *, lambda_weight: ItemWeight | None
) -> CrossEntropy:
    """What ``softmax_loss`` gives by item, to be added up by list as well."""
    check_item_weight(lambda_weight)
    labels, scores, mask = lists.prepare(labels, scores, mask)
    return CrossEntropy(_targets(labels, scores, mask, lambda_weight), scores, mask)


def poly_one_softmax_loss(
    labels: Tensor,
    scores: Tensor,
    mask: Tensor | None = None,
    *,
    epsilon: float = 1.0,
    lambda_weight: ItemWeight | None = None,
) -> Tensor:
    r"""Softmax cross entropy with its first polynomial term weighed anew (PolyLoss).

    An epsilon above 0 pulls harder at items whose probability is far from 1; 0 gives ``softmax_loss``. Ties need no
    rule. A list whose labels are all 0 has loss 0.

    .. math:: \ell_i = y_i (-\log p_i + \epsilon (1 - p_i)), \quad p = \mathrm{softmax}(s)

    Args:
        labels: (B, L) relevance of at least 0; negative marks padding.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        epsilon: Weight of the added term; any number.
        lambda_weight: As in ``softmax_loss``.

    Returns:
        (B, L) loss per item, 0 at padding.

    Raises:
        ValueError: If the shapes differ or are not (batch, list_size), or ``epsilon`` is not finite.
        TypeError: If ``epsilon`` is not a number, or ``lambda_weight`` has no discounted gains.

    Example:
        >>> from tfrankloss.functional import poly_one_softmax_loss
        >>> loss = poly_one_softmax_loss([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])
        >>> print([round(float(item), 4) for item in loss[0]])
        [1.6859, 0.0, 4.6501]

    Source: Leng et al., "PolyLoss: A Polynomial Expansion Perspective of Classification Loss Functions", ICLR 2022.
    """
    errors.check_number("epsilon", epsilon)
    check_item_weight(lambda_weight)
    labels, scores, mask = lists.prepare(labels, scores, mask)
    log_probabilities = list_softmax.masked_log_softmax(scores, mask)
    targets = _targets(labels, scores, mask, lambda_weight)
    return -targets * (log_probabilities + epsilon * ops.expm1(log_probabilities))


def calibrated_softmax_loss(
    labels: Tensor,
    scores: Tensor,
    mask: Tensor | None = None,
    *,
    virtual_label: float = 0.0,
    lambda_weight: ItemWeight | None = None,
) -> Tensor:
    r"""Softmax cross entropy of each list and a virtual item of score 0, which anchors the scores.

    For scores that must mean something beyond their order: at the minimum exp(s_i) is y_i / y_0, where y_0 is the
    label of the virtual item. Adding a number to all scores of a list does change the loss, and a list of one item has
    something to learn; one of padding alone has loss 0. Ties need no rule.

    .. math:: \ell_i = -y_i \log p_i - \frac{y_0}{n} \log p_0, \quad p = \mathrm{softmax}(s_1, \dots, s_n, 0)

    The loss of the virtual item is spread evenly over the n items, so that with item weights it weighs as much as they
    do on average.

    Args:
        labels: (B, L) relevance of at least 0; negative marks padding.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        virtual_label: y_0, at least 0.
        lambda_weight: As in ``softmax_loss``; the virtual item is ranked and gains like the others.

    Returns:
        (B, L) loss per item, 0 at padding.

    Raises:
        ValueError: If the shapes differ or are not (batch, list_size), or ``virtual_label`` is below 0.
        TypeError: If ``virtual_label`` is not a number, or ``lambda_weight`` has no discounted gains.

    Example:
        >>> from tfrankloss.functional import calibrated_softmax_loss
        >>> loss = calibrated_softmax_loss([[1.0, 0.0]], [[0.6, 0.8]], virtual_label=0.1)
        >>> print([round(float(item), 4) for item in loss[0]])
        [1.0999, 0.0809]

    Source: Yan et al., "Scale Calibration of Deep Ranking Models", KDD 2022.
    """
    errors.check_not_negative("virtual_label", virtual_label)
    check_item_weight(lambda_weight)
    labels, scores, mask = lists.prepare(labels, scores, mask)
    targets, virtual_target = labels, virtual_label
    if lambda_weight is not None:
        column = (ops.shape(labels)[0], 1)
        gained = lambda_weight.discounted_gains(
            ops.concatenate([labels, ops.full(column, virtual_label, dtype=labels.dtype)], axis=1),
            ops.concatenate([scores, ops.zeros(column, dtype=scores.dtype)], axis=1),
            ops.concatenate([mask, ops.ones(column, dtype="bool")], axis=1),
        )
        targets, virtual_target = gained[:, :-1], gained[:, -1:]
    losses = CrossEntropy(targets, scores, mask, anchored=True).losses()
    if lambda_weight is None and virtual_label == 0:
        return losses
    items = ops.cast(mask, losses.dtype)
    share = virtual_target / ops.maximum(ops.sum(items, axis=1, keepdims=True), 1.0)
    return losses + items * (share * ops.softplus(list_softmax.masked_logsumexp(scores, mask)))


def unique_softmax_loss(labels: Tensor, scores: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Softmax cross entropy of each item against the items of lower label only, weighed by its gain.

    For graded labels: items of equal label do not compete, and each grade is told from all below it. A list of one
    grade has loss 0. Time and memory grow with L log L.

    .. math:: \ell = \sum_i (2^{y_i} - 1) \log\frac{e^{s_i} + \sum_{j: y_j < y_i} e^{s_j}}{e^{s_i}}

    Args:
        labels: (B, L) relevance of at least 0; negative marks padding.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.

    Returns:
        (B, L) the loss of the list, shared among its items in proportion to their labels; 0 at padding.

    Raises:
        ValueError: If the shapes differ or are not (batch, list_size).

    Example:
        >>> from tfrankloss.functional import unique_softmax_loss
        >>> loss = unique_softmax_loss([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])
        >>> print([round(float(item), 4) for item in loss[0]])
        [1.8056, 0.0, 3.6112]

    Source: Zhu and Klabjan, "Listwise Learning to Rank by Exploring Unique Ratings", WSDM 2020.
    """
    labels, scores, mask = lists.prepare(labels, scores, mask)
    below = log_sums.lower_logsumexp(labels, scores, mask)
    losses = gains.exponential_gain(labels) * ops.softplus(below.over(scores))
    return lists.share_by_label(ops.sum(losses, axis=1), labels)


def _targets(labels: Tensor, scores: Tensor, mask: Tensor, lambda_weight: ItemWeight | None) -> Tensor:
    """What the cross entropy of each item is weighed by, (B, L)."""
    return labels if lambda_weight is None else lambda_weight.discounted_gains(labels, scores, mask)
