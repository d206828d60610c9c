"""ListMLE of grades, of which there are few: items are counted, not sorted.

What items of one grade add to the sums of others is the same for all items of another grade. So sums over all that come
before an item, or behind it, are those over whole grades and, within a grade, a product with a triangular matrix.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from tfrankloss.functional import gains, grade_races, lists

Tensor = Any


class Rule(NamedTuple):
    """How places count: settings of ``list_mle_loss``.

    Attributes:
        ties: How items of equal label count.
        top_k: The last place that counts; None for all.
        discount: What a place weighs; None for 1.
    """

    ties: str
    top_k: int | None
    discount: str | gains.Transform | None

    def weights(self, ranks: Tensor, items: Tensor) -> Tensor:
        """The weight of each rank (B, L): its discount, 0 beyond ``top_k`` and at padding."""
        weights = items * gains.cutoff(ranks, self.top_k)
        return weights if self.discount is None else weights * gains.get_discount(self.discount)(ranks)


def exact_losses(
    labels: Tensor, scores: Tensor, mask: Tensor, rule: Rule, upstream: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Losses (B, L) of exact ties of whole lists, and slopes; lists are no longer than ``grade_races.LONGEST``.

    Slopes (B, L) are the gradient of the sum of all losses, times ``upstream`` (B, L) where it is not None.
    """
    numbers = ops.where(mask, labels, float(lists.GRADES))
    grades = ops.cast(ops.arange(1, lists.GRADES), labels.dtype)[:, None]
    members = ops.cast(ops.equal(numbers[:, None, :], grades), scores.dtype)
    sizes = ops.sum(members, axis=2)
    weights = ops.cast(sizes > 0, scores.dtype)
    if rule.discount is not None:
        last = ops.flip(ops.cumsum(ops.flip(sizes, axis=1), axis=1), axis=1)[:, :, None]
        ranks = lists.places(scores)
        inside = ops.logical_and(ranks > last - sizes[:, :, None], ranks <= last)
        weights = ops.sum(ops.where(inside, rule.weights(ranks, ops.ones_like(ranks))[:, None, :], 0.0), axis=2)
        weights = lists.ratio(weights, sizes)
    # What belongs to a grade is spread evenly over its items.
    each = lists.ratio(weights, sizes)
    weighed = weights if upstream is None else each * ops.sum(members * upstream[:, None, :], axis=2)
    values, slopes = grade_races.log_grade_probabilities(scores, numbers, members, -weighed)
    return ops.sum(members * (-values * each)[:, :, None], axis=1), slopes


def losses(labels: Tensor, scores: Tensor, mask: Tensor, rule: Rule, upstream: Tensor | None) -> tuple[Tensor, Tensor]:
    """Losses and slopes as of ``exact_losses``, of the rules "position", "breslow" and "efron".

    Scores are centered and fit sums of their exponentials.
    """
    items = ops.cast(mask, scores.dtype)
    order, weights = _Order(labels), items
    if rule.top_k is not None or rule.discount is not None:
        weights = rule.weights(1 + order.sums_before(items), items)
    if rule.ties == "position":
        return log_shares(scores, items, weights, order.sums_before, upstream)
    # The order within the lowest grade is free.
    lowest = -ops.max(lists.filled(-labels, items), axis=1, keepdims=True, initial=lists.LOWEST)
    counted = items * ops.cast(labels > lowest, items.dtype)
    share = counted if weights is items else counted * order.means(weights, items)
    values, slopes = log_shares(scores, items, share, order.sums_apart, upstream)
    if rule.ties == "breslow":
        return values, slopes
    sizes, terms = order.totals(items), items * ops.exp(scores)
    totals = order.totals(terms)
    behind = totals + order.further(totals, behind=True)
    fractions = lists.ratio(totals, behind)
    # Behind a whole group, where only padding can be, nothing would be left to draw.
    before = counted * order.ties_before(items) * order.at_items(lists.ratio(ops.ones_like(sizes), sizes))
    drawn = before * order.at_items(fractions)
    values = values + counted * order.means(weights * ops.log1p(-drawn), items)
    # By the fraction of a grade in what is behind its first item, which its own scores raise and those below lower.
    given = sizes if upstream is None else order.totals(counted * upstream)
    of_fractions = -lists.ratio(given * order.totals(weights * before / (1 - drawn)), sizes)
    push = lists.ratio(of_fractions, behind)
    pull = push * (1 - fractions) - order.further(push * fractions)
    return values, slopes + terms * order.at_items(pull)


def log_shares(
    scores: Tensor,
    items: Tensor,
    weights: Tensor,
    sums: Callable[..., Tensor],
    upstream: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """weights * (log(sum of exp(score) of an item and of all behind it) - score), (B, L), and slopes.

    Args:
        scores: (B, L) centered scores whose exponentials do not underflow.
        items: (B, L) 0 at padding and 1 elsewhere.
        weights: (B, L) what places weigh, 0 at padding.
        sums: A function of values (B, L) that sums those before each item or, with ``behind=True``, behind it.
        upstream: As in ``exact_losses``.
    """
    terms = items * ops.exp(scores)
    behind = sums(terms, behind=True)
    own = terms + (1 - items)
    share = (weights if upstream is None else weights * upstream) / (own + behind)
    return weights * ops.log1p(behind / own), terms * sums(share) - share * behind


class _Order:
    """Items in descending order of their G grades (B, L).

    Values that are summed are 0 at padding, which may have any grade.
    """

    def __init__(self, grades: Tensor):
        descending = ops.cast(ops.arange(lists.GRADES - 1, -1, -1), grades.dtype)
        self._is_of = ops.cast(ops.equal(grades, descending[:, None, None]), grades.dtype)

    def sums_before(self, values: Tensor, behind: bool = False) -> Tensor:
        """The sum (B, L) over all items before each one, or behind it, ties in the order of the input."""
        ties = lists.sums_before(self._is_of * values, behind, lambda totals: self.further(totals, behind))
        return ops.sum(self._is_of * ties, axis=0)

    def sums_apart(self, values: Tensor, behind: bool = False) -> Tensor:
        """The sum (B, L) over all other items of the grade of each one, and those of grades before, or behind."""
        values = self._is_of * values
        totals = ops.sum(values, axis=2)
        others = totals[:, :, None] - values
        return ops.sum(self._is_of * (others + self.further(totals, behind)[:, :, None]), axis=0)

    def ties_before(self, values: Tensor) -> Tensor:
        """The sum (B, L) over the items of the same grade before each one, in the order of the input."""
        return ops.sum(self._is_of * lists.sums_before(self._is_of * values), axis=0)

    def means(self, values: Tensor, weights: Tensor) -> Tensor:
        """The sum (B, L) of values over the grade of each item over that of weights."""
        return self.at_items(lists.ratio(self.totals(values), self.totals(weights)))

    def totals(self, values: Tensor) -> Tensor:
        """The sum (G, B) over each grade."""
        return ops.sum(self._is_of * values, axis=2)

    def further(self, totals: Tensor, behind: bool = False) -> Tensor:
        """The sum (G, B) of what grades before each one have, or grades behind it."""
        before = np.tri(lists.GRADES, k=-1)
        return lists.product(ops.convert_to_tensor(before.T if behind else before, dtype=totals.dtype), totals)

    def at_items(self, totals: Tensor) -> Tensor:
        """What the grade of each item has, (B, L), of (G, B)."""
        return ops.sum(self._is_of * totals[:, :, None], axis=0)
