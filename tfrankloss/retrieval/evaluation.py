"""Metrics of the ranking of a whole catalog: a sample of negatives would order models wrongly."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfrankloss import errors
from tfrankloss.retrieval.exact import Scores, blocks, check_cutoff, index_pairs

_USUAL_CUTOFFS = (1, 5, 10, 50)


def evaluate(
    scores: Scores,
    relevant: Any,
    k: int | Sequence[int] | None = None,
    *,
    exclude: Any = None,
    popularity: Any = None,
    per_query: bool = False,
    verbose: bool = True,
) -> dict[str, Any]:
    """Metrics of the ranking of the whole catalog for every query, at several cutoffs in one pass.

    Use it on held-out interactions, with the training interactions excluded. Only queries with at least one relevant
    candidate are scored and enter the means. Ties go to the lower candidate index; a candidate of score -inf is never
    found.

    Formulas, per query with R relevant candidates, and rel(r) = 1 if rank r is relevant:
        - recall@k: `sum_{r<=k} rel(r) / R`
        - hit_rate@k: 1 if any of the first k is relevant
        - mrr@k: 1 / rank of the first relevant candidate, 0 beyond k
        - map@k: `sum_{r<=k} rel(r) * precision@r / R`
        - ndcg@k: `sum_{r<=k} rel(r) / log2(1 + r)` over the same sum with the relevant candidates first

    With ``popularity``, the interactions c of each candidate in training, also what accuracy does not show:
        - novelty@k: mean over the first k of `-log2(max(c, 1) / sum(c))`, the bits that naming the candidate tells
        - mean_popularity@k: mean over the first k of c
        - coverage@k: share of the catalog that is among the first k of any query
        - popularity_lift@k: mean_popularity@k over all queries, divided by the mean c of the relevant pairs, minus 1;
          0 where the ranking is as popular as what users choose, above 0 where it favours popular candidates

    Coverage and lift belong to all queries together and are one number, also with ``per_query``. Places that exclusion
    leaves without a candidate do not count; a query without any has novelty and mean popularity 0.

    Args:
        scores: Function from query indices (b,), ascending, to scores (b, N) of all candidates, higher is better:
            `embedding_scores`, `popularity_scores`, `random_scores` or any other.
        relevant: Pairs (P, 2) of query index and relevant candidate index; a repeated pair counts once.
        k: Cutoff or cutoffs, at most N; None for those of 1, 5, 10 and 50.
        exclude: Pairs (P, 2) of query index and candidate index taken out of the ranking.
        popularity: Interactions (N,) of each candidate in the training data, as `Interactions.popularity` counts them;
            None to leave out what needs them.
        per_query: Whether to return one value per query, in ascending order of query index, for tests of significance.
        verbose: Whether to show a progress bar.

    Returns:
        For each metric and cutoff, as in "recall@10", the mean over queries, or an array of one value per query.

    Raises:
        TypeError: If ``scores`` is not a function, or pairs or cutoffs are not integers.
        ValueError: If nothing is relevant, a cutoff exceeds N, a pair is out of range or both relevant and excluded,
            the scores are NaN or of the wrong shape, or ``popularity`` is not N counts of at least 0, one above 0.

    Example:
        >>> from tfrankloss.retrieval import embedding_scores
        >>> scores = embedding_scores([[1.0], [-1.0]], [[1.0], [2.0], [3.0]])
        >>> results = evaluate(scores, relevant=[(0, 1), (1, 2)], k=2, verbose=False)
        >>> {name: round(value, 3) for name, value in results.items()}
        {'recall@2': 0.5, 'hit_rate@2': 0.5, 'mrr@2': 0.25, 'map@2': 0.25, 'ndcg@2': 0.315}
        >>> results = evaluate(scores, relevant=[(0, 1), (1, 2)], k=2, popularity=[6, 1, 1], verbose=False)
        >>> {name: round(results[name], 3) for name in ("novelty@2", "coverage@2", "popularity_lift@2")}
        {'novelty@2': 2.354, 'coverage@2': 1.0, 'popularity_lift@2': 1.25}

    Source: novelty as in Zhou et al., "Solving the apparent diversity-accuracy dilemma of recommender systems" (2010),
    PNAS 107(10); lift as in Abdollahpouri et al., "The Unfairness of Popularity Bias in Recommendation" (2019),
    arXiv:1907.13286, with the relevant pairs as what users choose.
    """
    errors.check_callable("scores", scores)
    rows = np.unique(index_pairs("relevant", relevant)[:, 0])
    if not len(rows):
        raise ValueError("`relevant` must hold at least one pair. Received: no pair")
    # The greatest index first: what is out of range shows before hours of scoring.
    shape = np.shape(scores(rows[-1:]))
    errors.check_rank("scores(rows)", shape, 2, "(rows, candidates)")
    size = shape[1]
    cutoffs = _cutoffs([usual for usual in _USUAL_CUTOFFS if usual <= size] if k is None else k, size)
    wanted, unwanted = index_pairs("relevant", relevant, size), index_pairs("exclude", exclude, size)
    keys = wanted @ [size, 1]
    both = np.intersect1d(keys, unwanted @ [size, 1])
    if len(both):
        pair = divmod(int(both[0]), size)
        raise ValueError(f"`relevant` and `exclude` must have no pair in common. Received: {len(both)}, such as {pair}")
    beyond = None if popularity is None else _Beyond(popularity, wanted[:, 1], size, len(rows), cutoffs)
    hits = np.zeros((len(rows), max(cutoffs)), dtype=bool)
    for start, best, columns in blocks(scores, rows, size, max(cutoffs), unwanted, verbose):
        stop = start + len(best)
        found = rows[start:stop, None] * size + columns
        nearest = keys[np.minimum(np.searchsorted(keys, found), len(keys) - 1)]
        hits[start:stop] = (nearest == found) & (best > -np.inf)
        if beyond is not None:
            beyond.add(slice(start, stop), columns, best > -np.inf)
    results = _metrics(hits, np.bincount(np.searchsorted(rows, wanted[:, 0])), cutoffs)
    if beyond is not None:
        results.update(beyond.results())
    return results if per_query else {name: float(np.mean(values)) for name, values in results.items()}


class _Beyond:
    """Novelty, popularity and coverage of the rankings of Q queries, summed block by block."""

    def __init__(self, popularity: Any, chosen: np.ndarray, size: int, num_queries: int, cutoffs: Sequence[int]):
        counts = np.asarray(popularity)
        errors.check_same_shape("popularity", counts.shape, "candidates", (size,))
        if counts.dtype.kind not in "iuf":
            raise TypeError(f"`popularity` must hold numbers. Received: popularity.dtype={counts.dtype}")
        counts = counts.astype("float64")
        if not np.isfinite(counts).all() or counts.min() < 0 or counts.max() == 0:
            raise ValueError(
                "`popularity` must hold counts of at least 0, one of them above 0. "
                f"Received: values from {counts.min()} to {counts.max()}"
            )
        self.counts = counts
        self.bits = np.log2(counts.sum()) - np.log2(np.maximum(counts, 1))
        self.chosen = counts[chosen].mean()
        self.cutoffs = cutoffs
        self.seen = np.zeros((len(cutoffs), size), dtype=bool)
        self.novelty, self.popularity = (np.zeros((len(cutoffs), num_queries)) for _ in range(2))

    def add(self, queries: slice, columns: np.ndarray, valid: np.ndarray) -> None:
        """The candidates (b, K) by rank of these queries, where they are ``valid``."""
        for number, k in enumerate(self.cutoffs):
            top, kept = columns[:, :k], valid[:, :k]
            self.seen[number, top[kept]] = True
            places = np.maximum(kept.sum(axis=1), 1)
            for table, sums in ((self.bits, self.novelty), (self.counts, self.popularity)):
                sums[number, queries] = np.where(kept, table[top], 0.0).sum(axis=1) / places

    def results(self) -> dict[str, Any]:
        """By name and cutoff: arrays (Q,), and one number each for coverage and lift."""
        results: dict[str, Any] = {}
        for number, k in enumerate(self.cutoffs):
            mean = self.popularity[number].mean()
            results[f"novelty@{k}"] = self.novelty[number]
            results[f"mean_popularity@{k}"] = self.popularity[number]
            results[f"coverage@{k}"] = float(self.seen[number].mean())
            results[f"popularity_lift@{k}"] = float(mean / self.chosen - 1) if self.chosen else float("inf")
        return results


def _metrics(hits: np.ndarray, totals: np.ndarray, cutoffs: Sequence[int]) -> dict[str, np.ndarray]:
    """Metrics (Q,) of relevance by rank ``hits`` (Q, K), with ``totals`` (Q,) relevant candidates."""
    ranks = np.arange(1, hits.shape[1] + 1)
    discounts = 1 / np.log2(1 + ranks)
    ideal = np.cumsum(discounts)
    precision = np.cumsum(hits, axis=1) / ranks
    results = {}
    for k in cutoffs:
        top = hits[:, :k]
        results[f"recall@{k}"] = top.sum(axis=1) / totals
        results[f"hit_rate@{k}"] = top.any(axis=1).astype(float)
        results[f"mrr@{k}"] = np.max(top / ranks[:k], axis=1)
        results[f"map@{k}"] = np.sum(top * precision[:, :k], axis=1) / totals
        results[f"ndcg@{k}"] = top @ discounts[:k] / ideal[np.minimum(totals, k) - 1]
    return results


def _cutoffs(k: int | Sequence[int], size: int) -> list[int]:
    """The cutoffs ascending, each once, checked against the ``size`` of the catalog."""
    cutoffs = list(k) if isinstance(k, (Sequence, np.ndarray)) else [k]
    for cutoff in cutoffs:
        check_cutoff(cutoff, size)
    if not cutoffs:
        raise ValueError(f"`k` must hold at least one cutoff. {errors.received('k', k)}")
    return sorted({int(cutoff) for cutoff in cutoffs})
