r"""The pair engine: which two items of a list are compared, and the sum of a loss over those pairs.

A pairwise loss supplies the loss of a score gap d = s_i - s_j, where i is the better item, and its derivative.
Everything else is here, with the gradient in closed form. Pairs are taken in one of two ways:

- dense: every pair by itself, those of long lists in blocks of rows, so that never more than ``PAIRS_AT_ONCE`` of a
  list exist at a time: for any loss, any labels and any lambda weight;
- sorted: by sums over sorted scores, in time that grows with L log L, for losses that have a ``GapForm``, where ties
  are skipped and pairs have no weights.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

from tfrankloss import errors
from tfrankloss.functional import lists, sorted_pairs
from tfrankloss.functional.lambda_weights import PairWeight, RankedItems, ranked_items

Tensor = Any
GapFunction = Callable[[Tensor], Tensor]

PAIRS = ("graded", "binary")
TIES = ("skip", "half")
PAIR_REDUCTIONS = ("sum", "mean")
METHODS = ("auto", "dense", "sorted")
# Pairs of one list that may exist at once: all those of 256 items.
PAIRS_AT_ONCE = 2**16


class GapLoss(NamedTuple):
    """The loss of a pair as a function of its score gap d = s_i - s_j, where i is the better item.

    Attributes:
        value: The loss.
        gradient: Its derivative.
        form: The same by kernels of sorted scores, where there are such.
    """

    value: GapFunction
    gradient: GapFunction
    form: sorted_pairs.GapForm | None = None


LOGISTIC = GapLoss(lambda gaps: ops.softplus(-gaps), lambda gaps: -ops.sigmoid(-gaps), sorted_pairs.LOGISTIC)
SOFT_ZERO_ONE = GapLoss(
    lambda gaps: ops.sigmoid(-gaps),
    lambda gaps: -ops.sigmoid(gaps) * ops.sigmoid(-gaps),
    sorted_pairs.SOFT_ZERO_ONE,
)
SQUARE = GapLoss(ops.square, lambda gaps: 2 * gaps)


class Items(NamedTuple):
    """Items as pairs see them, each field (B, L) or a view that broadcasts against others.

    Attributes:
        scores: The scores.
        labels: The labels.
        mask: False at padding.
        places: The number of each item in its list.
        gains: What a lambda weight takes an item for; like the labels where there is none.
        ranks: Its present place for a lambda weight; like the labels where there is none.
    """

    scores: Tensor
    labels: Tensor
    mask: Tensor
    places: Tensor
    gains: Tensor
    ranks: Tensor

    def rows(self) -> "Items":
        """As the first items (B, L, 1) of pairs."""
        return Items(*(values[:, :, None] for values in self))

    def columns(self) -> "Items":
        """As the second items (B, 1, L) of pairs."""
        return Items(*(values[:, None, :] for values in self))


Weigh = Callable[[Items, Items], Tensor]


def check_pairs(pairs: Any, ties: Any, pair_reduction: Any) -> None:
    """Raise unless these are settings of the pair engine."""
    errors.check_choice("pairs", pairs, PAIRS)
    errors.check_choice("ties", ties, TIES)
    errors.check_choice("pair_reduction", pair_reduction, PAIR_REDUCTIONS)


def check_method(method: Any, *, ties: str = "skip", lambda_weight: Any = None) -> None:
    """Raise unless pairs can be taken by ``method``."""
    errors.check_choice("method", method, METHODS)
    if method == "sorted" and (ties != "skip" or lambda_weight is not None):
        raise ValueError(
            '`method` must be "auto" or "dense" where ties count or pairs have weights. '
            f"Received: method={method!r}, ties={ties!r}, lambda_weight={lambda_weight!r}"
        )


def by_sorting(method: str, length: int | None, *, ties: str = "skip", lambda_weight: Any = None) -> bool:
    """Whether ``method`` sorts lists of this static length, or of any where it is None."""
    if ties != "skip" or lambda_weight is not None:
        return False
    return method == "sorted" or (method == "auto" and (length is None or length > lists.SHORT))


def pair_losses(
    labels: Tensor,
    scores: Tensor,
    mask: Tensor | None,
    gap_loss: GapLoss,
    *,
    pairs: str,
    ties: str = "skip",
    pair_reduction: str,
    lambda_weight: PairWeight | None,
    method: str = "auto",
) -> Tensor:
    """The loss of each item, (B, L): ``gap_loss`` summed over the pairs in which it is the better one.

    Arguments are those of ``rank_net_loss``.
    """
    check_pairs(pairs, ties, pair_reduction)
    check_method(method, ties=ties, lambda_weight=lambda_weight)
    labels, scores, mask = lists.prepare(labels, scores, mask)
    compared = compared_labels(labels, pairs)
    if gap_loss.form and by_sorting(method, scores.shape[1], ties=ties, lambda_weight=lambda_weight):
        losses = _sum_by_sorting(compared, scores, mask, gap_loss.form)
    else:
        items = items_of(labels, scores, mask, lambda_weight)._replace(labels=compared)
        losses = sum_over_pairs(items, gap_loss, weigher(ties, lambda_weight))
    return reduce_pairs(losses, compared, mask, ties, pair_reduction)


def compared_labels(labels: Tensor, pairs: str) -> Tensor:
    """The labels by which items are better or worse: "binary" only asks whether they are above 0."""
    return ops.cast(labels > 0, labels.dtype) if pairs == "binary" else labels


def items_of(labels: Tensor, scores: Tensor, mask: Tensor, lambda_weight: PairWeight | None) -> Items:
    """The items of lists, with the gains and ranks that a lambda weight takes them for."""
    places = ops.broadcast_to(lists.places(scores), ops.shape(scores))
    if lambda_weight is None:
        return Items(scores, labels, mask, places, labels, labels)
    return Items(scores, labels, mask, places, *ranked_items(lambda_weight, labels, scores, mask))


def weigher(ties: str, lambda_weight: PairWeight | None = None) -> Weigh:
    """The weight of pairs of two items, the first of which is better: 0 where they are no pair.

    Args:
        ties: "skip" leaves items of equal label out; "half" counts each unordered pair of them once, half of it from
            either side; "all" counts every pair of two items from either side, whatever their labels; "other" that of
            items with different labels.
        lambda_weight: What the weights are multiplied with.
    """

    def weigh(first: Items, second: Items) -> Tensor:
        valid = ops.logical_and(first.mask, second.mask)
        weights = ops.cast(ops.logical_and(valid, first.labels > second.labels), first.scores.dtype)
        if ties == "other":
            weights = ops.cast(ops.logical_and(valid, ops.not_equal(first.labels, second.labels)), weights.dtype)
        elif ties != "skip":
            two = ops.cast(ops.logical_and(valid, ops.not_equal(first.places, second.places)), weights.dtype)
            tied = ops.cast(ops.equal(first.labels, second.labels), weights.dtype)
            weights = two if ties == "all" else weights + two * tied / 2
        if lambda_weight is None:
            return weights
        views = (RankedItems(items.gains, items.ranks) for items in (first, second))
        return weights * lambda_weight.pair_weights(*views)

    return weigh


def number_of_pairs(labels: Tensor, mask: Tensor, ties: str) -> Tensor:
    """How many pairs (B,) of each list count, as ``weigher`` weighs them without a lambda weight."""
    count = ops.sum(ops.cast(mask, labels.dtype), axis=1)
    if ties in ("half", "all"):
        return count * (count - 1) / (2 if ties == "half" else 1)
    better = ops.sum(lists.worse_items(labels, mask), axis=1)
    return 2 * better if ties == "other" else better


def reduce_pairs(losses: Tensor, labels: Tensor, mask: Tensor, ties: str, pair_reduction: str) -> Tensor:
    """``losses`` (B, L) as they are, or divided by the number of pairs of their list."""
    if pair_reduction == "sum":
        return losses
    return losses / ops.maximum(number_of_pairs(labels, mask, ties), 1.0)[:, None]


def _sum_by_sorting(labels: Tensor, scores: Tensor, mask: Tensor, form: sorted_pairs.GapForm) -> Tensor:
    """The loss (B, L) of the pairs in which each item is the better one."""

    @ops.custom_gradient
    def losses(scores):
        values, slopes = sorted_pairs.losses_and_slopes(labels, scores, mask, form)

        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            # Items of a list mostly weigh the same: then the slopes are known already.
            largest = ops.max(ops.where(mask, upstream, lists.LOWEST), axis=1, keepdims=True)
            return ops.cond(
                ops.all(ops.logical_or(ops.equal(upstream, largest), ops.logical_not(mask))),
                lambda: ops.where(mask, largest, 0.0) * slopes,
                lambda: sorted_pairs.weighed_slopes(labels, scores, mask, form, upstream),
            )

        return values, gradient

    return losses(scores)


def sum_over_pairs(items: Items, gap_loss: GapLoss, weigh: Weigh) -> Tensor:
    """For each item i the sum over j of weight_ij * gap_loss(s_i - s_j), (B, L), every pair by itself.

    Args:
        items: The items, of which the scores alone get a gradient.
        gap_loss: The loss of a score gap.
        weigh: The weight of each pair.
    """
    items = items._replace(gains=ops.stop_gradient(items.gains), ranks=ops.stop_gradient(items.ranks))
    in_blocks = _too_long(items)
    weights = None if in_blocks else weigh(items.rows(), items.columns())

    @ops.custom_gradient
    def losses(scores):
        moved = items._replace(scores=scores)

        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            if in_blocks:
                return _block_slopes(moved, gap_loss, weigh, upstream)
            return _slopes(scores, gap_loss, weights, upstream)

        if in_blocks:
            return _block_values(moved, gap_loss, weigh), gradient
        return ops.sum(weights * gap_loss.value(_gaps(scores)), axis=2), gradient

    return losses(items.scores)


def slopes_over_pairs(items: Items, gap_loss: GapLoss, weigh: Weigh, upstream: Tensor) -> Tensor:
    """The gradient (B, L) of the sum of ``sum_over_pairs`` times ``upstream`` (B, L)."""
    if _too_long(items):
        return _block_slopes(items, gap_loss, weigh, upstream)
    return _slopes(items.scores, gap_loss, weigh(items.rows(), items.columns()), upstream)


def _too_long(items: Items) -> bool:
    length = items.scores.shape[1]
    return length is None or length**2 > PAIRS_AT_ONCE


def _gaps(scores: Tensor) -> Tensor:
    return scores[:, :, None] - scores[:, None, :]


def _slopes(scores: Tensor, gap_loss: GapLoss, weights: Tensor, upstream: Tensor) -> Tensor:
    slopes = weights * gap_loss.gradient(_gaps(scores)) * upstream[:, :, None]
    return ops.sum(slopes, axis=2) - ops.sum(slopes, axis=1)


def _block_values(items: Items, gap_loss: GapLoss, weigh: Weigh) -> Tensor:
    second = items.columns()

    def of_block(block):
        first = Items(*block)
        return ops.sum(weigh(first, second) * gap_loss.value(first.scores - second.scores), axis=2)

    return _joined(ops.map(of_block, tuple(map(_rows_in_blocks, items))), items.scores)


def _block_slopes(items: Items, gap_loss: GapLoss, weigh: Weigh, upstream: Tensor) -> Tensor:
    second = items.columns()
    blocks = tuple(map(_rows_in_blocks, (*items, upstream)))

    def add_block(number, state):
        of_first, of_second = state
        *block, of_losses = (ops.take(values, number, axis=0) for values in blocks)
        first = Items(*block)
        slopes = weigh(first, second) * gap_loss.gradient(first.scores - second.scores) * of_losses
        of_first = ops.slice_update(of_first, (number, 0, 0), ops.sum(slopes, axis=2)[None])
        return of_first, of_second + ops.sum(slopes, axis=1)

    start = ops.zeros_like(blocks[0][:, :, :, 0]), ops.zeros_like(items.scores)
    of_first, of_second = ops.fori_loop(0, ops.shape(blocks[0])[0], add_block, start)
    return _joined(of_first, items.scores) - of_second


def _rows_in_blocks(values: Tensor) -> Tensor:
    """(B, L) as blocks (n, B, R, 1) of rows, the last one filled up with its last item, or False where it is a mask."""
    batch, length = ops.shape(values)
    static = values.shape[1]
    height = 32 if static is None else max(1, PAIRS_AT_ONCE // static)
    missing = (height - length % height) % height
    last = values[:, -1:]
    last = ops.zeros_like(last) if keras.backend.standardize_dtype(values.dtype) == "bool" else last
    filled = ops.concatenate([values, ops.broadcast_to(last, (batch, missing))], axis=1)
    return ops.transpose(ops.reshape(filled, (batch, (length + missing) // height, height, 1)), (1, 0, 2, 3))


def _joined(blocks: Tensor, like: Tensor) -> Tensor:
    """Blocks (n, B, R) as lists again, (B, L) as ``like`` is."""
    blocks = ops.transpose(blocks, (1, 0, 2))
    return ops.reshape(blocks, (ops.shape(like)[0], -1))[:, : ops.shape(like)[1]]
