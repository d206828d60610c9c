"""NeuralSort: a relaxed permutation matrix that sorts scores, and the losses made of it."""

from typing import Any

from keras import ops

from tfrankloss import errors
from tfrankloss.functional import gains, gradients, lists

Tensor = Any


def neural_sort(scores: Tensor, mask: Tensor | None = None, *, temperature: float = 1.0) -> Tensor:
    r"""The relaxed permutation matrix of the descending order of the scores (NeuralSort).

    Row p holds the probabilities of the items to stand at place p. As the temperature falls, the matrix becomes the
    permutation that sorts the list; tied items share their places evenly.

    .. math:: P_{pi} = \mathrm{softmax}_i \big( ((n + 1 - 2p) s_i - \sum_j |s_i - s_j| \big) / T \big)

    Args:
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where there is none.
        temperature: T > 0, divides the scores.

    Returns:
        (B, L, L) probabilities of places (rows) and items (columns). Places after the last item hold 0, and so do the
        columns of padding.

    Raises:
        ValueError: If the shapes differ or are not (batch, list_size), or T is not positive.

    Example:
        >>> from tfrankloss.functional import neural_sort
        >>> matrix = neural_sort([[0.6, 0.8, 0.1]])
        >>> print([round(float(item), 4) for item in matrix[0, 0]])
        [0.4091, 0.4996, 0.0913]

    Source: Grover et al., "Stochastic Optimization of Sorting Networks via Continuous Relaxations", ICLR 2019.
    """
    errors.check_positive("temperature", temperature)
    _, scores, mask = lists.prepare(ops.zeros_like(scores), scores, mask)
    log_probabilities, counted = _log_neural_sort(scores, mask, temperature)
    return ops.where(counted, ops.exp(log_probabilities), 0.0)


def neural_sort_ndcg_loss(
    labels: Tensor,
    scores: Tensor,
    mask: Tensor | None = None,
    *,
    gain: str | gains.Transform = "exponential",
    discount: str | gains.Transform = "log2",
    temperature: float = 1.0,
) -> Tensor:
    r"""Minus the NDCG of each list in the relaxed order of NeuralSort (PiRank).

    For NDCG with graded labels, like ``approx_ndcg_loss``, with smooth places instead of smooth ranks. Tied scores
    share their places. The loss of a list lies between -1 and 0, and is -1 for a single item with a gain.

    .. math:: \ell = -\sum_p d(p) \sum_i P_{pi} g(y_i) / \max_{\text{order}} \sum_i g(y_i) d(r_i)

    with the matrix P of ``neural_sort``.

    Args:
        labels: (B, L) relevance of at least 0; negative marks padding.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        gain: "exponential" (2^y - 1), "linear" or a function of labels.
        discount: "log2" (1 / log2(1 + rank)), "reciprocal" or a function of 1-based ranks.
        temperature: T > 0, divides the scores.

    Returns:
        (B, L) loss per item, the list's own shared out by label; 0 at padding and in lists whose labels are all 0.

    Raises:
        ValueError: If the shapes differ or are not (batch, list_size), or an option has a wrong value.

    Example:
        >>> from tfrankloss.functional import neural_sort_ndcg_loss
        >>> loss = neural_sort_ndcg_loss([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])
        >>> print(round(sum(float(item) for item in loss[0]), 5))
        -0.64618

    Source: Swezey et al., "PiRank: Scalable Learning To Rank via Differentiable Sorting", NeurIPS 2021.
    """
    gain, discount = gains.get_gain(gain), gains.get_discount(discount)
    labels, scores, mask = lists.prepare(labels, scores, mask)
    item_gains = lists.masked(gains.relative_gains(gain, labels), mask)
    expected = ops.sum(neural_sort(scores, mask, temperature=temperature) * item_gains[:, None, :], axis=2)
    dcg = gains.dcg(expected, lists.places(scores), discount)
    ideal = gains.ideal_dcg(item_gains, mask, discount, rising=gains.rising(gain, labels))
    return lists.share_by_label(-lists.ratio(dcg, ideal), labels)


def neural_sort_cross_entropy_loss(
    labels: Tensor, scores: Tensor, mask: Tensor | None = None, *, temperature: float = 1.0
) -> Tensor:
    r"""Cross entropy between the relaxed orders of labels and of scores, the mean over the places of each list.

    For graded labels whose whole order matters. Tied labels share their places evenly, whatever their order in the
    input; the labels have no temperature.

    .. math:: \ell = -\frac1n \sum_p \sum_i P_{pi}(y) \log P_{pi}(s)

    with the matrix P of ``neural_sort``.

    Args:
        labels: (B, L) relevance of at least 0; negative marks padding.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        temperature: T > 0, divides the scores.

    Returns:
        (B, L) loss per item, the list's own shared out by label; 0 at padding and in lists whose labels are all 0.

    Raises:
        ValueError: If the shapes differ or are not (batch, list_size), or T is not positive.

    Example:
        >>> from tfrankloss.functional import neural_sort_cross_entropy_loss
        >>> loss = neural_sort_cross_entropy_loss([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])
        >>> print(round(sum(float(item) for item in loss[0]), 5))
        1.53207

    Source: Grover et al., ICLR 2019; TensorFlow Ranking's ``NeuralSortCrossEntropyLoss``.
    """
    errors.check_positive("temperature", temperature)
    labels, scores, mask = lists.prepare(labels, scores, mask)
    targets = ops.stop_gradient(neural_sort(labels, mask))
    log_probabilities, counted = _log_neural_sort(scores, mask, temperature)
    cross_entropy = -ops.sum(ops.where(counted, targets * log_probabilities, 0.0), axis=(1, 2))
    count = ops.sum(ops.cast(mask, scores.dtype), axis=1)
    return lists.share_by_label(lists.ratio(cross_entropy, count), labels)


def _log_neural_sort(scores: Tensor, mask: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The logarithm (B, L, L) of the relaxed permutation matrix, and where it holds places of items."""
    logits = _logits(scores, mask, temperature)
    count = ops.sum(ops.cast(mask, scores.dtype), axis=1, keepdims=True)
    counted = ops.logical_and((lists.places(scores) <= count)[:, :, None], mask[:, None, :])
    logits = ops.where(counted, logits, lists.LOWEST)
    return logits - ops.logsumexp(logits, axis=2, keepdims=True), counted


def _logits(scores: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """The exponents (B, L, L) of the relaxed permutation matrix, each row up to a constant.

    The gradient is that of the formula as it stands, where the sign of a tie is 0: so it does not depend on the order
    in which the sort has put the items of a tie. The constant drops out of the softmax that follows.
    """

    @gradients.custom_gradient
    def logits(scores):
        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            valid = ops.logical_and(mask[:, :, None], mask[:, None, :])
            signs = ops.where(valid, ops.sign(scores[:, :, None] - scores[:, None, :]), 0.0)
            count = ops.sum(ops.cast(mask, scores.dtype), axis=1, keepdims=True)
            of_items = ops.sum(upstream, axis=1)
            by_place = ops.sum(upstream * (count + 1 - 2 * lists.places(scores))[:, :, None], axis=1)
            by_sign = ops.sum(signs * (of_items[:, :, None] + of_items[:, None, :]), axis=2)
            return ops.where(mask, by_place - by_sign, 0.0) / temperature

        return _stable_logits(scores, mask) / temperature, gradient

    return logits(scores)


def _stable_logits(scores: Tensor, mask: Tensor) -> Tensor:
    r"""The exponents (B, L, L) of places and items minus that of the item at the place itself, without cancellation.

    The formula as it stands is a difference of sums of scores, which loses the digits of near ones. In sorted order
    it is, for the item of rank r at place p and m between them,

    .. math:: -|s_{(r)} - s_{(p)}| - 2 \sum_m |s_{(r)} - s_{(m)}|.
    """
    order = lists.descending_order(scores, mask)
    sorted_scores = lists.take(scores, order)
    distances = ops.abs(sorted_scores[:, :, None] - sorted_scores[:, None, :])
    ranks = lists.places(scores)[0]
    later = ops.where(ranks[None, :] > ranks[:, None], distances, 0.0)
    earlier = ops.where(ranks[None, :] < ranks[:, None], distances, 0.0)
    sums = ops.cumsum(later, axis=2) + ops.flip(ops.cumsum(ops.flip(earlier, axis=2), axis=2), axis=2)
    # Rows are ranks and columns places; the sums hold the distance to the place itself, which counts once, not twice.
    by_rank = distances - 2 * sums
    back = ops.argsort(order, axis=1)
    return ops.transpose(ops.take_along_axis(by_rank, back[:, :, None], axis=1), (0, 2, 1))
