"""Pairwise losses as Keras classes."""

from typing import Any

import keras

from tfrankloss import errors, functional
from tfrankloss.functional.pairs import check_pairs
from tfrankloss.losses.base import RankingLoss, Tensor
from tfrankloss.losses.lambda_weights import LambdaWeight, check_lambda_weight


@keras.saving.register_keras_serializable(package="tfrankloss")
class RankNetLoss(RankingLoss):
    """Logistic loss of every pair of items with different labels: ``functional.rank_net_loss``.

    Args:
        pairs: "graded" compares every two labels, "binary" only labels above 0 with labels of 0.
        ties: "skip" leaves pairs of equal labels out, "half" counts them with target probability 1/2.
        pair_reduction: "sum", or "mean" to divide by the number of pairs of the list.
        lambda_weight: How much each pair matters, such as ``NDCGLambdaWeight()``; None for 1.
        temperature: Divides the scores; greater than 0.
        reduction: As in ``keras.losses.Loss``, over lists.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``.

    Raises:
        ValueError: If an argument has a wrong value.
        TypeError: If ``lambda_weight`` is not a lambda weight.

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
        lambda_weight: LambdaWeight | None = None,
        temperature: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "rank_net_loss",
        dtype: Any = None,
    ):
        check_pairs(pairs, ties, pair_reduction)
        check_lambda_weight(lambda_weight)
        super().__init__(
            pairs=pairs,
            ties=ties,
            pair_reduction=pair_reduction,
            lambda_weight=lambda_weight,
            temperature=temperature,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )

    def item_losses(self, labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        return functional.rank_net_loss(labels, scores, mask, **self.settings)


# The same loss under the name that TensorFlow Ranking gave it.
PairwiseLogisticLoss = RankNetLoss


@keras.saving.register_keras_serializable(package="tfrankloss")
class PairwiseHingeLoss(RankingLoss):
    """Hinge loss of every pair of items with different labels: ``functional.pairwise_hinge_loss``.

    Args:
        margin: The distance of scores at which a pair costs nothing; greater than 0.
        pairs: "graded" compares every two labels, "binary" only labels above 0 with labels of 0.
        pair_reduction: "sum", or "mean" to divide by the number of pairs of the list.
        lambda_weight: How much each pair matters, such as ``NDCGLambdaWeight()``; None for 1.
        temperature: Divides the scores; greater than 0.
        reduction: As in ``keras.losses.Loss``, over lists.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``.

    Raises:
        ValueError: If an argument has a wrong value.
        TypeError: If ``lambda_weight`` is not a lambda weight.

    Example:
        >>> from tfrankloss import PairwiseHingeLoss
        >>> print(round(float(PairwiseHingeLoss()([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])), 6))
        4.4
    """

    def __init__(
        self,
        margin: float = 1.0,
        pairs: str = "graded",
        pair_reduction: str = "sum",
        lambda_weight: LambdaWeight | None = None,
        temperature: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "pairwise_hinge_loss",
        dtype: Any = None,
    ):
        errors.check_positive("margin", margin)
        check_pairs(pairs, "skip", pair_reduction)
        check_lambda_weight(lambda_weight)
        super().__init__(
            margin=margin,
            pairs=pairs,
            pair_reduction=pair_reduction,
            lambda_weight=lambda_weight,
            temperature=temperature,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )

    def item_losses(self, labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        return functional.pairwise_hinge_loss(labels, scores, mask, **self.settings)


@keras.saving.register_keras_serializable(package="tfrankloss")
class PairwiseSoftZeroOneLoss(RankingLoss):
    """Smooth number of pairs in the wrong order: ``functional.pairwise_soft_zero_one_loss``.

    Args:
        pairs: "graded" compares every two labels, "binary" only labels above 0 with labels of 0.
        pair_reduction: "sum", or "mean" to divide by the number of pairs of the list.
        lambda_weight: How much each pair matters, such as ``NDCGLambdaWeight()``; None for 1.
        temperature: Divides the scores; greater than 0.
        reduction: As in ``keras.losses.Loss``, over lists.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``.

    Raises:
        ValueError: If an argument has a wrong value.
        TypeError: If ``lambda_weight`` is not a lambda weight.

    Example:
        >>> from tfrankloss import PairwiseSoftZeroOneLoss
        >>> print(round(float(PairwiseSoftZeroOneLoss()([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])), 6))
        1.840481
    """

    def __init__(
        self,
        pairs: str = "graded",
        pair_reduction: str = "sum",
        lambda_weight: LambdaWeight | None = None,
        temperature: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "pairwise_soft_zero_one_loss",
        dtype: Any = None,
    ):
        check_pairs(pairs, "skip", pair_reduction)
        check_lambda_weight(lambda_weight)
        super().__init__(
            pairs=pairs,
            pair_reduction=pair_reduction,
            lambda_weight=lambda_weight,
            temperature=temperature,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )

    def item_losses(self, labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        return functional.pairwise_soft_zero_one_loss(labels, scores, mask, **self.settings)


@keras.saving.register_keras_serializable(package="tfrankloss")
class PairwiseMSELoss(RankingLoss):
    """Squared difference of the gaps of scores and of labels: ``functional.pairwise_mse_loss``.

    Args:
        pairs: "graded" takes all pairs, "binary" only labels above 0 against labels of 0.
        pair_reduction: "sum", or "mean" to divide by the number of pairs of the list.
        lambda_weight: How much each pair matters, such as ``NDCGLambdaWeight()``; None for 1.
        temperature: Divides the scores; greater than 0.
        reduction: As in ``keras.losses.Loss``, over lists.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``.

    Raises:
        ValueError: If an argument has a wrong value.
        TypeError: If ``lambda_weight`` is not a lambda weight.

    Example:
        >>> from tfrankloss import PairwiseMSELoss
        >>> print(round(float(PairwiseMSELoss()([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])), 4))
        21.96
    """

    def __init__(
        self,
        pairs: str = "graded",
        pair_reduction: str = "sum",
        lambda_weight: LambdaWeight | None = None,
        temperature: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "pairwise_mse_loss",
        dtype: Any = None,
    ):
        check_pairs(pairs, "skip", pair_reduction)
        check_lambda_weight(lambda_weight)
        super().__init__(
            pairs=pairs,
            pair_reduction=pair_reduction,
            lambda_weight=lambda_weight,
            temperature=temperature,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )

    def item_losses(self, labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        return functional.pairwise_mse_loss(labels, scores, mask, **self.settings)
