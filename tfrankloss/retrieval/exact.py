"""The best k of all candidates, exactly, in NumPy: every candidate is scored, a block of queries at a time.

Whatever gives scores goes through the same code: embeddings, popularity, chance, or any function.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from tqdm import tqdm

from tfrankloss import errors

Scores = Callable[[np.ndarray], np.ndarray]

# Scores of one block of queries: 64 MiB in float32. Selection needs a few times that.
_BLOCK_ELEMENTS = 2**24


def embedding_scores(queries: Any, candidates: Any, similarity: str = "dot") -> Scores:
    """A function from query indices (b,) to their scores (b, N) of all candidates.

    Args:
        queries: Embeddings (Q, D).
        candidates: Embeddings (N, D).
        similarity: "dot", "cosine" or "euclidean" (negative squared distance), as in `tfrankloss.layers.Similarity`.

    Returns:
        The function, for `evaluate`.

    Raises:
        ValueError: If there are no candidates, the sizes differ, an embedding is NaN or infinite, or (when called) a
            query index is out of range.

    Example:
        >>> score = embedding_scores([[1.0, 0.0], [0.0, 2.0]], [[3.0, 4.0], [5.0, 0.0]])
        >>> score(np.array([1])).tolist()
        [[8.0, 0.0]]
    """
    errors.check_choice("similarity", similarity, ("dot", "cosine", "euclidean"))
    queries, candidates = read_embeddings("queries", queries), read_embeddings("candidates", candidates)
    if queries.shape[1] != candidates.shape[1]:
        raise ValueError(
            "`queries` and `candidates` must have the same embedding size. "
            f"Received: queries.shape={queries.shape}, candidates.shape={candidates.shape}"
        )
    lengths = 0.0
    if similarity == "cosine":
        queries, candidates = unit(queries), unit(candidates)
    elif similarity == "euclidean":
        # Distances do not change when all points move; about their centre the squares cancel least.
        centre = candidates.mean(axis=0)
        queries, candidates = 2 * (queries - centre), candidates - centre
        lengths = np.sum(candidates**2, axis=1)

    def score(rows: np.ndarray) -> np.ndarray:
        if rows.max() >= len(queries):
            raise ValueError(f"Query indices must be below len(queries)={len(queries)}. Received: {rows.max()}")
        block = queries[rows]
        own = np.sum(block**2, axis=1, keepdims=True) / 4 if similarity == "euclidean" else 0.0
        return block @ candidates.T - lengths - own

    return score


def popularity_scores(counts: Any) -> Scores:
    """A function that scores candidates alike for every query: the baseline to beat.

    Args:
        counts: How often each candidate occurs in the training data, (N,).

    Returns:
        The function, for `evaluate`.

    Raises:
        ValueError: If ``counts`` is not flat.

    Example:
        >>> popularity_scores([5, 1])(np.array([0, 7])).tolist()
        [[5.0, 1.0], [5.0, 1.0]]
    """
    counts = np.asarray(counts, dtype="float64")
    errors.check_rank("counts", counts.shape, 1, "(candidates,)")
    return lambda rows: np.tile(counts, (len(rows), 1))


def random_scores(num_candidates: int, seed: int = 0) -> Scores:
    """A function that scores candidates by chance, the same for a query in every call.

    Args:
        num_candidates: Size N of the catalog.
        seed: Seed of the draws.

    Returns:
        The function, for `evaluate`.

    Raises:
        ValueError: If ``num_candidates`` is below 1.

    Example:
        >>> score = random_scores(3)
        >>> bool(np.all(score(np.array([4, 5]))[1] == score(np.array([5]))[0]))
        True
    """
    errors.check_positive_integer("num_candidates", num_candidates)
    return lambda rows: np.stack([np.random.default_rng([seed, row]).random(num_candidates) for row in rows])


def top_k(
    queries: Any, candidates: Any, k: int, exclude: Any = None, similarity: str = "dot", verbose: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The best k candidates of every query, over the whole catalog, exactly.

    Ties go to the lower candidate index. Memory is bounded: queries are scored in blocks of 64 MiB.

    Args:
        queries: Embeddings (Q, D).
        candidates: Embeddings (N, D).
        k: How many, at most N.
        exclude: Pairs (P, 2) of query index and candidate index never to return, such as items already seen.
        similarity: "dot", "cosine" or "euclidean", as in `embedding_scores`.
        verbose: Whether to show a progress bar.

    Returns:
        Scores (Q, k), descending, and candidate indices (Q, k). Where exclusion leaves fewer than k candidates, the
        score is -inf and the index -1.

    Raises:
        TypeError: If ``k`` or the pairs are not integers.
        ValueError: If ``k`` exceeds N, a pair is out of range, or as in `embedding_scores`.

    Example:
        >>> scores, indices = top_k([[1.0, 0.0]], [[1.0, 0.0], [3.0, 0.0], [3.0, 1.0]], k=2, exclude=[(0, 1)])
        >>> scores.tolist(), indices.tolist()
        ([[3.0, 1.0]], [[2, 0]])
    """
    scores = embedding_scores(queries, candidates, similarity)
    rows, size = np.arange(len(queries)), len(candidates)
    check_cutoff(k, size)
    pairs = index_pairs("exclude", exclude, size)
    if len(pairs) and pairs[-1, 0] >= len(rows):
        raise ValueError(f"`exclude` must hold query indices below {len(rows)}. Received: {pairs[-1, 0]}")
    values, indices = np.empty((len(rows), k)), np.empty((len(rows), k), dtype="int64")
    for start, best, columns in blocks(scores, rows, size, k, pairs, verbose):
        values[start : start + len(best)] = best
        indices[start : start + len(best)] = np.where(best > -np.inf, columns, -1)
    return values, indices


def blocks(
    scores: Scores, rows: np.ndarray, size: int, k: int, exclude: np.ndarray, verbose: bool
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The first row, the best scores (b, k) and their candidates (b, k) of each block of ascending query indices."""
    step = max(1, _BLOCK_ELEMENTS // size)
    for start in tqdm(range(0, len(rows), step), unit="block", disable=not verbose):
        block_rows = rows[start : start + step]
        # A copy: it is written to, and the function may hand out its own memory.
        block = np.array(scores(block_rows))
        errors.check_same_shape("scores(rows)", block.shape, "(rows, candidates)", (len(block_rows), size))
        if np.isnan(block).any():
            raise ValueError("`scores` must not give NaN. Received: NaN")
        if block.dtype.kind != "f":
            block = block.astype("float64")
        first, last = np.searchsorted(exclude[:, 0], (block_rows[0], block_rows[-1] + 1))
        places = np.searchsorted(block_rows, exclude[first:last, 0])
        asked = block_rows[places] == exclude[first:last, 0]
        block[places[asked], exclude[first:last, 1][asked]] = -np.inf
        yield start, *_best(block, k)


def _best(block: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k greatest scores of each row, descending, and their columns; of equal ones the lower columns."""
    least = np.partition(block, -k, axis=1)[:, -k]
    kept = block >= least[:, None]
    surplus = kept.sum(axis=1) - k
    for row in np.flatnonzero(surplus):
        tied = np.flatnonzero(block[row] == least[row])
        kept[row, tied[len(tied) - surplus[row] :]] = False
    columns = np.nonzero(kept)[1].reshape(-1, k)
    values = np.take_along_axis(block, columns, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(values, order, axis=1), np.take_along_axis(columns, order, axis=1)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors at length 1; zero vectors stay zero."""
    scaled = vectors / np.maximum(np.abs(vectors).max(axis=1, keepdims=True), np.finfo(vectors.dtype).tiny)
    return scaled / np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 0.5)


def read_embeddings(name: str, values: Any) -> np.ndarray:
    """Finite embeddings (N, D), N and D at least 1, in float64 if given so and in float32 otherwise."""
    array = np.asarray(values)
    if array.dtype != "float64":
        array = array.astype("float32")
    errors.check_rank(name, array.shape, 2, "(count, embedding)")
    if not array.size:
        raise ValueError(f"`{name}` must not be empty. Received: {name}.shape={array.shape}")
    faulty = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(faulty):
        raise ValueError(f"`{name}` must be finite. Received: NaN or infinity in {len(faulty)} rows, first {faulty[0]}")
    return array


def index_pairs(name: str, values: Any, size: int | None = None) -> np.ndarray:
    """Pairs (P, 2) of query and candidate index, ascending, each once; candidates below ``size`` if it is known."""
    pairs = np.asarray([] if values is None else values)
    if not pairs.size:
        return np.zeros((0, 2), dtype="int64")
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(f"`{name}` must hold pairs (query, candidate). Received: {name}.shape={pairs.shape}")
    if pairs.dtype.kind not in "iu":
        raise TypeError(f"`{name}` must hold integers. Received: {name}.dtype={pairs.dtype}")
    if pairs.min() < 0:
        raise ValueError(f"`{name}` must hold indices of at least 0. Received: {pairs.min()}")
    if size is not None and pairs[:, 1].max() >= size:
        raise ValueError(f"`{name}` must hold candidate indices below {size}. Received: {pairs[:, 1].max()}")
    pairs = pairs.astype("int64")
    base = pairs[:, 1].max() + 1
    return np.stack(np.divmod(np.unique(pairs @ [base, 1]), base), axis=1)


def check_cutoff(k: int, size: int) -> None:
    """Raise unless ``k`` is an integer from 1 to ``size``."""
    errors.check_positive_integer("k", k)
    if k > size:
        raise ValueError(f"`k` must be at most the number of candidates, {size}. {errors.received('k', k)}")
