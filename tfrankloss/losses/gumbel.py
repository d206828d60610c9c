"""Losses over draws of noisy scores as Keras classes."""

from typing import Any

import keras

from tfrankloss import errors, functional
from tfrankloss.losses.base import RankingLoss, Tensor
from tfrankloss.losses.drawing import DrawingLoss
from tfrankloss.losses.lambda_loss import YetiDCGLambdaWeight
from tfrankloss.losses.lambda_weights import LambdaWeight, check_lambda_weight
from tfrankloss.losses.pairwise import RankNetLoss
from tfrankloss.losses.smooth import ApproxNDCGLoss


class _NoisyLoss(DrawingLoss):
    """Base of the losses that are the mean of another one over draws of noisy scores.

    Args:
        inner: The loss of noisy scores, which it divides by its own temperature.
        gumbel_temperature: Divides the scores and their noise before the softmax.
        **settings: Further arguments of ``DrawingLoss`` and of the subclass.
    """

    def __init__(self, inner: RankingLoss, *, gumbel_temperature: float, **settings: Any):
        errors.check_positive("gumbel_temperature", gumbel_temperature)
        super().__init__(gumbel_temperature=gumbel_temperature, **settings)
        self._inner = inner

    def item_losses(self, labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        temperature = self.settings["gumbel_temperature"]
        return functional.gumbel_loss(
            labels, scores, mask, loss=self._inner_losses, noise=self.noise(scores), gumbel_temperature=temperature
        )

    def _inner_losses(self, labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        return self._inner.item_losses(labels, self._inner.scaled(scores, mask), mask)

    def scaled(self, scores: Tensor, mask: Tensor) -> Tensor:
        return scores


@keras.saving.register_keras_serializable(package="tfrankloss")
class GumbelLoss(_NoisyLoss):
    """The mean of any loss over lists, taken of scores with Gumbel noise: ``functional.gumbel_loss``.

    Each call draws anew, except that Keras on JAX keeps the state of a loss within one ``fit``: there, every step has
    the same noise at the same places. Evaluate with a metric: this loss changes from call to call.

    Args:
        loss: A list-wise or pairwise loss that depends on differences of scores, such as ``ApproxNDCGLoss()``. It
            divides noisy scores by its own temperature; its reduction, name and dtype play no part.
        sample_size: Draws for each list; memory grows with it.
        gumbel_temperature: Divides the scores and their noise; greater than 0.
        seed: Integer that makes the draws repeatable; None draws one.
        reduction: As in ``keras.losses.Loss``, over lists.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``.

    Raises:
        ValueError: If an argument has a wrong value, or ``loss`` depends on more than differences of scores.
        TypeError: If ``loss`` is no loss of scores (batch, list_size), or ``sample_size`` or ``seed`` not an integer.

    Example:
        >>> from tfrankloss import ApproxNDCGLoss, GumbelLoss
        >>> loss = GumbelLoss(ApproxNDCGLoss(), seed=1)
        >>> print(-1 < float(loss([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])) < 0)
        True
    """

    def __init__(
        self,
        loss: RankingLoss,
        sample_size: int = 8,
        gumbel_temperature: float = 1.0,
        seed: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "gumbel_loss",
        dtype: Any = None,
    ):
        _check_inner(loss)
        super().__init__(
            loss,
            loss=loss,
            sample_size=sample_size,
            gumbel_temperature=gumbel_temperature,
            seed=seed,
            temperature=1.0,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )

    def get_config(self) -> dict[str, Any]:
        """The settings, from which ``from_config`` makes an equal loss."""
        config = super().get_config()
        # The inner loss has one of its own.
        del config["temperature"]
        return config


@keras.saving.register_keras_serializable(package="tfrankloss")
class GumbelApproxNDCGLoss(_NoisyLoss):
    """``GumbelLoss`` of ``ApproxNDCGLoss``, under TensorFlow Ranking's name.

    Args:
        temperature: Divides noisy scores, as in ``ApproxNDCGLoss``; greater than 0.
        sample_size: Draws for each list; memory grows with it.
        gumbel_temperature: Divides the scores and their noise; greater than 0.
        seed: Integer that makes the draws repeatable; None draws one.
        reduction: As in ``keras.losses.Loss``, over lists.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``.

    Raises:
        ValueError: If an argument has a wrong value.
        TypeError: If ``sample_size`` or ``seed`` is not an integer.

    Example:
        >>> from tfrankloss import GumbelApproxNDCGLoss
        >>> loss = GumbelApproxNDCGLoss(seed=1)
        >>> print(-1 < float(loss([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])) < 0)
        True

    Source: Bruch et al., "A Stochastic Treatment of Learning to Rank Scoring Functions", WSDM 2020.
    """

    def __init__(
        self,
        temperature: float = 0.1,
        sample_size: int = 8,
        gumbel_temperature: float = 1.0,
        seed: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "gumbel_approx_ndcg_loss",
        dtype: Any = None,
    ):
        super().__init__(
            ApproxNDCGLoss(temperature=temperature),
            sample_size=sample_size,
            gumbel_temperature=gumbel_temperature,
            seed=seed,
            temperature=temperature,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )


@keras.saving.register_keras_serializable(package="tfrankloss")
class YetiLogisticLoss(_NoisyLoss):
    """``GumbelLoss`` of ``RankNetLoss`` over neighbours in the noisy ranking, under TensorFlow Ranking's name.

    Args:
        lambda_weight: How much each pair matters in a noisy ranking; None for ``YetiDCGLambdaWeight()``.
        temperature: Divides noisy scores; greater than 0.
        sample_size: Draws for each list; memory grows with it.
        gumbel_temperature: Divides the scores and their noise; greater than 0.
        seed: Integer that makes the draws repeatable; None draws one.
        reduction: As in ``keras.losses.Loss``, over lists.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``.

    Raises:
        ValueError: If an argument has a wrong value.
        TypeError: If ``lambda_weight`` is not a lambda weight, or ``sample_size`` or ``seed`` not an integer.

    Example:
        >>> from tfrankloss import YetiLogisticLoss
        >>> loss = YetiLogisticLoss(seed=1)
        >>> print(float(loss([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])) > 0)
        True

    Source: Lyzhin et al., "Which Tricks Are Important for Learning to Rank?", ICML 2023.
    """

    def __init__(
        self,
        lambda_weight: LambdaWeight | None = None,
        temperature: float = 1.0,
        sample_size: int = 8,
        gumbel_temperature: float = 1.0,
        seed: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "yeti_logistic_loss",
        dtype: Any = None,
    ):
        check_lambda_weight(lambda_weight)
        super().__init__(
            RankNetLoss(lambda_weight=lambda_weight or YetiDCGLambdaWeight(), temperature=temperature),
            lambda_weight=lambda_weight,
            sample_size=sample_size,
            gumbel_temperature=gumbel_temperature,
            seed=seed,
            temperature=temperature,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )


def _check_inner(loss: Any) -> None:
    """Raise unless ``loss`` can be taken of noisy scores, which tell no more than their differences."""
    wording = "a tfrankloss loss of scores (batch, list_size), such as ApproxNDCGLoss()"
    errors.check_kind("loss", loss, RankingLoss, wording)
    # In-batch losses, and whatever else is not a sum over the items of a list, read their batches themselves.
    reads_lists = type(loss).list_losses is RankingLoss.list_losses
    if not reads_lists or loss.score_columns is not None:
        raise TypeError(f"`loss` must be {wording}. {errors.received('loss', loss)}")
    if not loss.shift_invariant:
        raise ValueError(f"`loss` must depend on differences of scores only. {errors.received('loss', loss)}")
