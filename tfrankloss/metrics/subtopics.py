"""Metrics of diversity as Keras classes: labels (B, L, S) tell how relevant each item is to each subtopic."""

from typing import Any

import keras
from keras import ops

from tfrankloss import errors, functional, inputs
from tfrankloss.functional import gains
from tfrankloss.metrics.base import RankingMetric, Tensor


@keras.saving.register_keras_serializable(package="tfrankloss")
class AlphaDCG(RankingMetric):
    """Mean discounted gain, less for what was covered above: ``functional.alpha_dcg``.

    ``y_true`` is (B, L, S): the relevance of each item to each subtopic, negative at padding of either.

    Args:
        k: Places that count; None for all.
        alpha: From 0 (repetition costs nothing) to 1 (only the first item on a subtopic counts).
        discount: "log2", "reciprocal", or a function of 1-based ranks (registered with Keras, to be saved).
        empty: What a list without a positive label counts as: "zero", "one" or "skip".
        name: Name of the metric; None makes "alpha_dcg" or "alpha_dcg_at_K".
        dtype: As in ``keras.metrics.Metric``.

    Raises:
        ValueError: If an argument has a wrong value.
        TypeError: If ``k`` is not an integer, or ``alpha`` not a number.

    Example:
        >>> from tfrankloss import AlphaDCG
        >>> metric = AlphaDCG()
        >>> metric.update_state([[[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]], [[3.0, 1.0, 2.0]])
        >>> print(round(float(metric.result()), 6))
        2.196395
    """

    short_name = "alpha_dcg"
    read_batch = staticmethod(inputs.read_subtopic_lists)

    def __init__(
        self,
        k: int | None = None,
        alpha: float = 0.5,
        discount: str | gains.Transform = "log2",
        empty: str = "zero",
        name: str | None = None,
        dtype: Any = None,
    ):
        errors.check_share("alpha", alpha)
        gains.get_discount(discount)
        super().__init__(k=k, empty=empty, name=name, dtype=dtype, alpha=alpha, discount=discount)

    def list_values(self, labels: Tensor, scores: Tensor, mask: Tensor, weights: Tensor | None) -> Tensor:
        return functional.alpha_dcg(labels, scores, mask, weights, **self.settings)

    def relevance(self, labels: Tensor, mask: Tensor) -> Tensor:
        return ops.cast(ops.any(labels > 0, axis=2), labels.dtype)


@keras.saving.register_keras_serializable(package="tfrankloss")
class PrecisionIA(RankingMetric):
    """Mean over lists and their subtopics of the precision at ``k``: ``functional.precision_ia``.

    ``y_true`` is (B, L, S): the relevance of each item to each subtopic, negative at padding of either.

    Args:
        k: Places that count; None for all.
        threshold: Labels of at least this are relevant.
        empty: What a list without a relevant item counts as: "zero", "one" or "skip".
        name: Name of the metric; None makes "precision_ia" or "precision_ia_at_K".
        dtype: As in ``keras.metrics.Metric``.

    Raises:
        ValueError: If an argument has a wrong value.
        TypeError: If ``k`` is not an integer.

    Example:
        >>> from tfrankloss import PrecisionIA
        >>> metric = PrecisionIA(k=2)
        >>> metric.update_state([[[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]], [[3.0, 1.0, 2.0]])
        >>> print(float(metric.result()))
        0.75
    """

    short_name = "precision_ia"
    read_batch = staticmethod(inputs.read_subtopic_lists)

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

    def list_values(self, labels: Tensor, scores: Tensor, mask: Tensor, weights: Tensor | None) -> Tensor:
        return functional.precision_ia(labels, scores, mask, **self.settings)

    def relevance(self, labels: Tensor, mask: Tensor) -> Tensor:
        return ops.cast(ops.any(labels >= self.settings["threshold"], axis=2), labels.dtype)
