"""Sums over pairs of items, every pair by itself: for any loss of gaps, any labels and any lambda weight.

Every two items of a short list meet once. The pairs of long lists are taken in blocks of rows, so that never more than
``PAIRS_AT_ONCE`` of a list exist at a time.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from tfrankloss.functional import closed_form, gradients, lists, meetings, sorted_pairs
from tfrankloss.functional.lambda_weights import PairWeight, RankedItems

Tensor = Any
GapFunction = Callable[[Tensor], Tensor]

# Pairs of one list that may exist at once: all those of 256 items.
PAIRS_AT_ONCE = 2**16


class GapLoss(NamedTuple):
    """The loss of a pair as a function of its score gap d = s_i - s_j, where i is the better item.

    Attributes:
        value: The loss.
        gradient: Its derivative.
        form: How it is summed over sorted scores, where it can be.
    """

    value: GapFunction
    gradient: GapFunction
    form: sorted_pairs.SortedForm | None = None


def _softplus(values: Tensor) -> Tensor:
    """log(1 + exp(x)), in less time than ``ops.softplus`` takes on TensorFlow."""
    return ops.relu(values) + ops.log1p(ops.exp(-ops.abs(values)))


LOGISTIC = GapLoss(lambda gaps: _softplus(-gaps), lambda gaps: -ops.sigmoid(-gaps), sorted_pairs.LOGISTIC)
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


class PairRule(NamedTuple):
    """Which two items are a pair, and how much it weighs.

    Attributes:
        ties: "skip" leaves items of equal label out; "half" counts each unordered pair of them once, half of it from
            either side; "all" counts every pair of two items from either side, whatever their labels; "other" that of
            items with different labels.
        lambda_weight: What the weights are multiplied with.
    """

    ties: str
    lambda_weight: PairWeight | None = None

    def weights(self, first: Items, second: Items) -> Tensor:
        """The weight of each pair of which the first item is the better one; 0 where the two are no pair."""
        two = ops.logical_and(first.mask, second.mask)
        dtype = first.scores.dtype
        if self.ties == "skip":
            weights = ops.cast(ops.logical_and(two, first.labels > second.labels), dtype)
        elif self.ties == "other":
            weights = ops.cast(ops.logical_and(two, ops.not_equal(first.labels, second.labels)), dtype)
        else:
            two = ops.logical_and(two, ops.not_equal(first.places, second.places))
            weights = ops.cast(two, dtype)
            if self.ties == "half":
                share = ops.cast(first.labels > second.labels, dtype) + ops.cast(first.labels >= second.labels, dtype)
                weights = weights * share / 2
        return weights if self.lambda_weight is None else weights * self.pair_weights(first, second)

    def pair_weights(self, first: Items, second: Items) -> Tensor:
        """The lambda weight of each pair of which the first item is the better one."""
        weight: Any = self.lambda_weight
        return weight.pair_weights(RankedItems(first.gains, first.ranks), RankedItems(second.gains, second.ranks))


def sum_over_pairs(items: Items, gap_loss: GapLoss, rule: PairRule) -> Tensor:
    """For each item i the sum over j of weight_ij * gap_loss(s_i - s_j), (B, L).

    Args:
        items: The items, of which the scores alone get a gradient.
        gap_loss: The loss of a score gap.
        rule: Which two are a pair, and its weight.
    """
    return closed_form.losses_with_slopes(items.scores, items.mask, *sums_over_pairs(items, gap_loss, rule))


def sums_over_pairs(
    items: Items, gap_loss: GapLoss, rule: PairRule
) -> tuple[Callable[[Tensor], Sequence[Tensor]], Callable[[Tensor, Tensor], Tensor]]:
    """What ``closed_form.losses_with_slopes`` asks of ``sum_over_pairs``: both functions of the scores."""
    items = items._replace(gains=ops.stop_gradient(items.gains), ranks=ops.stop_gradient(items.ranks))
    short = _is_short(items.scores)

    def losses_and_slopes(scores):
        moved = items._replace(scores=scores)
        return _Met(moved, gap_loss, rule).losses_and_slopes() if short else _block_sums(moved, gap_loss, rule)

    def weighed_slopes(scores, weights):
        moved = items._replace(scores=scores)
        if short:
            return _Met(moved, gap_loss, rule).weighed_slopes(weights)
        return _block_sums(moved, gap_loss, rule, weights)[1]

    return losses_and_slopes, weighed_slopes


def slopes_over_pairs(items: Items, gap_loss: GapLoss, rule: PairRule) -> Tensor:
    """The gradient (B, L) of the sum of ``sum_over_pairs``."""
    if _is_short(items.scores):
        return _Met(items, gap_loss, rule).losses_and_slopes()[1]
    return _block_sums(items, gap_loss, rule)[1]


def _is_short(scores: Tensor) -> bool:
    length = scores.shape[1]
    return length is not None and length**2 <= PAIRS_AT_ONCE


def smooth_ranks(scores: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """1/2 plus the sum of sigmoid((s_j - s_i) / T) over all items j, for each item i, (B, L); 1 at padding."""
    if not _is_short(scores):

        def standing_above(gaps):
            return ops.sigmoid(-gaps / temperature)

        def slope(gaps):
            return standing_above(gaps) * standing_above(-gaps) / -temperature

        # All items are pairs: of the other fields only places are asked.
        places = ops.broadcast_to(lists.places(scores), ops.shape(scores))
        items = Items(scores, places, mask, places, places, places)
        return ops.where(mask, 1.0 + sum_over_pairs(items, GapLoss(standing_above, slope), PairRule("all")), 1.0)
    met = meetings.of_length(scores.shape[1])

    @gradients.custom_gradient
    def ranks(scores):
        first, second = met.of(scores, nobody=lists.LOWEST)
        gaps = (second - first) / temperature
        # Not 1 minus the other one, which loses its digits where it is small.
        above, below = ops.sigmoid(gaps), ops.sigmoid(-gaps)

        def gradient(*args, upstream=None):
            of_first, of_second = met.of((args[0] if upstream is None else upstream) / temperature)
            slopes = (of_second - of_first) * (above * below)
            return met.totals((slopes, None))[0]

        return 1.0 + met.totals((above, below))[0], gradient

    # Padding stands so far below that it is above no item, and what it gets itself is never used.
    items = ops.cast(mask, scores.dtype)
    return items * ranks(lists.filled(scores, items)) + (1.0 - items)


class _Met:
    """Every two items of short lists, as they meet.

    Args:
        items: The items.
        gap_loss: The loss of a score gap.
        rule: Which two are a pair, and its weight.
    """

    def __init__(self, items: Items, gap_loss: GapLoss, rule: PairRule):
        self.gap_loss = gap_loss
        self.meetings = meetings.of_length(items.scores.shape[1])
        self.one_sided = rule.ties == "skip"
        met: dict[str, Any] = {"scores": self.meetings.of(items.scores)}
        if self.one_sided:
            # NaN is neither above nor below anything.
            nan = float("nan")
            met["labels"] = self.meetings.of(ops.where(items.mask, items.labels, nan), nobody=nan)
        else:
            met |= {name: self.meetings.of(getattr(items, name)) for name in ("mask", "labels")}
        if rule.lambda_weight is not None:
            met["gains"] = self.meetings.of(items.gains)
            # No rank is below 1, and discounts may be infinite there.
            met["ranks"] = self.meetings.of(items.ranks, nobody=1)
        # Two that meet are never one and the same.
        met["places"] = (0, 1)
        first, second = (
            Items(**{name: met.get(name, met["labels"])[side] for name in Items._fields}) for side in (0, 1)
        )
        self.gaps = first.scores - second.scores
        if self.one_sided:
            self._turn(first, second, rule)
        else:
            self.weights = rule.weights(first, second), rule.weights(second, first)

    def _turn(self, first: Items, second: Items, rule: PairRule) -> None:
        """Let gaps be those of the better item to the other one, and 0 where neither is better."""
        dtype = self.gaps.dtype
        self.better = ops.cast(first.labels > second.labels, dtype)
        self.worse = ops.cast(first.labels < second.labels, dtype)
        self.signs = self.better - self.worse
        self.gaps = self.signs * self.gaps
        self.pair_weights = None
        if rule.lambda_weight is not None:
            if not getattr(rule.lambda_weight, "symmetric", False):
                first, second = (
                    one._replace(
                        gains=ops.where(self.worse > 0, other.gains, one.gains),
                        ranks=ops.where(self.worse > 0, other.ranks, one.ranks),
                    )
                    for one, other in ((first, second), (second, first))
                )
            self.pair_weights = rule.pair_weights(first, second)
            self.signs = self.signs * self.pair_weights

    def losses_and_slopes(self) -> list[Tensor]:
        """The loss of the pairs of which each item is the better one, and the gradient of the sum of all, (B, L)."""
        if not self.one_sided:
            of_first, of_second = self.weights
            losses = of_first * self.gap_loss.value(self.gaps), of_second * self.gap_loss.value(-self.gaps)
            slopes = self._slopes(of_first, of_second)
            return self.meetings.totals(losses, (slopes, None))
        losses = self.gap_loss.value(self.gaps)
        if self.pair_weights is not None:
            losses = losses * self.pair_weights
        losses = losses * self.better, losses * self.worse
        slopes = self.signs * self.gap_loss.gradient(self.gaps)
        return self.meetings.totals(losses, (slopes, None))

    def weighed_slopes(self, weights: Tensor) -> Tensor:
        """The gradient (B, L) of the sum of the losses times ``weights`` (B, L)."""
        of_first, of_second = self.meetings.of(weights)
        if not self.one_sided:
            slopes = self._slopes(self.weights[0] * of_first, self.weights[1] * of_second)
        else:
            slopes = self.signs * self.gap_loss.gradient(self.gaps) * ops.where(self.worse > 0, of_second, of_first)
        return self.meetings.totals((slopes, None))[0]

    def _slopes(self, of_first: Tensor, of_second: Tensor) -> Tensor:
        """The slope of two losses of each meeting, thus weighed, in the score of the first item."""
        return of_first * self.gap_loss.gradient(self.gaps) - of_second * self.gap_loss.gradient(-self.gaps)


def _block_sums(
    items: Items, gap_loss: GapLoss, rule: PairRule, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The losses (B, L), and the gradient (B, L) of their sum, in which they weigh ``weights`` (B, L) or all 1."""
    second = items.columns()
    blocks = tuple(map(_rows_in_blocks, items if weights is None else (*items, weights)))

    def add_block(number, state):
        losses, of_first, of_second = state
        rows = [ops.take(values, number, axis=0) for values in blocks]
        first = Items(*rows[: len(items)])
        counted, gaps = rule.weights(first, second), first.scores - second.scores
        slopes = counted * gap_loss.gradient(gaps)
        if weights is not None:
            slopes = slopes * rows[-1]
        # What TensorFlow writes into a tensor it cannot differentiate.
        here = ops.cast(ops.equal(numbers, number), slopes.dtype)
        losses, of_first = (
            sums + here * ops.sum(terms, axis=2)
            for sums, terms in ((losses, counted * gap_loss.value(gaps)), (of_first, slopes))
        )
        return losses, of_first, of_second + ops.sum(slopes, axis=1)

    nothing = ops.zeros_like(blocks[0][:, :, :, 0])
    numbers = ops.arange(ops.shape(nothing)[0], dtype="int32")[:, None, None]
    start = nothing, nothing, ops.zeros_like(items.scores)
    losses, of_first, of_second = ops.fori_loop(0, ops.shape(nothing)[0], add_block, start)
    return _joined(losses, items.scores), _joined(of_first, items.scores) - of_second


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
