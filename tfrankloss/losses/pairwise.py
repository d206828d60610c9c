"""Pairwise losses as Keras classes."""

from typing import Any

import keras

from tfrankloss import functional
from tfrankloss.functional.pairs import check_pairs
from tfrankloss.losses.base import RankingLoss, Tensor


@keras.saving.register_keras_serializable(package="tfrankloss")
class RankNetLoss(RankingLoss):
    """Logistic loss of every pair of items with different labels: ``functional.rank_net_loss``.

    Args:
        pairs: "graded" compares every two labels, "binary" only labels above 0 with labels of 0.
        ties: "skip" leaves pairs of equal labels out, "half" counts them with target probability 1/2.
        pair_reduction: "sum", or "mean" to divide by the number of pairs of the list.
        temperature: Divides the scores; greater than 0.
        reduction: As in ``keras.losses.Loss``, over lists.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``.

    Raises:
        ValueError: If an argument has a wrong value.

    Example:
        >>> from tfrankloss import RankNetLoss
        >>> print(round(float(RankNetLoss()([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])), 6))
        2.875402
    """

    def __init__(
        self,
        pairs: str = "graded",
        ties: str = "skip",
        pair_reduction: str = "sum",
        temperature: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "rank_net_loss",
        dtype: Any = None,
    ):
        check_pairs(pairs, ties, pair_reduction)
        super().__init__(
            pairs=pairs,
            ties=ties,
            pair_reduction=pair_reduction,
            temperature=temperature,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )

    def item_losses(self, labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        return functional.rank_net_loss(labels, scores, mask, **self.settings)
