"""Users, items and the feedback between them, as a retrieval model trains on it."""

import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tfrankloss.errors import check_file, check_fraction, check_number, check_same_length, line_error, received

Record = TypeVar("Record")

MOVIELENS_GENRES = (
    *(
        "unknown",
        "Action",
        "Adventure",
        "Animation",
        "Children's",
        "Comedy",
        "Crime",
        "Documentary",
        "Drama",
        "Fantasy",
    ),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)


@dataclass(frozen=True, eq=False)
class Interactions:
    """N rows of feedback, and the catalogs of all U users and I items.

    Raw ids are strings, as a serving request gives them. The catalogs belong to the whole data set: `select`, `split`
    and `positives` change the rows alone, so that an index means the same user or item in every part.
    A feature of each row is `data.item_features["year"][data.item_index]`.

    Attributes:
        users: (N,) raw user ids.
        items: (N,) raw item ids.
        labels: (N,) float32 feedback, such as a rating of 1 to 5.
        timestamps: (N,) int64, seconds since 1970.
        user_ids: (U,) raw id of every user.
        item_ids: (I,) raw id of every item.
        user_features: Arrays (U,) or (U, F) by name, aligned with `user_ids`.
        item_features: Arrays (I,) or (I, F) by name, aligned with `item_ids`.
        genre_names: What the columns of `item_features["genres"]` stand for.

    Raises:
        ValueError: If lengths differ; from the indices, if a row's id is in no catalog.

    Examples:
        >>> data = Interactions(
        ...     users=np.array(["7", "7", "9"]), items=np.array(["a", "b", "b"]),
        ...     labels=np.array([5, 2, 4], np.float32), timestamps=np.array([10, 20, 30]),
        ...     user_ids=np.array(["7", "9"]), item_ids=np.array(["a", "b", "c"]))
        >>> len(data), data.item_index.tolist(), data.popularity().tolist()
        (3, [0, 1, 1], [1, 2, 0])
        >>> data.positives(4).users.tolist()
        ['7', '9']
    """

    users: np.ndarray
    items: np.ndarray
    labels: np.ndarray
    timestamps: np.ndarray
    user_ids: np.ndarray
    item_ids: np.ndarray
    user_features: dict[str, np.ndarray] = field(default_factory=dict)
    item_features: dict[str, np.ndarray] = field(default_factory=dict)
    genre_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("items", "labels", "timestamps"):
            check_same_length("users", len(self.users), name, len(getattr(self, name)))
        for ids, features in (("user_ids", self.user_features), ("item_ids", self.item_features)):
            for name, column in features.items():
                check_same_length(name, len(column), ids, len(getattr(self, ids)))

    def __len__(self) -> int:
        """The number of rows N."""
        return len(self.users)

    @cached_property
    def user_index(self) -> np.ndarray:
        """(N,) integers: the place of each row's user in `user_ids`."""
        return _codes("users", self.users, "user_ids", self.user_ids)

    @cached_property
    def item_index(self) -> np.ndarray:
        """(N,) integers: the place of each row's item in `item_ids`."""
        return _codes("items", self.items, "item_ids", self.item_ids)

    def select(self, indices: Any) -> "Interactions":
        """The rows at ``indices`` (integers, a slice, or an (N,) bool array), with the same catalogs."""
        return replace(
            self,
            users=self.users[indices],
            items=self.items[indices],
            labels=self.labels[indices],
            timestamps=self.timestamps[indices],
        )

    def split(self, train_fraction: float = 0.8, seed: int = 0) -> "tuple[Interactions, Interactions]":
        """Two random parts of the rows, (train, test), each in the order of the rows here.

        Args:
            train_fraction: Share of the rows in the first part, between 0 and 1.
            seed: Of the draw; the same seed gives the same parts.

        Raises:
            ValueError: If ``train_fraction`` is not between 0 and 1 or would leave a part empty.

        Examples:
            >>> ids = np.array(list("abcde"))
            >>> train, test = Interactions(ids, ids, np.ones(5), np.arange(5), ids, ids).split(0.6)
            >>> len(train), len(test), sorted([*train.timestamps.tolist(), *test.timestamps.tolist()])
            (3, 2, [0, 1, 2, 3, 4])
        """
        check_fraction("train_fraction", train_fraction)
        count = round(train_fraction * len(self))
        if not 0 < count < len(self):
            raise ValueError(
                "`train_fraction` must leave rows in both parts. "
                f"Received: train_fraction={train_fraction} for {len(self)} rows"
            )
        in_train = np.zeros(len(self), bool)
        in_train[np.random.default_rng(seed).permutation(len(self))[:count]] = True
        return self.select(in_train), self.select(~in_train)

    def positives(self, min_label: float) -> "Interactions":
        """The rows whose label is at least ``min_label``."""
        check_number("min_label", min_label)
        return self.select(self.labels >= min_label)

    def popularity(self) -> np.ndarray:
        """(I,) integers: the number of rows of every item of the catalog."""
        return np.bincount(self.item_index, minlength=len(self.item_ids))


def load_movielens(path: str | os.PathLike[str]) -> Interactions:
    r"""The ratings, users and films of MovieLens 100K, or of files in its form.

    Args:
        path: Folder with `u.data` (user, item, rating and time, tab-separated), `u.user` and `u.item` (`|`-separated).

    Returns:
        `Interactions` with ratings of 1 to 5 as labels; user features `age` (int32), `gender` and `occupation`
        (strings); item features `title` (string), `year` (int32, 0 if the file gives none) and `genres` ((I, 19)
        float32, 0 or 1).

    Raises:
        FileNotFoundError: If one of the three files is missing.
        ValueError: If a line is malformed or names an unknown user or item; the message names file, line and fault.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "u.data").write_text("196\t242\t3\t881250949\n")
        ...     _ = Path(folder, "u.user").write_text("196|49|M|writer|55105\n")
        ...     flags = "|".join("0000010000000000000")
        ...     _ = Path(folder, "u.item").write_text(f"242|Kolya (1996)|24-Jan-1997|||{flags}\n")
        ...     data = load_movielens(folder)
        >>> data.users.tolist(), data.labels.tolist(), data.item_features["title"].tolist()
        (['196'], [3.0], ['Kolya (1996)'])
        >>> np.array(data.genre_names)[data.item_features["genres"][0] > 0].tolist()
        ['Comedy']

    Source: Harper and Konstan, "The MovieLens Datasets" (2015), ACM TiiS 5(4); files from GroupLens.
    """
    folder = Path(path)
    files = [folder / name for name in ("u.user", "u.item", "u.data")]
    for file in files:
        check_file("path", file)
    users = _read(files[0], "|", 5, _user)
    items = _read(files[1], "|", 5 + len(MOVIELENS_GENRES), _item)
    user_ids = _catalog(files[0], [user[0] for user in users])
    item_ids = _catalog(files[1], [item[0] for item in items])
    rows = _ratings(files[2], set(user_ids.tolist()), set(item_ids.tolist()))
    return Interactions(
        users=np.array([row[0] for row in rows]),
        items=np.array([row[1] for row in rows]),
        labels=np.array([row[2] for row in rows], np.float32),
        timestamps=np.array([row[3] for row in rows], np.int64),
        user_ids=user_ids,
        item_ids=item_ids,
        user_features={
            "age": np.array([user[1] for user in users], np.int32),
            "gender": np.array([user[2] for user in users]),
            "occupation": np.array([user[3] for user in users]),
        },
        item_features={
            "title": np.array([item[1] for item in items]),
            "year": np.array([item[2] for item in items], np.int32),
            "genres": np.array([item[3] for item in items], np.float32),
        },
        genre_names=MOVIELENS_GENRES,
    )


def _ratings(file: Path, users: set[str], items: set[str]) -> list[tuple[str, str, float, int]]:
    def rating(fields: list[str]) -> tuple[str, str, float, int]:
        if fields[0] not in users:
            raise ValueError("the user must stand in u.user")
        if fields[1] not in items:
            raise ValueError("the item must stand in u.item")
        return fields[0], fields[1], _finite("the rating", fields[2]), _integer("the time", fields[3])

    return _read(file, "\t", 4, rating)


def _user(fields: list[str]) -> tuple[str, int, str, str]:
    return fields[0], _integer("the age", fields[1]), fields[2], fields[3]


def _item(fields: list[str]) -> tuple[str, str, int, list[int]]:
    flags = fields[5:]
    if not all(flag in ("0", "1") for flag in flags):
        raise ValueError("every genre flag must be 0 or 1")
    # The title's year is that of the film; the date is often that of its American release.
    year = re.search(r"\((\d{4})\)\s*$", fields[1]) or re.search(r"(\d{4})$", fields[2])
    return fields[0], fields[1], int(year[1]) if year else 0, [int(flag) for flag in flags]


def _read(file: Path, separator: str, num_fields: int, parse: Callable[[list[str]], Record]) -> list[Record]:
    """``parse`` of the fields of every line; what it raises gains file and line number."""
    records = []
    with open(file, encoding="latin-1") as text:
        for number, line in enumerate(text, start=1):
            if not line.strip():
                continue
            fields = line.rstrip("\n").split(separator)
            try:
                if len(fields) != num_fields:
                    raise ValueError(
                        f"a line must have {num_fields} fields separated by {separator!r}, not {len(fields)}"
                    )
                records.append(parse(fields))
            except ValueError as fault:
                raise line_error(file, number, str(fault), line) from None
    if not records:
        raise ValueError(f"`path` must hold at least one line of data. {received('path', str(file))}")
    return records


def _integer(what: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{what} must be an integer") from None


def _finite(what: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{what} must be a number") from None
    if not math.isfinite(number):
        raise ValueError(f"{what} must be finite")
    return number


def _catalog(file: Path, ids: Sequence[str]) -> np.ndarray:
    unique, counts = np.unique(np.array(ids), return_counts=True)
    if counts.max() > 1:
        raise ValueError(f"`path` must name every id once. Received: {unique[counts.argmax()]!s} twice in {file}")
    return np.array(ids)


def _codes(name: str, values: np.ndarray, ids_name: str, ids: np.ndarray) -> np.ndarray:
    """The place of every value among the ids."""
    place = {one: number for number, one in enumerate(ids.tolist())}
    codes = np.array([place.get(value, -1) for value in values.tolist()], np.int64)
    unknown = np.flatnonzero(codes < 0)
    if len(unknown):
        raise ValueError(
            f"`{name}` must all stand in `{ids_name}`. Received: {name}[{unknown[0]}]={values[unknown[0]]!s}"
        )
    return codes
