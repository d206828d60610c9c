"""Names of losses and metrics: which there are, and reading "name:weight,name:weight"."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import keras

from tfrankloss import errors


class NamedPart(NamedTuple):
    """One part of an identifier.

    Attributes:
        name: The name.
        weight: What stands after its colon; None without one.
    """

    name: str
    weight: float | None


def resolve(
    identifier: Any,
    kind: Any,
    wording: str,
    make: Callable[..., Any],
    weighted_sum: Callable[[list[Any], list[float]], Any],
    settings: dict[str, Any],
) -> Any:
    """The object of a name, of names with weights, or of a config; an object is returned as it is.

    Args:
        identifier: A name; names with weights, as in "name:0.7,name:0.3", where a missing weight is 1; a config; or
            an object of ``kind``.
        kind: The class of the objects.
        wording: What ``identifier`` must be, for the error.
        make: Makes the object of a name, from the name and settings.
        weighted_sum: Makes one object of several and their weights.
        settings: Settings for ``make``, where a single name without a weight is given.

    Raises:
        ValueError: If a weight is not a number, or settings are given for anything but a single name.
        TypeError: If ``identifier`` is nothing of these.
    """
    errors.check_kind("identifier", identifier, (str, dict, kind), wording)
    parts = [_part(text) for text in identifier.split(",")] if isinstance(identifier, str) else []
    single = len(parts) == 1 and parts[0].weight is None
    if settings and not single:
        raise ValueError(
            f"`settings` must be given with a single name only. {errors.received('identifier', identifier)}"
        )
    if isinstance(identifier, kind):
        return identifier
    if isinstance(identifier, dict):
        return keras.saving.deserialize_keras_object(identifier)
    if single:
        return make(parts[0].name, **settings)
    return weighted_sum(
        [make(part.name) for part in parts], [1.0 if part.weight is None else part.weight for part in parts]
    )


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
