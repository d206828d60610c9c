"""ListMLE of grades, of which there are few: items are counted, not sorted.

What items of one grade add to the sums of others is the same for all items of another grade. So sums over all that come
before an item, or behind it, are those over whole grades and, within a grade, a product with a triangular matrix.
"""

from typing import Any

import numpy as np
from keras import ops

from tfrankloss.functional import gains, grade_races, gradients, lists

Tensor = Any


def exact_losses(labels: Tensor, scores: Tensor, mask: Tensor, discount: Any) -> Tensor:
    """Losses (B, L) of exact ties; lists are no longer than ``grade_races.LONGEST``."""
    numbers = ops.where(mask, labels, float(lists.GRADES))
    grades = ops.cast(ops.arange(1, lists.GRADES), labels.dtype)[:, None]
    members = ops.cast(ops.equal(numbers[:, None, :], grades), scores.dtype)
    losses = -grade_races.log_grade_probabilities(scores, numbers, members)
    sizes = ops.sum(members, axis=2)
    if discount is not None:
        last = ops.flip(ops.cumsum(ops.flip(sizes, axis=1), axis=1), axis=1)[:, :, None]
        ranks = lists.places(scores)
        inside = ops.logical_and(ranks > last - sizes[:, :, None], ranks <= last)
        weights = ops.sum(ops.where(inside, gains.get_discount(discount)(ranks)[:, None, :], 0.0), axis=2)
        losses = losses * lists.ratio(weights, sizes)
    return ops.sum(members * lists.ratio(losses, sizes)[:, :, None], axis=1)


def losses(labels: Tensor, scores: Tensor, mask: Tensor, ties: str, top_k: int | None, discount: Any) -> Tensor:
    """Losses (B, L) under the rules "position", "breslow" and "efron", of centered scores that fit their sums."""
    items = ops.cast(mask, scores.dtype)
    order, weights = _Order(labels), items
    if top_k is not None or discount is not None:
        weights = weights_of(1 + order.sums_before(items), items, top_k, discount)
    if ties == "position":
        return weights * log_shares(scores, items, labels)
    # The order within the lowest grade is free.
    lowest = -ops.max(lists.filled(-labels, items), axis=1, keepdims=True, initial=lists.LOWEST)
    counted = items * ops.cast(labels > lowest, items.dtype)
    share = counted if weights is items else counted * order.means(weights, items)
    result = share * log_shares(scores, items, labels, all_ties=True)
    if ties == "efron":
        totals, sizes = order.totals(items * ops.exp(scores)), order.totals(items)
        fractions = lists.ratio(totals, totals + order.further(totals, behind=True))
        # Behind a whole group, where only padding can be, nothing would be left to draw.
        drawn = counted * order.ties_before(items) * order.at_items(lists.ratio(fractions, sizes))
        result = result + counted * order.means(weights * ops.log1p(-drawn), items)
    return result


def weights_of(ranks: Tensor, items: Tensor, top_k: int | None, discount: Any) -> Tensor:
    """The weight of each rank (B, L): its discount, 0 beyond ``top_k`` and at padding."""
    weights = items * gains.cutoff(ranks, top_k)
    return weights if discount is None else weights * gains.get_discount(discount)(ranks)


def log_shares(scores: Tensor, items: Tensor, grades: Tensor | None = None, all_ties: bool = False) -> Tensor:
    """log(sum of exp(score) of an item and of all behind it) - score, (B, L), of centered scores.

    Args:
        scores: (B, L) scores whose exponentials do not underflow.
        items: (B, L) 0 at padding and 1 elsewhere.
        grades: (B, L) grades by which items are ordered; None if they stand in order.
        all_ties: Whether all items of the grade of an item count as behind it.
    """

    # All are arguments: JAX takes no function with a gradient of its own into a branch if it looks beyond those.
    @gradients.custom_gradient
    def of_items(scores, items, *grades):
        if grades:
            order = _Order(grades[0])
            sums = order.sums_apart if all_ties else order.sums_before
        else:
            sums = lists.sums_before
        terms = items * ops.exp(scores)
        behind = sums(terms, behind=True)
        own = terms + (1 - items)

        def gradient(*args, upstream=None):
            upstream = items * (args[0] if upstream is None else upstream)
            share = upstream / (own + behind)
            return terms * sums(share) - share * behind, *map(ops.zeros_like, (items, *grades))

        return ops.log1p(behind / own), gradient

    return of_items(scores, items, *(() if grades is None else (grades,)))


class _Order:
    """Items in descending order of their G grades (B, L).

    Values that are summed are 0 at padding, which may have any grade.
    """

    def __init__(self, grades: Tensor):
        descending = ops.cast(ops.arange(lists.GRADES - 1, -1, -1), grades.dtype)
        self._is_of = ops.cast(ops.equal(grades, descending[:, None, None]), grades.dtype)

    def sums_before(self, values: Tensor, behind: bool = False) -> Tensor:
        """The sum (B, L) over all items before each one, or behind it, ties in the order of the input."""
        values = self._is_of * values
        return self._with_further(lists.sums_before(values, behind), ops.sum(values, axis=2), behind)

    def sums_apart(self, values: Tensor, behind: bool = False) -> Tensor:
        """The sum (B, L) over all other items of the grade of each one, and those of grades before, or behind."""
        values = self._is_of * values
        totals = ops.sum(values, axis=2)
        return self._with_further(totals[:, :, None] - values, totals, behind)

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

    def _with_further(self, ties: Tensor, totals: Tensor, behind: bool) -> Tensor:
        return ops.sum(self._is_of * (ties + self.further(totals, behind)[:, :, None]), axis=0)
