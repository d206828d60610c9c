"""A weighted sum of losses as one loss."""

from collections.abc import Sequence
from typing import Any

import keras

from tfrankloss import errors
from tfrankloss.config import to_config
from tfrankloss.losses.base import RankingLoss, Tensor


@keras.saving.register_keras_serializable(package="tfrankloss")
class WeightedSumLoss(RankingLoss):
    """The weighted sum of several losses of the same scores.

    To train on two aims at once, such as the order of a list and the probability of its clicks. The losses keep their
    own temperatures; their own reductions are not used. ``losses.get("list_mle_loss:0.7,softmax_loss:0.3")`` makes one
    by name.

    Args:
        losses: Ranking losses that take the same ``y_true`` and ``y_pred``.
        weights: As many numbers greater than 0.
        reduction: As in ``keras.losses.Loss``, over lists.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``.

    Raises:
        ValueError: If there is no loss, or the weights are not as many numbers greater than 0.
        TypeError: If something else than a ranking loss is given.

    Example:
        >>> from tfrankloss import ListMLELoss, SoftmaxLoss
        >>> from tfrankloss.losses import WeightedSumLoss
        >>> loss = WeightedSumLoss([ListMLELoss(), SoftmaxLoss()], weights=[0.7, 0.3])
        >>> print(round(float(loss([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])), 4))
        2.872
    """

    def __init__(
        self,
        losses: Sequence[RankingLoss],
        weights: Sequence[float],
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "weighted_sum_loss",
        dtype: Any = None,
    ):
        errors.check_weighted("losses", losses, weights, RankingLoss, "loss", "ranking losses")
        super().__init__(temperature=1.0, reduction=reduction, name=name, dtype=dtype)
        self.losses, self.weights = list(losses), list(weights)

    def list_losses(self, y_true: Any, y_pred: Any, sample_weight: Any) -> tuple[Tensor, Tensor | None]:
        """The loss (B,) of each list, and the weights (B,) of the lists."""
        parts = [loss.list_losses(y_true, y_pred, sample_weight) for loss in self.losses]
        return sum(weight * values for weight, (values, _) in zip(self.weights, parts, strict=True)), parts[0][1]

    def item_losses(self, labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        parts = [loss.item_losses(labels, loss.scaled(scores, mask), mask) for loss in self.losses]
        return sum(weight * losses for weight, losses in zip(self.weights, parts, strict=True))

    def get_config(self) -> dict[str, Any]:
        """The settings, from which ``from_config`` makes an equal loss."""
        config = super().get_config()
        del config["temperature"]
        return {**config, **to_config({"losses": self.losses, "weights": self.weights})}
