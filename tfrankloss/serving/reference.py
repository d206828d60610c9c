"""What the live model answers: its towers called eagerly, then NumPy in float64. Shares no code with the graph."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrankloss.serving.features import Features, Specs, Stage
from tfrankloss.serving.index import CandidateIndex, Measure

Answers = Mapping[str, np.ndarray]
Gap = Callable[[Features, Answers], float]

_ROWS_AT_ONCE = 65536
# The score of what is not there; JSON has no infinity.
LOWEST = np.finfo(np.float32).min


def live(stage: Stage, features: Features, specs: Specs, mask: np.ndarray | None = None) -> np.ndarray:
    """The float64 output of a stage for its part of ``features``.

    Args:
        stage: What is called.
        features: The raw features, and perhaps more.
        specs: Those that the stage takes.
        mask: Where outputs count, or None for everywhere; elsewhere they are 0.

    Raises:
        ValueError: If an output is not finite.
    """
    # On a GPU TensorFlow multiplies with shortened numbers, and the servable is checked on the processor.
    with tf.device("CPU:0"):
        output = stage({name: tf.constant(features[name], specs[name].dtype) for name in specs})
    values = keras.ops.convert_to_numpy(output).astype(np.float64)
    values = values if mask is None else np.where(mask, values, 0.0)
    bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if bad.any():
        row = {name: np.asarray(features[name])[bad][0].tolist() for name in specs}
        raise ValueError(
            f"`{stage.name}` must give finite outputs. An empty history (all zeros) needs safe pooling; if no request "
            f"looks like this one, give a `probe`. Received: {row}"
        )
    return values


def relative_gap(actual: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, as a part of 1 + the largest expected size; infinite if shapes differ."""
    if actual.shape != expected.shape:
        return float("inf")
    gap = np.abs(actual.astype(np.float64) - expected) / (1.0 + np.abs(expected).max(initial=0.0))
    return float(gap.max(initial=0.0)) if np.isfinite(gap).all() else float("inf")


def pair_scores(measure: Measure, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Scores over the last axis of two arrays that broadcast."""
    if measure.similarity == "euclidean":
        return -((queries - candidates) ** 2).sum(axis=-1) / measure.temperature
    products = (queries * candidates).sum(axis=-1) / measure.temperature
    if measure.similarity == "dot":
        return products
    norms = np.linalg.norm(queries, axis=-1) * np.linalg.norm(candidates, axis=-1)
    return np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)


def output_gap(stage: Stage, specs: Specs) -> Gap:
    """The gap of a signature whose ``scores`` are the output of one stage."""
    return lambda features, answers: relative_gap(answers["scores"], live(stage, features, specs))


def embedding_gap(stage: Stage, specs: Specs, measure: Measure) -> Gap:
    """The gap of a signature that answers with embeddings as the similarity sees them."""

    def gap(features: Features, answers: Answers) -> float:
        expected = live(stage, features, specs)
        if measure.similarity == "cosine":
            norms = np.linalg.norm(expected, axis=-1, keepdims=True)
            expected = np.divide(expected, norms, out=np.zeros_like(expected), where=norms > 0)
        return relative_gap(answers["embedding"], expected)

    return gap


def list_gap(query: Stage, candidate: Stage, query_specs: Specs, candidate_specs: Specs, measure: Measure) -> Gap:
    """The gap of a signature that scores a list of candidates per query."""

    def gap(features: Features, answers: Answers) -> float:
        queries = live(query, features, query_specs)
        lists = [
            live(candidate, {name: np.asarray(features[name])[row] for name in candidate_specs}, candidate_specs)
            for row in range(len(queries))
        ]
        return relative_gap(answers["scores"], pair_scores(measure, queries[:, None], np.stack(lists)))

    return gap


def masked_gap(scores: np.ndarray, expected: np.ndarray, mask: np.ndarray) -> float:
    """The gap of scores of lists, which must be the lowest float where the mask is False."""
    if scores.shape != expected.shape or (scores[~mask] != LOWEST).any():
        return float("inf")
    return relative_gap(scores[mask], expected[mask])


def ranked_gap(
    table: np.ndarray, ids: Mapping[Any, int] | np.ndarray, depths: np.ndarray, answers: Answers, blank: str | int
) -> float:
    """The gap of ``ids`` and ``scores`` that should be the best of a table of scores, by a full sort.

    Those whose scores differ by rounding alone may change places, so each returned id is judged by the score it has in
    the table: it must be the score that belongs to its place.

    Args:
        table: Scores (B, N), minus infinity for what must not be returned.
        ids: The columns by id, for all rows; or the ids (B, N) of the columns of each.
        depths: How many each row returns, if there are so many; after these come blanks.
        answers: What was answered.
        blank: The id of a blank.
    """
    gaps = [0.0]
    for row, scores in enumerate(table):
        columns = ids if isinstance(ids, Mapping) else {value: place for place, value in enumerate(ids[row].tolist())}
        count = min(int(depths[row]), int(np.isfinite(scores).sum()))
        best = -np.sort(np.partition(-scores, count - 1)[:count]) if count else scores[:0]
        given, got = answers["ids"][row].tolist(), answers["scores"][row]
        found = [columns.get(value, -1) for value in given[:count]]
        rest = all(value == blank for value in given[count:]) and (got[count:] == LOWEST).all()
        if len(found) < count or -1 in found or len(set(found)) < count or not rest:
            return float("inf")
        gaps += [relative_gap(got[:count], best), relative_gap(scores[found], best)]
    return max(gaps)


class TopK:
    """The gaps of signatures that answer with the best of one index; see `ranked_gap`.

    The rows of a probe come again in every request of every signature, and a catalogue may be long: the scores of a
    query are computed once.

    Args:
        query: What embeds queries.
        specs: Its features.
        index: The candidates.
        measure: How a pair is scored.
    """

    def __init__(self, query: Stage, specs: Specs, index: CandidateIndex, measure: Measure):
        self._query, self._specs, self._index, self._measure = query, specs, index, measure
        self._known: dict[bytes, np.ndarray] = {}

    def gap(self, asked: Features, answers: Answers, k: int) -> float:
        """The gap of answers with ``k`` candidates; ``k``, ``exclude_ids`` and filters that are asked count."""
        queries = live(self._query, asked, self._specs)
        depths = np.asarray(asked.get("k", np.full(len(queries), k)))
        shape = (len(queries), depths.max(initial=0))
        if answers["ids"].shape != shape or answers["scores"].shape != shape:
            return float("inf")
        table = np.where(allowed(self._index, asked, len(queries)), self._table(queries), -np.inf)
        return ranked_gap(table, self._index.rows, depths, answers, self._index.blank)

    def _table(self, queries: np.ndarray) -> np.ndarray:
        new = {row.tobytes(): row for row in queries if row.tobytes() not in self._known}
        if new:
            scores = np.stack(list(new.values()))
            if self._index.embeddings is not None:
                scores = _all_scores(self._measure, scores, self._index.embeddings)
            self._known.update(zip(new, scores, strict=True))
        return np.stack([self._known[row.tobytes()] for row in queries])


def allowed(index: CandidateIndex, asked: Features, batch: int) -> np.ndarray:
    """Which candidates each row may return, (B, N), one comparison after the other."""
    good = np.ones((batch, index.size), bool)
    for row, ids in enumerate(asked.get("exclude_ids", ())):
        good[row, [index.rows[value] for value in ids.tolist() if value in index.rows]] = False
    for attribute, values in index.attributes.items():
        for row, wanted in enumerate(asked.get(f"{attribute}_in", ())):
            good[row] &= np.isin(values, wanted) | (len(wanted) == 0)
    return good


def _all_scores(measure: Measure, queries: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
    """Scores (B, N) by blocks of candidates, with one product of matrices each."""
    blocks = range(0, len(embeddings), _ROWS_AT_ONCE)
    return np.concatenate(
        [_scores(measure, queries, embeddings[start : start + _ROWS_AT_ONCE].astype(np.float64)) for start in blocks], 1
    )


def _scores(measure: Measure, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    if measure.similarity == "euclidean":
        # Differences, row by row: the squares of the expansion would cancel.
        return -np.stack([((row - candidates) ** 2).sum(axis=1) for row in queries]) / measure.temperature
    products = queries @ candidates.T / measure.temperature
    if measure.similarity == "dot":
        return products
    norms = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(candidates, axis=1)
    return np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)
