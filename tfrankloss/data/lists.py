"""Flat rows with a query id to padded lists, and back."""

import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from tfrankloss.errors import (
    check_fraction,
    check_kind,
    check_positive_integer,
    check_same_length,
    check_same_shape,
    received,
)

Features = TypeVar("Features", np.ndarray, dict[str, np.ndarray])

PADDED_LABEL = -1.0


def map_columns(features: Any, change: Callable[[np.ndarray], np.ndarray]) -> Any:
    """``change`` of an array, or of every array of a dict."""
    if isinstance(features, dict):
        return {name: change(column) for name, column in features.items()}
    return change(features)


@dataclass(frozen=True, eq=False)
class RankingLists(Generic[Features]):
    """Judged lists as Keras wants them: features and labels of B queries with up to L items each.

    `features` and `labels` go straight into `model.fit(lists.features, lists.labels)`; every loss and metric of this
    package reads a label below 0 as padding.

    Attributes:
        features: (B, L, F) array, padded with 0; or a dict of (B, L) or (B, L, F) arrays, padded with 0 or "".
        labels: (B, L) float32, graded relevance from 0 up, padded with -1.
        query_ids: (B,) ids of the queries, integers or strings.

    Raises:
        ValueError: If the three do not agree on B and L.

    Examples:
        >>> lists = to_lists(["a", "a", "b"], [2, 0, 1], np.array([[0.5], [0.1], [0.9]]))
        >>> len(lists), lists.labels.tolist(), lists.mask.tolist()
        (2, [[2.0, 0.0], [1.0, -1.0]], [[True, True], [True, False]])
        >>> lists.select(lists.labels.max(axis=1) > 1).query_ids.tolist()  # queries with a very relevant item
        ['a']
    """

    features: Features
    labels: np.ndarray
    query_ids: np.ndarray

    def __post_init__(self) -> None:
        check_same_length("query_ids", len(self.query_ids), "labels", len(self.labels))
        named: dict[str, np.ndarray] = self.features if isinstance(self.features, dict) else {"features": self.features}
        for name, column in named.items():
            check_same_shape(name, column.shape[:2], "labels", self.labels.shape)

    def __len__(self) -> int:
        """The number of queries B."""
        return len(self.labels)

    @property
    def mask(self) -> np.ndarray:
        """(B, L) bool: True where an item stands, False where padding does."""
        return self.labels >= 0

    def select(self, indices: Any) -> "RankingLists[Features]":
        """The lists at ``indices``: integers, a slice, or a (B,) bool array."""
        rows = np.arange(len(self))[indices]
        return RankingLists(
            map_columns(self.features, lambda column: column[rows]), self.labels[rows], self.query_ids[rows]
        )

    def split(self, *sizes: float, seed: int = 0) -> "tuple[RankingLists[Features], ...]":
        """Random parts with whole queries in each; what the sizes leave over is the last part.

        Args:
            *sizes: One per part but the last: a fraction of the queries (float below 1) or a number of them (int).
            seed: Of the shuffle; the same seed gives the same parts.

        Returns:
            One more part than there are sizes: `train, test = lists.split(0.8)`,
            `train, valid, test = lists.split(0.6, 0.2)`.

        Raises:
            ValueError: If there is no size, or if a part would be empty.

        Examples:
            >>> lists = to_lists(np.arange(10), np.ones(10), np.zeros((10, 3)))
            >>> [len(part) for part in lists.split(0.6, 0.2)], [len(part) for part in lists.split(3)]
            ([6, 2, 2], [3, 7])
        """
        counts = [_part_size(size, len(self)) for size in sizes]
        if not counts or min(counts) < 1 or sum(counts) >= len(self):
            raise ValueError(
                "`sizes` must be given and leave no part, the last one included, empty. "
                f"Received: sizes={sizes!r} for {len(self)} lists"
            )
        order = np.random.default_rng(seed).permutation(len(self))
        return tuple(self.select(part) for part in np.split(order, np.cumsum(counts)))

    @staticmethod
    def concatenate(parts: "Sequence[RankingLists[Features]]") -> "RankingLists[Features]":
        """All lists of ``parts`` in order, padded to the longest list among them.

        Queries are not merged: one that stands in two parts stays two lists.

        Args:
            parts: At least one `RankingLists`, with the same features in each.

        Raises:
            ValueError: If ``parts`` is empty or the features differ in name or size.

        Examples:
            >>> first = to_lists(["a", "a"], [1, 0], np.zeros((2, 3)))
            >>> RankingLists.concatenate([first, to_lists(["b"], [2], np.ones((1, 3)))]).labels.tolist()
            [[1.0, 0.0], [2.0, -1.0]]
        """
        if not parts:
            raise ValueError(f"`parts` must hold at least one RankingLists. {received('parts', parts)}")
        columns = [_named(part) for part in parts]
        for other in columns[1:]:
            _check_same_columns(columns[0], other)
        size = max(part.labels.shape[1] for part in parts)
        joined = {
            name: np.concatenate([_widen(column[name], size, _padding(column[name])) for column in columns])
            for name in columns[0]
        }
        return RankingLists(
            joined if isinstance(parts[0].features, dict) else joined["features"],  # type: ignore[arg-type]
            np.concatenate([_widen(part.labels, size, PADDED_LABEL) for part in parts]),
            np.concatenate([part.query_ids for part in parts]),
        )


def _part_size(size: float, total: int) -> int:
    if isinstance(size, numbers.Integral):
        check_positive_integer("sizes", size)
        return int(size)
    check_fraction("sizes", size)
    return round(size * total)


def to_lists(query_ids: Any, labels: Any, features: Any, *, list_size: int | None = None) -> "RankingLists[Any]":
    """Padded lists of flat rows, one row an item of a query.

    Use it on judged rows, impressions or a data frame's columns before `model.fit`. Rows of a query need not stand
    together. Queries come in the order of their first row, the rows of a query in their own order. A missing value
    (NaN) in a feature stays as it is.

    Args:
        query_ids: (N,) integers or strings; rows with the same id are one list.
        labels: (N,) graded relevance, 0 or more.
        features: (N,) or (N, F) array, or a dict of such arrays by name: numbers, bools or strings.
        list_size: Items per list, L. Of a longer list the first ``list_size`` rows stay and the rest are dropped,
            relevant or not; shorter lists are padded up to it. None: the longest list decides and nothing is dropped.

    Returns:
        `RankingLists` with labels (B, L), and features (B, L) or (B, L, F) in the form given: an array or a dict.

    Raises:
        ValueError: If lengths differ, there is no row, a label is negative or not finite (in float32), or an id is NaN.
        TypeError: If a column holds anything else than numbers, bools or strings.

    Examples:
        >>> rows = {"price": [3.0, 1.0, 2.0], "color": ["red", "blue", "red"]}
        >>> lists = to_lists([7, 9, 7], [0, 1, 2], rows)
        >>> lists.query_ids.tolist(), lists.labels.tolist()
        ([7, 9], [[0.0, 2.0], [1.0, -1.0]])
        >>> lists.features["price"].tolist(), lists.features["color"].tolist()
        ([[3.0, 2.0], [1.0, 0.0]], [['red', 'red'], ['blue', '']])
    """
    check_positive_integer("list_size", list_size, optional=True)
    labels = _checked_labels(labels)
    query_ids = _checked_query_ids(_column("query_ids", query_ids, labels))
    if isinstance(features, Mapping):
        columns: Any = {name: _column(name, column, labels) for name, column in features.items()}
    else:
        columns = _column("features", features, labels)
    ids, lists, places = _places(query_ids)
    size = int(places.max()) + 1 if list_size is None else int(list_size)
    kept = places < size

    def scatter(column: np.ndarray, padding: Any = None) -> np.ndarray:
        fill = _padding(column) if padding is None else padding
        padded = np.full((len(ids), size, *column.shape[1:]), fill, dtype=column.dtype)
        padded[lists[kept], places[kept]] = column[kept]
        return padded

    return RankingLists(map_columns(columns, scatter), scatter(labels, PADDED_LABEL), ids)


def to_rows(padded: Any, mask: Any) -> Any:
    """The unpadded items of lists as flat rows, list after list: what `to_lists` undoes.

    Args:
        padded: (B, L) or (B, L, F) array, or a dict of such arrays.
        mask: (B, L) bool, True where an item stands.

    Returns:
        (N,) or (N, F) array, or a dict of them; N is the number of items. Row n is of list `np.nonzero(mask)[0][n]`.

    Raises:
        ValueError: If an array and the mask differ in B or L.

    Examples:
        >>> to_rows(np.array([[3.0, 2.0], [1.0, 0.0]]), [[True, True], [True, False]]).tolist()
        [3.0, 2.0, 1.0]
    """
    mask = np.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(f"`mask` must be an array of bools. Received: mask.dtype={mask.dtype}")
    if isinstance(padded, Mapping):
        return {name: _unpadded(name, column, mask) for name, column in padded.items()}
    return _unpadded("padded", padded, mask)


def _unpadded(name: str, padded: Any, mask: np.ndarray) -> np.ndarray:
    padded = np.asarray(padded)
    check_same_shape(name, padded.shape[:2], "mask", mask.shape)
    return padded[mask]


def _checked_labels(labels: Any) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise ValueError(f"`labels` must have shape (rows,). Received: labels.shape={labels.shape}")
    if not len(labels):
        raise ValueError("`labels` must hold at least one row. Received: len(labels)=0")
    if labels.dtype.kind not in "biuf":
        raise TypeError(f"`labels` must be an array of numbers. Received: labels.dtype={labels.dtype}")
    with np.errstate(over="ignore"):
        short = labels.astype(np.float32)
    wrong = np.flatnonzero(~(np.isfinite(short) & (short >= 0)))
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(f"`labels` must be finite and at least 0. Received: labels[{row}]={labels[row].item()}")
    return short


def _checked_query_ids(query_ids: np.ndarray) -> np.ndarray:
    if query_ids.ndim != 1:
        raise ValueError(f"`query_ids` must have shape (rows,). Received: query_ids.shape={query_ids.shape}")
    missing = np.flatnonzero(query_ids != query_ids)
    if len(missing):
        raise ValueError(f"`query_ids` must not be NaN: it equals nothing. Received: query_ids[{missing[0]}]=nan")
    return query_ids


def _column(name: str, values: Any, labels: np.ndarray) -> np.ndarray:
    column = np.asarray(values)
    if column.ndim < 1:
        raise ValueError(f"`{name}` must have one entry per row. {received(name, values)}")
    if column.dtype.kind == "O":  # how pandas holds strings
        for value in column.flat:
            check_kind(name, value, (str, bytes), "a column of numbers, bools or strings alone")
        column = np.array(column.tolist())
    if column.dtype.kind not in "biufSU":
        raise TypeError(
            f"`{name}` must be a column of numbers, bools or strings. Received: {name}.dtype={column.dtype}"
        )
    check_same_length(name, len(column), "labels", len(labels))
    return column


def _padding(column: np.ndarray) -> Any:
    return {"S": b"", "U": ""}.get(column.dtype.kind, 0)


def _places(query_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The (B,) ids in order of first appearance, and for each of N rows its list and its place there."""
    ids, firsts, codes = np.unique(query_ids, return_index=True, return_inverse=True)
    appearance = np.argsort(firsts)
    lists = np.argsort(appearance)[codes.reshape(-1)]
    counts = np.bincount(lists)
    by_list = np.argsort(lists, kind="stable")
    places = np.empty_like(lists)
    places[by_list] = np.arange(len(lists)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ids[appearance], lists, places


def _named(lists: "RankingLists[Any]") -> dict[str, np.ndarray]:
    return lists.features if isinstance(lists.features, dict) else {"features": lists.features}


def _check_same_columns(first: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> None:
    shapes = [{name: column.shape[2:] for name, column in sorted(columns.items())} for columns in (first, other)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "`parts` must have the same features, each of one size. "
            f"Received: features {_describe(shapes[0].items())} and {_describe(shapes[1].items())}"
        )


def _describe(shapes: Iterable[tuple[str, tuple[int, ...]]]) -> str:
    return ", ".join(f"{name} (lists, items{''.join(f', {size}' for size in shape)})" for name, shape in shapes)


def _widen(padded: np.ndarray, size: int, padding: Any) -> np.ndarray:
    missing = np.full((len(padded), size - padded.shape[1], *padded.shape[2:]), padding, dtype=padded.dtype)
    return np.concatenate([padded, missing], axis=1)
