"""The softmax losses as Keras classes."""

from typing import Any

import keras

from tfrankloss import errors, functional
from tfrankloss.functional.lambda_weights import ItemWeight, check_item_weight
from tfrankloss.functional.list_softmax import CrossEntropy
from tfrankloss.functional.softmax_family import softmax_cross_entropy
from tfrankloss.losses.base import CrossEntropyLoss, RankingLoss, Tensor


@keras.saving.register_keras_serializable(package="tfrankloss")
class SoftmaxLoss(CrossEntropyLoss):
    """Softmax cross entropy over each list, weighed by the labels: ``functional.softmax_loss``.

    Args:
        lambda_weight: A weight of discounted gains, such as ``NDCGLambdaWeight()``: an item counts by what it adds to
            the metric at its present place; None counts it by its label.
        temperature: Divides the scores; greater than 0.
        reduction: As in ``keras.losses.Loss``, over lists.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``.

    Raises:
        ValueError: If an argument has a wrong value.
        TypeError: If ``lambda_weight`` has no discounted gains.

    Example:
        >>> from tfrankloss import SoftmaxLoss
        >>> print(round(float(SoftmaxLoss()([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])), 6))
        4.118639
    """

    def __init__(
        self,
        lambda_weight: ItemWeight | None = None,
        temperature: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "softmax_loss",
        dtype: Any = None,
    ):
        check_item_weight(lambda_weight)
        super().__init__(
            lambda_weight=lambda_weight, temperature=temperature, reduction=reduction, name=name, dtype=dtype
        )

    def cross_entropy(self, labels: Tensor, scores: Tensor, mask: Tensor) -> CrossEntropy:
        return softmax_cross_entropy(labels, scores, mask, **self.settings)


@keras.saving.register_keras_serializable(package="tfrankloss")
class PolyOneSoftmaxLoss(RankingLoss):
    """Softmax cross entropy with its first polynomial term weighed anew: ``functional.poly_one_softmax_loss``.

    Args:
        epsilon: Weight of the added term; 0 gives ``SoftmaxLoss``.
        lambda_weight: A weight of discounted gains, such as ``NDCGLambdaWeight()``: an item counts by what it adds to
            the metric at its present place; None counts it by its label.
        temperature: Divides the scores; greater than 0.
        reduction: As in ``keras.losses.Loss``, over lists.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``.

    Raises:
        ValueError: If an argument has a wrong value.
        TypeError: If ``epsilon`` is not a number, or ``lambda_weight`` has no discounted gains.

    Example:
        >>> from tfrankloss import PolyOneSoftmaxLoss
        >>> print(round(float(PolyOneSoftmaxLoss()([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])), 5))
        6.33607
    """

    def __init__(
        self,
        epsilon: float = 1.0,
        lambda_weight: ItemWeight | None = None,
        temperature: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "poly_one_softmax_loss",
        dtype: Any = None,
    ):
        errors.check_number("epsilon", epsilon)
        check_item_weight(lambda_weight)
        super().__init__(
            epsilon=epsilon,
            lambda_weight=lambda_weight,
            temperature=temperature,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )

    def item_losses(self, labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        return functional.poly_one_softmax_loss(labels, scores, mask, **self.settings)


@keras.saving.register_keras_serializable(package="tfrankloss")
class CalibratedSoftmaxLoss(RankingLoss):
    """Softmax cross entropy of each list and a virtual item of score 0: ``functional.calibrated_softmax_loss``.

    Args:
        virtual_label: Label of the virtual item; at least 0.
        lambda_weight: A weight of discounted gains, such as ``NDCGLambdaWeight()``: an item counts by what it adds to
            the metric at its present place; None counts it by its label.
        temperature: Divides the scores; greater than 0.
        reduction: As in ``keras.losses.Loss``, over lists.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``.

    Raises:
        ValueError: If an argument has a wrong value.
        TypeError: If ``virtual_label`` is not a number, or ``lambda_weight`` has no discounted gains.

    Example:
        >>> from tfrankloss import CalibratedSoftmaxLoss
        >>> print(round(float(CalibratedSoftmaxLoss(virtual_label=0.1)([[1.0, 0.0]], [[0.6, 0.8]])), 6))
        1.180817
    """

    def __init__(
        self,
        virtual_label: float = 0.0,
        lambda_weight: ItemWeight | None = None,
        temperature: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "calibrated_softmax_loss",
        dtype: Any = None,
    ):
        errors.check_not_negative("virtual_label", virtual_label)
        check_item_weight(lambda_weight)
        super().__init__(
            virtual_label=virtual_label,
            lambda_weight=lambda_weight,
            temperature=temperature,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )

    def item_losses(self, labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        return functional.calibrated_softmax_loss(labels, scores, mask, **self.settings)

    @property
    def shift_invariant(self) -> bool:
        return False


@keras.saving.register_keras_serializable(package="tfrankloss")
class UniqueSoftmaxLoss(RankingLoss):
    """Softmax cross entropy of each item against the items of lower label: ``functional.unique_softmax_loss``.

    Args:
        temperature: Divides the scores; greater than 0.
        reduction: As in ``keras.losses.Loss``, over lists.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``.

    Raises:
        ValueError: If an argument has a wrong value.

    Example:
        >>> from tfrankloss import UniqueSoftmaxLoss
        >>> print(round(float(UniqueSoftmaxLoss()([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])), 5))
        5.41678
    """

    def __init__(
        self,
        temperature: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "unique_softmax_loss",
        dtype: Any = None,
    ):
        super().__init__(temperature=temperature, reduction=reduction, name=name, dtype=dtype)

    def item_losses(self, labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        return functional.unique_softmax_loss(labels, scores, mask)
