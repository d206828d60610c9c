"""In-batch softmax of embeddings by chunks of queries, without the (B, B) scores of the whole batch.

Every chunk of queries sees all candidates, so that the losses of its rows and what they add to the gradients of all
embeddings come from one pass. Only the scores of a chunk exist at a time.
"""

from typing import Any, NamedTuple

from keras import ops

from tfrankloss.functional import closed_form, gradients, lists

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
        candidates: (B, D).
        negatives: (B, K, D) explicit negatives of each row.
        valid: (B,) booleans, False at padded rows, whose candidates are nobody's negatives.
        counted: (B,) booleans, True at rows with a loss.
        ids: (B,) ids of the candidates, by which accidental hits are known; None where they are not.
        negative_ids: (B, K) the same of the negatives.
    """

    queries: Tensor
    candidates: Tensor
    negatives: Tensor
    valid: Tensor
    counted: Tensor
    ids: Tensor | None = None
    negative_ids: Tensor | None = None


def softmax_losses(batch: Batch, duplicates: str, chunk_size: int) -> Tensor:
    """The losses (B,) of ``in_batch_softmax_loss``, with gradients for the three kinds of embeddings.

    Args:
        batch: The rows.
        duplicates: As in ``in_batch_softmax_loss``.
        chunk_size: Queries to take at a time.
    """

    def losses(queries, candidates, negatives):
        given = batch._replace(queries=queries, candidates=candidates, negatives=negatives)
        ones = ops.cast(batch.counted, queries.dtype)
        values, *slopes = _losses_and_slopes(given, ones, duplicates, chunk_size)

        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            weight, is_common = closed_form.common_weight(upstream, batch.counted, axis=0)
            # Rows mostly weigh the same: then the slopes are known already.
            return ops.cond(
                is_common,
                lambda: tuple(ops.where(ops.any(batch.counted), weight[0], 0.0) * part for part in slopes),
                lambda: _losses_and_slopes(given, ops.where(batch.counted, upstream, 0.0), duplicates, chunk_size)[1:],
            )

        return values, gradient

    how_twice = "Batches of up to 512 rows have them where `chunk_size` is None."
    return gradients.custom_gradient(losses, how_twice=how_twice)(batch.queries, batch.candidates, batch.negatives)


def _losses_and_slopes(batch: Batch, weights: Tensor, duplicates: str, chunk_size: int) -> tuple[Tensor, ...]:
    """Losses (B,), and the gradients of their sum times ``weights`` (B,) for queries, candidates and negatives."""
    rows = ops.shape(batch.queries)[0]
    has_explicit = batch.negatives.shape[1] != 0
    missing = (chunk_size - rows % chunk_size) % chunk_size
    chunks = (rows + missing) // chunk_size

    def cut(values):
        if not isinstance(missing, int) or missing > 0:
            filling = ops.zeros((missing, *ops.shape(values)[1:]), dtype=values.dtype)
            values = ops.concatenate([values, filling], axis=0)
        return ops.reshape(values, (chunks, chunk_size, *ops.shape(values)[1:]))

    queries, negatives, weighed = cut(batch.queries), cut(batch.negatives), cut(weights)
    all_ids: Any = batch.ids
    ids = None if all_ids is None else cut(all_ids)
    negative_ids = None if batch.negative_ids is None else cut(batch.negative_ids)
    places = ops.reshape(ops.minimum(ops.arange(rows + missing), rows - 1), (chunks, chunk_size))
    # Added to the scores of candidates that are none.
    hidden = ops.where(batch.valid, 0.0, lists.LOWEST)[None, :]

    def add_chunk(number, state):
        losses, of_queries, of_candidates, of_negatives = state

        def chunk(values):
            return ops.take(values, number, axis=0)

        query, own_negatives, own = chunk(queries), chunk(negatives), chunk(places)
        scores = ops.einsum("rd,cd->rc", query, batch.candidates) + hidden
        own_score = ops.take_along_axis(scores, own[:, None], axis=1)
        if has_explicit:
            scores = ops.concatenate([scores, ops.einsum("rd,rkd->rk", query, own_negatives)], axis=1)
        hits = None
        if ids is not None and duplicates != "negative":
            is_own = ops.equal(own[:, None], ops.arange(ops.shape(scores)[1])[None, :])
            hits = accidental_hits(chunk(ids), all_ids, None if negative_ids is None else chunk(negative_ids), is_own)
        allowed = scores if hits is None or duplicates == "positive" else ops.where(hits, lists.LOWEST, scores)
        probabilities, largest, log_total = _softmax(allowed)
        weight = chunk(weighed)[:, None]
        slopes = probabilities * weight
        if hits is None or duplicates == "mask":
            loss = (largest - own_score) + log_total
        else:
            # The own candidate is added to its duplicates.
            positives = ops.where(ops.logical_or(hits, is_own), scores, lists.LOWEST)
            shares, largest_positive, log_positive = _softmax(positives)
            loss = (largest - largest_positive) + (log_total - log_positive)
            slopes = slopes - shares * weight
        of_candidate = slopes[:, :rows]
        of_query = ops.einsum("rc,cd->rd", of_candidate, batch.candidates)
        of_candidates = of_candidates + ops.einsum("rc,rd->cd", of_candidate, query)
        if has_explicit:
            of_explicit = slopes[:, rows:]
            of_query = of_query + ops.einsum("rk,rkd->rd", of_explicit, own_negatives)
            of_explicit = of_explicit[:, :, None] * query[:, None, :]
            of_negatives = ops.slice_update(of_negatives, (number, 0, 0, 0), of_explicit[None])
        losses = ops.slice_update(losses, (number, 0), loss[None, :, 0])
        return losses, ops.slice_update(of_queries, (number, 0, 0), of_query[None]), of_candidates, of_negatives

    start = (
        ops.zeros_like(weighed),
        ops.zeros_like(queries),
        ops.zeros_like(batch.candidates),
        ops.zeros_like(negatives),
    )
    losses, of_queries, of_candidates, of_negatives = ops.fori_loop(0, chunks, add_chunk, start)
    losses, of_queries, of_negatives = (
        ops.reshape(values, (chunks * chunk_size, *ops.shape(values)[2:]))[:rows]
        for values in (losses, of_queries, of_negatives)
    )
    if batch.ids is None or duplicates != "positive":
        of_queries = of_queries - weights[:, None] * batch.candidates
        of_candidates = of_candidates - weights[:, None] * batch.queries
    return ops.where(batch.counted, losses, 0.0), of_queries, of_candidates, of_negatives


def accidental_hits(own_ids: Tensor, ids: Tensor, negative_ids: Tensor | None, own: Tensor) -> Tensor:
    """Where (R, B + K) a column other than the row's own holds the row's own candidate.

    Args:
        own_ids: (R,) ids of the candidates of some rows.
        ids: (B,) ids of all candidates.
        negative_ids: (R, K) ids of the explicit negatives of these rows; None where they are not known.
        own: (R, B + K) booleans, True at the row's own candidate.
    """
    same = ops.equal(own_ids[:, None], ids[None, :])
    if negative_ids is None:
        same_negatives = ops.zeros((ops.shape(own)[0], ops.shape(own)[1] - ops.shape(ids)[0]), "bool")
    else:
        same_negatives = ops.equal(own_ids[:, None], negative_ids)
    return ops.logical_and(ops.concatenate([same, same_negatives], axis=1), ops.logical_not(own))


def _softmax(scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The softmax of rows (R, C), their largest score and log(sum(exp(score - largest))), (R, 1) each."""
    largest = ops.max(scores, axis=1, keepdims=True)
    terms = ops.exp(scores - largest)
    total = ops.sum(terms, axis=1, keepdims=True)
    return terms / total, largest, ops.log(total)
