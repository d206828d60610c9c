"""Masks, order, ties and suffix sums of padded lists: what every loss and metric stands on.

A batch of lists is ``labels`` (B, L), ``scores`` (B, L) and a boolean ``mask`` (B, L) that is True at items and False
at padding. Everything here works on tensors of any Keras backend, with static or dynamic B and L.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfrankloss import errors
from tfrankloss.functional import branches, gradients, meetings

Tensor = Any

# Stands for minus infinity where exp() follows: exp underflows to 0, and no inf - inf can arise.
LOWEST = -1e37
# Scores beyond this are moved to it: sums over lists stay finite in float32.
LARGEST_SCORE = 1e30
# Lists of up to this many items are faster to compare item by item than to sort.
SHORT = 64
# Whole labels below this are grades, of which there are few: web search has 0 to 4.
GRADES = 5
# Suffix sums run over blocks of this many places: pairs inside a block, then pairs of blocks.
BLOCK = 32


def prepare(
    labels: Tensor, scores: Tensor, mask: Tensor | None = None, *, columns: int | str | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Labels, scores and mask as clean tensors: one float dtype, zeros at padding.

    Whatever stands in the padded places (NaN and inf included) is gone afterwards, from the value and from the
    gradient. float16 and bfloat16 scores become float32.

    Args:
        labels: (B, L) graded relevance; a negative label marks padding.
        scores: (B, L) scores of any float dtype.
        mask: (B, L) booleans, True at items; None takes every item with a label of at least 0. An item counts only
            if both agree.
        columns: Scores per item where ``scores`` is (B, L, columns): a number, or a word for any number.

    Returns:
        ``labels`` (B, L) and ``scores`` in the computing dtype, and the boolean ``mask`` (B, L). Scores of several
        columns are (columns, B, L): few columns beside each other are slow to compute with.

    Raises:
        ValueError: If the shapes are not (batch, list_size) and equal as far as they are known.
    """
    scores = ops.convert_to_tensor(scores)
    labels = ops.convert_to_tensor(labels)
    check_shapes("labels", labels.shape, "scores", scores.shape, columns)
    valid = labels >= 0
    if mask is not None:
        mask = ops.convert_to_tensor(mask, dtype="bool")
        errors.check_same_shape("mask", mask.shape, "scores", scores.shape[:2])
        valid = ops.logical_and(valid, mask)
    scores = ops.cast(scores, computing_dtype(scores.dtype))
    scores = scores if columns is None else ops.transpose(scores, (2, 0, 1))
    labels = ops.cast(labels, scores.dtype)
    return masked(labels, valid), clean(scores, valid), valid


def masked(values: Tensor, mask: Tensor) -> Tensor:
    """``values`` where ``mask`` is True and 0 elsewhere, whatever stands there (NaN and inf included)."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # A selection takes it five times as long.
        return tf.math.multiply_no_nan(values, tf.cast(mask, values.dtype))
    return ops.where(mask, values, 0.0)


def clean(scores: Tensor, mask: Tensor) -> Tensor:
    """Scores within ``LARGEST_SCORE``, 0 where ``mask`` (which may broadcast) is False; others keep their gradient."""

    @gradients.custom_gradient
    def cleaned(scores):
        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            return upstream * ops.cast(mask, upstream.dtype)

        return ops.clip(masked(scores, mask), -LARGEST_SCORE, LARGEST_SCORE), gradient

    return cleaned(scores)


def prepare_subtopics(labels: Tensor, scores: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """The same as ``prepare`` for ``labels`` (B, L, S) by subtopic: negative ones mark padding of subtopics.

    An item none of whose labels is at least 0 is padding. Labels are (B, L, S) afterwards too, 0 at padding.
    """
    labels, scores = ops.convert_to_tensor(labels), ops.convert_to_tensor(scores)
    check_subtopics("labels", labels.shape, "scores", scores.shape)
    labels = ops.cast(labels, computing_dtype(scores.dtype))
    judged = labels >= 0
    _, scores, valid = prepare(ops.where(ops.any(judged, axis=2), 0.0, -1.0), scores, mask)
    return masked(labels, ops.logical_and(judged, valid[:, :, None])), scores, valid


def check_subtopics(labels_name: str, labels: errors.Shape, scores_name: str, scores: errors.Shape) -> None:
    """Raise unless labels are (batch, list_size, subtopics) and scores (batch, list_size)."""
    errors.check_rank(scores_name, scores, 2, "(batch, list_size)")
    errors.check_rank(labels_name, labels, 3, "(batch, list_size, subtopics)")
    if errors.shapes_differ(labels[:2], scores):
        raise ValueError(
            f"`{labels_name}` must have shape (batch, list_size, subtopics) for the (batch, list_size) of "
            f"`{scores_name}`. Received: {labels_name}.shape={tuple(labels)}, {scores_name}.shape={tuple(scores)}"
        )


def check_shapes(
    labels_name: str, labels: errors.Shape, scores_name: str, scores: errors.Shape, columns: int | str | None = None
) -> None:
    """Raise unless labels are (batch, list_size) and scores as well, or (batch, list_size, columns)."""
    wording = "(batch, list_size)" if columns is None else f"(batch, list_size, {columns})"
    errors.check_rank(scores_name, scores, 2 if columns is None else 3, wording)
    if isinstance(columns, int) and scores[2] not in (columns, None):
        raise ValueError(f"`{scores_name}` must have shape {wording}. Received: {scores_name}.shape={tuple(scores)}")
    if columns is None:
        errors.check_same_shape(labels_name, labels, scores_name, scores)
    elif errors.shapes_differ(labels, scores[:2]):
        raise ValueError(
            f"`{labels_name}` must have shape (batch, list_size) where `{scores_name}` has {wording}. "
            f"Received: {labels_name}.shape={tuple(labels)}, {scores_name}.shape={tuple(scores)}"
        )


def ratio(value: Tensor, total: Tensor) -> Tensor:
    """value / total, 0 where the total is 0."""
    return ops.where(total > 0, value / ops.where(total > 0, total, 1.0), 0.0)


def share_by_label(losses: Tensor, labels: Tensor) -> Tensor:
    """Losses (B,) of whole lists as (B, L) losses of items, in proportion to their labels (B, L).

    Item weights then weigh a list by their mean over labels, as TensorFlow Ranking does. A list whose labels are all 0
    has loss 0.
    """
    return labels * ratio(losses, ops.sum(labels, axis=1))[:, None]


def computing_dtype(dtype: Any) -> str:
    """The dtype that a loss of scores of ``dtype`` is computed in: float64 stays, all else is float32."""
    return "float64" if "float64" in str(dtype) else "float32"


def centered(values: Tensor, mask: Tensor) -> Tensor:
    """Finite ``values`` (B, L) minus the largest item of their list; 0 at padding.

    In float32 the difference of two near values is exact, however large they are: what depends on differences only is
    computed from these. The largest carries no gradient, as it has no effect there.
    """
    items = ops.cast(mask, values.dtype)
    largest = ops.stop_gradient(ops.max(filled(values, items), axis=1, keepdims=True, initial=LOWEST))
    return items * (values - largest)


def filled(values: Tensor, items: Tensor) -> Tensor:
    """Finite values (B, L) where ``items`` is 1, about ``LOWEST`` where it is 0."""
    # TensorFlow selects in five times the time in which it multiplies.
    return values + (1.0 - items) * LOWEST


def are_grades(labels: Tensor) -> Tensor:
    """Whether all labels, none of them below 0, are whole numbers below ``GRADES``."""
    return ops.all(ops.logical_and(ops.equal(labels, ops.floor(labels)), labels < GRADES))


def descending_order(keys: Tensor, mask: Tensor) -> Tensor:
    """Indices (B, L) that sort each list by descending key, padding last, equal keys in input order.

    The order carries no gradient. All backends sort stably, also those whose interface does not promise it: a test
    holds them to that.
    """
    ascending = ops.where(mask, -keys, float("inf"))
    return ops.argsort(ops.stop_gradient(ascending), axis=1)


def refined(order: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
    """``descending_order`` with equal keys in the order of the indices ``order`` (B, L)."""
    return take(order, descending_order(take(keys, order), take(mask, order)))


def take(values: Tensor, order: Tensor) -> Tensor:
    """``values`` (B, L, ...) in the order of the indices ``order`` (B, L), or at any number of indices."""
    batch, length, *others = ops.shape(values)
    flat = ops.reshape(values, (batch * length, *others))
    taken = ops.take(flat, flat_places(order, length), axis=0)
    return ops.reshape(taken, (batch, ops.shape(order)[1], *others))


def put_back(values: Tensor, order: Tensor, back: Tensor | None = None) -> Tensor:
    """The reverse of ``take``: values (B, L) or (B, L, C) in sorted order back at the places they came from.

    Args:
        values: The values.
        order: As in ``take``.
        back: ``inverse(order)``, where it is known: the gradient is there sooner.
    """

    @gradients.quicker_gradient
    def moved(values, order, back=None):
        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            return take(upstream, order) if back is None else _put_back(upstream, back)

        return _put_back(values, order), gradient

    return moved(values, order) if back is None else moved(values, order, back)


def inverse(order: Tensor) -> Tensor:
    """Indices (B, L) that undo the order of the indices ``order`` (B, L)."""
    return _put_back(indices(order), order)


def _put_back(values: Tensor, order: Tensor) -> Tensor:
    if keras.backend.standardize_dtype(values.dtype) == "float64":
        # Keras' sums of segments go through float32 on torch.
        return take(values, ops.argsort(order, axis=1))
    # Every place gets one value: as the sum of one it is there sooner than by a scatter.
    return total_at(values, order)


def flat_places(order: Tensor, length: Any) -> Tensor:
    """Indices (B, K) into lists of a length as indices (B * K,) into all places of the batch."""
    first = length * ops.arange(ops.shape(order)[0], dtype="int32")
    return ops.reshape(ops.cast(order, "int32") + first[:, None], (-1,))


def indices(like: Tensor) -> Tensor:
    """The index (B, L) of each place of lists (B, L) in its list, from 0."""
    return ops.broadcast_to(ops.arange(ops.shape(like)[1], dtype="int32")[None, :], ops.shape(like))


def places(like: Tensor) -> Tensor:
    """The places 1, 2, ..., L as a (1, L) tensor of the dtype of ``like`` (B, L)."""
    return ops.cast(ops.arange(1, ops.shape(like)[1] + 1), like.dtype)[None, :]


def is_short(values: Tensor) -> bool:
    """Whether lists (B, L) are known to be so short that comparing all items takes less time than sorting them."""
    return values.shape[1] is not None and values.shape[1] <= SHORT


def mean_ranks(labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
    """The place (B, L) of each item by descending score, from 1; padding comes last.

    Of equal scores the smaller label comes first: what is not decided yet counts as decided wrongly. Items of equal
    score and label share the mean of their places, so that the order of the input never matters.
    """
    if is_short(scores):
        return _counted_ranks(labels, scores, mask)
    order, ranks = ranking(labels, scores, mask)
    return put_back(ranks, order)


def ranking(labels: Tensor, scores: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Indices (B, L) that sort lists by ``mean_ranks``, and those ranks in sorted order."""
    order = descending_order(scores, mask)
    sorted_scores, sorted_mask = take(scores, order), take(mask, order)
    tied = ops.logical_and(ops.equal(sorted_scores[:, 1:], sorted_scores[:, :-1]), sorted_mask[:, 1:])

    def by_label():
        # Smaller labels first, which equal scores keep.
        by_label = descending_order(-labels, mask)
        order = refined(by_label, scores, mask)
        groups = tie_groups(take(scores, order), take(mask, order), take(labels, order))
        return ops.cast(order, "int32"), groups.first + (groups.size - 1) / 2

    def by_score():
        return ops.cast(order, "int32"), ops.broadcast_to(places(scores), ops.shape(scores))

    return ops.cond(ops.any(tied), branches.lazily(by_label), by_score)


def _counted_ranks(labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
    """``mean_ranks`` by counting, which takes less time than sorting as long as lists are short."""
    met = meetings.of_length(scores.shape[1])
    lowest = -float("inf")
    (label, other_label), (score, other_score) = (
        met.of(ops.where(mask, values, lowest), nobody=nobody)
        for values, nobody in ((labels, lowest), (scores, -lowest))
    )
    tied = ops.equal(score, other_score)
    below = ops.logical_or(score < other_score, ops.logical_and(tied, label > other_label))
    at_most = ops.logical_or(below, ops.logical_and(tied, ops.equal(label, other_label)))
    passed = (ops.cast(below, scores.dtype) + ops.cast(at_most, scores.dtype)) / 2
    return 1.0 + met.passes(passed)


class TieGroups(NamedTuple):
    """Runs of equal keys in sorted lists; every field tells, at each place, of the run which that place is in.

    Attributes:
        segments: (B * L,) number of the run, unique over the whole batch.
        first: (B, L) place (1-based) of the first member of the run.
        size: (B, L) number of members of the run.
    """

    segments: Tensor
    first: Tensor
    size: Tensor


def tie_groups(sorted_keys: Tensor, sorted_mask: Tensor, second_keys: Tensor | None = None) -> TieGroups:
    """The runs of equal keys (and second keys) in lists sorted by them; padding forms one run, after all others."""
    batch, length = ops.shape(sorted_keys)[0], ops.shape(sorted_keys)[1]
    same = ops.ones_like(sorted_mask[:, 1:])
    for values in (sorted_keys, sorted_mask, *(() if second_keys is None else (second_keys,))):
        same = ops.logical_and(same, ops.equal(values[:, 1:], values[:, :-1]))
    # Lists of length 0 have no first place either.
    starts = ops.concatenate([ops.zeros((batch, 1), "int32"), 1 - ops.cast(same, "int32")], axis=1)[:, :length]
    run = ops.cumsum(starts, axis=1)
    segments = ops.reshape(run + length * ops.arange(batch)[:, None], (-1,))
    counts = ops.segment_sum(ops.ones_like(segments), segments, num_segments=batch * length)
    counts = ops.reshape(counts, (batch, length))
    size = take(counts, run)
    first = take(ops.cumsum(counts, axis=1), run) - size + 1
    dtype = sorted_keys.dtype
    return TieGroups(segments, ops.cast(first, dtype), ops.cast(size, dtype))


def worse_items(labels: Tensor, mask: Tensor) -> Tensor:
    """The number (B, L) of items of each item's list with a smaller label; 0 at padding."""
    order = descending_order(labels, mask)
    sorted_mask = take(mask, order)
    groups = tie_groups(take(labels, order), sorted_mask)
    count = ops.sum(ops.cast(mask, labels.dtype), axis=1, keepdims=True)
    below = count - (groups.first + groups.size - 1)
    return put_back(ops.where(sorted_mask, below, 0.0), order)


def group_below(groups: TieGroups, sorted_mask: Tensor) -> tuple[Tensor, Tensor]:
    """At each place the index (0-based) where the run after its own begins, and whether that run holds items.

    Without such a run the index is that of some place of the list, to be used and thrown away.
    """
    last = ops.shape(sorted_mask)[1] - 1
    index = ops.cast(groups.first, "int32") + ops.cast(groups.size, "int32") - 1
    inside = ops.minimum(index, last)
    return inside, ops.logical_and(index <= last, take(sorted_mask, inside))


def group_sum(values: Tensor, groups: TieGroups) -> Tensor:
    """The sum of ``values`` (B, L) or (B, L, C) over each place's run, at every place of it."""
    shape = ops.shape(values)
    flat = ops.reshape(values, (shape[0] * shape[1], *shape[2:]))
    totals = ops.segment_sum(flat, groups.segments, num_segments=shape[0] * shape[1])
    return ops.reshape(ops.take(totals, groups.segments, axis=0), shape)


def total_at(values: Tensor, places: Tensor, length: Any = None) -> Tensor:
    """The sum (B, L, ...) at each place of a list of the values (B, K, ...) that name it by its index (B, K).

    Args:
        values: The values.
        places: The indices.
        length: L; None for K.
    """
    batch, number, *others = ops.shape(values)
    length = number if length is None else length
    flat = ops.reshape(values, (batch * number, *others))
    totals = ops.segment_sum(flat, flat_places(places, length), num_segments=batch * length)
    return ops.reshape(totals, (batch, length, *others))


def numbers_up_to(integers: Tensor, end: Any) -> Tensor:
    """How many of the integers (B, K) of each list, all at least 0, are at most 0, 1, ..., ``end`` - 1: (B, end)."""
    counts = total_at(ops.ones_like(integers), ops.minimum(integers, end), end + 1)
    return ops.cumsum(counts, axis=1)[:, :end]


def furthest(index: Tensor, holds: Callable[[Tensor], Tensor], last: Any, length: Any) -> Tensor:
    """The last index, from each ``index`` (B, L) on, at which something holds that does not hold again once it fails.

    Args:
        index: Indices at which it is taken to hold.
        holds: Whether it holds at other indices (B, L).
        last: The last index that is asked for, or one for each (B, L).
        length: More than any of them can move.
    """

    def further(step, index):
        ahead = ops.minimum(index + step, last)
        return ops.where(holds(ahead), ahead, index)

    if isinstance(length, int):
        for power in reversed(range((length - 1).bit_length())):
            index = further(2**power, index)
        return index
    step = ops.while_loop(lambda step: 2 * step < length, lambda step: 2 * step, ops.ones((), "int32"))
    return ops.while_loop(
        lambda step, _: step > 0, lambda step, index: (step // 2, further(step, index)), (step, index)
    )[1]


def group_max(values: Tensor, groups: TieGroups) -> Tensor:
    """The largest of ``values`` (B, L) in each place's run, at every place of it."""
    shape = ops.shape(values)
    largest = ops.segment_max(ops.reshape(values, (-1,)), groups.segments, num_segments=shape[0] * shape[1])
    return ops.reshape(ops.take(largest, groups.segments, axis=0), shape)


def group_mean(values: Tensor, groups: TieGroups) -> Tensor:
    """The mean of ``values`` (B, L) over each place's run, at every place of it."""
    return group_sum(values, groups) / groups.size


def product(first: Tensor, second: Tensor) -> Tensor:
    """The matrix product, in float64 where the factors are: that of Keras goes through float32 on torch."""
    if len(second.shape) > 2 or len(first.shape) == 2:
        return first @ second
    # TensorFlow takes many products by one matrix one at a time, and their rows together in a third of the time.
    rows = ops.reshape(first, (-1, first.shape[-1]))
    return ops.reshape(rows @ second, (*ops.shape(first)[:-1], second.shape[-1]))


def sums_before(values: Tensor, behind: bool = False, beyond: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """The sum (..., L) of all values of a list before each place, or behind it; nothing is subtracted.

    Args:
        values: (..., L) values.
        behind: Whether sums are over what is behind a place.
        beyond: A function of the sums (...) of whole lists that gives what is added to all sums of each list.
    """
    *outer, length = ops.shape(values)
    blocks = in_blocks(values, 0.0)
    size = blocks.shape[-1]
    before = np.triu(np.ones((size, size)), k=1)
    inside = product(blocks, ops.convert_to_tensor(before.T if behind else before, dtype=values.dtype))
    is_one_block = size == values.shape[-1]
    if is_one_block and beyond is None:
        return ops.reshape(inside, ops.shape(values))
    totals = ops.sum(blocks, axis=-1)
    carried: Tensor = 0.0 if is_one_block else _running_totals(totals, behind)
    if beyond is not None:
        carried = carried + beyond(ops.sum(totals, axis=-1))[..., None]
    return ops.reshape(inside + carried[..., None], (*outer, ops.shape(blocks)[-2] * size))[..., :length]


def _running_totals(totals: Tensor, behind: bool) -> Tensor:
    if totals.shape[-1]:
        return sums_before(totals, behind)
    # Blocks of blocks of blocks have no end where the length is not known, or 0.
    if behind:
        totals = ops.flip(totals, axis=-1)
    totals = ops.cumsum(ops.concatenate([ops.zeros_like(totals[..., :1]), totals[..., :-1]], axis=-1), axis=-1)
    return ops.flip(totals, axis=-1) if behind else totals


def total(values: Tensor) -> Tensor:
    """The sum of ``values`` (B, L) over each list, (B,), in blocks of blocks: few of the roundings of a long sum."""
    for _ in range(2):
        values = ops.sum(in_blocks(values, 0.0), axis=-1)
    return ops.sum(values, axis=-1)


def in_blocks(values: Tensor, filling: float, size: int | None = None) -> Tensor:
    """Values (..., L) as blocks (..., n, T) of places, the last one filled up; T is ``size``, or fits the length."""
    *outer, length = ops.shape(values)
    size = block_size(values.shape[-1]) if size is None else size
    missing = (size - length % size) % size
    if not isinstance(missing, int) or missing > 0:
        values = ops.concatenate([values, ops.full((*outer, missing), filling, dtype=values.dtype)], axis=-1)
    return ops.reshape(values, (*outer, (length + missing) // size, size))


def block_size(length: int | None) -> int:
    """``BLOCK``, or a size near it that divides a known length, so that no block need be filled up."""
    if length is None:
        return BLOCK
    if 0 < length <= 2 * BLOCK:
        return length
    return next((size for size in range(BLOCK // 2, 2 * BLOCK) if length % size == 0), BLOCK)
