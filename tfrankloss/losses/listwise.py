"""List-wise losses as Keras classes."""

from typing import Any

import keras

from tfrankloss import errors, functional
from tfrankloss.functional import gains
from tfrankloss.functional.list_softmax import CrossEntropy
from tfrankloss.functional.listwise import kl_cross_entropy, list_net_cross_entropy, xe_ndcg_cross_entropy
from tfrankloss.functional.plackett_luce import check_list_mle, list_mle_sums
from tfrankloss.losses.base import CrossEntropyLoss, RankingLoss, Tensor
from tfrankloss.losses.lambda_weights import ListMLELambdaWeight


@keras.saving.register_keras_serializable(package="tfrankloss")
class ListNetLoss(CrossEntropyLoss):
    """Cross entropy of the top-one probabilities of labels and scores: ``functional.list_net_loss``.

    Args:
        label_temperature: Divides the labels; below 1 sharpens their differences.
        temperature: Divides the scores; greater than 0.
        reduction: As in ``keras.losses.Loss``, over lists.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``.

    Raises:
        ValueError: If an argument has a wrong value.

    Example:
        >>> from tfrankloss import ListNetLoss
        >>> print(round(float(ListNetLoss()([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])), 4))
        1.3542
    """

    def __init__(
        self,
        label_temperature: float = 1.0,
        temperature: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "list_net_loss",
        dtype: Any = None,
    ):
        errors.check_positive("label_temperature", label_temperature)
        super().__init__(
            label_temperature=label_temperature, temperature=temperature, reduction=reduction, name=name, dtype=dtype
        )

    def cross_entropy(self, labels: Tensor, scores: Tensor, mask: Tensor) -> CrossEntropy:
        return list_net_cross_entropy(labels, scores, mask, **self.settings)


@keras.saving.register_keras_serializable(package="tfrankloss")
class KLListwiseLoss(CrossEntropyLoss):
    """Kullback-Leibler divergence of labels and scores as distributions: ``functional.kl_listwise_loss``.

    Args:
        label_temperature: Divides the labels; below 1 sharpens their differences.
        labels_are_probabilities: Take ``y_true`` as a distribution, such as a teacher's.
        temperature: Divides the scores; greater than 0.
        reduction: As in ``keras.losses.Loss``, over lists.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``.

    Raises:
        ValueError: If an argument has a wrong value.
        TypeError: If ``labels_are_probabilities`` is not a bool.

    Example:
        >>> from tfrankloss import KLListwiseLoss
        >>> print(round(float(KLListwiseLoss()([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])), 4))
        0.5218
    """

    def __init__(
        self,
        label_temperature: float = 1.0,
        labels_are_probabilities: bool = False,
        temperature: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "kl_listwise_loss",
        dtype: Any = None,
    ):
        errors.check_positive("label_temperature", label_temperature)
        errors.check_bool("labels_are_probabilities", labels_are_probabilities)
        super().__init__(
            label_temperature=label_temperature,
            labels_are_probabilities=labels_are_probabilities,
            temperature=temperature,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )

    def cross_entropy(self, labels: Tensor, scores: Tensor, mask: Tensor) -> CrossEntropy:
        return kl_cross_entropy(labels, scores, mask, **self.settings)


@keras.saving.register_keras_serializable(package="tfrankloss")
class XENDCGLoss(CrossEntropyLoss):
    """Cross entropy of exponential gains and scores as distributions: ``functional.xe_ndcg_loss``.

    Args:
        gamma: From 0 to 1; the smaller, the more of the targets is left to items of label 0.
        temperature: Divides the scores; greater than 0.
        reduction: As in ``keras.losses.Loss``, over lists.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``.

    Raises:
        ValueError: If an argument has a wrong value.

    Example:
        >>> from tfrankloss import XENDCGLoss
        >>> print(round(float(XENDCGLoss()([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])), 4))
        1.3395
    """

    def __init__(
        self,
        gamma: float = 0.5,
        temperature: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "xe_ndcg_loss",
        dtype: Any = None,
    ):
        errors.check_share("gamma", gamma)
        super().__init__(gamma=gamma, temperature=temperature, reduction=reduction, name=name, dtype=dtype)

    def cross_entropy(self, labels: Tensor, scores: Tensor, mask: Tensor) -> CrossEntropy:
        return xe_ndcg_cross_entropy(labels, scores, mask, **self.settings)


@keras.saving.register_keras_serializable(package="tfrankloss")
class ListMLELoss(RankingLoss):
    """Negative log likelihood of the order of the labels: ``functional.list_mle_loss``.

    Args:
        ties: "exact", "breslow", "efron", "random" or "position": how items of equal label count.
        top_k: Stop after this many places; None for all.
        discount: Weight of a place: "log2", "reciprocal" or a function of 1-based ranks (registered with Keras, to be
            saved); None weighs all places the same.
        score_transform: "exp", or "identity" for the ratio form with scores above 0.
        seed: Integer that makes ``ties="random"`` repeatable; None draws one.
        lambda_weight: ``ListMLELambdaWeight(discount)``, another way to give ``discount``; with both, they multiply.
        temperature: Divides the scores; greater than 0.
        reduction: As in ``keras.losses.Loss``, over lists.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``.

    Raises:
        ValueError: If an argument has a wrong value.
        TypeError: If ``top_k`` or ``seed`` is not an integer, or ``lambda_weight`` not a ``ListMLELambdaWeight``.

    Example:
        >>> from tfrankloss import ListMLELoss
        >>> print(round(float(ListMLELoss()([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])), 4))
        2.3377
    """

    def __init__(
        self,
        ties: str = "exact",
        top_k: int | None = None,
        discount: str | gains.Transform | None = None,
        score_transform: str = "exp",
        seed: int | None = None,
        lambda_weight: ListMLELambdaWeight | None = None,
        temperature: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "list_mle_loss",
        dtype: Any = None,
    ):
        if lambda_weight is not None:
            errors.check_kind("lambda_weight", lambda_weight, ListMLELambdaWeight, "a ListMLELambdaWeight or None")
        check_list_mle(ties, top_k, discount, score_transform)
        errors.check_seed("seed", seed)
        super().__init__(
            ties=ties,
            top_k=top_k,
            discount=discount,
            score_transform=score_transform,
            lambda_weight=lambda_weight,
            temperature=temperature,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )
        self.seed = seed
        self._draws = keras.random.SeedGenerator(seed) if ties == "random" else None

    def item_losses(self, labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        return functional.list_mle_loss(labels, scores, mask, **self._given())

    def sums(self, labels: Tensor, scores: Tensor, mask: Tensor, weights: Tensor | None) -> Tensor:
        """As in ``RankingLoss``."""
        return list_mle_sums(labels, scores, mask, weights, **self._given())

    def _given(self) -> dict[str, Any]:
        """The settings of ``functional.list_mle_loss``."""
        settings = {**self.settings, "seed": self._draws}
        lambda_weight = settings.pop("lambda_weight")
        if lambda_weight is not None:
            settings["discount"] = gains.product(settings["discount"], lambda_weight.discount)
        return settings

    @property
    def shift_invariant(self) -> bool:
        return self.settings["score_transform"] == "exp"

    def get_config(self) -> dict[str, Any]:
        """The settings, from which ``from_config`` makes an equal loss."""
        return {**super().get_config(), "seed": self.seed}
