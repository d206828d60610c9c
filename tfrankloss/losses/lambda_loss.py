"""Lambda weights of the LambdaLoss framework and its followers: NDCG-Loss, the second form of NDCG, and Yeti.

Source: Wang et al., "The LambdaLoss Framework for Ranking Metric Optimization", CIKM 2018.
"""

import keras
from keras import ops

from tfrankloss import errors
from tfrankloss.functional import gains as gain_forms
from tfrankloss.functional import lambda_weights as forms
from tfrankloss.losses.lambda_weights import DiscountedLambdaWeight, Gain, Tensor


@keras.saving.register_keras_serializable(package="tfrankloss")
class NDCGLambdaWeightV2(DiscountedLambdaWeight):
    """``NDCGLambdaWeight`` with a better treatment of the cutoff: pairs that reach beyond ``k`` weigh more, not less.

    Args:
        k: Places that count; None for all.
        gain: "exponential" (2^y - 1), "linear" or a function of labels (registered with Keras, to be saved).
        discount: "log2" (1 / log2(1 + rank)), "reciprocal" or a function of 1-based ranks.

    Raises:
        ValueError: If an argument has a wrong value.
        TypeError: If ``k`` is not an integer.

    Example:
        >>> from tfrankloss.losses import NDCGLambdaWeightV2, RankNetLoss
        >>> loss = RankNetLoss(lambda_weight=NDCGLambdaWeightV2())
        >>> print(round(float(loss([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])), 5))
        1.19547

    Source: Jagerman et al., "On Optimizing Top-K Metrics for Neural Ranking Models", SIGIR 2022.
    """

    normalized = True

    def __init__(self, k: int | None = None, gain: Gain = "exponential", discount: Gain = "log2"):
        super().__init__(k, gain, discount, k=k, gain=gain, discount=discount)

    def rank_factor(self, first: Tensor, second: Tensor) -> Tensor:
        return forms.rank_distance_factor_v2(first, second, self._discount, self._k)

    def rank_terms(self) -> tuple[forms.RankTerm, ...] | None:
        return None if self._separable is None else forms.rank_distance_v2_terms(self._separable, self._k)


@keras.saving.register_keras_serializable(package="tfrankloss")
class YetiDCGLambdaWeight(DiscountedLambdaWeight):
    """How much DCG hangs on a pair of neighbours in the present ranking; all other pairs weigh 0.

    Args:
        k: Places that count; None for all.
        gain: "exponential" (2^y - 1), "linear" or a function of labels (registered with Keras, to be saved).
        discount: "log2" (1 / log2(1 + rank)), "reciprocal" or a function of 1-based ranks.
        normalized: Whether gains are divided by the DCG of the ideal list.

    Raises:
        ValueError: If an argument has a wrong value.
        TypeError: If ``k`` is not an integer.

    Example:
        >>> from tfrankloss.losses import RankNetLoss, YetiDCGLambdaWeight
        >>> loss = RankNetLoss(lambda_weight=YetiDCGLambdaWeight())
        >>> print(round(float(loss([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])), 5))
        3.04072

    Source: Lyzhin et al., "Which Tricks Are Important for Learning to Rank?", ICML 2023; TensorFlow Ranking.
    """

    def __init__(
        self,
        k: int | None = None,
        gain: Gain = "exponential",
        discount: Gain = "log2",
        normalized: bool = False,
    ):
        errors.check_bool("normalized", normalized)
        super().__init__(k, gain, discount, k=k, gain=gain, discount=discount, normalized=normalized)
        self.normalized = normalized

    def rank_factor(self, first: Tensor, second: Tensor) -> Tensor:
        factor = forms.rank_distance_factor_v2(first, second, self._discount, self._k)
        return factor * forms.neighbor_factor(first, second)


class _LambdaLossWeight(DiscountedLambdaWeight):
    """Base of the weights as the LambdaLoss paper has them: normalized, and not multiplied by the list size."""

    normalized = True
    times_list_size = False


@keras.saving.register_keras_serializable(package="tfrankloss")
class NDCGLoss1LambdaWeight(_LambdaLossWeight):
    """NDCG-Loss1 of LambdaLoss: the discounted gain of the better item at its present place.

    Args:
        k: Places that count; None for all.
        gain: "exponential" (2^y - 1), "linear" or a function of labels (registered with Keras, to be saved).
        discount: "log2" (1 / log2(1 + rank)), "reciprocal" or a function of 1-based ranks.

    Raises:
        ValueError: If an argument has a wrong value.
        TypeError: If ``k`` is not an integer.

    Example:
        >>> from tfrankloss.losses import NDCGLoss1LambdaWeight, RankNetLoss
        >>> loss = RankNetLoss(lambda_weight=NDCGLoss1LambdaWeight())
        >>> print(round(float(loss([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])), 5))
        0.99684
    """

    symmetric = False

    def __init__(self, k: int | None = None, gain: Gain = "exponential", discount: Gain = "log2"):
        super().__init__(k, gain, discount, k=k, gain=gain, discount=discount)

    def pair_weights(self, first: forms.RankedItems, second: forms.RankedItems) -> Tensor:
        return first.gains * self.rank_factor(first.ranks, second.ranks)

    def rank_factor(self, first: Tensor, second: Tensor) -> Tensor:
        return self._discount(first) * gain_forms.cutoff(ops.minimum(first, second), self._k)


@keras.saving.register_keras_serializable(package="tfrankloss")
class NDCGLoss2LambdaWeight(_LambdaLossWeight):
    """NDCG-Loss2 of LambdaLoss: by rank distance, a tighter bound of NDCG than NDCG-Loss1.

    Args:
        k: Places that count; None for all.
        gain: "exponential" (2^y - 1), "linear" or a function of labels (registered with Keras, to be saved).
        discount: "log2" (1 / log2(1 + rank)), "reciprocal" or a function of 1-based ranks.

    Raises:
        ValueError: If an argument has a wrong value.
        TypeError: If ``k`` is not an integer.

    Example:
        >>> from tfrankloss.losses import NDCGLoss2LambdaWeight, RankNetLoss
        >>> loss = RankNetLoss(lambda_weight=NDCGLoss2LambdaWeight())
        >>> print(round(float(loss([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])), 5))
        0.39849
    """

    def __init__(self, k: int | None = None, gain: Gain = "exponential", discount: Gain = "log2"):
        super().__init__(k, gain, discount, k=k, gain=gain, discount=discount)

    def rank_factor(self, first: Tensor, second: Tensor) -> Tensor:
        return forms.rank_distance_factor(first, second, self._discount, self._k)

    def rank_terms(self) -> tuple[forms.RankTerm, ...] | None:
        return None if self._separable is None else forms.rank_distance_terms(self._separable, self._k)


@keras.saving.register_keras_serializable(package="tfrankloss")
class NDCGLoss2PlusPlusLambdaWeight(_LambdaLossWeight):
    """NDCG-Loss2++ of LambdaLoss: ``mu`` times NDCG-Loss2, plus LambdaMART's weight.

    Args:
        mu: How often NDCG-Loss2 counts; greater than 0.
        k: Places that count; None for all.
        gain: "exponential" (2^y - 1), "linear" or a function of labels (registered with Keras, to be saved).
        discount: "log2" (1 / log2(1 + rank)), "reciprocal" or a function of 1-based ranks.

    Raises:
        ValueError: If an argument has a wrong value.
        TypeError: If ``k`` is not an integer.

    Example:
        >>> from tfrankloss.losses import NDCGLoss2PlusPlusLambdaWeight, RankNetLoss
        >>> loss = RankNetLoss(lambda_weight=NDCGLoss2PlusPlusLambdaWeight())
        >>> print(round(float(loss([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])), 5))
        4.59204
    """

    def __init__(self, mu: float = 10.0, k: int | None = None, gain: Gain = "exponential", discount: Gain = "log2"):
        errors.check_positive("mu", mu)
        super().__init__(k, gain, discount, mu=mu, k=k, gain=gain, discount=discount)

    def rank_factor(self, first: Tensor, second: Tensor) -> Tensor:
        by_distance = forms.rank_distance_factor(first, second, self._discount, self._k)
        by_swapping = forms.swap_factor(first, second, self._discount, self._k)
        return self.settings["mu"] * by_distance + by_swapping

    def rank_terms(self) -> tuple[forms.RankTerm, ...] | None:
        if self._separable is None:
            return None
        by_distance = forms.rank_distance_terms(self._separable, self._k)
        return forms.times(self.settings["mu"], by_distance) + forms.swap_terms(self._separable, self._k)
