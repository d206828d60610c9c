"""What the live model answers: its towers called eagerly, then NumPy in float64. Shares no code with the graph."""

from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf

from tfrankloss.serving.features import Features, Specs, Stage
from tfrankloss.serving.index import CandidateIndex, Measure

Answers = Mapping[str, np.ndarray]
Gap = Callable[[Features, Answers], float]

_ROWS_AT_ONCE = 65536


def live(stage: Stage, features: Features, specs: Specs) -> np.ndarray:
    """The float64 output of a stage for its part of ``features``.

    Raises:
        ValueError: If an output is not finite.
    """
    # On a GPU TensorFlow multiplies with shortened numbers, and the servable is checked on the processor.
    with tf.device("CPU:0"):
        output = stage({name: tf.constant(features[name], specs[name].dtype) for name in specs})
    values = keras.ops.convert_to_numpy(output).astype(np.float64)
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


def top_k_gap(query: Stage, specs: Specs, index: CandidateIndex, measure: Measure, k: int) -> Gap:
    """The gap of a signature that answers with the best k of the index, by a full sort.

    Candidates whose scores differ by rounding alone may change places, so each returned id is judged by the score it
    has in the full table: it must be the score that belongs to its place.
    """
    row_of = {value: row for row, value in enumerate(index.ids.tolist())}

    def gap(features: Features, answers: Answers) -> float:
        table = np.stack([_all_scores(measure, row, index.embeddings) for row in live(query, features, specs)])
        best = -np.sort(-table, axis=1)[:, :k]
        rows = np.array([[row_of.get(value, -1) for value in ids] for ids in answers["ids"].tolist()])
        if rows.shape != best.shape or (rows < 0).any() or any(len(set(row)) < k for row in rows.tolist()):
            return float("inf")
        chosen = np.take_along_axis(table, rows, axis=1)
        return max(relative_gap(answers["scores"], best), relative_gap(chosen, best))

    return gap


def _all_scores(measure: Measure, query: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
    blocks = range(0, len(embeddings), _ROWS_AT_ONCE)
    rows = (embeddings[start : start + _ROWS_AT_ONCE].astype(np.float64) for start in blocks)
    return np.concatenate([pair_scores(measure, query, block) for block in rows])
