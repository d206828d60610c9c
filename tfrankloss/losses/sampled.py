"""Losses of one positive and its sampled negatives as Keras classes.

``y_pred`` is (B, 1 + N), the positive first, and so is ``y_true``: a row counts where its column 0 is above 0, and a
label below 0 marks padding. With weights (B, 1 + N) the weight of column 0 weighs the row; that of a negative has no
say, but 0 removes it.
"""

from typing import Any

import keras

from tfrankloss import errors, functional
from tfrankloss.functional.pairs import PAIR_REDUCTIONS
from tfrankloss.losses.base import RankingLoss, Tensor


@keras.saving.register_keras_serializable(package="tfrankloss")
class SampledSoftmaxLoss(RankingLoss):
    """Softmax cross entropy of one positive among its sampled negatives: ``functional.sampled_softmax_loss``.

    ``y_true`` and ``y_pred`` are (B, 1 + N), the positive in column 0. A row counts where its label there is above 0;
    at 0 its loss is 0. Labels below 0 mark padding: a missing negative, or in column 0 the whole row. Of item weights
    (B, 1 + N) that of column 0 weighs the row; 0 removes a negative.

    Args:
        temperature: Divides the scores; greater than 0.
        reduction: As in ``keras.losses.Loss``, over rows.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``.

    Raises:
        ValueError: If an argument has a wrong value.

    Example:
        >>> from tfrankloss import SampledSoftmaxLoss
        >>> print(round(float(SampledSoftmaxLoss()([[1.0, 0.0, 0.0]], [[0.6, 0.8, 0.1]])), 6))
        1.039546
    """

    def __init__(
        self,
        temperature: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "sampled_softmax_loss",
        dtype: Any = None,
    ):
        super().__init__(temperature=temperature, reduction=reduction, name=name, dtype=dtype)

    def item_losses(self, labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        return functional.sampled_softmax_loss(labels, scores, mask)


@keras.saving.register_keras_serializable(package="tfrankloss")
class BPRLoss(RankingLoss):
    """Logistic loss of one positive against each of its sampled negatives: ``functional.bpr_loss``.

    ``y_true``, ``y_pred`` and weights are as for ``SampledSoftmaxLoss``: (B, 1 + N), the positive in column 0.

    Args:
        pair_reduction: "sum", or "mean" to divide by the number of negatives of the row.
        temperature: Divides the scores; greater than 0.
        reduction: As in ``keras.losses.Loss``, over rows.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``.

    Raises:
        ValueError: If an argument has a wrong value.

    Example:
        >>> from tfrankloss import BPRLoss
        >>> print(round(float(BPRLoss()([[1.0, 0.0, 0.0]], [[0.6, 0.8, 0.1]])), 6))
        1.272216
    """

    def __init__(
        self,
        pair_reduction: str = "sum",
        temperature: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "bpr_loss",
        dtype: Any = None,
    ):
        errors.check_choice("pair_reduction", pair_reduction, PAIR_REDUCTIONS)
        super().__init__(
            pair_reduction=pair_reduction, temperature=temperature, reduction=reduction, name=name, dtype=dtype
        )

    def item_losses(self, labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        return functional.bpr_loss(labels, scores, mask, **self.settings)


@keras.saving.register_keras_serializable(package="tfrankloss")
class TripletLoss(RankingLoss):
    """Hinge loss of one positive against each of its sampled negatives: ``functional.triplet_loss``.

    ``y_true``, ``y_pred`` and weights are as for ``SampledSoftmaxLoss``: (B, 1 + N), the positive in column 0.

    Args:
        margin: The distance of scores at which a negative costs nothing; greater than 0.
        pair_reduction: "sum", or "mean" to divide by the number of negatives of the row.
        temperature: Divides the scores; greater than 0.
        reduction: As in ``keras.losses.Loss``, over rows.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``.

    Raises:
        ValueError: If an argument has a wrong value.

    Example:
        >>> from tfrankloss import TripletLoss
        >>> print(round(float(TripletLoss(margin=0.5)([[1.0, 0.0, 0.0]], [[0.6, 0.8, 0.1]])), 6))
        0.7
    """

    def __init__(
        self,
        margin: float = 1.0,
        pair_reduction: str = "sum",
        temperature: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "triplet_loss",
        dtype: Any = None,
    ):
        errors.check_positive("margin", margin)
        errors.check_choice("pair_reduction", pair_reduction, PAIR_REDUCTIONS)
        super().__init__(
            margin=margin,
            pair_reduction=pair_reduction,
            temperature=temperature,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )

    def item_losses(self, labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        return functional.triplet_loss(labels, scores, mask, **self.settings)
