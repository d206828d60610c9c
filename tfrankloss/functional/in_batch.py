"""In-batch softmax: every other row's candidate is a negative."""

from typing import Any

from keras import ops

from tfrankloss import errors
from tfrankloss.functional import in_batch_chunks, lists
from tfrankloss.functional.similarity import SIMILARITIES, l2_normalize

Tensor = Any

DUPLICATES = ("mask", "positive", "negative")


def in_batch_scores(embeddings: Tensor, *, similarity: str = "dot") -> Tensor:
    r"""Scores of every query against every candidate of the batch, then against the row's own negatives.

    Args:
        embeddings: (B, 2 + K, D): the query, its candidate, and K explicit negatives of that row.
        similarity: "dot", "cosine" (0 for zero vectors) or "euclidean" (minus the squared distance).

    Returns:
        (B, B + K) scores; the own candidate of row i is in column i.

    Raises:
        ValueError: If the shape is not (batch, 2 + K, dimension) or the similarity is unknown.

    Example:
        >>> from tfrankloss.functional import in_batch_scores
        >>> scores = in_batch_scores([[[1.0, 0.0], [1.0, 2.0]], [[0.0, 1.0], [3.0, 4.0]]])
        >>> print([[float(score) for score in row] for row in scores])
        [[1.0, 3.0], [2.0, 4.0]]

    Source: "Full Product Softmax" of the project's documents; Radford et al. (CLIP), 2021.
    """
    errors.check_choice("similarity", similarity, SIMILARITIES)
    embeddings = ops.convert_to_tensor(embeddings)
    check_embeddings("embeddings", embeddings.shape)
    embeddings = ops.cast(embeddings, lists.computing_dtype(embeddings.dtype))
    if similarity == "cosine":
        embeddings = l2_normalize(embeddings)
    queries, candidates, negatives = embeddings[:, 0], embeddings[:, 1], embeddings[:, 2:]
    # Not matmul, which goes through float32 on torch when given float64.
    scores = ops.einsum("bd,cd->bc", queries, candidates)
    own = ops.einsum("bd,bkd->bk", queries, negatives)
    if similarity == "euclidean":
        lengths = ops.sum(ops.square(queries), axis=-1)[:, None]
        scores = 2 * scores - lengths - ops.sum(ops.square(candidates), axis=-1)[None, :]
        own = 2 * own - lengths - ops.sum(ops.square(negatives), axis=-1)
    return ops.concatenate([scores, own], axis=1)


def check_embeddings(name: str, shape: errors.Shape) -> None:
    """Raise unless ``shape`` is (batch, 2 + K, dimension)."""
    errors.check_rank(name, shape, 3, "(batch, 2 + negatives, dimension)")
    if shape[1] is not None and shape[1] < 2:
        raise ValueError(f"`{name}` must hold a query and a candidate on axis 1. Received: {name}.shape={tuple(shape)}")


def in_batch_softmax_loss(
    labels: Tensor,
    scores: Tensor,
    mask: Tensor | None = None,
    *,
    candidate_ids: Tensor | None = None,
    negative_ids: Tensor | None = None,
    duplicates: str = "mask",
) -> Tensor:
    r"""Softmax cross entropy of each row's own candidate among all candidates of the batch.

    For retrieval from positive feedback: clicks, purchases. A row with a label of 0 has loss 0, but its candidate is a
    negative of the others. A padded row is neither.

    .. math:: \ell_i = -[r_i > 0] \log \mathrm{softmax}(s_i)_i

    Args:
        labels: (B,) relevance r; negative marks padding.
        scores: (B, B + K) scores, as ``in_batch_scores`` makes them.
        mask: (B,) booleans, False at padded rows; None where labels alone tell.
        candidate_ids: (B,) integer ids of the candidates, by which accidental hits are known: columns that hold the
            row's own candidate again.
        negative_ids: (B, K) ids of the explicit negatives, for the same purpose.
        duplicates: What accidental hits are: "mask" leaves them out, "positive" adds their probability to the
            candidate's own, "negative" keeps them as negatives.

    Returns:
        (B,) loss per row.

    Raises:
        ValueError: If shapes do not fit or ``duplicates`` is unknown.

    Example:
        >>> from tfrankloss.functional import in_batch_softmax_loss
        >>> loss = in_batch_softmax_loss([1.0, 1.0], [[1.0, -1.0], [-1.0, 1.0]])
        >>> print([round(float(row), 6) for row in loss])
        [0.126928, 0.126928]

    Source: "Full Product Softmax" of the project's documents; Yi et al., "Sampling-Bias-Corrected Neural Modeling for
    Large Corpus Item Recommendations", RecSys 2019.
    """
    errors.check_choice("duplicates", duplicates, DUPLICATES)
    labels, scores, columns, valid = _prepare_rows(labels, scores, mask)
    batch, width = ops.shape(scores)[0], ops.shape(scores)[1]
    own = ops.equal(ops.arange(batch)[:, None], ops.arange(width)[None, :])
    hits = ops.logical_and(_accidental_hits(candidate_ids, negative_ids, own), columns)
    allowed = columns
    positive = ops.logical_and(own, columns)
    if duplicates == "mask":
        allowed = ops.logical_and(columns, ops.logical_not(hits))
    elif duplicates == "positive":
        positive = ops.logical_or(positive, hits)
    counted = ops.logical_and(valid, labels > 0)
    scores = lists.centered(scores, ops.logical_or(allowed, positive))
    losses = lists.masked_logsumexp(scores, allowed) - lists.masked_logsumexp(scores, positive)
    return ops.where(counted, losses[:, 0], 0.0)


def in_batch_embedding_loss(
    labels: Tensor,
    embeddings: Tensor,
    mask: Tensor | None = None,
    *,
    similarity: str = "dot",
    temperature: float = 1.0,
    candidate_ids: Tensor | None = None,
    negative_ids: Tensor | None = None,
    duplicates: str = "mask",
    chunk_size: int | None = None,
) -> Tensor:
    r"""``in_batch_softmax_loss`` of ``in_batch_scores``, in memory that grows with B and not with its square.

    For large batches: queries are taken in chunks, each of which sees all candidates, and the gradients of all
    embeddings come from the same pass as the losses.

    .. math:: \ell_i = -[r_i > 0] \log \mathrm{softmax}(s_i / T)_i

    Args:
        labels: (B,) relevance r; negative marks padding.
        embeddings: (B, 2 + K, D): the query, its candidate, and K explicit negatives of each row.
        mask: (B,) booleans, False at padded rows; None where labels alone tell.
        similarity: As in ``in_batch_scores``.
        temperature: T > 0.
        candidate_ids: As in ``in_batch_softmax_loss``.
        negative_ids: As in ``in_batch_softmax_loss``.
        duplicates: As in ``in_batch_softmax_loss``.
        chunk_size: Queries to take at a time; None for as many as fit a few megabytes.

    Returns:
        (B,) loss per row.

    Raises:
        ValueError: If shapes do not fit or an option has a wrong value.
        TypeError: If ``chunk_size`` is not an integer.

    Example:
        >>> from tfrankloss.functional import in_batch_embedding_loss
        >>> embeddings = [[[1.0, 0.0], [1.0, -1.0]], [[0.0, 1.0], [-1.0, 1.0]]]
        >>> loss = in_batch_embedding_loss([1.0, 1.0], embeddings, chunk_size=1)
        >>> print([round(float(row), 6) for row in loss])
        [0.126928, 0.126928]

    Source: as ``in_batch_softmax_loss``; the chunks are the project's own.
    """
    errors.check_choice("similarity", similarity, SIMILARITIES)
    errors.check_choice("duplicates", duplicates, DUPLICATES)
    errors.check_positive("temperature", temperature)
    errors.check_positive_integer("chunk_size", chunk_size, optional=True)
    embeddings, labels = ops.convert_to_tensor(embeddings), ops.convert_to_tensor(labels)
    check_embeddings("embeddings", embeddings.shape)
    errors.check_rank("labels", labels.shape, 1, "(batch,)")
    errors.check_same_shape("labels", labels.shape, "embeddings", embeddings.shape[:1])
    embeddings, valid = clean_rows(labels, embeddings, mask)
    if similarity == "cosine":
        embeddings = l2_normalize(embeddings)
    queries, others = embeddings[:, 0], embeddings[:, 1:]
    if similarity == "euclidean":
        # -|q - c|^2 is the product of (2 q, 1) and (c, -|c|^2), but for |q|^2, which the softmax of a row takes no
        # notice of.
        queries = ops.concatenate([2 * queries, ops.ones_like(queries[:, :1])], axis=1)
        others = ops.concatenate([others, -ops.sum(ops.square(others), axis=2, keepdims=True)], axis=2)
    rows = in_batch_chunks.Batch(
        queries / temperature,
        others[:, 0],
        others[:, 1:],
        valid,
        ops.logical_and(valid, labels > 0),
        None if candidate_ids is None else ops.convert_to_tensor(candidate_ids),
        None if negative_ids is None else ops.convert_to_tensor(negative_ids),
    )
    size = in_batch_chunks.rows_at_once(embeddings.shape[0]) if chunk_size is None else chunk_size
    return in_batch_chunks.softmax_losses(rows, duplicates, size)


def clean_rows(targets: Tensor, embeddings: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Embeddings (B, T, D) in the computing dtype, 0 in padded rows, and which rows (B,) are not padding."""
    embeddings = ops.cast(embeddings, lists.computing_dtype(embeddings.dtype))
    valid = targets >= 0
    if mask is not None:
        valid = ops.logical_and(valid, ops.convert_to_tensor(mask, dtype="bool"))
    return ops.where(valid[:, None, None], embeddings, 0.0), valid


def _prepare_rows(labels: Tensor, scores: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Clean labels (B,) and scores (B, B + K), which columns exist in which row (B, B + K), and valid rows (B,)."""
    scores = ops.convert_to_tensor(scores)
    labels = ops.convert_to_tensor(labels)
    errors.check_rank("scores", scores.shape, 2, "(batch, batch + negatives)")
    errors.check_rank("labels", labels.shape, 1, "(batch,)")
    errors.check_same_shape("labels", labels.shape, "scores", scores.shape[:1])
    batch, width = scores.shape
    if batch is not None and width is not None and width < batch:
        raise ValueError(f"`scores` must have a column for every row. Received: scores.shape={tuple(scores.shape)}")
    scores = ops.cast(scores, lists.computing_dtype(scores.dtype))
    labels = ops.cast(labels, scores.dtype)
    valid = labels >= 0
    if mask is not None:
        valid = ops.logical_and(valid, ops.convert_to_tensor(mask, dtype="bool"))
    extra = ops.shape(scores)[1] - ops.shape(scores)[0]
    columns = ops.concatenate([valid, ops.ones((extra,), "bool")])[None, :]
    columns = ops.logical_and(columns, valid[:, None])
    scores = ops.clip(ops.where(columns, scores, 0.0), -lists.LARGEST_SCORE, lists.LARGEST_SCORE)
    return labels, scores, columns, valid


def _accidental_hits(candidate_ids: Tensor | None, negative_ids: Tensor | None, own: Tensor) -> Tensor:
    """Where (B, B + K) a column other than the row's own holds the row's own candidate, as far as ids are known."""
    if candidate_ids is None:
        return ops.zeros_like(own)
    ids = ops.convert_to_tensor(candidate_ids)
    given = None if negative_ids is None else ops.convert_to_tensor(negative_ids)
    return in_batch_chunks.accidental_hits(ids, ids, given, own)
