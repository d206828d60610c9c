"""Metrics of graded relevance as Keras classes."""

from typing import Any

import keras

from tfrankloss import functional
from tfrankloss.functional import gains
from tfrankloss.metrics.base import RankingMetric, Tensor


class _GainMetric(RankingMetric):
    """Base of the metrics of discounted gain."""

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

    def relevance(self, labels: Tensor, mask: Tensor) -> Tensor:
        return gains.relative_gains(self._gain, labels)


@keras.saving.register_keras_serializable(package="tfrankloss")
class DCG(_GainMetric):
    """Mean discounted cumulative gain: ``functional.dcg``.

    Args:
        k: Places that count; None for all.
        gain: "exponential" (2^y - 1), "linear", or a function of labels (registered with Keras, to be saved).
        discount: "log2", "reciprocal", or a function of 1-based ranks.
        empty: What a list without gain counts as: "zero", "one" or "skip".
        name: Name of the metric; None makes "dcg" or "dcg_at_K".
        dtype: As in ``keras.metrics.Metric``.

    Raises:
        ValueError: If an argument has a wrong value.
        TypeError: If ``k`` is not an integer.

    Example:
        >>> from tfrankloss import DCG
        >>> metric = DCG(k=2)
        >>> metric.update_state([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])
        >>> print(round(float(metric.result()), 6))
        0.63093
    """

    short_name = "dcg"

    def list_values(self, labels: Tensor, scores: Tensor, mask: Tensor, weights: Tensor | None) -> Tensor:
        return functional.dcg(labels, scores, mask, weights, **self.settings)


@keras.saving.register_keras_serializable(package="tfrankloss")
class NDCG(_GainMetric):
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

    def list_values(self, labels: Tensor, scores: Tensor, mask: Tensor, weights: Tensor | None) -> Tensor:
        return functional.ndcg(labels, scores, mask, weights, **self.settings)


@keras.saving.register_keras_serializable(package="tfrankloss")
class ARP(RankingMetric):
    """Average relevance position, smaller is better: ``functional.average_relevance_position``.

    The mean rank over all labels seen: a list weighs the sum of its labels, and one without positive labels nothing.

    Args:
        name: Name of the metric; None makes "arp".
        dtype: As in ``keras.metrics.Metric``.

    Example:
        >>> from tfrankloss import ARP
        >>> metric = ARP()
        >>> metric.update_state([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])
        >>> print(round(float(metric.result()), 6))
        2.666667
    """

    short_name = "arp"
    weighs_by_relevance = True
    always_skips = True

    def __init__(self, name: str | None = None, dtype: Any = None):
        super().__init__(name=name, dtype=dtype)

    def list_values(self, labels: Tensor, scores: Tensor, mask: Tensor, weights: Tensor | None) -> Tensor:
        return functional.average_relevance_position(labels, scores, mask, weights)

    def relevance(self, labels: Tensor, mask: Tensor) -> Tensor:
        return labels
