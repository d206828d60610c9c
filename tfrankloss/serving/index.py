"""The candidates that an export searches: ids and embeddings, checked before anything is traced."""

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tfrankloss import errors, retrieval
from tfrankloss.serving.features import NAME, Specs, Stage, exact_array

STORAGES = ("float32", "float16", "int8")
# What stands for no candidate in an answer: of integers, and of strings.
BLANKS = (-1, "")


class CandidateIndex:
    """The ids and embeddings of all candidates, as `export` writes them into a servable.

    Ids are strings or integers, one per candidate; the embeddings come from the candidate tower; for
    cosines they may be of any length.

    Args:
        ids: N unique strings or integers; none empty and none -1, which stand for no candidate in answers.
        embeddings: Finite numbers of shape (N, D); None for a model that scores the whole catalogue itself, column by
            column in the order of the ids.
        attributes: Columns of N integers by name, such as a category, that requests can filter by.
        storage: How embeddings are kept in the servable: "float32", or in half or a quarter of its memory "float16" or
            "int8" (one scale per candidate). The shorter two cost recall, which `export` prints, and time.

    Attributes:
        ids: As given, int64 or str.
        embeddings: (N, D) float32, as they are searched: what the storage makes of those given; or None.
        attributes: As given, int64.
        storage: As given.

    Raises:
        TypeError: If the ids are neither strings nor integers, or an attribute does not hold integers.
        ValueError: If there are no candidates, the lengths differ, an id comes twice or an embedding is not finite.

    Example:
        >>> from tfrankloss.serving import CandidateIndex
        >>> index = CandidateIndex(["a", "b"], [[1.0, 0.0], [0.0, 1.0]], {"year": [1999, 2007]})
        >>> index.size, index.dimension
        (2, 2)
    """

    def __init__(
        self,
        ids: Sequence[Any] | np.ndarray,
        embeddings: Any = None,
        attributes: Mapping[str, Any] | None = None,
        storage: str = "float32",
    ):
        errors.check_choice("storage", storage, STORAGES)
        # Ids above 2^31 and strings of any length both survive this, where a plain np.asarray may turn them into text.
        errors.check_kind("ids", ids, (Sequence, np.ndarray), "a sequence of strings or integers")
        values = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
        if not values:
            raise ValueError("`ids` must name at least one candidate. Received: ids=[]")
        self.ids = _checked_ids(values)
        self.attributes = _checked_attributes(attributes or {}, len(values))
        self.storage = storage
        self.embeddings: np.ndarray | None = None
        if embeddings is not None:
            self._store(np.asarray(embeddings, dtype=np.float32))
        elif storage != "float32":
            raise ValueError(f"`storage` must be 'float32' without embeddings. {errors.received('storage', storage)}")

    def _store(self, embeddings: np.ndarray) -> None:
        errors.check_rank("embeddings", embeddings.shape, 2, "(candidates, dimension)")
        errors.check_same_length("ids", self.size, "embeddings", len(embeddings))
        bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
        if bad.size:
            raise ValueError(
                f"`embeddings` must be finite: a row with NaN vanishes from every answer. "
                f"Received: {bad.size} such rows, the first for id {self.ids[bad[0]]!r}"
            )
        self._given = embeddings
        self.codes, self.scales = _stored(embeddings, self.storage)
        self.embeddings = embeddings
        if self.storage != "float32":
            self.embeddings = self.codes.astype(np.float32) * self.scales[:, None]
            if not np.isfinite(self.embeddings).all():
                raise ValueError(
                    f"`embeddings` must be at most 65504 to be stored in float16. Received: {np.abs(embeddings).max()}"
                )

    @property
    def size(self) -> int:
        """The number of candidates."""
        return len(self.ids)

    @property
    def dimension(self) -> int:
        """The length of one embedding; without embeddings that of a row of scores."""
        return self.size if self.embeddings is None else self.embeddings.shape[1]

    @functools.cached_property
    def rows(self) -> dict[Any, int]:
        """The place of each id."""
        return {value: row for row, value in enumerate(self.ids.tolist())}

    @property
    def id_dtype(self) -> tf.DType:
        """The type of the ids in a servable."""
        return tf.string if self.ids.dtype == object else tf.int64

    @property
    def blank(self) -> Any:
        """The id that stands for no candidate."""
        return BLANKS[self.ids.dtype == object]

    def recall(self, similarity: str = "dot", k: int = 100, queries: Any = None) -> float:
        """The share of the true best k that is found among the stored embeddings.

        Args:
            similarity: "dot", "cosine" or "euclidean".
            k: How many are asked for; all where there are fewer candidates.
            queries: Embeddings (Q, D); by default 100 of the candidates.

        Returns:
            A number from 0 to 1; 1 with storage "float32".
        """
        if self.storage == "float32":
            return 1.0
        k = min(k, self.size)
        if queries is None:
            chosen = np.random.default_rng(0).choice(self.size, min(100, self.size), replace=False)
            queries = self._given[chosen]
        found = [
            retrieval.top_k(np.asarray(queries, np.float32), table, k, similarity=similarity)[1]
            for table in (self._given, self.embeddings)
        ]
        return float(np.mean([len(set(a) & set(b)) / k for a, b in zip(*found, strict=True)]))

    @classmethod
    def from_model(
        cls,
        model: Any,
        catalog: Mapping[str, Any],
        ids: Sequence[Any] | np.ndarray | str | None = None,
        *,
        attributes: Sequence[str] = (),
        storage: str = "float32",
        batch_size: int = 1024,
        preprocessing: Mapping[str, keras.Model] | None = None,
        verbose: bool = True,
    ) -> "CandidateIndex":
        """The index of a catalogue as the candidate tower of a model sees it.

        Args:
            model: A two-tower model; its ``candidate_tower`` is called.
            catalog: The features of all candidates by name, each of length N; others than the tower's are left alone.
            ids: N unique strings or integers, in the order of the catalogue; or the name of its column that holds them;
                None for the column "id", or else for the tower's only feature of one string or integer.
            attributes: The columns of the catalogue that requests can filter by.
            storage: As in the constructor.
            batch_size: How many candidates the tower embeds at once.
            preprocessing: As in `export`, where the catalogue holds raw features.
            verbose: Whether to show a progress bar.

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
        if ids is None or isinstance(ids, str):
            ids = _id_column(ids, catalog, specs)
        for name, values in columns.items():
            errors.check_same_length("ids", len(ids), name, len(values))
        missing = sorted(set(attributes) - set(catalog))
        if missing:
            raise ValueError(f"`attributes` must name columns of the catalog. Received: {missing}")
        rows = []
        for start in tqdm(range(0, len(ids), batch_size), "candidates", unit="batch", disable=not verbose, leave=False):
            batch = {name: tf.constant(values[start : start + batch_size]) for name, values in columns.items()}
            rows.append(keras.ops.convert_to_numpy(stage(batch)).astype(np.float32))
        embeddings = np.concatenate(rows) if rows else np.zeros((0, 1), np.float32)
        return cls(ids, embeddings, {name: catalog[name] for name in attributes}, storage)


def _id_column(name: str | None, catalog: Mapping[str, Any], specs: Specs) -> Any:
    if name is None:
        scalars = [key for key, spec in specs.items() if spec.shape.rank == 1 and not spec.dtype.is_floating]
        if "id" not in catalog and len(scalars) != 1:
            raise ValueError(
                "`ids` must be given where the catalog has no column 'id' and the tower not exactly one feature of one "
                f"string or integer. Received: ids=None, such features: {sorted(scalars)}"
            )
        name = "id" if "id" in catalog else scalars[0]
    if name not in catalog:
        raise ValueError(f"`ids` must name a column of the catalog, or be the ids. {errors.received('ids', name)}")
    return catalog[name] if isinstance(catalog[name], np.ndarray) else list(catalog[name])


def _stored(embeddings: np.ndarray, storage: str) -> tuple[np.ndarray, np.ndarray]:
    """Codes (N, D) and scales (N,), whose product is what is searched."""
    if storage != "int8":
        with np.errstate(over="ignore"):
            return embeddings.astype(storage, copy=False), np.ones(len(embeddings), np.float32)
    greatest = np.abs(embeddings).max(axis=1, initial=0.0)
    scales = np.where(greatest > 0, greatest / 127, 1).astype(np.float32)
    return np.rint(embeddings / scales[:, None]).astype(np.int8), scales


def _checked_attributes(attributes: Mapping[str, Any], size: int) -> dict[str, np.ndarray]:
    errors.check_kind("attributes", attributes, Mapping, "a dict of columns of integers")  # type: ignore[type-abstract]
    columns = {}
    for name, values in attributes.items():
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ValueError(f"`attributes` must have names of letters, digits and underscores. Received: {name!r}")
        columns[name] = exact_array(name, values, tf.int64)
        errors.check_rank(name, columns[name].shape, 1, "(candidates,)")
        errors.check_same_length("ids", size, name, len(columns[name]))
    return columns


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
    value, count = Counter(array.tolist()).most_common(1)[0]
    if count > 1:
        raise ValueError(f"`ids` must be unique. Received: {value!r} more than once")
    if (array == BLANKS[array.dtype == object]).any():
        raise ValueError("`ids` must not be -1 or empty: these stand for no candidate. Received: such an id")
    return array


@dataclass(frozen=True)
class Measure:
    """How a two-tower model scores a pair: "dot", "cosine" or "euclidean", divided by a temperature."""

    similarity: str
    temperature: float = 1.0
