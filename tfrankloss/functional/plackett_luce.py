"""ListMLE: the Plackett-Luce likelihood of the label order, with every treatment of tied labels."""

from typing import Any

import keras
from keras import ops

from tfrankloss import errors
from tfrankloss.functional import gains, grade_places, grade_races, lists, shuffles
from tfrankloss.functional.races import log_tie_probability
from tfrankloss.functional.top_places import log_top_places_probability

Tensor = Any

TIES = ("exact", "breslow", "efron", "random", "position")
SCORE_TRANSFORMS = ("exp", "identity")
# Scores of a list that differ by less are summed as they are.
LARGEST_RANGE = 30.0
# The ratio form needs positive scores; others are moved here, where the logarithm is finite and the gradient 0.
SMALLEST_RATIO_SCORE = 1e-30


def list_mle_loss(
    labels: Tensor,
    scores: Tensor,
    mask: Tensor | None = None,
    *,
    ties: str = "exact",
    top_k: int | None = None,
    discount: str | gains.Transform | None = None,
    score_transform: str = "exp",
    seed: Any = None,
) -> Tensor:
    r"""Negative log likelihood of the order of the labels under the Plackett-Luce model (ListMLE).

    The best list's place is drawn first with probability proportional to phi(score), then the next from the rest, and
    so on. Graded labels tie in almost every list, and ``ties`` decides whether ListMLE works there:

    - ``"exact"``: the likelihood that the groups of equal labels come in order, whatever the order within a group.
    - ``"breslow"``: every member of a group against the whole group and all below it; cheap, about as good.
    - ``"efron"``: Efron's correction of the same, closer to exact for large groups.
    - ``"random"``: a seeded random order of all ties, as TensorFlow Ranking does.
    - ``"position"``: the order of the input.

    With distinct labels all agree. In the first three the order inside the lowest group is free, and a list with one
    grade only has loss 0.

    .. math:: \ell = -\sum_k \log \frac{\phi(s_{(k)})}{\sum_{m \ge k} \phi(s_{(m)})}

    Args:
        labels: (B, L) relevance of at least 0; negative marks padding.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        ties: How items of equal label count, see above.
        top_k: Stop after this many places; None for all.
        discount: Weight of a place, "log2", "reciprocal" or a function of 1-based ranks (position-aware ListMLE);
            None weighs all places the same. Tied items share the mean weight of their places.
        score_transform: phi, "exp" or "identity": the ratio form, for models whose scores are above 0 (as after a
            softplus); items at or below 0 get no gradient.
        seed: An integer or ``keras.random.SeedGenerator``, needed by ``ties="random"``.

    Returns:
        (B, L) loss per item, 0 at padding. What belongs to a group of ties is spread evenly over its members.

    Raises:
        ValueError: If the shapes differ or are not (batch, list_size), or an option has a wrong value.
        TypeError: If ``top_k`` is not an integer.

    Example:
        >>> from tfrankloss.functional import list_mle_loss
        >>> loss = list_mle_loss([[2.0, 5.0, 3.0, 1.0]], [[0.7, 1.1, 2.1, 0.5]])
        >>> print(round(sum(float(item) for item in loss[0]), 4))
        2.5655

    Source: Xia et al., "Listwise Approach to Learning to Rank", ICML 2008; position-aware: Lan et al., UAI 2014; exact
    ties: Kalbfleisch and Prentice 1973; Breslow 1974; Efron 1977.
    """
    check_list_mle(ties, top_k, discount, score_transform)
    if ties == "random" and seed is None:
        raise ValueError(f'`seed` must be given with ties="random". {errors.received("seed", seed)}')
    labels, scores, mask = lists.prepare(labels, scores, mask)
    if score_transform == "identity":
        scores = ops.log(ops.where(scores > SMALLEST_RATIO_SCORE, scores, SMALLEST_RATIO_SCORE))
    if ties == "random":
        return _losses_in_order(scores, mask, *_shuffled_order(labels, mask, seed), top_k, discount)

    def by_sorting():
        return _losses_by_sorting(labels, scores, mask, ties, top_k, discount)

    is_graded = lists.are_grades(labels)
    if ties != "exact":
        centered = lists.centered(scores, mask)
        return ops.cond(
            ops.logical_and(is_graded, _is_narrow(centered)),
            lambda: grade_places.losses(labels, centered, mask, ties, top_k, discount),
            by_sorting,
        )
    is_empty = 0 in scores.shape  # Keras takes no maximum of nothing.
    is_double = keras.backend.standardize_dtype(scores.dtype) == "float64"
    if top_k is not None or is_double or is_empty:
        return by_sorting()
    return ops.cond(
        ops.logical_and(is_graded, ops.shape(scores)[1] <= grade_races.LONGEST),
        lambda: grade_places.exact_losses(labels, scores, mask, discount),
        by_sorting,
    )


def check_list_mle(ties: Any, top_k: Any, discount: Any, score_transform: Any) -> None:
    """Raise unless these are settings of ``list_mle_loss``."""
    errors.check_choice("ties", ties, TIES)
    errors.check_positive_integer("top_k", top_k, optional=True)
    if discount is not None:
        gains.get_discount(discount)
    errors.check_choice("score_transform", score_transform, SCORE_TRANSFORMS)


def _shuffled_order(labels: Tensor, mask: Tensor, seed: Any) -> tuple[Tensor, Tensor]:
    """Indices (B, L) that sort lists by descending label, and their inverse.

    Ties are in a random order of their own in each list.
    """
    if lists.is_short(labels) or labels.shape[1] is None:
        # Sorting takes less time in the former, and in the latter nothing says how many slots there are.
        draws = keras.random.uniform(ops.shape(labels), seed=seed, dtype=labels.dtype)
        order = ops.cond(
            lists.are_grades(labels),
            # Draws below 1 never change the order of whole numbers; beside large ones they would lose their digits.
            lambda: lists.descending_order(labels - draws, mask),
            lambda: _order_after(ops.argsort(draws, axis=1), labels, mask),
        )
        return order, lists.inverse(order)
    slots = shuffles.slots(ops.shape(labels), seed)

    def of_others():
        shuffled = shuffles.order_of_grades(ops.zeros_like(labels), ops.ones_like(mask), slots)
        return ops.cast(_order_after(shuffled, labels, mask), "int32")

    order = ops.cond(lists.are_grades(labels), lambda: shuffles.order_of_grades(labels, mask, slots), of_others)
    return order, lists.inverse(order)


def _order_after(shuffled: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Indices (B, L) that sort lists by descending label, ties as they stand after the shuffle by other indices."""
    order = lists.descending_order(lists.take(labels, shuffled), lists.take(mask, shuffled))
    return lists.take(shuffled, order)


def _losses_in_order(
    scores: Tensor, mask: Tensor, order: Tensor, places: Tensor, top_k: int | None, discount: Any
) -> Tensor:
    """Losses of items in an order without ties, given by indices (B, L) that sort lists and their inverse."""
    sorted_mask = mask_in_order(mask, scores)
    weights = _place_weights(sorted_mask, top_k, discount, scores.dtype)
    sorted_scores = lists.put_back(scores, places, back=order)
    return lists.put_back(weights * log_shares(sorted_scores, sorted_mask), order, back=places)


def mask_in_order(mask: Tensor, scores: Tensor) -> Tensor:
    """The mask (B, L) of sorted lists: padding is last."""
    return lists.places(scores) <= ops.sum(ops.cast(mask, scores.dtype), axis=1, keepdims=True)


def log_shares(scores: Tensor, mask: Tensor) -> Tensor:
    """For sorted items log(sum of exp(score) from each one to the end) - score, (B, L); 0 at padding."""
    scores = lists.centered(scores, mask)
    return ops.cond(
        _is_narrow(scores),
        lambda: grade_places.log_shares(scores, ops.cast(mask, scores.dtype)),
        lambda: ops.where(mask, lists.suffix_logsumexp(scores, mask).over(scores), 0.0),
    )


def _is_narrow(scores: Tensor) -> Tensor:
    """Whether the exponentials of centered scores (B, L) can be summed as they are."""
    # Beyond this, rounding of centered scores shows in the losses, and exp() of them underflows at some point.
    return ops.min(scores, initial=0.0) > -LARGEST_RANGE


def _losses_by_sorting(
    labels: Tensor, scores: Tensor, mask: Tensor, ties: str, top_k: int | None, discount: Any
) -> Tensor:
    """Losses under all rules but random ties."""
    order = lists.descending_order(labels, mask)
    places = lists.inverse(order)

    def in_order():
        return _losses_in_order(scores, mask, order, places, top_k, discount)

    if ties == "position":
        return in_order()
    sorted_labels, sorted_mask = lists.put_back(labels, places), mask_in_order(mask, scores)
    same = ops.logical_and(ops.equal(sorted_labels[:, 1:], sorted_labels[:, :-1]), sorted_mask[:, 1:])

    def of_groups():
        weights = _place_weights(sorted_mask, top_k, discount, scores.dtype)
        sorted_scores = lists.put_back(scores, places, back=order)
        losses = _tied_losses(sorted_labels, sorted_scores, sorted_mask, weights, ties, top_k)
        return lists.put_back(ops.where(sorted_mask, losses, 0.0), order, back=places)

    # Where all labels differ the rules are one.
    return ops.cond(ops.any(same), of_groups, in_order)


def _place_weights(mask: Tensor, top_k: int | None, discount: Any, dtype: str) -> Tensor:
    """The weight of each place (B, L) of sorted lists."""
    valid = ops.cast(mask, dtype)
    return grade_places.weights_of(lists.places(valid), valid, top_k, discount)


def _tied_losses(labels: Tensor, scores: Tensor, mask: Tensor, weights: Tensor, ties: str, top_k: int | None) -> Tensor:
    """Losses of sorted items under the rules that treat a group of equal labels as one."""
    groups = lists.tie_groups(labels, mask)
    suffix = lists.suffix_logsumexp(scores, mask)
    start = ops.cast(groups.first, "int32") - 1
    after, has_below = lists.group_below(groups, mask)
    counted = ops.logical_and(mask, has_below)
    share = lists.group_mean(weights, groups)
    if ties == "exact":
        below = lists.LogSum(*(lists.take(part, after) for part in suffix))
        rates = ops.where(counted, -below.over(scores), 0.0)
        losses = -share * log_tie_probability(rates, counted, groups) / groups.size
        if top_k is not None:
            losses = _cut_group(losses, rates, counted, groups, weights, top_k)
    else:
        behind = lists.LogSum(*(lists.take(part, start) for part in suffix)).over(scores)
        losses = share * behind
        if ties == "efron":
            fraction = lists.group_sum(ops.exp(ops.where(counted, -behind, lists.LOWEST)), groups)
            drawn = (lists.places(scores) - groups.first) / groups.size
            correction = weights * ops.log1p(-drawn * ops.minimum(fraction, 1.0))
            losses = losses + lists.group_mean(ops.where(counted, correction, 0.0), groups)
    return ops.where(counted, losses, 0.0)


def _cut_group(
    losses: Tensor, rates: Tensor, counted: Tensor, groups: lists.TieGroups, weights: Tensor, top_k: int
) -> Tensor:
    """``losses`` with the one group that place ``top_k`` cuts replaced by its likelihood to fill the places left."""
    last = groups.first + groups.size - 1
    cut = ops.logical_and(counted, ops.logical_and(groups.first <= top_k, last > top_k))
    log_probability = log_top_places_probability(rates, cut, groups.first, top_k)
    drawn = top_k - groups.first + 1
    share = lists.group_sum(weights, groups) / ops.where(cut, drawn, 1.0)
    return ops.where(cut, -share * log_probability / groups.size, losses)
