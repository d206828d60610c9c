"""Ranking metrics as Keras classes."""

from typing import Any

import keras
from keras import ops

from tfrankloss import errors, functional
from tfrankloss.functional import gains
from tfrankloss.metrics.base import RankingMetric, Tensor


@keras.saving.register_keras_serializable(package="tfrankloss")
class NDCG(RankingMetric):
    """Mean normalized discounted cumulative gain: ``functional.ndcg``.

    Args:
        k: Places that count; None for all.
        gain: "exponential" (2^y - 1), "linear", or a function of labels (registered with Keras, to be saved).
        discount: "log2", "reciprocal", or a function of 1-based ranks.
        empty: What a list without gain counts as: "zero", "one" or "skip".
        name: Name of the metric; None makes "ndcg" or "ndcg_at_K".
        dtype: As in ``keras.metrics.Metric``.

    Raises:
        ValueError: If an argument has a wrong value.
        TypeError: If ``k`` is not an integer.

    Example:
        >>> from tfrankloss import NDCG
        >>> metric = NDCG(k=2)
        >>> metric.update_state([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])
        >>> print(metric.name, round(float(metric.result()), 6))
        ndcg_at_2 0.173765
    """

    short_name = "ndcg"

    def __init__(
        self,
        k: int | None = None,
        gain: str | gains.Transform = "exponential",
        discount: str | gains.Transform = "log2",
        empty: str = "zero",
        name: str | None = None,
        dtype: Any = None,
    ):
        self._gain = gains.get_gain(gain)
        gains.get_discount(discount)
        super().__init__(k=k, empty=empty, name=name, dtype=dtype, gain=gain, discount=discount)

    def list_values(self, labels: Tensor, scores: Tensor, mask: Tensor, weights: Tensor | None) -> Tensor:
        return functional.ndcg(labels, scores, mask, weights, k=self.k, **self.settings)

    def relevance(self, labels: Tensor) -> Tensor:
        return gains.relative_gains(self._gain, labels)


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

    def relevance(self, labels: Tensor) -> Tensor:
        return ops.cast(labels >= self.settings["threshold"], labels.dtype)


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
        return functional.reciprocal_rank(labels, scores, mask, k=self.k, **self.settings)


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
        return functional.precision_at_k(labels, scores, mask, k=self.k, **self.settings)


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
        return functional.recall_at_k(labels, scores, mask, k=self.k, **self.settings)


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
        return functional.average_precision(labels, scores, mask, weights, k=self.k, **self.settings)
