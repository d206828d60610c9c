"""Every check of an argument and its wording: the rule, then the value received.

A wrong value or shape raises ``ValueError``, a wrong kind of object ``TypeError``. Checks look at Python values and
static shapes only, so nothing here ends up inside a compiled graph.
"""

import math
import numbers
import os
from collections.abc import Collection, Sequence
from typing import Any

Shape = Sequence[int | None]


def received(name: str, value: Any) -> str:
    """The second half of every message: what was given."""
    return f"Received: {name}={value!r}"


def check_choice(name: str, value: Any, choices: Collection[Any]) -> None:
    """Raise unless ``value`` is one of ``choices``."""
    if not any(value is choice or (type(value) is type(choice) and value == choice) for choice in choices):
        listed = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"`{name}` must be one of {listed}. {received(name, value)}")


def check_bool(name: str, value: Any) -> None:
    """Raise unless ``value`` is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"`{name}` must be True or False. {received(name, value)}")


def check_number(name: str, value: Any) -> None:
    """Raise unless ``value`` is a finite real number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"`{name}` must be a number. {received(name, value)}")
    if not math.isfinite(value):
        raise ValueError(f"`{name}` must be finite. {received(name, value)}")


def check_positive(name: str, value: Any) -> None:
    """Raise unless ``value`` is a finite number above 0."""
    check_number(name, value)
    if value <= 0:
        raise ValueError(f"`{name}` must be greater than 0. {received(name, value)}")


def check_not_negative(name: str, value: Any) -> None:
    """Raise unless ``value`` is a finite number of at least 0."""
    check_number(name, value)
    if value < 0:
        raise ValueError(f"`{name}` must be at least 0. {received(name, value)}")


def check_fraction(name: str, value: Any) -> None:
    """Raise unless ``value`` lies strictly between 0 and 1."""
    check_number(name, value)
    if not 0 < value < 1:
        raise ValueError(f"`{name}` must lie strictly between 0 and 1. {received(name, value)}")


def check_share(name: str, value: Any) -> None:
    """Raise unless ``value`` lies between 0 and 1, ends included."""
    check_number(name, value)
    if not 0 <= value <= 1:
        raise ValueError(f"`{name}` must lie between 0 and 1. {received(name, value)}")


def check_positive_integer(name: str, value: Any, optional: bool = False) -> None:
    """Raise unless ``value`` is an integer of at least 1 (or None where ``optional``)."""
    if optional and value is None:
        return
    kind = "an integer or None" if optional else "an integer"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"`{name}` must be {kind}. {received(name, value)}")
    if value < 1:
        raise ValueError(f"`{name}` must be at least 1. {received(name, value)}")


def check_seed(name: str, value: Any) -> None:
    """Raise unless ``value`` is an integer or None."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, numbers.Integral)):
        raise TypeError(f"`{name}` must be an integer or None. {received(name, value)}")


def check_kind(name: str, value: Any, kinds: type | tuple[type, ...], wording: str) -> None:
    """Raise unless ``value`` is an instance of ``kinds``; ``wording`` says what that is, as in "a keras.Model"."""
    if not isinstance(value, kinds):
        raise TypeError(f"`{name}` must be {wording}. Received: {name}={value!r} of type {type(value).__name__}")


def check_callable(name: str, value: Any, optional: bool = False) -> None:
    """Raise unless ``value`` can be called (or is None where ``optional``)."""
    if not (callable(value) or (optional and value is None)):
        raise TypeError(f"`{name}` must be a function{' or None' if optional else ''}. {received(name, value)}")


def check_rank(name: str, shape: Shape, rank: int, wording: str) -> None:
    """Raise unless ``shape`` has ``rank`` axes; ``wording`` names them, as in "(batch, list_size)"."""
    if len(shape) != rank:
        raise ValueError(f"`{name}` must have shape {wording}. Received: {name}.shape={tuple(shape)}")


def shapes_differ(first: Shape, second: Shape) -> bool:
    """Whether two shapes are known not to agree; an unknown axis agrees with every length."""
    if len(first) != len(second):
        return True
    return any(a is not None and b is not None and a != b for a, b in zip(first, second, strict=True))


def check_same_shape(name: str, shape: Shape, other_name: str, other_shape: Shape) -> None:
    """Raise if the static shapes are known to differ: labels and scores never broadcast."""
    if shapes_differ(shape, other_shape):
        raise ValueError(
            f"`{name}` and `{other_name}` must have the same shape. "
            f"Received: {name}.shape={tuple(shape)}, {other_name}.shape={tuple(other_shape)}"
        )


def check_same_length(name: str, length: int, other_name: str, other_length: int) -> None:
    """Raise unless two flat arrays are equally long."""
    if length != other_length:
        raise ValueError(
            f"`{name}` and `{other_name}` must have the same length. "
            f"Received: len({name})={length}, len({other_name})={other_length}"
        )


def check_weighted(argument: str, values: Any, weights: Any, kind: Any, one: str, several: str) -> None:
    """Raise unless ``values`` holds objects of ``kind``, at least one, and ``weights`` as many numbers above 0."""
    for name, given in ((argument, values), ("weights", weights)):
        check_kind(name, given, (list, tuple), "a list")
    check_same_length(argument, len(values), "weights", len(weights))
    if not values:
        raise ValueError(f"`{argument}` must hold at least one {one}. Received: {argument}=[]")
    for value in values:
        check_kind(argument, value, kind, f"a list of {several}")
    for weight in weights:
        check_positive("weights", weight)


def check_file(name: str, path: str | os.PathLike[str]) -> None:
    """Raise unless ``path`` is a readable file."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"`{name}` must be an existing file. {received(name, os.fspath(path))}")


def line_error(path: str | os.PathLike[str], number: int, rule: str, line: str) -> ValueError:
    """The error for line ``number`` (from 1) of a text file; ``rule`` says what that line must be."""
    shown = line.strip()
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return ValueError(f"{os.fspath(path)}, line {number}: {rule}. {received('line', shown)}")
