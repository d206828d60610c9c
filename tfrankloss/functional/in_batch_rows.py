"""Rows of an in-batch softmax: which columns are negatives, which are positives, and what a row then costs.

A row is a query with its scores for columns: the candidates of the batch and explicit negatives. Read the other way,
from candidate to query, a row is a candidate and its columns are the queries. Both ways, and a batch at once or in
chunks of rows, take their targets from here.
"""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfrankloss import errors
from tfrankloss.functional import list_softmax, lists

Tensor = Any

DUPLICATES = ("mask", "positive", "negative")
RELEVANCE = ("mask", "weight")


class Settings(NamedTuple):
    """What the rows of a batch have in common.

    Attributes:
        duplicates: What columns with the row's own candidate are: "mask", "positive" or "negative".
        hardest_negatives: How many negatives of a row count; None for all.
        label_smoothing: The share of the target that is spread evenly over the columns.
        margin: What is taken from the scores of positives.
    """

    duplicates: str = "mask"
    hardest_negatives: int | None = None
    label_smoothing: float = 0.0
    margin: float = 0.0

    def check(self) -> "Settings":
        """Raise unless every setting has a value that can be."""
        errors.check_choice("duplicates", self.duplicates, DUPLICATES)
        errors.check_positive_integer("hardest_negatives", self.hardest_negatives, optional=True)
        errors.check_not_negative("margin", self.margin)
        check_smoothing(self.label_smoothing)
        return self

    @property
    def plain(self) -> bool:
        """Whether the target is the own column alone and every other column a negative, ids aside."""
        return self.hardest_negatives is None and self.label_smoothing == 0 and self.margin == 0


def check_smoothing(share: Any) -> None:
    """Raise unless ``share`` is a number of at least 0 and below 1."""
    errors.check_number("label_smoothing", share)
    if not 0 <= share < 1:
        raise ValueError(f"`label_smoothing` must be at least 0 and below 1. Received: label_smoothing={share!r}")


class Hits(NamedTuple):
    """Columns (R, C) that are no ordinary negatives of a row.

    Attributes:
        same: Where a column other than the own one holds the own candidate; None where ids are not known.
        known: Where a column holds a positive of the row that is known; None where there are none.
    """

    same: Tensor | None = None
    known: Tensor | None = None

    def transposed(self, rows: Any) -> "Hits":
        """The hits of the first ``rows`` columns, read from column to row."""
        return Hits(*(None if hit is None else ops.transpose(hit[:, :rows]) for hit in self))


def hits(
    ids: Tensor,
    column_ids: Tensor,
    own: Tensor,
    negative_ids: Tensor | None = None,
    known: Tensor | None = None,
    known_of_columns: Tensor | None = None,
) -> Hits:
    """The columns that hold the row's own candidate, and those that hold other positives of the row.

    Args:
        ids: (R,) ids of the rows' own candidates.
        column_ids: (C,) ids of the columns that all rows have, negative where unknown.
        own: (R, C + K) booleans, True at the own column.
        negative_ids: (R, K) ids of the columns that one row has; None where they are unknown.
        known: (R, P) ids of known positives of each row, filled up with negative numbers.
        known_of_columns: (C, P) the same of each column, where columns are the queries.
    """
    extra = ops.shape(own)[1] - ops.shape(column_ids)[0]

    def beside(of_columns, of_negatives):
        if of_negatives is None:
            of_negatives = ops.zeros((ops.shape(own)[0], extra), "bool")
        return ops.concatenate([of_columns, of_negatives], axis=1)

    same_negatives = None if negative_ids is None else ops.equal(ids[:, None], negative_ids)
    same = ops.logical_and(beside(ops.equal(ids[:, None], column_ids[None, :]), same_negatives), ops.logical_not(own))
    if known is not None:
        among = None
        if negative_ids is not None:
            pairs = ops.equal(negative_ids[:, :, None], known[:, None, :])
            among = ops.any(ops.logical_and(pairs, known[:, None, :] >= 0), axis=2)
        return Hits(same, beside(ops.transpose(members(column_ids, known)), among))
    if known_of_columns is not None:
        return Hits(same, beside(members(ids, known_of_columns), None))
    return Hits(same)


def members(ids: Tensor, sets: Tensor) -> Tensor:
    """Whether each id (N,) is in each set (M, P) of ids of at least 0: booleans (N, M), without N * M * P pairs."""
    count, (many, size) = ops.shape(ids)[0], ops.shape(sets)
    dtype = sets.dtype
    ids = ops.cast(ids, dtype)
    ordered = ops.sort(ids)
    flat = ops.reshape(sets, (-1,))
    places = ops.minimum(ops.cast(ops.searchsorted(ordered, flat), "int32"), count - 1)
    found = ops.logical_and(ops.equal(ops.take(ordered, places), flat), flat >= 0)
    # What is in no place is marked in a line of its own, after the last.
    places = ops.where(found, places, count)
    owners = ops.reshape(ops.broadcast_to(ops.arange(many, dtype="int32")[:, None], (many, size)), (-1,))
    marks = ops.zeros(((count + 1) * many,), "bool")
    marks = ops.scatter_update(marks, (places * many + owners)[:, None], ops.ones_like(flat, dtype="bool"))
    own = ops.cast(ops.searchsorted(ordered, ids), "int32")
    return ops.take(ops.reshape(marks, (count + 1, many)), own, axis=0)


def targets(scores: Tensor, exists: Tensor, own: Tensor, found: Hits, settings: Settings) -> tuple[Tensor, Tensor]:
    """Which columns (R, C) a row is a softmax over, and which of them are right.

    Args:
        scores: (R, C) scores, by which the hardest negatives are known.
        exists: (R, C) or (1, C) booleans, False at columns that are padding.
        own: (R, C) booleans, True at the own column.
        found: Columns that are no ordinary negatives.
        settings: What they are then.
    """
    positive, allowed = ops.logical_and(own, exists), exists
    if found.same is not None and settings.duplicates == "positive":
        positive = ops.logical_or(positive, ops.logical_and(found.same, exists))
    elif found.same is not None and settings.duplicates == "mask":
        allowed = ops.logical_and(allowed, ops.logical_not(found.same))
    if found.known is not None:
        # What columns with the own candidate are, that candidate being known, is for `duplicates` to say.
        others = ops.logical_and(found.known, ops.logical_not(ops.logical_or(own, found.same)))
        allowed = ops.logical_and(allowed, ops.logical_not(others))
    if settings.hardest_negatives is not None:
        hard = _hardest(scores, ops.logical_and(allowed, ops.logical_not(positive)), settings.hardest_negatives)
        allowed = ops.logical_or(positive, hard)
    return allowed, positive


def _hardest(scores: Tensor, negatives: Tensor, count: int) -> Tensor:
    """The ``count`` negatives (R, C) of each row with the highest scores, and those that tie with the last of them.

    Scores that differ by rounding tie: which of them comes first must not hang on how they were computed.
    """
    scores = ops.stop_gradient(scores)
    columns = scores.shape[1] if scores.shape[1] is not None else ops.shape(scores)[1]
    least = min if isinstance(columns, int) else ops.minimum
    last = ops.top_k(ops.where(negatives, scores, lists.LOWEST), least(count, columns))[0][:, -1:]
    size = ops.max(ops.where(negatives, ops.abs(scores), 0.0), axis=1, keepdims=True)
    rounding = 16 * float(np.finfo(keras.backend.standardize_dtype(scores.dtype)).eps)
    return ops.logical_and(negatives, scores >= last - rounding * size)


def losses(scores: Tensor, exists: Tensor, own: Tensor, found: Hits, settings: Settings) -> Tensor:
    """The loss (R,) of each row, from which any backend can take the gradient; arguments as in ``targets``."""
    allowed, positive = targets(scores, exists, own, found, settings)
    scores = lists.centered(scores, ops.logical_or(allowed, positive))
    if settings.margin:
        scores = ops.where(positive, scores - settings.margin, scores)
    total = list_softmax.masked_logsumexp(scores, allowed)
    values = total - list_softmax.masked_logsumexp(scores, positive)
    if settings.label_smoothing:
        count = ops.sum(ops.cast(allowed, scores.dtype), axis=1, keepdims=True)
        mean = ops.sum(ops.where(allowed, scores, 0.0), axis=1, keepdims=True) / ops.maximum(count, 1.0)
        values = values + settings.label_smoothing * ((total - mean) - values)
    return values[:, 0]


def losses_and_slopes(
    scores: Tensor, exists: Tensor, own: Tensor, found: Hits, settings: Settings
) -> tuple[Tensor, Tensor]:
    """The loss (R, 1) of each row and its gradient (R, C) but for the own column's share of the target.

    That share is 1 less the smoothing where the own column is the only positive, and otherwise taken off already.
    """
    allowed, positive = targets(scores, exists, own, found, settings)
    if settings.margin:
        scores = ops.where(positive, scores - settings.margin, scores)
    slopes, largest, log_total = softmax(ops.where(allowed, scores, lists.LOWEST))
    one_positive = found.same is None or settings.duplicates != "positive"
    share, values = 1 - settings.label_smoothing, log_total
    if one_positive:
        gap = largest - ops.sum(ops.where(own, scores, 0.0), axis=1, keepdims=True)
        values = values + share * gap
    else:
        shares, largest_positive, log_positive = softmax(ops.where(positive, scores, lists.LOWEST))
        values = values + share * ((largest - largest_positive) - log_positive)
        slopes = slopes - share * shares
    if settings.label_smoothing:
        part = ops.cast(allowed, scores.dtype)
        part = settings.label_smoothing * part / ops.maximum(ops.sum(part, axis=1, keepdims=True), 1.0)
        values = values + ops.sum(part * ops.where(allowed, largest - scores, 0.0), axis=1, keepdims=True)
        slopes = slopes - part
    return values, slopes


def softmax(scores: Tensor, at_least: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """The softmax of rows (R, C), their largest score and log(sum(exp(score - largest))), (R, 1) each."""
    largest = ops.max(scores, axis=1, keepdims=True)
    if at_least is not None:
        largest = ops.maximum(largest, at_least)
    terms = ops.exp(scores - largest)
    total = ops.sum(terms, axis=1, keepdims=True)
    return terms / total, largest, ops.log(total)
