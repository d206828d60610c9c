"""ListMLE: the Plackett-Luce likelihood of the label order, with every treatment of tied labels."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

from tfrankloss import errors
from tfrankloss.functional import (
    branches,
    closed_form,
    gains,
    grade_places,
    grade_races,
    lists,
    shuffles,
    sorted_places,
)
from tfrankloss.functional.grade_places import Rule

Tensor = Any

TIES = ("exact", "breslow", "efron", "random", "position")
SCORE_TRANSFORMS = ("exp", "identity")
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
    settings = {"ties": ties, "top_k": top_k, "discount": discount, "score_transform": score_transform, "seed": seed}
    scores, mask, of_scores = _read(labels, scores, mask, by_item=True, **settings)
    return closed_form.losses_with_slopes(scores, mask, of_scores, lambda *given: of_scores(*given)[1])


def list_mle_sums(labels: Tensor, scores: Tensor, mask: Tensor, weights: Tensor | None, **settings: Any) -> Tensor:
    """The sum (B,) of ``list_mle_loss`` over each list, its items weighed by ``weights`` (B, L), or None for 1.

    Less to compile than the losses of items, whose gradient has to be ready for any weights. ``settings`` are all those
    of ``list_mle_loss``.
    """
    scores, mask, of_scores = _read(labels, scores, mask, by_item=weights is not None, **settings)
    return closed_form.sums_with_slopes(scores, weights, of_scores)


def _read(
    labels: Tensor,
    scores: Tensor,
    mask: Tensor | None,
    *,
    by_item: bool,
    ties: str,
    top_k: int | None,
    discount: Any,
    score_transform: str,
    seed: Any,
) -> tuple[Tensor, Tensor, Callable[..., tuple[Tensor, Tensor]]]:
    """Scores and mask of clean lists, and a function of scores, and of what losses weigh or None, for both.

    It gives losses (B, L), without weights, and slopes (B, L), those of their weighed sum. Unless ``by_item``, losses
    may stand at other places of their lists than the items they are of: only their sums are right.
    """
    check_list_mle(ties, top_k, discount, score_transform)
    if ties == "random" and seed is None:
        raise ValueError(f'`seed` must be given with ties="random". {errors.received("seed", seed)}')
    labels, scores, mask = lists.prepare(labels, scores, mask)
    if score_transform == "identity":
        scores = ops.log(ops.where(scores > SMALLEST_RATIO_SCORE, scores, SMALLEST_RATIO_SCORE))
    rule = Rule(ties, top_k, discount)
    if ties == "random":
        draw = _drawn if shuffles.are_compared(labels) else _shuffled
        return scores, mask, draw(labels, mask, rule, seed, by_item)
    return scores, mask, lambda scores, upstream=None: _losses_by_rule(labels, scores, mask, rule, upstream, by_item)


def _drawn(labels: Tensor, mask: Tensor, rule: Rule, seed: Any, by_item: bool) -> Callable[..., tuple[Tensor, Tensor]]:
    """The last result of ``_read`` for random ties of short lists: items are put in a random order of their labels."""
    places = shuffles.descending_places(labels, mask, seed)
    order = _Order(lists.inverse(places), places, by_item)
    return lambda scores, upstream=None: _losses_in_order(scores, mask, rule, upstream, order)


def _shuffled(
    labels: Tensor, mask: Tensor, rule: Rule, seed: Any, by_item: bool
) -> Callable[..., tuple[Tensor, Tensor]]:
    """The same of longer lists: ties are in the order of items moved to random places."""
    places = shuffles.places(labels, seed)
    rule, order = rule._replace(ties="position"), _Order(lists.inverse(places), places, by_item)
    # Labels at padding are 0, and below that afterwards.
    labels = lists.put_back(labels - (1 - ops.cast(mask, labels.dtype)), places)
    shuffled = labels >= 0
    labels = ops.maximum(labels, 0.0)

    def of_scores(scores, upstream=None):
        found = _losses_by_rule(labels, order.of(scores), shuffled, rule, order.of(upstream), by_item)
        return order.back(*found)

    return of_scores


def check_list_mle(ties: Any, top_k: Any, discount: Any, score_transform: Any) -> None:
    """Raise unless these are settings of ``list_mle_loss``."""
    errors.check_choice("ties", ties, TIES)
    errors.check_positive_integer("top_k", top_k, optional=True)
    if discount is not None:
        gains.get_discount(discount)
    errors.check_choice("score_transform", score_transform, SCORE_TRANSFORMS)


def _losses_by_rule(
    labels: Tensor, scores: Tensor, mask: Tensor, rule: Rule, upstream: Tensor | None, by_item: bool
) -> tuple[Tensor, Tensor]:
    """Losses (B, L) under all rules but random ties, and slopes, as of ``grade_places.exact_losses``."""

    def by_sorting():
        return _losses_by_sorting(labels, scores, mask, rule, upstream, by_item)

    is_graded = lists.are_grades(labels)
    if rule.ties != "exact":
        centered = lists.centered(scores, mask)
        return ops.cond(
            ops.logical_and(is_graded, sorted_places.is_narrow(centered)),
            lambda: grade_places.losses(labels, centered, mask, rule, upstream),
            branches.lazily(by_sorting),
        )
    is_empty = 0 in scores.shape  # Keras takes no maximum of nothing.
    is_double = keras.backend.standardize_dtype(scores.dtype) == "float64"
    if rule.top_k is not None or is_double or is_empty:
        return by_sorting()
    return ops.cond(
        ops.logical_and(is_graded, ops.shape(scores)[1] <= grade_races.LONGEST),
        lambda: grade_places.exact_losses(labels, scores, mask, rule, upstream),
        branches.lazily(by_sorting),
    )


def _losses_by_sorting(
    labels: Tensor, scores: Tensor, mask: Tensor, rule: Rule, upstream: Tensor | None, by_item: bool
) -> tuple[Tensor, Tensor]:
    by_label = lists.descending_order(labels, mask)
    order = _Order(by_label, lists.inverse(by_label), by_item)

    def in_order():
        return _losses_in_order(scores, mask, rule, upstream, order)

    if rule.ties == "position":
        return in_order()
    sorted_mask, sorted_labels = sorted_places.mask_in_order(mask, scores), order.of(labels)
    same = ops.logical_and(ops.equal(sorted_labels[:, 1:], sorted_labels[:, :-1]), sorted_mask[:, 1:])

    def of_groups():
        found = sorted_places.losses_of_groups(sorted_labels, order.of(scores), sorted_mask, rule, order.of(upstream))
        return order.back(*found)

    # Where all labels differ the rules are one.
    return ops.cond(ops.any(same), of_groups, in_order)


def _losses_in_order(
    scores: Tensor, mask: Tensor, rule: Rule, upstream: Tensor | None, order: "_Order"
) -> tuple[Tensor, Tensor]:
    """Losses (B, L) of items that come in an order, whatever their labels, and slopes."""
    sorted_mask = sorted_places.mask_in_order(mask, scores)
    weights = rule.weights(lists.places(scores), ops.cast(sorted_mask, scores.dtype))
    found = sorted_places.losses_in_order(order.of(scores), sorted_mask, weights, order.of(upstream))
    return order.back(*found)


class _Order(NamedTuple):
    """An order of the items of lists.

    Attributes:
        indices: (B, L) the item of each place.
        places: (B, L) the place of each item.
        by_item: As in ``_read``.
    """

    indices: Tensor
    places: Tensor
    by_item: bool

    def of(self, values: Tensor) -> Tensor:
        """Values (B, L) of items in this order; None stays None."""
        return None if values is None else lists.put_back(values, self.places, back=self.indices)

    def back(self, losses: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
        """Losses and slopes (B, L) in this order as those of items; losses stay unless ``by_item``."""
        if self.by_item:
            losses = lists.put_back(losses, self.indices, back=self.places)
        return losses, lists.put_back(slopes, self.indices, back=self.places)
