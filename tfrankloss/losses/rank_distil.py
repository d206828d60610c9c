"""RankDistil as a Keras class."""

from typing import Any

import keras

from tfrankloss import errors, functional
from tfrankloss.losses.base import Tensor
from tfrankloss.losses.drawing import DrawingLoss


@keras.saving.register_keras_serializable(package="tfrankloss")
class CoupledRankDistilLoss(DrawingLoss):
    """Mean negative log likelihood of orders drawn from a teacher's scores: ``functional.coupled_rank_distil_loss``.

    ``y_true`` holds the scores of the teacher. Every call draws anew, but for ``fit`` on JAX, where the state of a loss
    does not change: there every step has the same noise.

    Args:
        sample_size: How many orders to draw per list.
        top_k: How many places of an order count; None for all.
        seed: Integer that makes the draws repeatable; None draws one.
        temperature: Divides the scores of the student; greater than 0.
        reduction: As in ``keras.losses.Loss``, over lists.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``.

    Raises:
        ValueError: If an argument has a wrong value.
        TypeError: If ``sample_size``, ``top_k`` or ``seed`` is not an integer.

    Example:
        >>> from tfrankloss import CoupledRankDistilLoss
        >>> loss = CoupledRankDistilLoss(sample_size=2, seed=1)
        >>> print(round(float(loss([[100.0, 0.0, 200.0]], [[0.6, 0.8, 0.1]])), 4))
        2.3377
    """

    def __init__(
        self,
        sample_size: int = 8,
        top_k: int | None = None,
        seed: int | None = None,
        temperature: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "coupled_rank_distil_loss",
        dtype: Any = None,
    ):
        errors.check_positive_integer("top_k", top_k, optional=True)
        super().__init__(
            sample_size=sample_size,
            top_k=top_k,
            seed=seed,
            temperature=temperature,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )

    def item_losses(self, labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        top_k = self.settings["top_k"]
        return functional.coupled_rank_distil_loss(labels, scores, mask, noise=self.noise(scores), top_k=top_k)
