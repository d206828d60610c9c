"""ListMLE of lists that are sorted by label: any labels, and scores that span any range.

Losses are those of sorted items. Slopes are the gradient of their sum, of each times ``upstream`` (B, L) where that is
not None.
"""

from typing import Any

from keras import ops

from tfrankloss.functional import branches, grade_places, lists, log_sums
from tfrankloss.functional.grade_places import Rule
from tfrankloss.functional.races import log_tie_probability
from tfrankloss.functional.top_places import log_top_places_probability

Tensor = Any

# Scores of a list that differ by less are summed as they are.
LARGEST_RANGE = 30.0


def is_narrow(scores: Tensor) -> Tensor:
    """Whether the exponentials of centered scores (B, L) can be summed as they are."""
    # Beyond this, rounding of centered scores shows in the losses, and exp() of them underflows at some point.
    return ops.min(scores, initial=0.0) > -LARGEST_RANGE


def mask_in_order(mask: Tensor, scores: Tensor) -> Tensor:
    """The mask (B, L) of sorted lists: padding is last."""
    return lists.places(scores) <= ops.sum(ops.cast(mask, scores.dtype), axis=1, keepdims=True)


def losses_in_order(
    scores: Tensor, mask: Tensor, weights: Tensor, upstream: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Losses (B, L) where no items tie, and slopes; places weigh ``weights`` (B, L), 0 at padding."""
    centered, items = lists.centered(scores, mask), ops.cast(mask, scores.dtype)

    def of_any():
        sums = log_sums.suffix_logsumexp(centered, mask)
        weighed = weights if upstream is None else weights * upstream
        slopes = log_sums.suffix_slopes(centered, mask, sums, weighed) - weighed
        return ops.where(mask, weights * sums.over(centered), 0.0), slopes

    return ops.cond(
        is_narrow(centered),
        lambda: grade_places.log_shares(centered, items, weights, lists.sums_before, upstream),
        branches.lazily(of_any),
    )


def losses_of_groups(
    labels: Tensor, scores: Tensor, mask: Tensor, rule: Rule, upstream: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Losses (B, L) under the rules that treat a group of equal labels as one, and slopes.

    Args:
        labels: (B, L) labels.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding.
        rule: Of ties "exact", "breslow" or "efron".
        upstream: (B, L), 0 at padding, or None for 1.
    """
    weights = rule.weights(lists.places(scores), ops.cast(mask, scores.dtype))
    groups = lists.tie_groups(labels, mask)
    suffix = log_sums.suffix_logsumexp(scores, mask)
    after, has_below = lists.group_below(groups, mask)
    counted = ops.logical_and(mask, has_below)
    share = lists.group_mean(weights, groups)
    given = ops.cast(counted, scores.dtype)
    # What a loss of the whole group, spread over its members, weighs at each of them.
    shared = given if upstream is None else lists.group_mean(given * upstream, groups)
    if rule.ties == "exact":
        place = after
        rates = ops.where(counted, -_at(suffix, after).over(scores), 0.0)
        value, slope = log_tie_probability(rates, counted, groups)
        losses, own = -share * value / groups.size, -share * slope
        if rule.top_k is not None:
            losses, own = _with_cut_group(losses, own, rates, counted, groups, weights, rule.top_k)
        own = own * shared
    else:
        place = ops.cast(groups.first, "int32") - 1
        behind = ops.where(counted, _at(suffix, place).over(scores), 0.0)
        losses, own = share * behind, -share * (given if upstream is None else given * upstream)
        if rule.ties == "efron":
            parts = ops.where(counted, ops.exp(-behind), 0.0)
            correction, slope = _efron(parts, given, groups, weights)
            losses, own = losses + correction, own + shared * slope
    losses = ops.where(counted, losses, 0.0)
    own = ops.where(counted, own, 0.0)
    # Losses are of scores less the log of a sum behind them, which gets what they get, turned round.
    return losses, own + log_sums.suffix_slopes(scores, mask, suffix, lists.total_at(-own, place))


def _at(sums: log_sums.LogSum, places: Tensor) -> log_sums.LogSum:
    return log_sums.LogSum(*(lists.take(part, places) for part in sums))


def _efron(parts: Tensor, counted: Tensor, groups: lists.TieGroups, weights: Tensor) -> tuple[Tensor, Tensor]:
    """What Efron's rule adds to the loss of each item, (B, L), and the slope of what it adds to those of its group.

    ``parts`` (B, L) are the shares of items in the sum over their group and all below it.
    """
    drawn = (lists.places(parts) - groups.first) / groups.size
    left = 1 - drawn * ops.minimum(lists.group_sum(parts, groups), 1.0)
    correction = lists.group_mean(counted * weights * ops.log(left), groups)
    return correction, -parts * lists.group_sum(counted * weights * drawn / left, groups)


def _with_cut_group(
    losses: Tensor,
    own: Tensor,
    rates: Tensor,
    counted: Tensor,
    groups: lists.TieGroups,
    weights: Tensor,
    top_k: int,
) -> tuple[Tensor, Tensor]:
    """Losses and slopes with those of the group that place ``top_k`` cuts: its likelihood to fill the places left."""
    last = groups.first + groups.size - 1
    cut = ops.logical_and(counted, ops.logical_and(groups.first <= top_k, last > top_k))
    value, slopes = log_top_places_probability(rates, cut, groups.first, top_k)
    share = lists.group_sum(weights, groups) / ops.where(cut, top_k - groups.first + 1, 1.0)
    return ops.where(cut, -share * value / groups.size, losses), ops.where(cut, -share * slopes, own)
