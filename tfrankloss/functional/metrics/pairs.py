"""Metrics that compare items with each other: how often the better one stands first."""

from typing import Any

from keras import ops

from tfrankloss import errors
from tfrankloss.functional import lists, sorted_pairs
from tfrankloss.functional.lists import ratio
from tfrankloss.functional.metrics.ranking import Ranking, above, fault, item_weights, rank_relevance, ranked_weights

Tensor = Any


def ordered_pair_accuracy(
    labels: Tensor, scores: Tensor, mask: Tensor | None = None, weights: Tensor | None = None
) -> Tensor:
    r"""Share of each list's pairs of different labels whose better item has the higher score.

    For graded relevance, where the whole order matters and not its top alone. A pair of equal scores counts half.
    Lists of more than 64 items are sorted, so that long lists cost little; the counts of pairs are exact.

    .. math:: \sum_{y_i > y_j} w_i ([s_i > s_j] + [s_i = s_j] / 2) / \sum_{y_i > y_j} w_i

    Args:
        labels: (B, L) relevance of at least 0; negative marks padding.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        weights: (B, L) item weights: a pair has that of its better item; None for 1.

    Returns:
        (B,) values from 0 to 1; 0 for a list whose labels are all equal, which has no pairs.

    Raises:
        ValueError: If the shapes differ or are not (batch, list_size).

    Example:
        >>> from tfrankloss.functional import ordered_pair_accuracy
        >>> print(round(float(ordered_pair_accuracy([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.9]])[0]), 6))
        0.666667

    Source: TensorFlow Ranking, ``OPAMetric``, which counts a pair of equal scores as wrong.
    """
    labels, scores, mask = lists.prepare(labels, scores, mask)
    right, pairs = (_compared if lists.is_short(scores) else _counted)(labels, scores, mask)
    weights = item_weights(weights, mask, scores)
    return ratio(lists.total(weights * right), lists.total(weights * pairs)) + fault(scores)


def _compared(labels: Tensor, scores: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """For each item the number of worse items below it, a tie counting half, and that of all worse ones, (B, L)."""
    worse = ops.logical_and(labels[:, :, None] > labels[:, None, :], mask[:, None, :])
    worse = ops.cast(ops.logical_and(worse, mask[:, :, None]), scores.dtype)
    below = ops.cast(scores[:, :, None] > scores[:, None, :], scores.dtype)
    beside = ops.cast(ops.equal(scores[:, :, None], scores[:, None, :]), scores.dtype)
    return ops.sum(worse * (below + beside / 2), axis=2), ops.sum(worse, axis=2)


def _counted(labels: Tensor, scores: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The same by sorting."""

    def of_digit(digit):
        runs = sorted_pairs.Runs(digit)
        ties = lists.tie_groups(digit.scores, ops.ones_like(digit.scores, dtype="bool"), digit.prefixes)
        first = ops.cast(ties.first, "int32") - 1
        own, worse, _ = digit.classes()
        before, total = runs.above(own), runs.total(own)
        behind = lists.take(before + own, first + ops.cast(ties.size, "int32") - 1)
        # Half of those not above and half of those below: a tie is one of the former alone.
        right = total - (lists.take(before, first) + behind) / 2
        return ops.sum(worse * right, axis=2), ops.sum(worse * total, axis=2)

    right, total = sorted_pairs.sum_over_labels(labels, scores, mask, of_digit, 2)
    return right, total


def auc(
    labels: Tensor,
    scores: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    threshold: float = 1.0,
) -> Tensor:
    r"""Area under the ROC curve of each list: the chance that a relevant item stands above one that is not.

    For clicks, where it asks for the order within a list alone, as no AUC over all items does. Ties count half. Sorts
    the list, so that long lists cost little.

    .. math:: \sum_{i, j} u_i v_j ([s_i > s_j] + [s_i = s_j] / 2) / \sum_{i, j} u_i v_j

    with u the weights of the relevant items, and v of the others.

    Args:
        labels: (B, L) relevance of at least 0; negative marks padding.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        weights: (B, L) item weights; None for 1.
        threshold: Labels of at least this are relevant.

    Returns:
        (B,) values from 0 to 1; 0 for a list without both kinds of items, which ``GAUC`` leaves out.

    Raises:
        ValueError: If the shapes differ or are not (batch, list_size), or ``threshold`` is not finite.

    Example:
        >>> from tfrankloss.functional import auc
        >>> print(float(auc([[1.0, 0.0, 0.0, 1.0]], [[0.6, 0.8, 0.1, 0.9]])[0]))
        0.75

    Source: Hanley and McNeil, "The meaning and use of the area under a ROC curve", Radiology 1982; per list, Zhu et
    al., "Optimized Cost per Click in Taobao Display Advertising", KDD 2017.
    """
    relevance, ranking = rank_relevance(labels, scores, mask, None, threshold)
    weights = ranked_weights(weights, ranking)
    relevant, other = weights * relevance, weights * (1 - relevance)
    in_run = lists.group_sum(other, ranking.groups)
    of_list = ops.sum(other, axis=1, keepdims=True)
    below = of_list - above(other, ranking.groups) - in_run
    pairs = ops.sum(relevant, axis=1) * of_list[:, 0]
    return ratio(ops.sum(relevant * (below + in_run / 2), axis=1), pairs) + ranking.fault


def bpref(
    labels: Tensor,
    scores: Tensor,
    mask: Tensor | None = None,
    *,
    k: int | None = None,
    threshold: float = 1.0,
    use_trec_version: bool = True,
) -> Tensor:
    r"""Binary preference of each list: how few judged items without relevance stand above the relevant ones.

    For incomplete judgements: only judged items count, so mark all others as padding. R relevant items and N others:

    .. math:: \frac{1}{R} \sum_{i \text{ relevant}} [r_i \le k] (1 - \min(n_i, R) / \min(R, N)),
        \quad n_i = |\{j \text{ not relevant}: r_j < r_i\}|

    Args:
        labels: (B, L) relevance of at least 0; negative marks padding and what was not judged.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        k: Places that count; the divisor still holds all relevant items.
        threshold: Labels of at least this are relevant.
        use_trec_version: Whether min(R, N) divides, as in TREC since 2005; False divides by R, as in the paper.

    Returns:
        (B,) values from 0 to 1; with ties the expectation over their order; 0 for a list without a relevant item.

    Raises:
        ValueError: If the shapes differ or are not (batch, list_size), or ``k`` is less than 1.
        TypeError: If ``k`` is not an integer, or ``use_trec_version`` is not a bool.

    Example:
        >>> from tfrankloss.functional import bpref
        >>> print(float(bpref([[1.0, 0.0, 2.0, 0.0]], [[0.6, 0.8, 0.9, 0.1]])[0]))
        0.75

    Source: Buckley and Voorhees, "Retrieval evaluation with incomplete information", SIGIR 2004; with min(R, N), the
    common evaluation measures of TREC 2006.
    """
    errors.check_bool("use_trec_version", use_trec_version)
    relevance, ranking = rank_relevance(labels, scores, mask, k, threshold)
    other = ops.cast(ranking.mask, relevance.dtype) - relevance
    relevant_count = ops.sum(relevance, axis=1, keepdims=True)
    divisor = relevant_count
    if use_trec_version:
        divisor = ops.minimum(relevant_count, ops.sum(other, axis=1, keepdims=True))
    if k is None:
        penalties = ratio(_capped_count_above(other, relevant_count, ranking), divisor)
        preferred = ops.sum(relevance * (1 - penalties), axis=1)
    else:
        counts = lists.places(relevance) - 1
        preferred = _preferred_in(k, 1 - ratio(ops.minimum(counts, relevant_count), divisor), relevance, ranking)
    return ratio(preferred, relevant_count[:, 0]) + ranking.fault


def _capped_count_above(other: Tensor, cap: Tensor, ranking: Ranking) -> Tensor:
    """The expected number (B, L) of other items above a relevant one at each place, where more than ``cap`` are cap.

    Of the c other items of its own run, each number from 0 to c is equally likely to stand above it.
    """
    before, beside = above(other, ranking.groups), lists.group_sum(other, ranking.groups)
    uncapped = ops.clip(cap - before, 0.0, beside + 1)
    total = uncapped * before + uncapped * (uncapped - 1) / 2 + (beside + 1 - uncapped) * cap
    return total / (beside + 1)


def _preferred_in(k: int, values: Tensor, relevance: Tensor, ranking: Ranking) -> Tensor:
    """The expected sum (B,) over the relevant items in the first k places of ``values`` (B, L).

    A relevant item is worth the value at the number of others above it. Place by place, the chance of each such number
    is carried on, since a run that crosses place k cuts off some of its orders.
    """
    groups = ranking.groups
    relevant_to_end = above(relevance, groups) + lists.group_sum(relevance, groups)
    left = groups.size - (ranking.ranks - groups.first)
    others = lists.places(relevance) - 1

    def visit(place, state):
        chances, total = state
        at = [ops.take(part, place, axis=1)[:, None] for part in (relevant_to_end, left)]
        here = ops.clip((at[0] - (ops.cast(place, others.dtype) - others)) / at[1], 0.0, 1.0)
        total = total + ops.sum(chances * here * values, axis=1)
        moved = chances * (1 - here)
        moved = ops.concatenate([ops.zeros_like(moved[:, :1]), moved[:, :-1]], axis=1)
        return chances * here + moved, total

    chances = ops.where(ops.equal(others, 0), ops.ones_like(relevance), 0.0)
    places = ops.minimum(k, ops.shape(relevance)[1])
    return ops.fori_loop(0, places, visit, (chances, ops.sum(relevance, axis=1) * 0))[1]
