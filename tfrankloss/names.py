"""Names of losses and metrics: which there are, and reading "name:weight,name:weight"."""

import inspect
from typing import Any, NamedTuple

from tfrankloss import errors


class NamedPart(NamedTuple):
    """One part of an identifier.

    Attributes:
        name: The name.
        weight: What stands after its colon; None without one.
    """

    name: str
    weight: float | None


def parts_of(identifier: str) -> list[NamedPart]:
    """The parts of "name:weight,name:weight".

    Raises:
        ValueError: If a weight is not a number.
    """
    return [_part(text) for text in identifier.split(",")]


def _part(text: str) -> NamedPart:
    name, colon, weight = text.partition(":")
    try:
        return NamedPart(name.strip(), float(weight) if colon else None)
    except ValueError:
        raise ValueError(f"`identifier` must hold numbers as weights. {errors.received('weight', weight)}") from None


def concrete_subclasses(base: Any) -> list[Any]:
    """The subclasses of this package that can be made without arguments."""
    return [cls for cls in _subclasses(base) if cls.__module__.startswith(f"{__package__}.") and _makes_itself(cls)]


def _makes_itself(cls: Any) -> bool:
    parameters = inspect.signature(cls).parameters.values()
    return not inspect.isabstract(cls) and all(parameter.default is not parameter.empty for parameter in parameters)


def _subclasses(base: Any) -> list[Any]:
    return [found for child in base.__subclasses__() for found in (child, *_subclasses(child))]
