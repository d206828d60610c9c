"""The best k of a catalog too large to score whole: an index of faiss, and what it misses."""

from typing import Any

import numpy as np

from tfrankloss import errors
from tfrankloss.retrieval.exact import check_cutoff, index_pairs, read_embeddings, top_k, unit


class FaissIndex:
    """An index of candidate embeddings that finds most of the best ones without looking at all.

    Use it for millions of candidates; below that `top_k` is exact and often as fast. What an index misses depends on
    the embeddings: ask `recall` with queries of your own before you rely on it.

    Args:
        candidates: Embeddings (N, D).
        similarity: "dot", "cosine" or "euclidean" (negative squared distance), as in `embedding_scores`.
        factory: What kind of index, in the words of ``faiss.index_factory``: "HNSW32" is a graph, fast and near exact,
            of some 300 bytes per candidate besides its embedding; "IVF1024,Flat" looks into a few of 1,024 cells;
            "IVF1024,PQ16" keeps 16 bytes of each embedding, and its scores are rough.
        search: Parameters of a search by name, such as ``{"efSearch": 128}`` or ``{"nprobe": 32}``: the higher, the
            fewer are missed and the longer it takes. None for those of faiss.

    Raises:
        ImportError: If faiss is not installed (``pip install faiss-cpu``).
        ValueError: If there are no candidates, an embedding is NaN or infinite, or faiss knows no such index or
            parameter.

    Example:
        >>> import numpy as np
        >>> candidates = np.random.default_rng(0).normal(size=(1000, 8))
        >>> index = FaissIndex(candidates, search={"efSearch": 500})
        >>> index.recall(candidates[:100], k=10)
        recall@10 of 100 queries against the exact search: 1.000
        1.0

    Source: Douze et al., "The Faiss library" (2024), arXiv:2401.08281; Malkov and Yashunin (2020) for the graph.
    """

    def __init__(
        self,
        candidates: Any,
        similarity: str = "dot",
        *,
        factory: str = "HNSW32",
        search: dict[str, float] | None = None,
    ):
        faiss = _faiss()
        errors.check_choice("similarity", similarity, ("dot", "cosine", "euclidean"))
        self.candidates = read_embeddings("candidates", candidates).astype("float32")
        self.similarity = similarity
        vectors = unit(self.candidates) if similarity == "cosine" else self.candidates
        metric = faiss.METRIC_L2 if similarity == "euclidean" else faiss.METRIC_INNER_PRODUCT
        try:
            self._index = faiss.index_factory(vectors.shape[1], factory, metric)
            for name, value in (search or {}).items():
                faiss.ParameterSpace().set_index_parameter(self._index, name, value)
        except RuntimeError as error:
            raise ValueError(
                f"`factory` and `search` must be those of faiss. Received: factory={factory!r}, search={search!r}; "
                f"faiss says: {str(error).splitlines()[-1]}"
            ) from error
        self._index.train(vectors)
        self._index.add(vectors)

    def top_k(self, queries: Any, k: int, exclude: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """The best k candidates of every query that the index finds.

        Args:
            queries: Embeddings (Q, D).
            k: How many, at most N.
            exclude: Pairs (P, 2) of query index and candidate index never to return.

        Returns:
            Scores (Q, k), descending, and candidate indices (Q, k). Where it finds fewer, the score is -inf and the
            index -1.

        Raises:
            TypeError: If ``k`` or the pairs are not integers.
            ValueError: If ``k`` exceeds N, a pair is out of range, the sizes differ, or an embedding is NaN or
                infinite.
        """
        size, dimension = self.candidates.shape
        queries = read_embeddings("queries", queries).astype("float32")
        if queries.shape[1] != dimension:
            raise ValueError(
                f"`queries` must have the embedding size of the candidates, {dimension}. "
                f"Received: queries.shape={queries.shape}"
            )
        check_cutoff(k, size)
        pairs = index_pairs("exclude", exclude, size)
        if len(pairs) and pairs[-1, 0] >= len(queries):
            raise ValueError(f"`exclude` must hold query indices below {len(queries)}. Received: {pairs[-1, 0]}")
        # As many more as may have to go.
        most = int(np.bincount(pairs[:, 0]).max()) if len(pairs) else 0
        if self.similarity == "cosine":
            queries = unit(queries)
        values, indices = self._index.search(queries, min(k + most, size))
        values = -values if self.similarity == "euclidean" else values
        unwanted = np.isin(np.arange(len(queries))[:, None] * size + indices, pairs @ [size, 1]) | (indices < 0)
        order = np.argsort(unwanted, axis=1, kind="stable")[:, :k]
        values, indices, unwanted = (np.take_along_axis(part, order, axis=1) for part in (values, indices, unwanted))
        return np.where(unwanted, -np.inf, values), np.where(unwanted, -1, indices)

    def recall(self, queries: Any, k: int, exclude: Any = None, verbose: bool = True) -> float:
        """The share of the exact best k that the index finds.

        Args:
            queries: Embeddings (Q, D).
            k: How many are looked for.
            exclude: As in ``top_k``.
            verbose: Whether to print it.

        Returns:
            The mean over queries, from 0 to 1.
        """
        found = self.top_k(queries, k, exclude)[1]
        best = top_k(queries, self.candidates, k, exclude, self.similarity)[1]
        hits = [
            np.isin(row[row >= 0], other).mean() for row, other in zip(best, found, strict=True) if (row >= 0).any()
        ]
        share = float(np.mean(hits)) if hits else 1.0
        if verbose:
            print(f"recall@{k} of {len(best)} queries against the exact search: {share:.3f}")
        return share


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ImportError("FaissIndex needs faiss, which is not installed: pip install faiss-cpu") from error
    return faiss
