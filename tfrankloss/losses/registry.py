"""Losses by name."""

import inspect
from typing import Any

import keras

from tfrankloss import errors
from tfrankloss.losses.base import RankingLoss
from tfrankloss.losses.weighted_sum import WeightedSumLoss

# Names that TensorFlow Ranking gave to what has another one here.
OTHER_NAMES = {"pairwise_logistic_loss": "rank_net_loss", "coupled_rankdistil_loss": "coupled_rank_distil_loss"}


def get(identifier: str | dict[str, Any] | RankingLoss, **settings: Any) -> RankingLoss:
    """The loss of a name, or the weighted sum of several.

    Names are the default names of the classes, as in "list_mle_loss"; TensorFlow Ranking's keys work too.

    Args:
        identifier: A name; names with weights, as in "list_mle_loss:0.7,softmax_loss:0.3", where a missing weight is
            1; a config as from ``keras.losses.serialize``; or a loss, which is returned as it is.
        **settings: Arguments of the loss, where a single name without a weight is given.

    Returns:
        The loss.

    Raises:
        ValueError: If there is no loss of a name, or a weight is not a number greater than 0.
        TypeError: If something else is given, or settings that the loss does not take.

    Example:
        >>> from tfrankloss import losses
        >>> losses.get("list_mle_loss", ties="efron").name
        'list_mle_loss'
        >>> losses.get("list_mle_loss:0.7,softmax_loss:0.3").weights
        [0.7, 0.3]
    """
    errors.check_kind("identifier", identifier, (str, dict, RankingLoss), "a name, a config or a ranking loss")
    parts = identifier.split(",") if isinstance(identifier, str) else []
    single = len(parts) == 1 and ":" not in parts[0]
    if settings and not single:
        raise ValueError(f"`settings` must be given with a single name only. Received: identifier={identifier!r}")
    if isinstance(identifier, RankingLoss):
        return identifier
    if isinstance(identifier, dict):
        return keras.saving.deserialize_keras_object(identifier)
    if single:
        return _class(parts[0])(**settings)
    names, weights = zip(*(_weighted(part) for part in parts), strict=True)
    return WeightedSumLoss([_class(name)() for name in names], weights)


def names() -> list[str]:
    """The names that ``get`` knows.

    Returns:
        Names, in alphabetical order.

    Example:
        >>> from tfrankloss.losses import registry
        >>> "softmax_loss" in registry.names()
        True
    """
    return sorted([*_classes(), *OTHER_NAMES])


def _classes() -> dict[str, Any]:
    """The losses of this package that can be made without arguments, by default name."""
    found = {}
    for cls in _subclasses(RankingLoss):
        parameters = inspect.signature(cls).parameters
        own = cls.__module__.startswith(__package__) and not inspect.isabstract(cls)
        if own and all(parameter.default is not parameter.empty for parameter in parameters.values()):
            found[parameters["name"].default] = cls
    return found


def _subclasses(cls: Any) -> list[Any]:
    return [sub for child in cls.__subclasses__() for sub in (child, *_subclasses(child))]


def _class(name: str) -> Any:
    name = name.strip()
    errors.check_choice("identifier", name, names())
    return _classes()[OTHER_NAMES.get(name, name)]


def _weighted(part: str) -> tuple[str, float]:
    """The name and the weight of one part, "name" or "name:weight"."""
    name, colon, weight = part.partition(":")
    try:
        value = float(weight) if colon else 1.0
    except ValueError:
        raise ValueError(f"`identifier` must hold numbers as weights. {errors.received('weight', weight)}") from None
    return name, value
