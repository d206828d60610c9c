"""Pairwise losses as Keras classes."""

import abc
from typing import Any

import keras

from tfrankloss import errors, functional
from tfrankloss.functional.dense_pairs import LOGISTIC, SOFT_ZERO_ONE, GapLoss
from tfrankloss.functional.pairs import check_method, check_pairs, pair_sums
from tfrankloss.functional.pairwise import hinge
from tfrankloss.losses.base import RankingLoss, Tensor
from tfrankloss.losses.lambda_weights import LambdaWeight, check_lambda_weight


class PairwiseLoss(RankingLoss):
    """Base of the losses over pairs of items, which share what counts as a pair and what it weighs.

    Args:
        pairs: As in ``functional.rank_net_loss``.
        pair_reduction: As in ``functional.rank_net_loss``.
        lambda_weight: As in ``functional.rank_net_loss``.
        **settings: Further arguments of ``RankingLoss`` and of the subclass.
    """

    def __init__(self, *, pairs: str, pair_reduction: str, lambda_weight: LambdaWeight | None, **settings: Any):
        check_pairs(pairs, settings.get("ties", "skip"), pair_reduction)
        check_lambda_weight(lambda_weight)
        if "method" in settings:
            check_method(settings["method"], ties=settings.get("ties", "skip"), lambda_weight=lambda_weight)
        super().__init__(pairs=pairs, pair_reduction=pair_reduction, lambda_weight=lambda_weight, **settings)

    @staticmethod
    @abc.abstractmethod
    def function(*lists: Any, **settings: Any) -> Tensor:
        """The loss (B, L) of each item, from labels, scores, mask and the settings of the class."""

    def item_losses(self, labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        """As in ``RankingLoss``."""
        return self.function(labels, scores, mask, **self.settings)

    def sums(self, labels: Tensor, scores: Tensor, mask: Tensor, weights: Tensor | None) -> Tensor:
        """As in ``RankingLoss``."""
        gap_loss = self.gap_loss()
        if weights is not None or gap_loss is None:
            return super().sums(labels, scores, mask, weights)
        settings = {name: value for name, value in self.settings.items() if name != "margin"}
        return pair_sums(labels, scores, mask, gap_loss, **settings)

    def gap_loss(self) -> GapLoss | None:
        """The loss of a gap that this one sums; None if it takes pairs in other ways too."""
        return None


@keras.saving.register_keras_serializable(package="tfrankloss")
class RankNetLoss(PairwiseLoss):
    """Logistic loss of every pair of items with different labels: ``functional.rank_net_loss``.

    Args:
        pairs: "graded" compares every two labels, "binary" only labels above 0 with labels of 0.
        ties: "skip" leaves pairs of equal labels out, "half" counts them with target probability 1/2.
        pair_reduction: "sum", or "mean" to divide by the number of pairs of the list.
        lambda_weight: How much each pair matters, such as ``NDCGLambdaWeight()``; None for 1.
        method: "auto", "dense" or "sorted": how pairs are summed, as in ``functional.rank_net_loss``.
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

    function = staticmethod(functional.rank_net_loss)

    def __init__(
        self,
        pairs: str = "graded",
        ties: str = "skip",
        pair_reduction: str = "sum",
        lambda_weight: LambdaWeight | None = None,
        method: str = "auto",
        temperature: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "rank_net_loss",
        dtype: Any = None,
    ):
        super().__init__(
            pairs=pairs,
            ties=ties,
            pair_reduction=pair_reduction,
            lambda_weight=lambda_weight,
            method=method,
            temperature=temperature,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )

    def gap_loss(self) -> GapLoss:
        """As in ``PairwiseLoss``."""
        return LOGISTIC


# The same loss under the name that TensorFlow Ranking gave it.
PairwiseLogisticLoss = RankNetLoss


@keras.saving.register_keras_serializable(package="tfrankloss")
class PairwiseHingeLoss(PairwiseLoss):
    """Hinge loss of every pair of items with different labels: ``functional.pairwise_hinge_loss``.

    Args:
        margin: The distance of scores at which a pair costs nothing; greater than 0.
        pairs: "graded" compares every two labels, "binary" only labels above 0 with labels of 0.
        pair_reduction: "sum", or "mean" to divide by the number of pairs of the list.
        lambda_weight: How much each pair matters, such as ``NDCGLambdaWeight()``; None for 1.
        method: "auto", "dense" or "sorted": how pairs are summed, as in ``functional.pairwise_hinge_loss``.
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

    function = staticmethod(functional.pairwise_hinge_loss)

    def __init__(
        self,
        margin: float = 1.0,
        pairs: str = "graded",
        pair_reduction: str = "sum",
        lambda_weight: LambdaWeight | None = None,
        method: str = "auto",
        temperature: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "pairwise_hinge_loss",
        dtype: Any = None,
    ):
        errors.check_positive("margin", margin)
        super().__init__(
            margin=margin,
            pairs=pairs,
            pair_reduction=pair_reduction,
            lambda_weight=lambda_weight,
            method=method,
            temperature=temperature,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )

    def gap_loss(self) -> GapLoss:
        """As in ``PairwiseLoss``."""
        return hinge(self.settings["margin"])


@keras.saving.register_keras_serializable(package="tfrankloss")
class PairwiseSoftZeroOneLoss(PairwiseLoss):
    """Smooth number of pairs in the wrong order: ``functional.pairwise_soft_zero_one_loss``.

    Args:
        pairs: "graded" compares every two labels, "binary" only labels above 0 with labels of 0.
        pair_reduction: "sum", or "mean" to divide by the number of pairs of the list.
        lambda_weight: How much each pair matters, such as ``NDCGLambdaWeight()``; None for 1.
        method: "auto", "dense" or "sorted": how pairs are summed, as in ``functional.rank_net_loss``.
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

    function = staticmethod(functional.pairwise_soft_zero_one_loss)

    def __init__(
        self,
        pairs: str = "graded",
        pair_reduction: str = "sum",
        lambda_weight: LambdaWeight | None = None,
        method: str = "auto",
        temperature: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "pairwise_soft_zero_one_loss",
        dtype: Any = None,
    ):
        super().__init__(
            pairs=pairs,
            pair_reduction=pair_reduction,
            lambda_weight=lambda_weight,
            method=method,
            temperature=temperature,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )

    def gap_loss(self) -> GapLoss:
        """As in ``PairwiseLoss``."""
        return SOFT_ZERO_ONE


@keras.saving.register_keras_serializable(package="tfrankloss")
class PairwiseMSELoss(PairwiseLoss):
    """Squared difference of the gaps of scores and of labels: ``functional.pairwise_mse_loss``.

    Args:
        pairs: "graded" takes all pairs, "binary" only labels above 0 against labels of 0.
        pair_reduction: "sum", or "mean" to divide by the number of pairs of the list.
        lambda_weight: How much each pair matters, such as ``NDCGLambdaWeight()``; None for 1.
        method: "auto", or "dense" to take every pair by itself, as in ``functional.pairwise_mse_loss``.
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

    function = staticmethod(functional.pairwise_mse_loss)

    def __init__(
        self,
        pairs: str = "graded",
        pair_reduction: str = "sum",
        lambda_weight: LambdaWeight | None = None,
        method: str = "auto",
        temperature: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "pairwise_mse_loss",
        dtype: Any = None,
    ):
        errors.check_choice("method", method, ("auto", "dense"))
        super().__init__(
            pairs=pairs,
            pair_reduction=pair_reduction,
            lambda_weight=lambda_weight,
            method=method,
            temperature=temperature,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )
