"""NeuralSort: a relaxed permutation matrix that sorts scores, and the losses made of it."""

from collections.abc import Callable
from typing import Any

from keras import ops

from tfrankloss import errors
from tfrankloss.functional import gains, gradients, lists

Tensor = Any
PlaceTerms = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

# How far padding is behind the last item: exp(-OUTSIDE) is 0.
OUTSIDE = 1e4
# That many places times items of a list exist at once.
PLACES_AND_ITEMS = 2**13


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

    @gradients.custom_gradient
    def matrix(scores):
        ordered = _Ordered(scores, mask, temperature)
        steps, counted = ordered.steps_from(ops.transpose(lists.places(scores))), ordered.mask
        counted = ops.cast(ops.logical_and(counted[:, :, None], counted[:, None, :]), scores.dtype)
        probabilities = counted * _softmax(ordered.distances(steps))

        def gradient(*args, upstream=None):
            upstream = _take_items(args[0] if upstream is None else upstream, ordered.order)
            slopes = probabilities * (upstream - ops.sum(probabilities * upstream, axis=2, keepdims=True))
            return ordered.slopes(ops.sum(slopes, axis=1), ops.sum(slopes * steps, axis=1))

        return _take_items(probabilities, lists.inverse(ordered.order)), gradient

    return matrix(scores)


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
    share their places. The loss of a list lies between -1 and 0, and is -1 for a single item with a gain. Time grows
    with L squared, memory with L.

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
    errors.check_positive("temperature", temperature)
    gain, discount = gains.get_gain(gain), gains.get_discount(discount)
    labels, scores, mask = lists.prepare(labels, scores, mask)
    item_gains = lists.masked(gains.relative_gains(gain, labels), mask)
    ideal = gains.ideal_dcg(item_gains, mask, discount, rising=gains.rising(gain, labels))

    def discounted_gains(ordered):
        sorted_gains = lists.take(item_gains, ordered.order)[:, None, :]

        def of_places(places, distances):
            probabilities = _softmax(distances)
            expected = ops.sum(probabilities * sorted_gains, axis=2, keepdims=True)
            discounts = discount(places)
            return discounts * expected, discounts * probabilities * (sorted_gains - expected)

        return of_places

    dcg = _sum_over_places(scores, mask, temperature, discounted_gains)
    return lists.share_by_label(-lists.ratio(dcg, ideal), labels)


def neural_sort_cross_entropy_loss(
    labels: Tensor, scores: Tensor, mask: Tensor | None = None, *, temperature: float = 1.0
) -> Tensor:
    r"""Cross entropy between the relaxed orders of labels and of scores, the mean over the places of each list.

    For graded labels whose whole order matters. Tied labels share their places evenly, whatever their order in the
    input; the labels have no temperature. Time grows with L squared, memory with L.

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
    count = ops.sum(ops.cast(mask, scores.dtype), axis=1)

    def cross_entropies(ordered):
        by_label = _Ordered(labels, mask, 1.0)
        ranks = lists.take(lists.inverse(by_label.order), ordered.order)

        def of_places(places, distances):
            targets = _take_items(_softmax(by_label.distances(by_label.steps_from(places))), ranks)
            probabilities = ops.exp(-distances)
            total = ops.sum(probabilities, axis=2, keepdims=True)
            losses = ops.sum(targets * distances, axis=2, keepdims=True) + ops.log(total)
            return losses, probabilities / total - targets

        return of_places

    cross_entropy = _sum_over_places(scores, mask, temperature, cross_entropies)
    return lists.share_by_label(lists.ratio(cross_entropy, count), labels)


class _Ordered:
    r"""Lists in descending order of their scores, which count divided by the temperature.

    The formula as it stands is a difference of sums of scores, which loses the digits of near ones. Minus that of the
    item of rank p it is, for the item of rank r at place p and m between the two, of no differences but of neighbours:

    .. math:: -|s_{(r)} - s_{(p)}| - 2 \sum_m |s_{(r)} - s_{(m)}|
        = -\sum_k (2 |k - p| + 1) (s_{(k)} - s_{(k + 1)})

    with k from p to r - 1, and likewise for items above the place.

    Attributes:
        order: (B, L) indices that sort the lists.
        mask: (B, L) the mask in that order.
    """

    def __init__(self, scores: Tensor, mask: Tensor, temperature: float):
        self._temperature = temperature
        self.order = lists.descending_order(scores, mask)
        self.mask = lists.take(mask, self.order)
        self._scores = lists.take(scores, self.order)
        gaps = self._scores[:, :-1] - self._scores[:, 1:]
        # Dividing the scores would round at their size, which may dwarf the gaps.
        gaps = ops.where(self.mask[:, 1:], gaps / temperature, OUTSIDE)
        none = ops.zeros_like(self._scores[:, :1])
        self._above = ops.concatenate([none, gaps], axis=1)[:, None, :]
        self._below = ops.concatenate([gaps, none], axis=1)[:, None, :]

    def steps_from(self, places: Tensor) -> Tensor:
        """Twice the steps (R, L) down from places (R, 1) to the rank of each item."""
        return 2 * (lists.places(self._scores) - places)

    def distances(self, steps: Tensor) -> Tensor:
        """How much less than the item of its own rank each one belongs at places, (B, R, L), as exponents."""
        down = lists.sums_before(self._below * ops.relu(1 + steps))
        return down + lists.sums_before(self._above * ops.relu(1 - steps), behind=True)

    def slopes(self, of_items: Tensor, by_steps: Tensor) -> Tensor:
        """The gradient (B, L) of what has, by exponents of all places and items, the gradient u.

        It is that of the formula as it stands, where the sign of a tie is 0: so it does not depend on the order in
        which the sort has put the items of a tie.

        Args:
            of_items: (B, L) the sum of u over places.
            by_steps: (B, L) the same of u times ``steps``.
        """
        groups = lists.tie_groups(self._scores, self.mask)
        first = ops.cast(groups.first, "int32") - 1
        last = first + ops.cast(groups.size, "int32") - 1
        off_middle = 2 * (groups.first - lists.places(of_items)) + groups.size - 1
        above = lists.take(lists.sums_before(of_items), first)
        below = lists.take(lists.sums_before(of_items, behind=True), last)
        slopes = (by_steps + off_middle * of_items + above - below) / self._temperature
        return lists.put_back(ops.where(self.mask, slopes, 0.0), self.order)


def _sum_over_places(
    scores: Tensor, mask: Tensor, temperature: float, terms: Callable[[_Ordered], PlaceTerms]
) -> Tensor:
    """The sum (B,) over the places of each list.

    Args:
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding.
        temperature: Divides the scores.
        terms: For sorted lists a function of places (R, 1) and of the distances (B, R, L) of items from them, which
            gives what is summed, (B, R, 1), and its gradient by exponents, (B, R, L).
    """

    @gradients.custom_gradient
    def sums(scores):
        ordered = _Ordered(scores, mask, temperature)
        of_places = terms(ordered)
        length, count = ops.shape(scores)[1], ops.sum(ops.cast(mask, scores.dtype), axis=1)[:, None, None]
        height = _places_at_once(scores.shape[1])

        def add_block(number, state):
            total, of_items, by_steps = state
            places = ops.cast(number * height + ops.arange(1, height + 1), scores.dtype)[:, None]
            steps, counted = ordered.steps_from(places), ops.cast(places <= count, scores.dtype)
            values, slopes = of_places(places, ordered.distances(steps))
            slopes = counted * slopes
            return (
                total + ops.sum(counted * values, axis=(1, 2)),
                of_items + ops.sum(slopes, axis=1),
                by_steps + ops.sum(slopes * steps, axis=1),
            )

        nothing = ops.zeros_like(scores)
        blocks = (length + height - 1) // height
        total, *sums = ops.fori_loop(0, blocks, add_block, (ops.sum(nothing, axis=1), nothing, nothing))
        slopes = ordered.slopes(*sums)

        def gradient(*args, upstream=None):
            return (args[0] if upstream is None else upstream)[:, None] * slopes

        return total, gradient

    return sums(scores)


def _places_at_once(length: int | None) -> int:
    return 16 if length is None else max(1, min(length, PLACES_AND_ITEMS // max(length, 1)))


def _softmax(distances: Tensor) -> Tensor:
    """Probabilities (B, R, L) of items; the least of their distances is 0."""
    exponentials = ops.exp(-distances)
    return exponentials / ops.sum(exponentials, axis=2, keepdims=True)


def _take_items(values: Tensor, order: Tensor) -> Tensor:
    """``values`` (B, R, L) with the items in the order of indices (B, L)."""
    return ops.transpose(lists.take(ops.transpose(values, (0, 2, 1)), order), (0, 2, 1))
