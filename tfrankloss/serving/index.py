"""The candidates that a two-tower export searches: ids and embeddings, checked before anything is traced."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrankloss import errors
from tfrankloss.serving.features import Stage, exact_array


class CandidateIndex:
    """The ids and embeddings of all candidates, as `export` writes them into a servable.

    Ids are strings or integers, one per candidate; the embeddings come from the candidate tower; for
    cosines they may be of any length.

    Args:
        ids: N unique strings or integers.
        embeddings: Finite numbers of shape (N, D), stored as float32.

    Raises:
        TypeError: If the ids are neither strings nor integers.
        ValueError: If there are no candidates, the lengths differ, an id comes twice or an embedding is not finite.

    Example:
        >>> from tfrankloss.serving import CandidateIndex
        >>> index = CandidateIndex(["a", "b"], [[1.0, 0.0], [0.0, 1.0]])
        >>> index.size, index.dimension
        (2, 2)
    """

    def __init__(self, ids: Sequence[Any] | np.ndarray, embeddings: Any):
        # Ids above 2^31 and strings of any length both survive this, where a plain np.asarray may turn them into text.
        errors.check_kind("ids", ids, (Sequence, np.ndarray), "a sequence of strings or integers")
        values = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
        embeddings = np.asarray(embeddings, dtype=np.float32)
        if not values:
            raise ValueError("`ids` must name at least one candidate. Received: ids=[]")
        errors.check_rank("embeddings", embeddings.shape, 2, "(candidates, dimension)")
        errors.check_same_length("ids", len(values), "embeddings", len(embeddings))
        self.ids = _checked_ids(values)
        bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
        if bad.size:
            raise ValueError(
                f"`embeddings` must be finite: a row with NaN vanishes from every answer. "
                f"Received: {bad.size} such rows, the first for id {self.ids[bad[0]]!r}"
            )
        self.embeddings = embeddings

    @property
    def size(self) -> int:
        """The number of candidates."""
        return len(self.ids)

    @property
    def dimension(self) -> int:
        """The length of one embedding."""
        return self.embeddings.shape[1]

    @classmethod
    def from_model(
        cls,
        model: Any,
        catalog: Mapping[str, Any],
        ids: Sequence[Any] | np.ndarray,
        batch_size: int = 1024,
        preprocessing: Mapping[str, keras.Model] | None = None,
    ) -> "CandidateIndex":
        """The index of a catalogue as the candidate tower of a model sees it.

        Args:
            model: A two-tower model; its ``candidate_tower`` is called.
            catalog: The features of all candidates by name, each of length N; others than the tower's are left alone.
            ids: N unique strings or integers, in the order of the catalogue.
            batch_size: How many candidates the tower embeds at once.
            preprocessing: As in `export`, where the catalogue holds raw features.

        Returns:
            A CandidateIndex of N candidates.

        Raises:
            TypeError: If the ids are neither strings nor integers, or a feature is not of the type that the tower
                takes.
            ValueError: If the catalogue is empty, its features differ in length, or an embedding is not finite.
        """
        errors.check_positive_integer("batch_size", batch_size)
        if not hasattr(model, "candidate_tower"):
            raise TypeError(f"`model` must have a candidate_tower. {errors.received('model', model)}")
        stage = Stage("model.candidate_tower", model.candidate_tower, (preprocessing or {}).get("candidate"))
        specs = stage.specs()
        if not set(specs) <= set(catalog):
            raise ValueError(f"`catalog` must hold the features {sorted(specs)}. Received: {sorted(catalog)}")
        columns = {name: exact_array(name, catalog[name], spec.dtype) for name, spec in specs.items()}
        for name, values in columns.items():
            errors.check_same_length("ids", len(ids), name, len(values))
        rows = []
        for start in range(0, len(ids), batch_size):
            batch = {name: tf.constant(values[start : start + batch_size]) for name, values in columns.items()}
            rows.append(keras.ops.convert_to_numpy(stage(batch)).astype(np.float32))
        return cls(ids, np.concatenate(rows) if rows else np.zeros((0, 1), np.float32))


def _checked_ids(values: list[Any]) -> np.ndarray:
    if all(isinstance(value, (str, bytes)) for value in values):
        array = np.array([value.decode() if isinstance(value, bytes) else value for value in values], dtype=object)
    elif all(isinstance(value, (int, np.integer)) and not isinstance(value, bool) for value in values):
        limits = np.iinfo(np.int64)
        if min(values) < limits.min or max(values) > limits.max:
            raise ValueError(f"`ids` must fit into int64, or be strings. Received: {max(values, key=abs)}")
        array = np.array(values, dtype=np.int64)
    else:
        kinds = sorted({type(value).__name__ for value in values})
        raise TypeError(f"`ids` must be all strings or all integers. Received: ids of types {', '.join(kinds)}")
    seen: set[Any] = set()
    for value in array:
        if value in seen:
            raise ValueError(f"`ids` must be unique. Received: {value!r} more than once")
        seen.add(value)
    return array


@dataclass(frozen=True)
class Measure:
    """How a two-tower model scores a pair: "dot", "cosine" or "euclidean", divided by a temperature."""

    similarity: str
    temperature: float = 1.0


class ExactSearch(tf.Module):
    """The k best candidates of a query over the whole index, in the graph.

    Ids and embeddings are variables: as constants they would be copied into the graph, which holds at most 2 GB.

    Args:
        index: The candidates.
        measure: How a pair is scored.
        k: How many candidates are returned, at most ``index.size``.
    """

    def __init__(self, index: CandidateIndex, measure: Measure, k: int):
        super().__init__()
        self._measure = measure
        self._k = k
        self._ids = tf.Variable(tf.constant(index.ids), trainable=False, name="candidate_ids")
        rows = index.embeddings.astype(np.float64)
        # Distances do not change with the origin, and near the mean their expansion loses fewest digits.
        centre = rows.mean(axis=0) if measure.similarity == "euclidean" else np.zeros(index.dimension)
        rows -= centre
        if measure.similarity == "cosine":
            norms = np.linalg.norm(rows, axis=1, keepdims=True)
            rows = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
        self._centre = tf.Variable(centre, trainable=False, name="candidate_centre", dtype=tf.float32)
        # Stored with candidates along the columns, the product with a query reads memory in order.
        self._columns = tf.Variable(rows.T, trainable=False, name="candidate_embeddings", dtype=tf.float32)
        squares = (rows**2).sum(axis=1) / 2
        self._half_squares = tf.Variable(squares, trainable=False, name="candidate_squares", dtype=tf.float32)

    def __call__(self, queries: tf.Tensor) -> dict[str, tf.Tensor]:
        """``ids`` and ``scores`` of shape (batch, k), best first, for embeddings of shape (batch, dimension)."""
        if self._measure.similarity == "euclidean":
            scores, rows = self._nearest(queries - self._centre)
        else:
            queries = l2_normalize(queries) if self._measure.similarity == "cosine" else queries
            scores, rows = tf.math.top_k(tf.linalg.matmul(queries, self._columns), self._k)
        return {"ids": tf.gather(self._ids, rows), "scores": scores / self._measure.temperature}

    def _nearest(self, queries: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # -|q - c|^2 / 2 plus |q|^2 / 2, which is the same for all candidates of a query.
        products = tf.linalg.matmul(queries, self._columns) - self._half_squares
        # This expansion cancels where a candidate is near, so more than k are chosen by it and ordered by differences.
        _, rows = tf.math.top_k(products, min(2 * self._k + 16, self._columns.shape[1]))
        chosen = tf.transpose(tf.gather(self._columns, rows, axis=1), (1, 2, 0))
        scores, order = tf.math.top_k(-tf.reduce_sum((queries[:, None] - chosen) ** 2, axis=-1), self._k)
        return scores, tf.gather(rows, order, batch_dims=1)


def l2_normalize(vectors: tf.Tensor) -> tf.Tensor:
    """Vectors of length 1 along the last axis; a vector of zeros stays zero."""
    return tf.math.divide_no_nan(vectors, tf.norm(vectors, axis=-1, keepdims=True))
