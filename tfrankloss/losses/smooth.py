"""Losses of smooth ranks and smooth sorting as Keras classes."""

from typing import Any

import keras

from tfrankloss import errors, functional
from tfrankloss.functional import gains
from tfrankloss.functional.pairs import METHODS
from tfrankloss.losses.base import RankingLoss, Tensor


class _SmoothLoss(RankingLoss):
    """Base of the losses whose function takes the temperature itself.

    It divides differences of scores, and so rounds at the size of the differences and not at that of the scores.
    """

    def scaled(self, scores: Tensor, mask: Tensor) -> Tensor:
        return scores


@keras.saving.register_keras_serializable(package="tfrankloss")
class ApproxNDCGLoss(_SmoothLoss):
    """Minus NDCG at smooth ranks: ``functional.approx_ndcg_loss``.

    Args:
        gain: "exponential" (2^y - 1), "linear" or a function of labels (registered with Keras, to be saved).
        discount: "log2" (1 / log2(1 + rank)), "reciprocal" or a function of 1-based ranks.
        method: "auto", "dense" or "sorted": how pairs are summed, as in ``functional.smooth_ranks``.
        temperature: Divides the scores; the smaller, the nearer to NDCG itself; greater than 0.
        reduction: As in ``keras.losses.Loss``, over lists.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``.

    Raises:
        ValueError: If an argument has a wrong value.

    Example:
        >>> from tfrankloss import ApproxNDCGLoss
        >>> print(round(float(ApproxNDCGLoss()([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])), 5))
        -0.59371
    """

    def __init__(
        self,
        gain: str | gains.Transform = "exponential",
        discount: str | gains.Transform = "log2",
        method: str = "auto",
        temperature: float = 0.1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "approx_ndcg_loss",
        dtype: Any = None,
    ):
        gains.get_gain(gain)
        gains.get_discount(discount)
        errors.check_choice("method", method, METHODS)
        super().__init__(
            gain=gain,
            discount=discount,
            method=method,
            temperature=temperature,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )

    def item_losses(self, labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        return functional.approx_ndcg_loss(labels, scores, mask, temperature=self.temperature, **self.settings)


@keras.saving.register_keras_serializable(package="tfrankloss")
class ApproxMRRLoss(_SmoothLoss):
    """Minus the reciprocal smooth ranks, weighed by labels: ``functional.approx_mrr_loss``.

    Args:
        method: "auto", "dense" or "sorted": how pairs are summed, as in ``functional.smooth_ranks``.
        temperature: Divides the scores; the smaller, the nearer to the ranks themselves; greater than 0.
        reduction: As in ``keras.losses.Loss``, over lists.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``.

    Raises:
        ValueError: If an argument has a wrong value.

    Example:
        >>> from tfrankloss import ApproxMRRLoss
        >>> print(round(float(ApproxMRRLoss()([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])), 5))
        -0.39939
    """

    def __init__(
        self,
        method: str = "auto",
        temperature: float = 0.1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "approx_mrr_loss",
        dtype: Any = None,
    ):
        errors.check_choice("method", method, METHODS)
        super().__init__(method=method, temperature=temperature, reduction=reduction, name=name, dtype=dtype)

    def item_losses(self, labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        return functional.approx_mrr_loss(labels, scores, mask, temperature=self.temperature, **self.settings)


@keras.saving.register_keras_serializable(package="tfrankloss")
class NeuralSortNDCGLoss(_SmoothLoss):
    """Minus NDCG in the relaxed order of NeuralSort (PiRank): ``functional.neural_sort_ndcg_loss``.

    Args:
        gain: "exponential" (2^y - 1), "linear" or a function of labels (registered with Keras, to be saved).
        discount: "log2" (1 / log2(1 + rank)), "reciprocal" or a function of 1-based ranks.
        temperature: Divides the scores; the smaller, the nearer to NDCG itself; greater than 0.
        reduction: As in ``keras.losses.Loss``, over lists.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``.

    Raises:
        ValueError: If an argument has a wrong value.

    Example:
        >>> from tfrankloss import NeuralSortNDCGLoss
        >>> print(round(float(NeuralSortNDCGLoss()([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])), 5))
        -0.64618
    """

    def __init__(
        self,
        gain: str | gains.Transform = "exponential",
        discount: str | gains.Transform = "log2",
        temperature: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "neural_sort_ndcg_loss",
        dtype: Any = None,
    ):
        gains.get_gain(gain)
        gains.get_discount(discount)
        super().__init__(
            gain=gain, discount=discount, temperature=temperature, reduction=reduction, name=name, dtype=dtype
        )

    def item_losses(self, labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        return functional.neural_sort_ndcg_loss(labels, scores, mask, temperature=self.temperature, **self.settings)


@keras.saving.register_keras_serializable(package="tfrankloss")
class NeuralSortCrossEntropyLoss(_SmoothLoss):
    """Cross entropy of the relaxed orders of labels and scores: ``functional.neural_sort_cross_entropy_loss``.

    Args:
        temperature: Divides the scores, not the labels; greater than 0.
        reduction: As in ``keras.losses.Loss``, over lists.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``.

    Raises:
        ValueError: If an argument has a wrong value.

    Example:
        >>> from tfrankloss import NeuralSortCrossEntropyLoss
        >>> print(round(float(NeuralSortCrossEntropyLoss()([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])), 5))
        1.53207
    """

    def __init__(
        self,
        temperature: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "neural_sort_cross_entropy_loss",
        dtype: Any = None,
    ):
        super().__init__(temperature=temperature, reduction=reduction, name=name, dtype=dtype)

    def item_losses(self, labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        return functional.neural_sort_cross_entropy_loss(labels, scores, mask, temperature=self.temperature)
