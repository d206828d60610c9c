"""ListMLE of grades, of which there are few: items are counted, not sorted.

What items of one grade add to the sums of others is the same for all items of another grade. So sums over all that come
before an item, or behind it, are those over whole grades and, within a grade, a product with a triangular matrix.
"""

from typing import Any

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
    order, weights = lists.GroupOrder(lists.GRADES - 1 - labels, lists.GRADES), items
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
            order = lists.GroupOrder(lists.GRADES - 1 - grades[0], lists.GRADES)
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
