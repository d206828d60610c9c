"""What all ranking metrics share: reading lists, weights, empty lists and the mean over lists."""

import abc
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfrankloss import errors, inputs
from tfrankloss.config import from_config, to_config
from tfrankloss.functional.lists import computing_dtype

Tensor = Any

EMPTY = ("zero", "skip", "one")


class RankingMetric(keras.metrics.Mean, abc.ABC):
    """Base of the metrics over padded lists: the weighted mean over all lists seen of one value per list.

    Lists are read as losses read them: padding, masks, ragged input and the shapes of ``sample_weight`` are the same,
    and an item of weight 0 is padding. With item weights, a list weighs the mean of its items' weights, taken by
    relevance, so that constant weights act like a list weight. The result does not depend on how lists are cut into
    batches.

    Args:
        name: Name of the metric; None makes one from the class and ``k``.
        dtype: As in ``keras.metrics.Metric``.
        empty: What a list without a relevant item is: "zero" counts it as 0, as TensorFlow Ranking does, "one" as 1,
            and "skip" leaves it out of the mean. No choice where ``always_skips`` is True.
        **settings: The settings of the function, kept for the config.
    """

    short_name: str
    # Whether a list weighs as much as all it holds of what is relevant: then the mean is over labels or pairs.
    weighs_by_relevance = False
    # Whether a list without a relevant item has no value at all, so that only "skip" makes sense.
    always_skips = False
    read_batch: Callable[..., inputs.ListBatch] = staticmethod(inputs.read_lists)

    def __init__(self, *, name: str | None, dtype: Any, empty: str = "skip", **settings: Any):
        k = settings.get("k")
        errors.check_positive_integer("k", k, optional=True)
        errors.check_choice("empty", empty, EMPTY)
        super().__init__(name=name or (f"{self.short_name}_at_{k}" if k else self.short_name), dtype=dtype)
        self.empty = empty
        self.settings = settings

    @abc.abstractmethod
    def list_values(self, labels: Tensor, scores: Tensor, mask: Tensor, weights: Tensor | None) -> Tensor:
        """The value (B,) of each list."""

    @abc.abstractmethod
    def relevance(self, labels: Tensor, mask: Tensor) -> Tensor:
        """How much each item matters (B, L): items above 0 make a list non-empty and share its weight."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add the lists of a batch; shapes are those of ``RankingLoss``."""
        batch = self.read_batch(y_true, y_pred, sample_weight, computing_dtype(self.dtype))
        mask = batch.mask if len(batch.labels.shape) == 2 else batch.mask[:, :, None]
        labels = ops.where(mask, batch.labels, 0.0)
        values = self.list_values(labels, batch.scores, batch.mask, batch.item_weights)
        relevance = ops.where(batch.mask, self.relevance(labels, batch.mask), 0.0)
        weights = _list_weights(batch, relevance)
        if self.weighs_by_relevance:
            weights = weights * ops.sum(relevance, axis=1)
        if self.empty != "zero":
            filled = ops.any(relevance > 0, axis=1)
            values = ops.where(filled, values, 1.0)
            if self.empty == "skip":
                weights = ops.where(filled, weights, 0.0)
        super().update_state(values, weights)

    def get_config(self) -> dict[str, Any]:
        """The settings, from which ``from_config`` makes an equal metric."""
        empty = {} if self.always_skips else {"empty": self.empty}
        return {**super().get_config(), **empty, **to_config(self.settings)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "RankingMetric":
        """The metric of ``config``."""
        return cls(**from_config(config))


def _list_weights(batch: inputs.ListBatch, relevance: Tensor) -> Tensor:
    """The weight (B,) of each list; from item weights by relevance, or plainly where nothing is relevant."""
    if batch.item_weights is None:
        return (
            ops.ones((ops.shape(relevance)[0],), relevance.dtype) if batch.list_weights is None else batch.list_weights
        )
    total = ops.sum(relevance, axis=1)
    weighed = ops.sum(ops.where(batch.mask, relevance * batch.item_weights, 0.0), axis=1)
    by_relevance = weighed / ops.where(total > 0, total, 1.0)
    return ops.where(total > 0, by_relevance, inputs.mean_item_weight(batch))
