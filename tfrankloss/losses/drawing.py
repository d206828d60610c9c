"""What losses that draw Gumbel noise share."""

from typing import Any

import keras
from keras import ops

from tfrankloss import errors, functional
from tfrankloss.losses.base import RankingLoss, Tensor


class DrawingLoss(RankingLoss):
    """Base of the losses that are a mean over draws of Gumbel noise.

    Args:
        sample_size: Draws for each list.
        seed: Integer that makes the draws repeatable; None draws one.
        **settings: Further arguments of ``RankingLoss`` and of the subclass.
    """

    def __init__(self, *, sample_size: int, seed: int | None, **settings: Any):
        errors.check_positive_integer("sample_size", sample_size)
        errors.check_seed("seed", seed)
        super().__init__(sample_size=sample_size, **settings)
        self.seed = seed
        self._draws = keras.random.SeedGenerator(seed)

    def noise(self, scores: Tensor) -> Tensor:
        """Draws (B, sample_size, L) for scores (B, L), other ones at every call."""
        batch, length = ops.shape(scores)
        dtype = keras.backend.standardize_dtype(scores.dtype)
        return functional.gumbel_noise((batch, self.settings["sample_size"], length), self._draws, dtype)

    def get_config(self) -> dict[str, Any]:
        """The settings, from which ``from_config`` makes an equal loss."""
        return {**super().get_config(), "seed": self.seed}
