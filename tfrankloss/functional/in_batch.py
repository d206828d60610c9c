"""In-batch softmax: every other row's candidate is a negative."""

from typing import Any, NamedTuple

from keras import ops

from tfrankloss import errors
from tfrankloss.functional import in_batch_chunks, in_batch_rows, lists
from tfrankloss.functional.in_batch_rows import RELEVANCE
from tfrankloss.functional.similarity import SIMILARITIES, l2_normalize

Tensor = Any


def in_batch_scores(embeddings: Tensor, *, similarity: str = "dot", shared_negatives: bool = False) -> Tensor:
    r"""Scores of every query against every candidate of the batch, then against the row's own negatives.

    Args:
        embeddings: (B, 2 + K, D): the query, its candidate, and K explicit negatives of that row.
        similarity: "dot", "cosine" (0 for zero vectors) or "euclidean" (minus the squared distance).
        shared_negatives: Whether every query is scored against the explicit negatives of all rows.

    Returns:
        (B, B + K) scores, or (B, B + B K) with ``shared_negatives``; the own candidate of row i is in column i.

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
    if shared_negatives:
        candidates = ops.concatenate([candidates, ops.reshape(negatives, (-1, ops.shape(negatives)[2]))], axis=0)
        negatives = negatives[:, :0]
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
    known_positives: Tensor | None = None,
    log_probabilities: Tensor | None = None,
    duplicates: str = "mask",
    shared_negatives: bool = False,
    hardest_negatives: int | None = None,
    label_smoothing: float = 0.0,
    margin: float = 0.0,
    symmetric: bool = False,
    relevance: str = "mask",
) -> Tensor:
    r"""Softmax cross entropy of each row's own candidate among all candidates of the batch.

    For retrieval from positive feedback: clicks, purchases. A row with a label of 0 has loss 0, but its candidate is a
    negative of the others. A padded row is neither. With every option off this is a softmax cross entropy.

    .. math:: \ell_i = -[r_i > 0] \log \mathrm{softmax}(s_i - \log Q)_i

    Args:
        labels: (B,) relevance r; negative marks padding.
        scores: (B, B + K) scores, as ``in_batch_scores`` makes them, or (B, B + B K) with ``shared_negatives``.
        mask: (B,) booleans, False at padded rows; None where labels alone tell.
        candidate_ids: (B,) integer ids of the candidates, by which accidental hits are known: columns that hold the
            row's own candidate again. Ids are compared as they are: integers of any size, hashes too, of at least 0.
        negative_ids: (B, K) ids of the explicit negatives, for the same purpose.
        known_positives: (B, P) ids of candidates that are known to be right for the row, filled up with negative
            numbers: none of them is a negative of that row. Needs ``candidate_ids``.
        log_probabilities: (B, 1 + K) logarithms log Q of the probabilities by which the own candidate and the explicit
            negatives came to be in the batch, which are taken from their scores; without gradient.
        duplicates: What accidental hits are: "mask" leaves them out, "positive" adds their probability to the
            candidate's own, "negative" keeps them as negatives.
        shared_negatives: Whether the explicit negatives of each row are negatives of all rows: mixed negative sampling.
        hardest_negatives: How many negatives of each row count, those with the highest scores; None for all.
        label_smoothing: The share of the target that goes to all columns of a row alike, at least 0 and below 1.
        margin: What is taken from the scores of positives, at least 0.
        symmetric: Whether the loss of a row is the mean of two: of its candidate among all candidates, and of its
            query among all queries as seen from the candidate, where explicit negatives and log Q play no part.
        relevance: "mask" counts rows above 0 alike, "weight" multiplies their losses by r.

    Returns:
        (B,) loss per row.

    Raises:
        ValueError: If shapes do not fit or an option has a wrong value.
        TypeError: If ``hardest_negatives`` is not an integer.

    Example:
        >>> from tfrankloss.functional import in_batch_softmax_loss
        >>> loss = in_batch_softmax_loss([1.0, 1.0], [[1.0, -1.0], [-1.0, 1.0]])
        >>> print([round(float(row), 6) for row in loss])
        [0.126928, 0.126928]

    Source: "Full Product Softmax" of the project's documents; Yi et al., "Sampling-Bias-Corrected Neural Modeling for
    Large Corpus Item Recommendations", RecSys 2019 (log Q); Yang et al., "Mixed Negative Sampling for Learning
    Two-tower Neural Networks in Recommendations", WWW 2020 (shared negatives); Radford et al. (CLIP), 2021 (symmetric).
    """
    settings = in_batch_rows.Settings(duplicates, hardest_negatives, label_smoothing, margin).check()
    errors.check_choice("relevance", relevance, RELEVANCE)
    labels, scores, exists, valid = _prepare_rows(labels, scores, mask, shared_negatives)
    batch, width = ops.shape(scores)[0], ops.shape(scores)[1]
    own = ops.equal(ops.arange(batch)[:, None], ops.arange(width)[None, :])
    identities = _identities(candidate_ids, negative_ids, known_positives, valid, shared_negatives)
    found = in_batch_rows.Hits()
    if identities.ids is not None:
        found = in_batch_rows.hits(
            identities.ids, identities.column_ids, own, identities.negative_ids, identities.known
        )
    of_columns, of_negatives = _offsets(log_probabilities, valid, scores.dtype, shared_negatives)
    corrected = scores
    if of_columns is not None:
        offsets = of_columns[None, :]
        if of_negatives is not None:
            offsets = ops.concatenate([ops.broadcast_to(offsets, (batch, ops.shape(offsets)[1])), of_negatives], axis=1)
        corrected = scores + offsets
    losses = in_batch_rows.losses(corrected, exists, own, found, settings)
    if symmetric:
        back = in_batch_rows.losses(
            ops.transpose(scores[:, :batch]),
            ops.transpose(exists[:, :batch]),
            own[:, :batch],
            found.transposed(batch),
            settings,
        )
        losses = (losses + back) / 2
    return _counted(losses, labels, valid, relevance)


def in_batch_embedding_loss(
    labels: Tensor,
    embeddings: Tensor,
    mask: Tensor | None = None,
    *,
    similarity: str = "dot",
    temperature: float = 1.0,
    candidate_ids: Tensor | None = None,
    negative_ids: Tensor | None = None,
    known_positives: Tensor | None = None,
    log_probabilities: Tensor | None = None,
    duplicates: str = "mask",
    shared_negatives: bool = False,
    hardest_negatives: int | None = None,
    label_smoothing: float = 0.0,
    margin: float = 0.0,
    symmetric: bool = False,
    relevance: str = "mask",
    chunk_size: int | None = None,
    own_rows: Any = None,
) -> Tensor:
    r"""``in_batch_softmax_loss`` of ``in_batch_scores``, in memory that grows with B and not with its square.

    For large batches: queries are taken in chunks, each of which sees all candidates, and the gradients of all
    embeddings come from the same pass as the losses.

    .. math:: \ell_i = -[r_i > 0] \log \mathrm{softmax}(s_i / T - \log Q)_i

    Args:
        labels: (B,) relevance r; negative marks padding.
        embeddings: (B, 2 + K, D): the query, its candidate, and K explicit negatives of each row.
        mask: (B,) booleans, False at padded rows; None where labels alone tell.
        similarity: As in ``in_batch_scores``.
        temperature: T > 0.
        candidate_ids: As in ``in_batch_softmax_loss``.
        negative_ids: As in ``in_batch_softmax_loss``.
        known_positives: As in ``in_batch_softmax_loss``.
        log_probabilities: As in ``in_batch_softmax_loss``.
        duplicates: As in ``in_batch_softmax_loss``.
        shared_negatives: As in ``in_batch_softmax_loss``.
        hardest_negatives: As in ``in_batch_softmax_loss``.
        label_smoothing: As in ``in_batch_softmax_loss``.
        margin: As in ``in_batch_softmax_loss``, of similarities: it is divided by the temperature too.
        symmetric: As in ``in_batch_softmax_loss``.
        relevance: As in ``in_batch_softmax_loss``.
        chunk_size: Queries to take at a time; None for as many as fit a few megabytes.
        own_rows: How many rows have their loss computed, those that come first: R. All others are there for their
            candidates, and with ``symmetric`` for their queries. None for all.

    Returns:
        (B,) loss per row, or (R,).

    Raises:
        ValueError: If shapes do not fit or an option has a wrong value.
        TypeError: If ``chunk_size`` or ``hardest_negatives`` is not an integer.

    Example:
        >>> from tfrankloss.functional import in_batch_embedding_loss
        >>> embeddings = [[[1.0, 0.0], [1.0, -1.0]], [[0.0, 1.0], [-1.0, 1.0]]]
        >>> loss = in_batch_embedding_loss([1.0, 1.0], embeddings, chunk_size=1)
        >>> print([round(float(row), 6) for row in loss])
        [0.126928, 0.126928]

    Source: as ``in_batch_softmax_loss``; the chunks are the project's own.
    """
    errors.check_choice("similarity", similarity, SIMILARITIES)
    errors.check_choice("relevance", relevance, RELEVANCE)
    errors.check_positive("temperature", temperature)
    errors.check_positive_integer("chunk_size", chunk_size, optional=True)
    settings = in_batch_rows.Settings(duplicates, hardest_negatives, label_smoothing, margin).check()
    settings = settings._replace(margin=margin / temperature)
    embeddings, labels = ops.convert_to_tensor(embeddings), ops.convert_to_tensor(labels)
    check_embeddings("embeddings", embeddings.shape)
    errors.check_rank("labels", labels.shape, 1, "(batch,)")
    errors.check_same_shape("labels", labels.shape, "embeddings", embeddings.shape[:1])
    embeddings, valid = clean_rows(labels, embeddings, mask)
    if similarity == "cosine":
        embeddings = l2_normalize(embeddings)
    size = in_batch_chunks.rows_at_once(embeddings.shape[0]) if chunk_size is None else chunk_size
    queries, candidates, negatives = _split(embeddings)
    identities = _identities(candidate_ids, negative_ids, known_positives, valid, shared_negatives)
    of_columns, of_negatives = _offsets(log_probabilities, valid, embeddings.dtype, shared_negatives)
    columns, exists = candidates, valid
    if shared_negatives:
        columns = ops.concatenate([candidates, ops.reshape(negatives, (-1, ops.shape(negatives)[2]))], axis=0)
        exists, negatives = _with_shared(valid, ops.shape(negatives)[1]), negatives[:, :0]

    def own(values):
        return values if values is None or own_rows is None else values[:own_rows]

    counted = own(ops.logical_and(valid, labels > 0))
    batch = in_batch_chunks.Batch(
        _as_query(own(queries), similarity) / temperature,
        _as_candidate(columns, similarity),
        _as_candidate(own(negatives), similarity),
        exists,
        counted,
        of_columns,
        own(of_negatives),
        own(identities.ids),
        identities.column_ids,
        own(identities.negative_ids),
        own(identities.known),
    )
    losses = in_batch_chunks.softmax_losses(batch, settings, size)
    if symmetric:
        back = in_batch_chunks.Batch(
            _as_query(own(candidates), similarity) / temperature,
            _as_candidate(queries, similarity),
            _as_candidate(own(ops.stop_gradient(embeddings[:, :0])), similarity),
            valid,
            counted,
            ids=own(identities.ids),
            column_ids=identities.ids,
            known_of_columns=identities.known,
        )
        losses = (losses + in_batch_chunks.softmax_losses(back, settings, size)) / 2
    return _counted(losses, ops.cast(own(labels), losses.dtype), own(valid), relevance)


def clean_rows(targets: Tensor, embeddings: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Embeddings (B, T, D) in the computing dtype, 0 in padded rows, and which rows (B,) are not padding."""
    embeddings = ops.cast(embeddings, lists.computing_dtype(embeddings.dtype))
    valid = targets >= 0
    if mask is not None:
        valid = ops.logical_and(valid, ops.convert_to_tensor(mask, dtype="bool"))
    return ops.where(valid[:, None, None], embeddings, 0.0), valid


def _split(embeddings: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries (B, D), candidates (B, D) and negatives (B, K, D) of embeddings.

    The gradient of a slice is as large as all embeddings; where there are no negatives, it comes in two halves.
    """
    if embeddings.shape[1] != 2:
        return embeddings[:, 0], embeddings[:, 1], embeddings[:, 2:]
    return (*ops.unstack(embeddings, axis=1), ops.stop_gradient(embeddings[:, 2:]))


def _as_query(embeddings: Tensor, similarity: str) -> Tensor:
    """Embeddings (..., D) whose products with those of ``_as_candidate`` are similarities, as far as a row can tell.

    -|q - c|^2 is the product of (2 q, 1) and (c, -|c|^2), but for |q|^2, which the softmax of a row takes no notice of.
    """
    if similarity != "euclidean":
        return embeddings
    return ops.concatenate([2 * embeddings, ops.ones_like(embeddings[..., :1])], axis=-1)


def _as_candidate(embeddings: Tensor, similarity: str) -> Tensor:
    if similarity != "euclidean":
        return embeddings
    return ops.concatenate([embeddings, -ops.sum(ops.square(embeddings), axis=-1, keepdims=True)], axis=-1)


def _counted(losses: Tensor, labels: Tensor, valid: Tensor, relevance: str) -> Tensor:
    """The losses (B,) of the rows that count, multiplied by their labels where these are weights."""
    losses = ops.where(ops.logical_and(valid, labels > 0), losses, 0.0)
    return losses * ops.where(valid, labels, 0.0) if relevance == "weight" else losses


def _prepare_rows(
    labels: Tensor, scores: Tensor, mask: Tensor | None, shared_negatives: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Clean labels (B,) and scores (B, C), which columns exist in which row (B, C), and valid rows (B,)."""
    scores = ops.convert_to_tensor(scores)
    labels = ops.convert_to_tensor(labels)
    errors.check_rank("scores", scores.shape, 2, "(batch, batch + negatives)")
    errors.check_rank("labels", labels.shape, 1, "(batch,)")
    errors.check_same_shape("labels", labels.shape, "scores", scores.shape[:1])
    batch, width = scores.shape
    if batch is not None and width is not None and (width < batch or (shared_negatives and width % batch)):
        rule = "for every row" + (" and the same number of shared negatives from each" if width >= batch else "")
        raise ValueError(f"`scores` must have a column {rule}. Received: scores.shape={tuple(scores.shape)}")
    scores = ops.cast(scores, lists.computing_dtype(scores.dtype))
    labels = ops.cast(labels, scores.dtype)
    valid = labels >= 0
    if mask is not None:
        valid = ops.logical_and(valid, ops.convert_to_tensor(mask, dtype="bool"))
    extra = ops.shape(scores)[1] - ops.shape(scores)[0]
    if shared_negatives:
        exists = _with_shared(valid, extra // ops.shape(scores)[0])[None, :]
    else:
        exists = ops.concatenate([valid, ops.ones((extra,), "bool")])[None, :]
    exists = ops.logical_and(exists, valid[:, None])
    scores = ops.clip(ops.where(exists, scores, 0.0), -lists.LARGEST_SCORE, lists.LARGEST_SCORE)
    return labels, scores, exists, valid


def _with_shared(values: Tensor, negatives: Any) -> Tensor:
    """What rows (B,) have, for their candidates and then for the explicit negatives of each: (B + B K,)."""
    each = ops.broadcast_to(values[:, None], (ops.shape(values)[0], negatives))
    return ops.concatenate([values, ops.reshape(each, (-1,))])


class _Identities(NamedTuple):
    """Ids as rows and chunks of rows take them; all None where there are none."""

    ids: Tensor | None = None
    column_ids: Tensor | None = None
    negative_ids: Tensor | None = None
    known: Tensor | None = None


def _identities(
    candidate_ids: Tensor | None,
    negative_ids: Tensor | None,
    known_positives: Tensor | None,
    valid: Tensor,
    shared_negatives: bool,
) -> _Identities:
    if candidate_ids is None:
        if known_positives is not None or negative_ids is not None:
            raise ValueError("`candidate_ids` must be given with `known_positives` and `negative_ids`. Received: None")
        return _Identities()
    ids = ops.convert_to_tensor(candidate_ids)
    errors.check_rank("candidate_ids", ids.shape, 1, "(batch,)")
    errors.check_same_shape("candidate_ids", ids.shape, "rows", valid.shape)
    known = None if known_positives is None else ops.convert_to_tensor(known_positives)
    negatives = None if negative_ids is None else ops.convert_to_tensor(negative_ids)
    for name, given in (("known_positives", known), ("negative_ids", negatives)):
        if given is not None:
            errors.check_rank(name, given.shape, 2, "(batch, ids)")
            errors.check_same_shape(name, given.shape[:1], "rows", valid.shape)
    columns = ids
    if shared_negatives and negatives is not None:
        columns, negatives = ops.concatenate([ids, ops.reshape(negatives, (-1,))]), None
    return _Identities(ids, columns, negatives, known)


def _offsets(
    log_probabilities: Tensor | None, valid: Tensor, dtype: Any, shared_negatives: bool
) -> tuple[Tensor | None, Tensor | None]:
    """What is added to the scores of the columns (C,) that all rows have, and of the negatives (B, K) of one row."""
    if log_probabilities is None:
        return None, None
    given = ops.convert_to_tensor(log_probabilities)
    errors.check_rank("log_probabilities", given.shape, 2, "(batch, 1 + negatives)")
    errors.check_same_shape("log_probabilities", given.shape[:1], "rows", valid.shape)
    given = ops.where(valid[:, None], -ops.stop_gradient(ops.cast(given, dtype)), 0.0)
    given = ops.clip(given, -lists.LARGEST_SCORE, lists.LARGEST_SCORE)
    if shared_negatives:
        return ops.concatenate([given[:, 0], ops.reshape(given[:, 1:], (-1,))]), None
    return given[:, 0], given[:, 1:]
