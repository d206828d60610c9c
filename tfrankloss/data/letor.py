"""Judged lists in the svmlight form of LETOR, MQ2008, MSLR-WEB30K, Istella and Yahoo."""

import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tfrankloss.data.lists import RankingLists, to_lists
from tfrankloss.errors import check_file, check_kind, check_positive_integer, line_error, received

_LARGEST = float(np.finfo(np.float32).max)

LetorPath = str | os.PathLike[str]


def load_letor(
    path: LetorPath | Sequence[LetorPath], *, num_features: int | None = None, list_size: int | None = None
) -> RankingLists[np.ndarray]:
    r"""Padded lists of files with lines `label qid:ID 1:0.2 2:0.7 ... #comment`.

    A query is all lines with its id, wherever they stand and in whichever of the files; queries come in the order of
    their first line, items in the order of their lines. Features may be given in any order, each index once; the ones
    that a line leaves out are 0. Empty lines and lines with a comment alone are skipped. Ids are integers if all of
    them are written as plain integers, otherwise strings.

    Args:
        path: One file, a folder (its `*.txt` files, sorted by name), or a sequence of files and folders.
        num_features: F. None: the largest index in the files. Give it so that two files agree.
        list_size: Items per list, L. Of a longer query the first ``list_size`` lines stay and the rest are dropped,
            relevant or not; shorter ones are padded up to it. None: the longest query decides and nothing is dropped.

    Returns:
        `RankingLists`: features (B, L, F) float32 padded with 0, labels (B, L) float32 padded with -1, query ids (B,).
        Feature index 1 of the file is column 0.

    Raises:
        FileNotFoundError: If a path does not exist, or a folder has no `*.txt` file.
        ValueError: If a line is malformed (the message names file, line and fault), or a file has no line of data.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "train.txt")
        ...     _ = file.write_text("2 qid:10 1:0.5 2:0.25 #doc A\n0 qid:10 2:0.75\n1 qid:11 1:1\n")
        ...     lists = load_letor(file)
        >>> lists.query_ids.tolist(), lists.labels.tolist()
        ([10, 11], [[2.0, 0.0], [1.0, -1.0]])
        >>> lists.features[0].tolist()
        [[0.5, 0.25], [0.0, 0.75]]

    Source: Qin and Liu, "Introducing LETOR 4.0 Datasets" (2013), arXiv:1306.2597.
    """
    check_positive_integer("num_features", num_features, optional=True)
    check_positive_integer("list_size", list_size, optional=True)
    rows = _Rows(num_features)
    for file in _files(path):
        rows.read(file)
    return rows.lists(list_size)


def _files(path: LetorPath | Sequence[LetorPath]) -> list[Path]:
    """Every file to read, with folders replaced by their text files."""
    paths: Sequence[LetorPath] = [path] if isinstance(path, (str, os.PathLike)) else path
    check_kind("path", paths, Sequence, "a path or a sequence of paths, each a string or pathlib.Path")
    if not paths:
        raise ValueError(f"`path` must name at least one file. {received('path', path)}")
    files: list[Path] = []
    for one in paths:
        check_kind("path", one, (str, os.PathLike), "a path or a sequence of paths, each a string or pathlib.Path")
        if os.path.isdir(one):
            found = sorted(file for file in Path(one).glob("*.txt") if file.is_file())
            if not found:
                raise FileNotFoundError(f"`path` must be a folder with *.txt files. {received('path', os.fspath(one))}")
            files += found
        else:
            check_file("path", one)
            files.append(Path(one))
    return files


class _LineFault(Exception):
    """What a line must be and is not; the reader adds file and line number."""


@dataclass
class _Rows:
    """The rows read so far, in flat typed arrays: a million lines must not become a billion Python objects."""

    num_features: int | None
    queries: dict[str, int] = field(default_factory=dict)
    codes: array = field(default_factory=lambda: array("q"))
    labels: array = field(default_factory=lambda: array("d"))
    lines: array = field(default_factory=lambda: array("q"))
    sizes: array = field(default_factory=lambda: array("q"))
    columns: array = field(default_factory=lambda: array("i"))
    values: array = field(default_factory=lambda: array("f"))
    # Most files give every line the same indices, so they are checked and converted once.
    last_names: list[str] = field(default_factory=list)
    last_columns: array = field(default_factory=lambda: array("i"))

    def read(self, file: Path) -> None:
        """Append the rows of one file."""
        before = len(self.labels), len(self.values)
        with open(file, encoding="utf-8-sig", errors="replace") as text:
            for number, line in enumerate(text, start=1):
                fields = line.partition("#")[0].split()
                if not fields:
                    continue
                try:
                    self._append(fields)
                except _LineFault as fault:
                    raise line_error(file, number, str(fault), line) from None
                self.lines.append(number)
        if len(self.labels) == before[0]:
            raise ValueError(f"`path` must hold at least one line of data. {received('path', str(file))}")
        self._check_finite(file, *before)

    def _append(self, fields: list[str]) -> None:
        if len(fields) < 2 or not fields[1].startswith("qid:") or fields[1] == "qid:":
            raise _LineFault("the second field must be `qid:ID`")
        if not _is_number(fields[0]):
            raise _LineFault("the label must be a number")
        label = float(fields[0])
        if not 0 <= label <= _LARGEST:
            raise _LineFault("the label must be finite and at least 0")
        try:
            pairs: dict[str, str] = dict(pair.split(":") for pair in fields[2:])  # type: ignore[misc]
            numbers = array("f", map(float, pairs.values()))
            if "_" in "".join(pairs.values()):
                raise ValueError
        except ValueError:
            raise _LineFault(_pair_fault(fields[2:])) from None
        if len(pairs) != len(fields) - 2:
            raise _LineFault("every feature index must stand once")
        names = list(pairs)
        if names != self.last_names:
            self.last_columns, self.last_names = self._checked_columns(names), names
        self.codes.append(self.queries.setdefault(fields[1][4:], len(self.queries)))
        self.labels.append(label)
        self.sizes.append(len(numbers))
        self.columns.extend(self.last_columns)
        self.values.extend(numbers)

    def _checked_columns(self, names: list[str]) -> array:
        for name in names:
            if not (name.isascii() and name.isdigit() and len(name) < 10 and int(name) > 0):
                raise _LineFault(f"every feature index must be an integer from 1 to 999999999, unlike {name!r}")
        columns = array("i", (int(name) - 1 for name in names))
        if len(set(columns)) != len(columns):
            raise _LineFault("every feature index must stand once")
        if self.num_features is not None and max(columns, default=0) >= self.num_features:
            raise _LineFault(f"no feature index may exceed num_features={self.num_features}, unlike {max(columns) + 1}")
        return columns

    def _check_finite(self, file: Path, first_row: int, first_value: int) -> None:
        """All values of a file at once; one that is too large for float32 has become infinite here."""
        wrong = np.flatnonzero(~np.isfinite(np.frombuffer(self.values, np.float32)[first_value:]))
        if len(wrong):
            ends = np.cumsum(np.frombuffer(self.sizes, np.int64)[first_row:])
            row = int(np.searchsorted(ends, wrong[0], side="right"))
            number = self.lines[first_row + row]
            index = self.columns[first_value + int(wrong[0])] + 1
            with open(file, encoding="utf-8-sig", errors="replace") as text:
                line = next(line for at, line in enumerate(text, start=1) if at == number)
            raise line_error(file, number, f"the value of feature {index} must be finite in float32", line)

    def lists(self, list_size: int | None) -> RankingLists[np.ndarray]:
        """Everything read, padded."""
        columns = np.frombuffer(self.columns, np.int32)
        num_features = self.num_features or int(columns.max(initial=-1)) + 1
        if not num_features:
            raise ValueError("`path` must hold at least one feature unless num_features is given. Received: none")
        sizes = np.frombuffer(self.sizes, np.int64)
        features = np.zeros((len(sizes), num_features), np.float32)
        features[np.repeat(np.arange(len(sizes)), sizes), columns] = np.frombuffer(self.values, np.float32)
        lists = to_lists(np.array(self.codes), np.array(self.labels), features, list_size=list_size)
        return replace(lists, query_ids=_natural_ids(list(self.queries)))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # Python reads 1_5 as 15


def _pair_fault(pairs: list[str]) -> str:
    """What is wrong with the first bad feature of a line."""
    for pair in pairs:
        index, _, value = pair.partition(":")
        if not (index and _is_number(value)):
            break
    return f"every feature must be `index:value` with a number for value, unlike {pair!r}"


def _natural_ids(ids: list[str]) -> np.ndarray:
    """Integers if that loses nothing (007 and 7 are two ids), otherwise the strings."""
    texts = np.array(ids)
    try:
        integers = texts.astype(np.int64)
    except (ValueError, OverflowError):
        return texts
    return integers if np.array_equal(integers.astype(texts.dtype), texts) else texts
