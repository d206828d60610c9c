"""List-wise losses that compare two distributions over a list, that of the labels and that of the scores.

Every function takes ``labels``, ``scores`` (B, L) and an optional boolean ``mask`` and returns the loss of each item,
(B, L); the loss of a list is the sum of its items.
"""

from typing import Any

from keras import ops

from tfrankloss import errors
from tfrankloss.functional import list_softmax, lists
from tfrankloss.functional.list_softmax import CrossEntropy

Tensor = Any


def list_net_loss(
    labels: Tensor, scores: Tensor, mask: Tensor | None = None, *, label_temperature: float = 1.0
) -> Tensor:
    r"""Cross entropy between the top-one probabilities of the labels and of the scores.

    Like ``softmax_loss`` with every list counting the same. Label differences act through an exponential:
    ``label_temperature`` below 1 sharpens them. A list whose labels are all 0 says nothing and has loss 0.

    .. math:: \ell_i = -p_i \log q_i, \quad p = \mathrm{softmax}(y / T), \quad q = \mathrm{softmax}(s)

    Args:
        labels: (B, L) relevance of at least 0; negative marks padding.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        label_temperature: T > 0, divides the labels.

    Returns:
        (B, L) loss per item, 0 at padding.

    Raises:
        ValueError: If the shapes differ or are not (batch, list_size), or T is not positive.

    Example:
        >>> from tfrankloss.functional import list_net_loss
        >>> loss = list_net_loss([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])
        >>> print([round(float(item), 4) for item in loss[0]])
        [0.2544, 0.0756, 1.0242]

    Source: Cao et al., "Learning to Rank: From Pairwise Approach to Listwise Approach", ICML 2007.
    """
    return list_net_cross_entropy(labels, scores, mask, label_temperature=label_temperature).losses()


def list_net_cross_entropy(
    labels: Tensor, scores: Tensor, mask: Tensor | None, *, label_temperature: float
) -> CrossEntropy:
    """What ``list_net_loss`` gives by item, to be added up by list as well."""
    errors.check_positive("label_temperature", label_temperature)
    labels, scores, mask = lists.prepare(labels, scores, mask)
    return _to_label_distribution(labels, scores, mask, label_temperature)._replace(log_targets=None)


def kl_listwise_loss(
    labels: Tensor,
    scores: Tensor,
    mask: Tensor | None = None,
    *,
    label_temperature: float = 1.0,
    labels_are_probabilities: bool = False,
) -> Tensor:
    r"""Kullback-Leibler divergence from the score distribution to the label distribution.

    ``list_net_loss`` minus the entropy of the labels: same gradient, but 0 where the scores reproduce the labels.
    With ``labels_are_probabilities`` the labels are a teacher's distribution as it is (distillation). Single items may
    be negative, lists never are. A list whose labels are all 0 says nothing and has loss 0.

    .. math:: \ell_i = p_i (\log p_i - \log q_i), \quad p = \mathrm{softmax}(y / T), \quad q = \mathrm{softmax}(s)

    Args:
        labels: (B, L) relevance of at least 0, or probabilities; negative marks padding.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        label_temperature: T > 0, divides the labels; unused with probabilities.
        labels_are_probabilities: Take p = labels.

    Returns:
        (B, L) divergence per item, 0 at padding.

    Raises:
        ValueError: If the shapes differ or are not (batch, list_size), or T is not positive.
        TypeError: If ``labels_are_probabilities`` is not a bool.

    Example:
        >>> from tfrankloss.functional import kl_listwise_loss
        >>> loss = kl_listwise_loss([[5.0, 4.0, 3.0, 1.0]], [[5.0, 4.0, 3.0, 1.0]])
        >>> print(abs(round(sum(float(item) for item in loss[0]), 4)))
        0.0

    Source: the project's list-wise document; Kullback and Leibler 1951.
    """
    divergence = kl_cross_entropy(
        labels,
        scores,
        mask,
        label_temperature=label_temperature,
        labels_are_probabilities=labels_are_probabilities,
    )
    return divergence.losses()


def kl_cross_entropy(
    labels: Tensor, scores: Tensor, mask: Tensor | None, *, label_temperature: float, labels_are_probabilities: bool
) -> CrossEntropy:
    """What ``kl_listwise_loss`` gives by item, to be added up by list as well."""
    errors.check_positive("label_temperature", label_temperature)
    errors.check_bool("labels_are_probabilities", labels_are_probabilities)
    labels, scores, mask = lists.prepare(labels, scores, mask)
    if labels_are_probabilities:
        log_targets = ops.log(ops.where(labels > 0, labels, 1.0)), ops.zeros_like(labels[:, :1])
        return CrossEntropy(labels, scores, mask, log_targets=log_targets)
    return _to_label_distribution(labels, scores, mask, label_temperature)


def teacher_probabilities(scores: Tensor, mask: Tensor | None = None, *, temperature: float = 1.0) -> Tensor:
    r"""A teacher's scores as labels for distillation: their softmax over each list, -1 at padding.

    Scores may be negative, which as labels would be padding; probabilities are not. Train the student with
    ``KLListwiseLoss(labels_are_probabilities=True, temperature=T)`` and the same T. Its gradient falls with the square
    of T: weigh it by T * T where it is summed with another loss.

    .. math:: p = \mathrm{softmax}(s / T)

    Args:
        scores: (B, L) scores of the teacher; none has a gradient afterwards.
        mask: (B, L) booleans, False at padding; None where every item counts.
        temperature: T > 0; above 1 it shows more of how the teacher orders the items it likes less.

    Returns:
        (B, L) probabilities, -1 at padding, in the dtype of the scores (float32 at least).

    Raises:
        ValueError: If the shapes differ or are not (batch, list_size), or ``temperature`` is not positive.

    Example:
        >>> from tfrankloss import KLListwiseLoss
        >>> from tfrankloss.functional import teacher_probabilities
        >>> labels = teacher_probabilities([[2.0, -2.0, 9.0]], [[True, True, False]], temperature=2.0)
        >>> print([round(float(label), 4) for label in labels[0]])
        [0.8808, 0.1192, -1.0]
        >>> student = KLListwiseLoss(labels_are_probabilities=True, temperature=2.0)
        >>> print(abs(round(float(student(labels, [[3.0, -1.0, 0.0]])), 4)))
        0.0

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network" (2015), arXiv:1503.02531.
    """
    errors.check_positive("temperature", temperature)
    scores = ops.stop_gradient(ops.convert_to_tensor(scores))
    _, scores, mask = lists.prepare(ops.zeros_like(scores), scores, mask)
    scores = lists.centered(scores, mask) / temperature
    return ops.where(mask, ops.exp(list_softmax.masked_log_softmax(scores, mask)), -1.0)


def xe_ndcg_loss(labels: Tensor, scores: Tensor, mask: Tensor | None = None, *, gamma: float = 0.5) -> Tensor:
    r"""Cross entropy between the exponential gains of the labels, as a distribution, and the scores (XE-NDCG).

    For graded labels: it bounds the NDCG of a list from below, is convex in the scores, and every list counts the same;
    LightGBM's ``rank_xendcg`` draws gamma anew for each item and step. Smaller gamma leaves more to items of label 0.
    A list whose labels are all 0 says nothing and has loss 0. Ties need no rule.

    .. math:: \ell_i = -p_i \log \mathrm{softmax}(s)_i, \quad p_i = \frac{2^{y_i} - \gamma}{\sum_j 2^{y_j} - \gamma}

    Args:
        labels: (B, L) relevance of at least 0; negative marks padding.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        gamma: From 0 to 1; at 1 items of label 0 have no part in the targets.

    Returns:
        (B, L) loss per item, 0 at padding.

    Raises:
        ValueError: If the shapes differ or are not (batch, list_size), or gamma does not lie between 0 and 1.

    Example:
        >>> from tfrankloss.functional import xe_ndcg_loss
        >>> loss = xe_ndcg_loss([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])
        >>> print([round(float(item), 4) for item in loss[0]])
        [0.2835, 0.0763, 0.9797]

    Source: Bruch, "An Alternative Cross Entropy Loss for Learning-to-Rank", WWW 2021.
    """
    return xe_ndcg_cross_entropy(labels, scores, mask, gamma=gamma).losses()


def xe_ndcg_cross_entropy(labels: Tensor, scores: Tensor, mask: Tensor | None, *, gamma: float) -> CrossEntropy:
    """What ``xe_ndcg_loss`` gives by item, to be added up by list as well."""
    errors.check_share("gamma", gamma)
    labels, scores, mask = lists.prepare(labels, scores, mask)
    # Gains relative to the largest label stay finite however large it is.
    largest = ops.max(labels, axis=1, keepdims=True, initial=0)
    two = ops.cast(2.0, labels.dtype)
    gains = ops.where(mask, ops.power(two, labels - largest) - gamma * ops.power(two, -largest), 0.0)
    targets = lists.ratio(gains, ops.sum(gains, axis=1, keepdims=True))
    return CrossEntropy(ops.where(largest > 0, targets, 0.0), scores, mask)


def _to_label_distribution(labels: Tensor, scores: Tensor, mask: Tensor, label_temperature: float) -> CrossEntropy:
    """The divergence from softmax(labels / T) over items, which weigh 0 in lists whose labels are all 0."""
    terms = list_softmax.softmax_terms(labels if label_temperature == 1 else labels / label_temperature, mask)
    return CrossEntropy(
        terms.exponentials,
        scores,
        mask,
        scale=ops.cast(terms.largest > 0, labels.dtype) / terms.total,
        log_targets=(terms.centered, ops.log(terms.total)),
        total=ops.stop_gradient(terms.total),
    )
