r"""The pair engine: which two items of a list are compared, and the sum of a loss over those pairs.

A pairwise loss supplies the loss of a score gap d = s_i - s_j, where i is the better item, and its derivative.
Everything else is here, with the gradient in closed form. Pairs are taken in one of two ways:

- dense: every pair by itself, for any loss, any labels and any lambda weight;
- sorted: by sums over sorted scores, in time that grows with L log L, for losses that have a ``SortedForm``, where ties
  are skipped and pairs have no weights, or weights that have ``rank_terms``.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from keras import ops

from tfrankloss import errors
from tfrankloss.functional import closed_form, lists, sorted_lambdas, sorted_pairs
from tfrankloss.functional.dense_pairs import GapLoss, Items, PairRule, sums_over_pairs
from tfrankloss.functional.lambda_weights import PairWeight, RankTerm, ranked_items

Tensor = Any

PAIRS = ("graded", "binary")
TIES = ("skip", "half")
PAIR_REDUCTIONS = ("sum", "mean")
METHODS = ("auto", "dense", "sorted")


def check_pairs(pairs: Any, ties: Any, pair_reduction: Any) -> None:
    """Raise unless these are settings of the pair engine."""
    errors.check_choice("pairs", pairs, PAIRS)
    errors.check_choice("ties", ties, TIES)
    errors.check_choice("pair_reduction", pair_reduction, PAIR_REDUCTIONS)


def check_method(method: Any, *, ties: str = "skip", lambda_weight: Any = None) -> None:
    """Raise unless pairs can be taken by ``method``, for a loss that has a ``SortedForm``."""
    errors.check_choice("method", method, METHODS)
    if method == "sorted" and not _is_sortable(ties, lambda_weight):
        raise ValueError(
            '`method` must be "auto" or "dense" where ties count or weights are known of single pairs only. '
            f"Received: method={method!r}, ties={ties!r}, lambda_weight={lambda_weight!r}"
        )


def by_sorting(
    method: str,
    length: int | None,
    *,
    form: sorted_pairs.SortedForm = sorted_pairs.LOGISTIC,
    ties: str = "skip",
    lambda_weight: PairWeight | None = None,
) -> bool:
    """Whether ``method`` sorts lists of this static length, or of any where it is None."""
    if length == 0 or not _is_sortable(ties, lambda_weight):
        return False
    short = lists.SHORT if lambda_weight is None else form.gaps.short
    return method == "sorted" or (method == "auto" and (length is None or length > short))


def _is_sortable(ties: str, lambda_weight: Any) -> bool:
    return ties == "skip" and (lambda_weight is None or _rank_terms(lambda_weight) is not None)


def _rank_terms(lambda_weight: Any) -> tuple[RankTerm, ...] | None:
    return lambda_weight.rank_terms() if hasattr(lambda_weight, "rank_terms") else None


class Pairs(NamedTuple):
    """How the pairs of lists are summed: what ``closed_form.losses_with_slopes`` takes, and what is compared.

    Attributes:
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding.
        losses_and_slopes: As there.
        weighed_slopes: As there.
        how_twice: As there.
        compared: (B, L) the labels by which items are better or worse.
    """

    scores: Tensor
    mask: Tensor
    losses_and_slopes: Callable[[Tensor], Sequence[Tensor]]
    weighed_slopes: Callable[[Tensor, Tensor], Tensor]
    how_twice: str | None
    compared: Tensor


def pair_losses(
    labels: Tensor,
    scores: Tensor,
    mask: Tensor | None,
    gap_loss: GapLoss,
    *,
    ties: str = "skip",
    pair_reduction: str,
    **settings: Any,
) -> Tensor:
    """The loss of each item, (B, L): ``gap_loss`` summed over the pairs in which it is the better one.

    Arguments are those of ``rank_net_loss``.
    """
    *summing, compared = _read(labels, scores, mask, gap_loss, ties=ties, pair_reduction=pair_reduction, **settings)
    losses = closed_form.losses_with_slopes(*summing)
    return reduce_pairs(losses, compared, summing[1], ties, pair_reduction)


def pair_sums(
    labels: Tensor,
    scores: Tensor,
    mask: Tensor | None,
    gap_loss: GapLoss,
    *,
    ties: str = "skip",
    pair_reduction: str,
    **settings: Any,
) -> Tensor:
    """The sum (B,) of ``pair_losses`` over each list, all items of which weigh the same.

    Less to compile than the losses of items, whose gradient has to be ready for any weights.
    """
    pairs = _read(labels, scores, mask, gap_loss, ties=ties, pair_reduction=pair_reduction, **settings)
    sums = closed_form.sums_with_slopes(
        pairs.scores, None, lambda scores, _: pairs.losses_and_slopes(scores), pairs.how_twice
    )
    if pair_reduction == "sum":
        return sums
    return sums / ops.maximum(number_of_pairs(pairs.compared, pairs.mask, ties), 1.0)


def _read(
    labels: Tensor,
    scores: Tensor,
    mask: Tensor | None,
    gap_loss: GapLoss,
    *,
    pairs: str,
    ties: str,
    pair_reduction: str,
    lambda_weight: PairWeight | None,
    method: str = "auto",
) -> Pairs:
    check_pairs(pairs, ties, pair_reduction)
    check_method(method, ties=ties, lambda_weight=lambda_weight)
    labels, scores, mask = lists.prepare(labels, scores, mask)
    compared = compared_labels(labels, pairs)
    form = gap_loss.form
    if form is None or not by_sorting(method, scores.shape[1], form=form, ties=ties, lambda_weight=lambda_weight):
        items = items_of(labels, scores, mask, lambda_weight)._replace(labels=compared)
        return Pairs(scores, mask, *sums_over_pairs(items, gap_loss, PairRule(ties, lambda_weight)), None, compared)
    slopes = sorting(labels, compared, mask, form, lambda_weight)
    how_twice = None if lambda_weight is None else 'Use method="dense" for them.'
    return Pairs(scores, mask, slopes, lambda scores, weights: slopes(scores, weights)[1], how_twice, compared)


def compared_labels(labels: Tensor, pairs: str) -> Tensor:
    """The labels by which items are better or worse: "binary" only asks whether they are above 0."""
    return ops.cast(labels > 0, labels.dtype) if pairs == "binary" else labels


def items_of(labels: Tensor, scores: Tensor, mask: Tensor, lambda_weight: PairWeight | None) -> Items:
    """The items of lists, with the gains and ranks that a lambda weight takes them for."""
    places = ops.broadcast_to(lists.places(scores), ops.shape(scores))
    if lambda_weight is None:
        return Items(scores, labels, mask, places, labels, labels)
    return Items(scores, labels, mask, places, *ranked_items(lambda_weight, labels, scores, mask))


def number_of_pairs(labels: Tensor, mask: Tensor, ties: str) -> Tensor:
    """How many pairs (B,) of each list count, by the rule for ties and without a lambda weight."""
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


def sorting(
    labels: Tensor, compared: Tensor, mask: Tensor, form: sorted_pairs.SortedForm, lambda_weight: PairWeight | None
) -> Callable[..., tuple[Tensor, Tensor]]:
    """A function of scores, and of weights (B, L) of the losses in the slopes or None, that gives losses and slopes.

    The losses (B, L) are those of the pairs in which each item is the better one, the slopes (B, L) the gradient of
    their weighed sum.
    """
    if lambda_weight is None:

        def unweighed(scores, weights=None):
            if weights is None:
                return sorted_pairs.losses_and_slopes(compared, scores, mask, form)
            return ops.zeros_like(scores), sorted_pairs.weighed_slopes(compared, scores, mask, form, weights)

        return unweighed

    # What weighs 0 is left out rather than subtracted, which would leave a rest of rounding.
    grades = lambda_weight.grades(compared) if compared is labels and hasattr(lambda_weight, "grades") else compared

    def weighed(scores, weights=None):
        ranking = lists.ranking(labels, scores, mask)
        item_gains = lambda_weight.item_gains(labels, mask)
        terms = _rank_terms(lambda_weight) or ()
        return sorted_lambdas.losses_and_slopes(grades, scores, mask, item_gains, ranking, terms, form.gaps, weights)

    return weighed
