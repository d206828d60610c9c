"""Losses by name."""

import inspect
from typing import Any

from tfrankloss import errors
from tfrankloss.losses.base import RankingLoss
from tfrankloss.losses.weighted_sum import WeightedSumLoss
from tfrankloss.names import concrete_subclasses, resolve

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
    wording = "a name, a config or a ranking loss"
    return resolve(identifier, RankingLoss, wording, _made, WeightedSumLoss, settings)


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
    return {inspect.signature(cls).parameters["name"].default: cls for cls in concrete_subclasses(RankingLoss)}


def _made(name: str, **settings: Any) -> RankingLoss:
    errors.check_choice("identifier", name, names())
    return _classes()[OTHER_NAMES.get(name, name)](**settings)
