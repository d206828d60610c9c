"""Pointwise losses as Keras classes."""

from typing import Any

import keras

from tfrankloss import functional
from tfrankloss.functional.pointwise import check_item_reduction, check_ordinal
from tfrankloss.losses.base import RankingLoss, Tensor


@keras.saving.register_keras_serializable(package="tfrankloss")
class SigmoidCrossEntropyLoss(RankingLoss):
    """Cross entropy of labels from 0 to 1 and the sigmoids of scores: ``functional.sigmoid_cross_entropy_loss``.

    Args:
        item_reduction: "sum", or "mean" to divide by the number of items of the list.
        temperature: Divides the scores; greater than 0.
        reduction: As in ``keras.losses.Loss``, over lists.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``.

    Raises:
        ValueError: If an argument has a wrong value.

    Example:
        >>> from tfrankloss import SigmoidCrossEntropyLoss
        >>> print(round(float(SigmoidCrossEntropyLoss()([[1.0, 0.0, 1.0]], [[0.6, 0.8, 0.1]])), 6))
        2.252985
    """

    def __init__(
        self,
        item_reduction: str = "sum",
        temperature: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "sigmoid_cross_entropy_loss",
        dtype: Any = None,
    ):
        check_item_reduction(item_reduction)
        super().__init__(
            item_reduction=item_reduction, temperature=temperature, reduction=reduction, name=name, dtype=dtype
        )

    def item_losses(self, labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        return functional.sigmoid_cross_entropy_loss(labels, scores, mask, **self.settings)

    @property
    def shift_invariant(self) -> bool:
        return False


@keras.saving.register_keras_serializable(package="tfrankloss")
class MeanSquaredLoss(RankingLoss):
    """Squared difference of scores and labels: ``functional.mean_squared_loss``.

    Args:
        item_reduction: "sum", or "mean" to divide by the number of items of the list.
        temperature: Divides the scores; greater than 0.
        reduction: As in ``keras.losses.Loss``, over lists.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``.

    Raises:
        ValueError: If an argument has a wrong value.

    Example:
        >>> from tfrankloss import MeanSquaredLoss
        >>> print(round(float(MeanSquaredLoss()([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])), 4))
        4.41
    """

    def __init__(
        self,
        item_reduction: str = "sum",
        temperature: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "mean_squared_loss",
        dtype: Any = None,
    ):
        check_item_reduction(item_reduction)
        super().__init__(
            item_reduction=item_reduction, temperature=temperature, reduction=reduction, name=name, dtype=dtype
        )

    def item_losses(self, labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        return functional.mean_squared_loss(labels, scores, mask, **self.settings)

    @property
    def shift_invariant(self) -> bool:
        return False


@keras.saving.register_keras_serializable(package="tfrankloss")
class OrdinalLoss(RankingLoss):
    """Cross entropy of reaching each grade, from scores (B, L, ordinal_size): ``functional.ordinal_loss``.

    Args:
        ordinal_size: The number of grades above 0, and of scores per item.
        use_fraction_label: Whether a label between two grades reaches the upper one in part.
        temperature: Divides the scores; greater than 0.
        reduction: As in ``keras.losses.Loss``, over lists.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``.

    Raises:
        ValueError: If an argument has a wrong value.
        TypeError: If ``ordinal_size`` is not an integer or ``use_fraction_label`` not a bool.

    Example:
        >>> from tfrankloss import OrdinalLoss
        >>> loss = OrdinalLoss(ordinal_size=2)
        >>> print(round(float(loss([[1.0, 0.0]], [[[0.6, 0.2], [0.8, 0.3]]])), 6))
        3.261083
    """

    def __init__(
        self,
        ordinal_size: int = 1,
        use_fraction_label: bool = False,
        temperature: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "ordinal_loss",
        dtype: Any = None,
    ):
        check_ordinal(ordinal_size, use_fraction_label)
        super().__init__(
            ordinal_size=ordinal_size,
            use_fraction_label=use_fraction_label,
            temperature=temperature,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )
        self.score_columns = ordinal_size

    def item_losses(self, labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        return functional.ordinal_loss(labels, scores, mask, **self.settings)

    @property
    def shift_invariant(self) -> bool:
        return False
