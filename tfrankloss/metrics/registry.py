"""Metrics by name."""

import re
from typing import Any

import keras

from tfrankloss import errors
from tfrankloss.metrics.base import RankingMetric
from tfrankloss.metrics.weighted_sum import WeightedSumMetric
from tfrankloss.names import concrete_subclasses, resolve

# Names that TensorFlow Ranking gave to what has another one here.
OTHER_NAMES = {"ordered_pair_accuracy": "opa"}


def get(identifier: str | dict[str, Any] | keras.metrics.Metric, **settings: Any) -> keras.metrics.Metric:
    """The metric of a name, or the weighted sum of several.

    Args:
        identifier: A default name, as in "ndcg_at_10", or TensorFlow Ranking's key; names with weights, as in
            "ndcg_at_10:0.5,mrr:0.5", where a missing weight is 1; a config as from ``keras.metrics.serialize``; or a
            metric, which is returned as it is.
        **settings: Arguments of the metric, where a single name without a weight is given.

    Returns:
        The metric.

    Raises:
        ValueError: If there is no metric of a name, or a weight is not a number greater than 0.
        TypeError: If something else is given, or settings that the metric does not take.

    Example:
        >>> from tfrankloss import metrics
        >>> metrics.get("ndcg_at_10", gain="linear").name
        'ndcg_at_10'
    """
    wording = "a name, a config or a metric"
    return resolve(identifier, keras.metrics.Metric, wording, _made, WeightedSumMetric, settings)


def names() -> list[str]:
    """The names that ``get`` knows; after each, "_at_" and a cutoff may stand.

    Returns:
        Names, in alphabetical order.

    Example:
        >>> from tfrankloss.metrics import registry
        >>> "ndcg" in registry.names()
        True
    """
    return sorted([*_classes(), *OTHER_NAMES])


def _classes() -> dict[str, Any]:
    return {cls.short_name: cls for cls in concrete_subclasses(RankingMetric)}


def _made(identifier: str, **settings: Any) -> RankingMetric:
    name, cutoff = re.fullmatch(r"(.*?)(?:_at_(\d+))?", identifier).groups()  # type: ignore[union-attr]
    errors.check_choice("identifier", name, names())
    return _classes()[OTHER_NAMES.get(name, name)](**({} if cutoff is None else {"k": int(cutoff)}), **settings)
