"""Exact search in the graph of a servable: the best k of all candidates, without some, and of some values only."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tfrankloss.serving.index import CandidateIndex, Measure

Outputs = dict[str, tf.Tensor]

# The score of what is not there: lower than all others, and JSON has no infinity.
LOWEST = np.finfo(np.float32).min
# Scores at once: 128 MB. A larger batch of queries is taken in parts.
_MOST_SCORES = 2**25
# Candidates that are turned into float32 at once, where they are stored shorter: few enough to stay in the cache.
_CHUNK = 16384


class ExactSearch(tf.Module):
    """The best candidates of a query over the whole index.

    Ids and embeddings are variables: as constants they would be copied into the graph, which holds at most 2 GB.

    Candidates stand along the columns, so that the product with a query reads memory in order, and after them comes
    padding up to whole blocks: the best k blocks by their maxima hold the best k candidates, and only these are sorted.

    Args:
        index: The candidates.
        measure: How a pair is scored.
        k: How many candidates are returned at most.
    """

    def __init__(self, index: CandidateIndex, measure: Measure, k: int):
        super().__init__()
        self._measure = measure
        self._k = k
        # Traced once for all signatures that ask alike.
        self._found = tf.function(self._in_parts, autograph=False)
        self._block = max(1, int(np.sqrt(index.size / k)))
        # At least one column of padding: there ids that no candidate has are left out.
        self._columns = self._block * (index.size // self._block + 1)
        self._ids = _Ids(index, self._columns)
        self._products = _products(index, measure.similarity, self._columns)
        self._filters = {
            f"{name}_in": _Filter(name, values, self._columns) for name, values in index.attributes.items()
        }

    def __call__(self, queries: tf.Tensor, asked: Mapping[str, tf.Tensor]) -> Outputs:
        """``ids`` and ``scores`` of shape (batch, k), best first, for embeddings of shape (batch, dimension).

        After what is found come blanks: an empty id or -1, with the lowest score.

        Args:
            queries: Embeddings as the query tower gives them.
            asked: Besides, if given: ``k`` (batch,), at most this search's; ``exclude_ids`` (batch, any), where ids
                that no candidate has do nothing; and for an attribute ``NAME_in`` (batch, any), the values it may have,
                all where there are none.
        """
        if self._measure.similarity == "cosine":
            queries = l2_normalize(queries)
        wanted = {name: value for name, value in asked.items() if name != "k"}
        scores, columns = self._found(queries, wanted)
        scores = scores / self._measure.temperature
        found = scores > LOWEST
        ids = self._ids.of(columns)
        if "k" in asked:
            found, scores, ids = self._cut(asked["k"], found, scores, ids)
        return {"ids": tf.where(found, ids, self._ids.blank), "scores": tf.where(found, scores, LOWEST)}

    def _cut(self, k: tf.Tensor, *values: tf.Tensor) -> list[tf.Tensor]:
        good = tf.reduce_all((k >= 1) & (k <= self._k))
        with tf.control_dependencies([tf.debugging.Assert(good, [f"`k` must be from 1 to {self._k}. Received:", k])]):
            width = tf.reduce_max(tf.concat([k, [0]], 0))
        found, *others = (value[:, :width] for value in values)
        return [found & (tf.range(width) < k[:, None]), *others]

    def _in_parts(self, queries: tf.Tensor, wanted: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """The results for all queries, of a large batch one part after the other."""
        step = max(1, _MOST_SCORES // self._columns)
        batch = tf.shape(queries)[0]

        def in_parts() -> tuple[tf.Tensor, tf.Tensor]:
            count = (batch + step - 1) // step
            parts = [
                tf.TensorArray(dtype, count, infer_shape=False, element_shape=(None, self._k))
                for dtype in (tf.float32, tf.int32)
            ]

            def body(part: tf.Tensor, scores: tf.TensorArray, columns: tf.TensorArray) -> tuple:
                rows = slice(part * step, (part + 1) * step)
                found = self._best(queries[rows], {name: value[rows] for name, value in wanted.items()})
                return part + 1, scores.write(part, found[0]), columns.write(part, found[1])

            _, *parts = tf.while_loop(lambda part, *_: part < count, body, (0, *parts), parallel_iterations=1)
            return parts[0].concat(), parts[1].concat()

        return tf.cond(batch <= step, lambda: self._best(queries, wanted), in_parts)

    def _best(self, queries: tf.Tensor, wanted: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        products = self._products(queries)
        for name, values in wanted.items():
            if name == "exclude_ids":
                products = self._without(products, values)
            else:
                products = tf.where(self._filters[name](values), products, LOWEST)
        if self._measure.similarity != "euclidean":
            return self._top(products, self._k)
        # The expansion cancels where a candidate is near, so more than k are chosen by it and ordered by differences.
        more = min(2 * self._k + 16, self._columns)
        rough, columns = self._top(products, more)
        distances = self._products.distances(queries, columns)
        scores, order = tf.math.top_k(tf.where(rough > LOWEST, -distances, LOWEST), self._k)
        return scores, tf.gather(columns, order, batch_dims=1)

    def _top(self, products: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
        """As `tf.math.top_k`, ties included: the best k blocks by their maxima hold the best k columns."""
        count = self._columns // self._block
        if k >= count:
            return tf.math.top_k(products, k)
        blocks = tf.reshape(products, (-1, count, self._block))
        _, chosen = tf.math.top_k(tf.reduce_max(blocks, axis=-1), k)
        # In their order, so that of equal scores the earlier candidate still comes first.
        chosen = tf.sort(chosen, axis=-1)
        scores, places = tf.math.top_k(tf.reshape(tf.gather(blocks, chosen, batch_dims=1), (-1, k * self._block)), k)
        block = tf.gather(chosen, places // self._block, batch_dims=1)
        return scores, block * self._block + places % self._block

    def _without(self, products: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
        columns = self._ids.columns(ids)
        rows = tf.broadcast_to(tf.range(tf.shape(columns)[0])[:, None], tf.shape(columns))
        places = tf.stack([tf.reshape(rows, (-1,)), tf.reshape(columns, (-1,))], axis=1)
        return tf.tensor_scatter_nd_update(products, places, tf.fill(tf.shape(places)[:1], LOWEST))


class _Ids(tf.Module):
    """The ids of the columns, and the columns of ids.

    Ids are found by bisection of sorted keys: a hash table of a million strings would be a constant of the graph or a
    file that is read when a server loads it.
    """

    def __init__(self, index: CandidateIndex, columns: int):
        super().__init__()
        self.blank = index.blank
        self._salt = 0
        padding = np.full(columns - index.size, index.blank, index.ids.dtype)
        self._ids = tf.Variable(
            tf.constant(np.concatenate([index.ids, padding])), trainable=False, name="candidate_ids"
        )
        self._last = columns - 1
        ids = tf.constant(index.ids)
        keys, order = self._sort(ids)
        while (keys[1:] == keys[:-1]).any():
            self._salt += 1
            keys, order = self._sort(ids)
        self._sorted = tf.Variable(keys, trainable=False, name="candidate_keys")
        self._order = tf.Variable(order.astype(np.int32), trainable=False, name="candidate_order")

    def _sort(self, ids: tf.Tensor) -> tuple[np.ndarray, np.ndarray]:
        keys = self._keys(ids).numpy()
        order = np.argsort(keys)
        return keys[order], order

    def _keys(self, ids: tf.Tensor) -> tf.Tensor:
        if ids.dtype != tf.string:
            return ids
        return tf.strings.to_hash_bucket_strong(ids, 2**63 - 1, [self._salt, 0])

    def of(self, columns: tf.Tensor) -> tf.Tensor:
        """The ids of columns."""
        return tf.gather(self._ids, columns)

    def columns(self, ids: tf.Tensor) -> tf.Tensor:
        """The columns of ids (batch, any), that of padding for an id that no candidate has."""
        places = tf.searchsorted(self._sorted[None], tf.reshape(self._keys(ids), (1, -1)))
        places = tf.minimum(tf.reshape(places, tf.shape(ids)), self._sorted.shape[0] - 1)
        columns = tf.gather(self._order, places)
        # Other strings may have the same key.
        return tf.where(tf.gather(self._ids, columns) == ids, columns, self._last)


class _Filter(tf.Module):
    """Which candidates have one of the values that a query wants."""

    def __init__(self, name: str, values: np.ndarray, columns: int):
        super().__init__()
        distinct, codes = np.unique(values, return_inverse=True)
        self._values = tf.Variable(distinct, trainable=False, name=f"values_of_{name}")
        # Padding has a value that nobody can want.
        padded = np.full(columns, len(distinct), np.int32)
        padded[: len(values)] = codes
        self._codes = tf.Variable(padded, trainable=False, name=f"codes_of_{name}")

    def __call__(self, wanted: tf.Tensor) -> tf.Tensor:
        """Whether a candidate passes, (batch, columns), for wanted values (batch, any)."""
        size = self._values.shape[0]
        places = tf.searchsorted(self._values[None], tf.reshape(wanted, (1, -1)))
        places = tf.minimum(tf.reshape(places, tf.shape(wanted)), size - 1)
        # Values that no candidate has are written past the end, which is cut off.
        places = tf.where(tf.gather(self._values, places) == wanted, places, size)
        rows = tf.broadcast_to(tf.range(tf.shape(wanted)[0])[:, None], tf.shape(wanted))
        cells = tf.stack([tf.reshape(rows, (-1,)), tf.reshape(places, (-1,))], axis=1)
        passing = tf.fill((tf.shape(wanted)[0], size + 1), tf.shape(wanted)[1] == 0)
        passing = tf.tensor_scatter_nd_update(passing, cells, tf.fill(tf.shape(cells)[:1], True))
        passing = tf.concat([passing[:, :size], tf.zeros_like(passing[:, :1])], axis=1)
        return tf.gather(passing, self._codes, axis=1)


def _products(index: CandidateIndex, similarity: str, columns: int) -> "_Products | _ShortProducts | _Scores":
    if index.embeddings is None:
        return _Scores(columns - index.size)
    if index.storage == "float32":
        return _Products(index.embeddings, similarity, columns)
    return _ShortProducts(index.codes, index.scales, similarity, columns)


class _Scores(tf.Module):
    """What a model that scores the whole catalogue gives is ranked as it is."""

    def __init__(self, padding: int):
        super().__init__()
        self._padding = padding

    def __call__(self, scores: tf.Tensor) -> tf.Tensor:
        """Scores (batch, columns) of scores (batch, candidates)."""
        return tf.pad(scores, [[0, 0], [0, self._padding]], constant_values=LOWEST)


class _Products(tf.Module):
    """What queries are ranked by: their products with all candidates, in float32.

    One more row holds what is added for each candidate: nothing, or for distances minus half its square; and the lowest
    float for padding.
    """

    def __init__(self, rows: np.ndarray, similarity: str, columns: int):
        super().__init__()
        count, dimension = rows.shape
        values = rows if similarity == "dot" else rows.astype(np.float64)
        # Distances do not change with the origin, and near the mean their expansion loses fewest digits.
        centre = values.mean(axis=0) if similarity == "euclidean" else np.zeros(dimension)
        if similarity == "euclidean":
            values -= centre
        if similarity == "cosine":
            norms = np.linalg.norm(values, axis=1, keepdims=True)
            np.divide(values, norms, out=values, where=norms > 0)
        table = np.zeros((dimension + 1, columns), np.float32)
        table[:-1, :count] = values.T
        table[-1, count:] = LOWEST
        if similarity == "euclidean":
            table[-1, :count] = -np.einsum("nd,nd->n", values, values) / 2
        self._centre = tf.Variable(centre, trainable=False, name="candidate_centre", dtype=tf.float32)
        self._centred = similarity == "euclidean"
        self._table = tf.Variable(table, trainable=False, name="candidate_embeddings")

    def __call__(self, queries: tf.Tensor) -> tf.Tensor:
        """Products (batch, columns) with queries (batch, dimension)."""
        queries = queries - self._centre if self._centred else queries
        return tf.linalg.matmul(tf.concat([queries, tf.ones_like(queries[:, :1])], axis=1), self._table)

    def distances(self, queries: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
        """Squared distances (batch, any) to the candidates in columns (batch, any)."""
        rows = tf.transpose(tf.gather(self._table, columns, axis=1)[:-1], (1, 2, 0))
        return tf.reduce_sum(((queries - self._centre)[:, None] - rows) ** 2, axis=-1)


class _ShortProducts(tf.Module):
    """The same from candidates stored in int8 or float16, a chunk of them at a time turned into float32."""

    def __init__(self, codes: np.ndarray, scales: np.ndarray, similarity: str, columns: int):
        super().__init__()
        count, dimension = codes.shape
        self._columns = columns
        chunks = -(-columns // _CHUNK)
        padded = np.zeros((chunks * _CHUNK, dimension), codes.dtype)
        padded[:count] = codes
        lengths = np.zeros(count)
        for start in range(0, count, _CHUNK):
            part = slice(start, start + _CHUNK)
            lengths[part] = np.linalg.norm(codes[part].astype(np.float64), axis=1) * scales[part]
        added = np.full(columns, LOWEST, np.float32)
        added[:count] = -(lengths**2) / 2 if similarity == "euclidean" else 0
        factors = np.zeros(columns, np.float32)
        factors[:count] = scales
        self._stored = tf.Variable(factors, trainable=False, name="candidate_scales")
        if similarity == "cosine":
            factors[:count] = np.divide(scales, lengths, out=np.zeros(count), where=lengths > 0)
        self._codes = tf.Variable(
            padded.reshape(chunks, _CHUNK, dimension).transpose(0, 2, 1), trainable=False, name="candidate_embeddings"
        )
        self._factors = tf.Variable(factors, trainable=False, name="candidate_factors")
        self._added = tf.Variable(added, trainable=False, name="candidate_squares")

    def __call__(self, queries: tf.Tensor) -> tf.Tensor:
        """Products (batch, columns) with queries (batch, dimension)."""
        chunks = self._codes.shape[0]
        parts = tf.TensorArray(tf.float32, chunks, element_shape=(None, _CHUNK))

        def body(chunk: tf.Tensor, parts: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            rows = tf.cast(tf.gather(self._codes, chunk), tf.float32)
            return chunk + 1, parts.write(chunk, tf.linalg.matmul(queries, rows))

        _, parts = tf.while_loop(lambda chunk, _: chunk < chunks, body, (0, parts), parallel_iterations=1)
        products = tf.reshape(tf.transpose(parts.stack(), (1, 0, 2)), (-1, chunks * _CHUNK))
        return products[:, : self._columns] * self._factors + self._added

    def distances(self, queries: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
        """Squared distances (batch, any) to the candidates in columns (batch, any)."""
        dimensions = tf.range(self._codes.shape[1]) + tf.zeros_like(columns)[..., None]
        places = [
            columns[..., None] // _CHUNK + 0 * dimensions,
            dimensions,
            columns[..., None] % _CHUNK + 0 * dimensions,
        ]
        rows = tf.cast(tf.gather_nd(self._codes, tf.stack(places, axis=-1)), tf.float32)
        return tf.reduce_sum((queries[:, None] - rows * tf.gather(self._stored, columns)[..., None]) ** 2, axis=-1)


def l2_normalize(vectors: tf.Tensor) -> tf.Tensor:
    """Vectors of length 1 along the last axis; a vector of zeros stays zero."""
    return tf.math.divide_no_nan(vectors, tf.norm(vectors, axis=-1, keepdims=True))
