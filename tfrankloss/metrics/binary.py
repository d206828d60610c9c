"""Metrics of binary relevance as Keras classes."""

from typing import Any

import keras

from tfrankloss import errors, functional
from tfrankloss.functional import gains
from tfrankloss.metrics.base import RankingMetric, Tensor


class _BinaryMetric(RankingMetric):
    """Base of the metrics that ask only whether an item is relevant."""

    def __init__(
        self,
        k: int | None = None,
        threshold: float = 1.0,
        empty: str = "zero",
        name: str | None = None,
        dtype: Any = None,
    ):
        errors.check_number("threshold", threshold)
        super().__init__(k=k, empty=empty, name=name, dtype=dtype, threshold=threshold)

    def relevance(self, labels: Tensor, mask: Tensor) -> Tensor:
        return gains.binary_gain(labels, self.settings["threshold"])


@keras.saving.register_keras_serializable(package="tfrankloss")
class Hits(_BinaryMetric):
    """Mean share of lists with a relevant item in the first ``k`` places: ``functional.hits_at_k``.

    Args:
        k: Places that count; None for all.
        threshold: Labels of at least this are relevant.
        empty: What a list without a relevant item counts as: "zero", "one" or "skip".
        name: Name of the metric; None makes "hits" or "hits_at_K".
        dtype: As in ``keras.metrics.Metric``.

    Raises:
        ValueError: If an argument has a wrong value.
        TypeError: If ``k`` is not an integer.

    Example:
        >>> from tfrankloss import Hits
        >>> metric = Hits(k=1)
        >>> metric.update_state([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])
        >>> print(float(metric.result()))
        0.0
    """

    short_name = "hits"

    def list_values(self, labels: Tensor, scores: Tensor, mask: Tensor, weights: Tensor | None) -> Tensor:
        return functional.hits_at_k(labels, scores, mask, **self.settings)


@keras.saving.register_keras_serializable(package="tfrankloss")
class MRR(_BinaryMetric):
    """Mean reciprocal rank of the first relevant item: ``functional.reciprocal_rank``.

    Args:
        k: Places that count; None for all.
        threshold: Labels of at least this are relevant.
        empty: What a list without a relevant item counts as: "zero", "one" or "skip".
        name: Name of the metric; None makes "mrr" or "mrr_at_K".
        dtype: As in ``keras.metrics.Metric``.

    Raises:
        ValueError: If an argument has a wrong value.
        TypeError: If ``k`` is not an integer.

    Example:
        >>> from tfrankloss import MRR
        >>> metric = MRR()
        >>> metric.update_state([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])
        >>> print(float(metric.result()))
        0.5
    """

    short_name = "mrr"

    def list_values(self, labels: Tensor, scores: Tensor, mask: Tensor, weights: Tensor | None) -> Tensor:
        return functional.reciprocal_rank(labels, scores, mask, **self.settings)


@keras.saving.register_keras_serializable(package="tfrankloss")
class PrecisionAtK(_BinaryMetric):
    """Mean share of relevant items in the first ``k`` places: ``functional.precision_at_k``.

    Args:
        k: Places that count; None for all.
        threshold: Labels of at least this are relevant.
        empty: What a list without a relevant item counts as: "zero", "one" or "skip".
        name: Name of the metric; None makes "precision" or "precision_at_K".
        dtype: As in ``keras.metrics.Metric``.

    Raises:
        ValueError: If an argument has a wrong value.
        TypeError: If ``k`` is not an integer.

    Example:
        >>> from tfrankloss import PrecisionAtK
        >>> metric = PrecisionAtK(k=2)
        >>> metric.update_state([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])
        >>> print(float(metric.result()))
        0.5
    """

    short_name = "precision"

    def list_values(self, labels: Tensor, scores: Tensor, mask: Tensor, weights: Tensor | None) -> Tensor:
        return functional.precision_at_k(labels, scores, mask, **self.settings)


@keras.saving.register_keras_serializable(package="tfrankloss")
class RecallAtK(_BinaryMetric):
    """Mean share of the relevant items that stand in the first ``k`` places: ``functional.recall_at_k``.

    Args:
        k: Places that count; None for all.
        threshold: Labels of at least this are relevant.
        empty: What a list without a relevant item counts as: "zero", "one" or "skip".
        name: Name of the metric; None makes "recall" or "recall_at_K".
        dtype: As in ``keras.metrics.Metric``.

    Raises:
        ValueError: If an argument has a wrong value.
        TypeError: If ``k`` is not an integer.

    Example:
        >>> from tfrankloss import RecallAtK
        >>> metric = RecallAtK(k=2)
        >>> metric.update_state([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])
        >>> print(float(metric.result()))
        0.5
    """

    short_name = "recall"

    def list_values(self, labels: Tensor, scores: Tensor, mask: Tensor, weights: Tensor | None) -> Tensor:
        return functional.recall_at_k(labels, scores, mask, **self.settings)


@keras.saving.register_keras_serializable(package="tfrankloss")
class MeanAveragePrecision(_BinaryMetric):
    """Mean of the average precision of each list: ``functional.average_precision``.

    Args:
        k: Places that count; None for all. The divisor holds all relevant items.
        threshold: Labels of at least this are relevant.
        empty: What a list without a relevant item counts as: "zero", "one" or "skip".
        name: Name of the metric; None makes "map" or "map_at_K".
        dtype: As in ``keras.metrics.Metric``.

    Raises:
        ValueError: If an argument has a wrong value.
        TypeError: If ``k`` is not an integer.

    Example:
        >>> from tfrankloss import MeanAveragePrecision
        >>> metric = MeanAveragePrecision()
        >>> metric.update_state([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])
        >>> print(round(float(metric.result()), 6))
        0.583333
    """

    short_name = "map"

    def list_values(self, labels: Tensor, scores: Tensor, mask: Tensor, weights: Tensor | None) -> Tensor:
        return functional.average_precision(labels, scores, mask, weights, **self.settings)
