"""Circle loss as a Keras class."""

from typing import Any

import keras

from tfrankloss import functional
from tfrankloss.functional.circle import check_circle
from tfrankloss.losses.base import RankingLoss, Tensor


@keras.saving.register_keras_serializable(package="tfrankloss")
class CircleLoss(RankingLoss):
    """Soft maximum over all pairs of similarities that are not yet far enough apart: ``functional.circle_loss``.

    Args:
        gamma: Sharpness of the soft maximum; greater than 0.
        margin: How near to 1, or to 0, a similarity need not come; at least 0.
        temperature: Divides the scores before they are clipped to [0, 1]; 1 unless the model's similarities have
            another upper end, which then belongs here.
        reduction: As in ``keras.losses.Loss``, over lists.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``.

    Raises:
        ValueError: If an argument has a wrong value.
        TypeError: If a setting is not a number.

    Example:
        >>> from tfrankloss import CircleLoss
        >>> print(round(float(CircleLoss()([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])), 4))
        84.8
    """

    def __init__(
        self,
        gamma: float = 64.0,
        margin: float = 0.25,
        temperature: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "circle_loss",
        dtype: Any = None,
    ):
        check_circle(gamma, margin)
        super().__init__(
            gamma=gamma, margin=margin, temperature=temperature, reduction=reduction, name=name, dtype=dtype
        )

    def item_losses(self, labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        return functional.circle_loss(labels, scores, mask, **self.settings)

    @property
    def shift_invariant(self) -> bool:
        return False
