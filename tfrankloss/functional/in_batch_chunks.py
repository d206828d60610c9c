"""In-batch softmax of embeddings by chunks of queries, without the (B, B) scores of the whole batch.

Every chunk of queries sees all candidates, so that the losses of its rows and what they add to the gradients of all
embeddings come from one pass. Only the scores of a chunk exist at a time.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

from tfrankloss.functional import branches, closed_form, gradients, in_batch_rows, lists

Tensor = Any

# Scores that may exist at a time.
SCORES_AT_ONCE = 2**21
LEAST, MOST = 32, 512


def rows_at_once(batch: int | None) -> int:
    """How many queries to take at a time in a batch of that many rows, None where that is not known."""
    return 128 if batch is None else max(LEAST, min(MOST, SCORES_AT_ONCE // max(batch, 1)))


class Batch(NamedTuple):
    """Rows whose embeddings have been made such that scores are products.

    Attributes:
        queries: (B, D).
        candidates: (C, D) columns that all rows have; that of row i is its own candidate, and there may be more.
        negatives: (B, K, D) explicit negatives of each row.
        exists: (C,) booleans, False at the candidates of padded rows, which are nobody's negatives.
        counted: (B,) booleans, True at rows with a loss.
        offsets: (C,) what is added to the scores of the candidates; None for 0.
        negative_offsets: (B, K) the same of the negatives.
        ids: (B,) ids of the own candidates, by which accidental hits are known; None where they are not.
        column_ids: (C,) ids of all candidates.
        negative_ids: (B, K) ids of the negatives; None where they are not known.
        known: (B, P) ids of known positives of each row; None where there are none.
        known_of_columns: (C, P) the same of each column, where columns are queries.
    """

    queries: Tensor
    candidates: Tensor
    negatives: Tensor
    exists: Tensor
    counted: Tensor
    offsets: Tensor | None = None
    negative_offsets: Tensor | None = None
    ids: Tensor | None = None
    column_ids: Tensor | None = None
    negative_ids: Tensor | None = None
    known: Tensor | None = None
    known_of_columns: Tensor | None = None


def softmax_losses(batch: Batch, settings: in_batch_rows.Settings, chunk_size: int) -> Tensor:
    """The losses (B,) of ``in_batch_softmax_loss``, with gradients for the three kinds of embeddings.

    Args:
        batch: The rows.
        settings: What they have in common.
        chunk_size: Queries to take at a time.
    """

    def losses(queries, candidates, negatives):
        given = batch._replace(queries=queries, candidates=candidates, negatives=negatives)
        ones = ops.cast(batch.counted, queries.dtype)
        values, *slopes = _losses_and_slopes(given, ones, settings, chunk_size)

        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            weight, is_common = closed_form.common_weight(upstream, batch.counted, axis=0)
            # Rows mostly weigh the same: then the slopes are known already.
            return ops.cond(
                is_common,
                lambda: tuple(ops.where(ops.any(batch.counted), weight[0], 0.0) * part for part in slopes),
                branches.lazily(
                    lambda: _losses_and_slopes(given, ops.where(batch.counted, upstream, 0.0), settings, chunk_size)[1:]
                ),
            )

        return values, gradient

    how_twice = "Batches of up to 512 rows have them where `chunk_size` is None."
    return gradients.custom_gradient(losses, how_twice=how_twice)(batch.queries, batch.candidates, batch.negatives)


def _losses_and_slopes(
    batch: Batch, weights: Tensor, settings: in_batch_rows.Settings, chunk_size: int
) -> tuple[Tensor, ...]:
    """Losses (B,), and the gradients of their sum times ``weights`` (B,) for queries, candidates and negatives."""
    rows, columns = ops.shape(batch.queries)[0], ops.shape(batch.candidates)[0]
    has_explicit = batch.negatives.shape[1] != 0
    missing = (chunk_size - rows % chunk_size) % chunk_size
    chunks = (rows + missing) // chunk_size

    def cut(values):
        if not isinstance(missing, int) or missing > 0:
            filling = ops.zeros((missing, *ops.shape(values)[1:]), dtype=values.dtype)
            values = ops.concatenate([values, filling], axis=0)
        return ops.reshape(values, (chunks, chunk_size, *ops.shape(values)[1:]))

    queries, negatives, weighed = cut(batch.queries), cut(batch.negatives), cut(weights)
    names = ("negative_offsets", "ids", "negative_ids", "known")
    given = {name: cut(getattr(batch, name)) for name in names if getattr(batch, name) is not None}
    places = ops.reshape(ops.minimum(ops.arange(rows + missing), rows - 1), (chunks, chunk_size))
    # Added to the scores of candidates; those that are none come to nothing.
    offsets = ops.where(batch.exists, 0.0 if batch.offsets is None else batch.offsets, lists.LOWEST)[None, :]
    has_known = batch.known is not None or batch.known_of_columns is not None
    has_hits = batch.ids is not None and (settings.duplicates != "negative" or has_known)

    def add_chunk(number, state):
        losses, of_queries, of_candidates, of_negatives = state

        def chunk(values):
            return ops.take(values, number, axis=0)

        query, own_negatives, own = chunk(queries), chunk(negatives), chunk(places)
        parts = {name: chunk(values) for name, values in given.items()}
        scores = ops.einsum("rd,cd->rc", query, batch.candidates) + offsets
        if has_explicit:
            explicit = ops.einsum("rd,rkd->rk", query, own_negatives)
            if "negative_offsets" in parts:
                explicit = explicit + parts["negative_offsets"]
            scores = ops.concatenate([scores, explicit], axis=1)
        if settings.plain and not has_hits:
            own_score = ops.take_along_axis(scores, own[:, None], axis=1)
            # No less than any score, this one among them; said so that scores are needed no longer than their largest,
            # and the softmax takes their memory.
            slopes, largest, log_total = in_batch_rows.softmax(scores, at_least=own_score)
            loss = (largest - own_score) + log_total
        else:
            is_own = ops.equal(own[:, None], ops.arange(ops.shape(scores)[1])[None, :])
            hits = in_batch_rows.Hits()
            if has_hits:
                hits = in_batch_rows.hits(
                    parts["ids"],
                    batch.column_ids,
                    is_own,
                    parts.get("negative_ids"),
                    parts.get("known"),
                    batch.known_of_columns,
                )
            exists = ops.concatenate([batch.exists, ops.ones((ops.shape(scores)[1] - columns,), "bool")])[None, :]
            loss, slopes = in_batch_rows.losses_and_slopes(scores, exists, is_own, hits, settings)
        slopes = slopes * chunk(weighed)[:, None]
        of_candidate = slopes[:, :columns]
        of_query = ops.einsum("rc,cd->rd", of_candidate, batch.candidates)
        of_candidates = of_candidates + ops.einsum("rc,rd->cd", of_candidate, query)
        if has_explicit:
            of_explicit = slopes[:, columns:]
            of_query = of_query + ops.einsum("rk,rkd->rd", of_explicit, own_negatives)
            of_explicit = of_explicit[:, :, None] * query[:, None, :]
            of_negatives = _put(of_negatives, number, of_explicit)
        return _put(losses, number, loss[:, 0]), _put(of_queries, number, of_query), of_candidates, of_negatives

    # Zeros that no optimizer of graphs knows as such: TensorFlow would keep them as a constant as long as the graph.
    # What each chunk fills a part of may hold anything before.
    start = weighed, queries, ops.minimum(ops.abs(batch.candidates), 0.0), negatives
    losses, of_queries, of_candidates, of_negatives = _in_turn(chunks, add_chunk, start)
    losses, of_queries, of_negatives = (
        ops.reshape(values, (chunks * chunk_size, *ops.shape(values)[2:]))[:rows]
        for values in (losses, of_queries, of_negatives)
    )
    if not (has_hits and settings.duplicates == "positive"):
        # The own candidate's share of the target, which no chunk has taken off.
        share = (1 - settings.label_smoothing) * weights[:, None]
        of_queries = of_queries - share * batch.candidates[:rows]
        of_own, beyond = share * batch.queries, columns - rows
        if not isinstance(beyond, int) or beyond > 0:
            of_own = ops.concatenate([of_own, ops.zeros((beyond, *ops.shape(of_own)[1:]), of_own.dtype)], axis=0)
        of_candidates = of_candidates - of_own
    return ops.where(batch.counted, losses, 0.0), of_queries, of_candidates, of_negatives


def _put(values: Tensor, number: Tensor, part: Tensor) -> Tensor:
    """``values`` (N, ...) with ``part`` (...) at a place; the update of a slice takes more memory on TensorFlow."""
    # A replica may have no rows at all, which TensorFlow scatters nothing into.
    if keras.backend.backend() == "tensorflow" and values.shape[0] != 0:
        return ops.scatter_update(values, ops.reshape(number, (1, 1)), part[None])
    return ops.slice_update(values, (number, *[0] * len(part.shape)), part[None])


def _in_turn(count: int | Tensor, body: Callable[[Tensor, Any], Any], start: Any) -> Any:
    """As ``ops.fori_loop`` from 0; TensorFlow would run chunks ahead, each of which holds scores of its own."""
    if keras.backend.backend() != "tensorflow":
        return ops.fori_loop(0, count, body, start)
    import tensorflow as tf

    def step(number, state):
        return number + 1, body(number, state)

    return tf.while_loop(lambda number, _: number < count, step, (0, start), parallel_iterations=1)[1]
