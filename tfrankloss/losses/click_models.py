"""Click models as Keras classes."""

from typing import Any

import keras

from tfrankloss import errors, functional
from tfrankloss.functional.click_models import MODELS, check_click_em
from tfrankloss.losses.base import RankingLoss, Tensor


@keras.saving.register_keras_serializable(package="tfrankloss")
class ClickEMLoss(RankingLoss):
    """Clicks as examination times relevance, from scores (B, L, 2): ``functional.click_em_loss``.

    Args:
        exam_loss_weight: Weight of the loss of examination, at least 0.
        rel_loss_weight: Weight of the loss of relevance, at least 0.
        temperature: Divides the scores; greater than 0.
        reduction: As in ``keras.losses.Loss``, over lists.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``.

    Raises:
        ValueError: If an argument has a wrong value.

    Example:
        >>> from tfrankloss import ClickEMLoss
        >>> print(round(float(ClickEMLoss()([[1.0, 0.0]], [[[0.6, 0.9], [0.8, 0.2]]])), 6))
        2.292577
    """

    score_columns = 2

    def __init__(
        self,
        exam_loss_weight: float = 1.0,
        rel_loss_weight: float = 1.0,
        temperature: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "click_em_loss",
        dtype: Any = None,
    ):
        check_click_em(exam_loss_weight, rel_loss_weight)
        super().__init__(
            exam_loss_weight=exam_loss_weight,
            rel_loss_weight=rel_loss_weight,
            temperature=temperature,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )

    def item_losses(self, labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        return functional.click_em_loss(labels, scores, mask, **self.settings)

    @property
    def shift_invariant(self) -> bool:
        return False


@keras.saving.register_keras_serializable(package="tfrankloss")
class MixtureEMLoss(RankingLoss):
    """Clicks of a list as the work of one of M models, from scores (B, L, M): ``functional.mixture_em_loss``.

    Args:
        alpha: How sharply models are told apart; greater than 0.
        temperature: Divides the scores; greater than 0.
        reduction: As in ``keras.losses.Loss``, over lists.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``.

    Raises:
        ValueError: If an argument has a wrong value.

    Example:
        >>> from tfrankloss import MixtureEMLoss
        >>> print(round(float(MixtureEMLoss()([[1.0, 0.0]], [[[0.6, 0.9], [0.8, 0.2]]])), 5))
        1.31987
    """

    score_columns = MODELS

    def __init__(
        self,
        alpha: float = 1.0,
        temperature: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "mixture_em_loss",
        dtype: Any = None,
    ):
        errors.check_positive("alpha", alpha)
        super().__init__(alpha=alpha, temperature=temperature, reduction=reduction, name=name, dtype=dtype)

    def item_losses(self, labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        return functional.mixture_em_loss(labels, scores, mask, **self.settings)

    @property
    def shift_invariant(self) -> bool:
        return False
