"""A weighted sum of metrics as one metric."""

from collections.abc import Sequence
from typing import Any

import keras

from tfrankloss import errors
from tfrankloss.config import from_config, to_config

Tensor = Any


@keras.saving.register_keras_serializable(package="tfrankloss")
class WeightedSumMetric(keras.metrics.Metric):
    """The weighted sum of the results of several metrics: one number to watch or to stop by.

    Args:
        metrics: Keras metrics that take the same ``y_true`` and ``y_pred``.
        weights: As many numbers greater than 0.
        name: Name of the metric.
        dtype: As in ``keras.metrics.Metric``.

    Raises:
        ValueError: If there is no metric, or the weights are not as many numbers greater than 0.
        TypeError: If something else than a metric is given.

    Example:
        >>> from tfrankloss import metrics
        >>> metric = metrics.get("ndcg_at_2:0.5,mrr:0.5")
        >>> metric.update_state([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])
        >>> print(round(float(metric.result()), 4))
        0.3369
    """

    def __init__(
        self,
        metrics: Sequence[keras.metrics.Metric],
        weights: Sequence[float],
        name: str | None = "weighted_sum",
        dtype: Any = None,
    ):
        errors.check_weighted("metrics", metrics, weights, keras.metrics.Metric, "metric", "Keras metrics")
        super().__init__(name=name, dtype=dtype)
        self.metrics, self.weights = list(metrics), list(weights)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch to every metric."""
        for metric in self.metrics:
            metric.update_state(y_true, y_pred, sample_weight)

    def result(self) -> Tensor:
        """The weighted sum of the results."""
        return sum(weight * metric.result() for weight, metric in zip(self.weights, self.metrics, strict=True))

    def reset_state(self) -> None:
        """Forget all batches."""
        for metric in self.metrics:
            metric.reset_state()

    def get_config(self) -> dict[str, Any]:
        """The settings, from which ``from_config`` makes an equal metric."""
        return {**super().get_config(), **to_config({"metrics": self.metrics, "weights": self.weights})}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "WeightedSumMetric":
        """The metric of ``config``."""
        return cls(**from_config(config))
