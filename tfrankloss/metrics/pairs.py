"""Metrics that compare items with each other, as Keras classes."""

from typing import Any

import keras
from keras import ops

from tfrankloss import errors, functional
from tfrankloss.functional import gains, lists
from tfrankloss.metrics.base import RankingMetric, Tensor


@keras.saving.register_keras_serializable(package="tfrankloss")
class OPA(RankingMetric):
    """Ordered pair accuracy: ``functional.ordered_pair_accuracy``.

    The share of all pairs seen: a list weighs as much as its pairs, and one whose labels are all equal nothing.

    Args:
        name: Name of the metric; None makes "opa".
        dtype: As in ``keras.metrics.Metric``.

    Example:
        >>> from tfrankloss import OPA
        >>> metric = OPA()
        >>> metric.update_state([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.9]])
        >>> print(round(float(metric.result()), 6))
        0.666667
    """

    short_name = "opa"
    weighs_by_relevance = True
    always_skips = True

    def __init__(self, name: str | None = None, dtype: Any = None):
        super().__init__(name=name, dtype=dtype)

    def list_values(self, labels: Tensor, scores: Tensor, mask: Tensor, weights: Tensor | None) -> Tensor:
        return functional.ordered_pair_accuracy(labels, scores, mask, weights)

    def relevance(self, labels: Tensor, mask: Tensor) -> Tensor:
        return lists.worse_items(labels, mask)


@keras.saving.register_keras_serializable(package="tfrankloss")
class GAUC(RankingMetric):
    """Group AUC, the mean over lists of the area under the ROC curve of each: ``functional.auc``.

    Lists whose items are all relevant, or none of them, have no AUC and are left out of the mean. To weigh lists by
    impressions or clicks, give their numbers as ``sample_weight`` (B,).

    Args:
        threshold: Labels of at least this are relevant.
        name: Name of the metric; None makes "gauc".
        dtype: As in ``keras.metrics.Metric``.

    Raises:
        ValueError: If ``threshold`` is not finite.
        TypeError: If ``threshold`` is not a number.

    Example:
        >>> from tfrankloss import GAUC
        >>> metric = GAUC()
        >>> metric.update_state([[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]], 2 * [[0.6, 0.8, 0.1, 0.9]])
        >>> print(float(metric.result()))
        0.75
    """

    short_name = "gauc"
    always_skips = True

    def __init__(self, threshold: float = 1.0, name: str | None = None, dtype: Any = None):
        errors.check_number("threshold", threshold)
        super().__init__(name=name, dtype=dtype, threshold=threshold)

    def list_values(self, labels: Tensor, scores: Tensor, mask: Tensor, weights: Tensor | None) -> Tensor:
        return functional.auc(labels, scores, mask, weights, **self.settings)

    def relevance(self, labels: Tensor, mask: Tensor) -> Tensor:
        relevant = gains.binary_gain(labels, self.settings["threshold"])
        other = ops.where(mask, 1 - relevant, 0.0)
        return relevant * ops.max(other, axis=1, keepdims=True, initial=0.0)


@keras.saving.register_keras_serializable(package="tfrankloss")
class BPref(RankingMetric):
    """Mean binary preference, for incomplete judgements: ``functional.bpref``.

    Args:
        k: Places that count; None for all. The divisor holds all relevant items.
        threshold: Labels of at least this are relevant.
        use_trec_version: Whether to divide by the smaller of the numbers of relevant items and of others, as TREC
            does; False divides by the number of relevant items.
        empty: What a list without a relevant item counts as: "zero", "one" or "skip".
        name: Name of the metric; None makes "bpref" or "bpref_at_K".
        dtype: As in ``keras.metrics.Metric``.

    Raises:
        ValueError: If an argument has a wrong value.
        TypeError: If ``k`` is not an integer, or ``use_trec_version`` not a bool.

    Example:
        >>> from tfrankloss import BPref
        >>> metric = BPref()
        >>> metric.update_state([[1.0, 0.0, 2.0, 0.0]], [[0.6, 0.8, 0.9, 0.1]])
        >>> print(float(metric.result()))
        0.75
    """

    short_name = "bpref"

    def __init__(
        self,
        k: int | None = None,
        threshold: float = 1.0,
        use_trec_version: bool = True,
        empty: str = "zero",
        name: str | None = None,
        dtype: Any = None,
    ):
        errors.check_number("threshold", threshold)
        errors.check_bool("use_trec_version", use_trec_version)
        settings = {"k": k, "threshold": threshold, "use_trec_version": use_trec_version}
        super().__init__(empty=empty, name=name, dtype=dtype, **settings)

    def list_values(self, labels: Tensor, scores: Tensor, mask: Tensor, weights: Tensor | None) -> Tensor:
        return functional.bpref(labels, scores, mask, **self.settings)

    def relevance(self, labels: Tensor, mask: Tensor) -> Tensor:
        return gains.binary_gain(labels, self.settings["threshold"])
