"""Lambda weights as serializable objects, for ``lambda_weight=`` of a loss.

A lambda weight says how much a pair of items matters for a metric at the present order of the scores. It gets no
gradient. Ties among scores count as decided wrongly, so that a model of constant scores learns too.

Source: Burges, "From RankNet to LambdaRank to LambdaMART: An Overview", 2010; Wang et al., "The LambdaLoss Framework
for Ranking Metric Optimization", CIKM 2018. Names, defaults and the factor of list size are TensorFlow Ranking's.
"""

import abc
from typing import Any

import keras
from keras import ops

from tfrankloss import errors
from tfrankloss.config import from_config, to_config
from tfrankloss.functional import gains as gain_forms
from tfrankloss.functional import lambda_weights as forms
from tfrankloss.functional import lists

Tensor = Any
Gain = str | gain_forms.Transform


class LambdaWeight(abc.ABC):
    """Base of the weights of pairs: the difference of two gains times a factor of two ranks.

    Losses call it with any two views of a list that broadcast, so it never makes a (B, L, L) tensor by itself.

    Args:
        **settings: The arguments of the subclass, kept for the config.

    Attributes:
        symmetric: Whether ``pair_weights`` is the same when its items are exchanged, which spares losses the trouble
            of putting the better one first.
    """

    symmetric = False

    def __init__(self, **settings: Any):
        self.settings = settings

    @abc.abstractmethod
    def item_gains(self, labels: Tensor, mask: Tensor) -> Tensor:
        """What each item is worth, (B, L)."""

    def grades(self, labels: Tensor) -> Tensor:
        """Labels (B, L) as far as their order tells gains apart: those of one gain are the same where that is known."""
        return labels

    @abc.abstractmethod
    def rank_factor(self, first: Tensor, second: Tensor) -> Tensor:
        """What the ranks of two items add, in the shape to which they broadcast."""

    def pair_weights(self, first: forms.RankedItems, second: forms.RankedItems) -> Tensor:
        """The weight of each pair, in the shape to which the two broadcast; ``first`` is the better item."""
        return ops.abs(first.gains - second.gains) * self.rank_factor(first.ranks, second.ranks)

    def rank_terms(self) -> tuple[forms.RankTerm, ...] | None:
        """``rank_factor`` in parts by which long lists are summed without their pairs; None where there are no such.

        Only for gains that never fall as labels rise, so that their difference needs no absolute value.
        """
        return None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.settings.items())})"

    def get_config(self) -> dict[str, Any]:
        """The settings, from which ``from_config`` makes an equal weight."""
        return to_config(self.settings)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LambdaWeight":
        """The weight of ``config``."""
        return cls(**from_config(config))


def check_lambda_weight(value: Any) -> None:
    """Raise unless ``value`` is a weight of pairs or None."""
    errors.check_kind("lambda_weight", value, (LambdaWeight, type(None)), "a LambdaWeight such as NDCGLambdaWeight()")


@keras.saving.register_keras_serializable(package="tfrankloss")
class LabelDiffLambdaWeight(LambdaWeight):
    """The difference of the labels of a pair, whatever the ranks.

    Example:
        >>> from tfrankloss.losses import LabelDiffLambdaWeight, RankNetLoss
        >>> loss = RankNetLoss(lambda_weight=LabelDiffLambdaWeight())
        >>> print(round(float(loss([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])), 6))
        3.978588
    """

    symmetric = True

    def __init__(self) -> None:
        super().__init__()

    def item_gains(self, labels: Tensor, mask: Tensor) -> Tensor:
        return labels

    def rank_factor(self, first: Tensor, second: Tensor) -> Tensor:
        return ops.ones_like(first)

    def rank_terms(self) -> tuple[forms.RankTerm, ...]:
        return (forms.RankTerm(),)


@keras.saving.register_keras_serializable(package="tfrankloss")
class PrecisionLambdaWeight(LambdaWeight):
    """1 for a relevant and another item on either side of the cutoff: swapping them moves precision at ``k``.

    Args:
        k: The cutoff.
        threshold: Labels of at least this are relevant.

    Raises:
        ValueError: If ``k`` is less than 1.
        TypeError: If an argument is not a number.

    Example:
        >>> from tfrankloss.losses import PrecisionLambdaWeight, RankNetLoss
        >>> loss = RankNetLoss(lambda_weight=PrecisionLambdaWeight(k=1))
        >>> print(round(float(loss([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])), 5))
        1.90132
    """

    symmetric = True

    def __init__(self, k: int = 10, threshold: float = 1.0):
        errors.check_positive_integer("k", k)
        errors.check_number("threshold", threshold)
        super().__init__(k=k, threshold=threshold)

    def item_gains(self, labels: Tensor, mask: Tensor) -> Tensor:
        return self.grades(labels)

    def grades(self, labels: Tensor) -> Tensor:
        return gain_forms.binary_gain(labels, self.settings["threshold"])

    def rank_factor(self, first: Tensor, second: Tensor) -> Tensor:
        return forms.across_cutoff_factor(first, second, self.settings["k"])

    def rank_terms(self) -> tuple[forms.RankTerm, ...]:
        return forms.across_cutoff_terms(self.settings["k"])


class DiscountedLambdaWeight(LambdaWeight):
    """Base of the weights for a sum of discounted gains, in pairwise losses and in those of the softmax family.

    Args:
        k: Places that count; None for all.
        gain: As in ``functional.ndcg``.
        discount: As in ``functional.ndcg``.
        **settings: The arguments of the subclass, kept for the config.
    """

    normalized = False
    times_list_size = True

    symmetric = True

    def __init__(self, k: Any, gain: Any, discount: Any, /, **settings: Any):
        errors.check_positive_integer("k", k, optional=True)
        self._gain, self._discount = gain_forms.get_gain(gain), gain_forms.get_discount(discount)
        self._k = k
        # The name of the discount, if it and the gains are known to be monotone.
        named = isinstance(discount, str) and isinstance(gain, str)
        self._separable: str | None = discount if named else None
        super().__init__(**settings)

    def item_gains(self, labels: Tensor, mask: Tensor) -> Tensor:
        gains = self._gains(labels, mask)
        return gains * ops.sum(ops.cast(mask, gains.dtype), axis=1, keepdims=True) if self.times_list_size else gains

    def discounted_gains(self, labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        """What each item adds to the metric at its present place, (B, L): its label in list-wise losses."""
        ranks = lists.mean_ranks(labels, scores, mask)
        return ops.stop_gradient(self._gains(labels, mask) * self._discount(ranks))

    def _gains(self, labels: Tensor, mask: Tensor) -> Tensor:
        if not self.normalized:
            return ops.where(mask, self._gain(labels), 0.0)
        gains = ops.where(mask, gain_forms.relative_gains(self._gain, labels), 0.0)
        rising = gain_forms.rising(self._gain, labels)
        ideal = gain_forms.ideal_dcg(gains, mask, self._discount, self._k, rising)
        return lists.ratio(gains, ideal[:, None])


class _MixedLambdaWeight(DiscountedLambdaWeight):
    """Base of the weights that mix the form of LambdaLoss, by rank distance, with that of LambdaMART, by swapping."""

    def __init__(self, k: Any, gain: Any, discount: Any, smooth_fraction: Any, /, **settings: Any):
        errors.check_share("smooth_fraction", smooth_fraction)
        self._by_swapping = smooth_fraction
        super().__init__(k, gain, discount, k=k, smooth_fraction=smooth_fraction, **settings)

    def rank_factor(self, first: Tensor, second: Tensor) -> Tensor:
        return forms.mixed(
            self._by_swapping,
            lambda: forms.rank_distance_factor(first, second, self._discount, self._k),
            lambda: forms.swap_factor(first, second, self._discount, self._k),
        )

    def rank_terms(self) -> tuple[forms.RankTerm, ...] | None:
        if self._separable is None:
            return None
        by_distance = forms.rank_distance_terms(self._separable, self._k)
        by_swapping = forms.swap_terms(self._separable, self._k)
        return forms.times(1 - self._by_swapping, by_distance) + forms.times(self._by_swapping, by_swapping)


@keras.saving.register_keras_serializable(package="tfrankloss")
class DCGLambdaWeight(_MixedLambdaWeight):
    """How much DCG hangs on a pair: by rank distance (LambdaLoss), by swapping it (LambdaMART), or a mix of both.

    Gains are multiplied by the number of items of the list.

    Args:
        k: Places that count; None for all.
        gain: "linear", "exponential" (2^y - 1) or a function of labels (registered with Keras, to be saved).
        discount: "reciprocal", "log2" or a function of 1-based ranks.
        normalized: Whether gains are divided by the DCG of the ideal list.
        smooth_fraction: The part of LambdaMART's form, from 0 to 1.

    Raises:
        ValueError: If an argument has a wrong value.
        TypeError: If ``k`` is not an integer.

    Example:
        >>> from tfrankloss.losses import DCGLambdaWeight, RankNetLoss
        >>> loss = RankNetLoss(lambda_weight=DCGLambdaWeight())
        >>> print(round(float(loss([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])), 5))
        3.76151
    """

    def __init__(
        self,
        k: int | None = None,
        gain: Gain = "linear",
        discount: Gain = "reciprocal",
        normalized: bool = False,
        smooth_fraction: float = 0.0,
    ):
        errors.check_bool("normalized", normalized)
        super().__init__(k, gain, discount, smooth_fraction, gain=gain, discount=discount, normalized=normalized)
        self.normalized = normalized


@keras.saving.register_keras_serializable(package="tfrankloss")
class NDCGLambdaWeight(_MixedLambdaWeight):
    """How much NDCG hangs on a pair: ``DCGLambdaWeight`` with the gains and discounts of NDCG, normalized.

    Args:
        k: Places that count; None for all.
        gain: "exponential" (2^y - 1), "linear" or a function of labels (registered with Keras, to be saved).
        discount: "log2" (1 / log2(1 + rank)), "reciprocal" or a function of 1-based ranks.
        smooth_fraction: The part of LambdaMART's form, from 0 to 1.

    Raises:
        ValueError: If an argument has a wrong value.
        TypeError: If ``k`` is not an integer.

    Example:
        >>> from tfrankloss.losses import NDCGLambdaWeight, RankNetLoss
        >>> loss = RankNetLoss(lambda_weight=NDCGLambdaWeight())
        >>> print(round(float(loss([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])), 5))
        1.19547
    """

    normalized = True

    def __init__(
        self,
        k: int | None = None,
        gain: Gain = "exponential",
        discount: Gain = "log2",
        smooth_fraction: float = 0.0,
    ):
        super().__init__(k, gain, discount, smooth_fraction, gain=gain, discount=discount)


@keras.saving.register_keras_serializable(package="tfrankloss")
class MRRLambdaWeight(_MixedLambdaWeight):
    """How much reciprocal rank hangs on a pair: ``DCGLambdaWeight`` of relevance (0 or 1) and 1 / rank.

    Args:
        k: Places that count; None for all.
        threshold: Labels of at least this are relevant.
        smooth_fraction: The part of LambdaMART's form, from 0 to 1.

    Raises:
        ValueError: If an argument has a wrong value.
        TypeError: If an argument is not a number.

    Example:
        >>> from tfrankloss.losses import MRRLambdaWeight, RankNetLoss
        >>> loss = RankNetLoss(lambda_weight=MRRLambdaWeight())
        >>> print(round(float(loss([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])), 5))
        1.7488
    """

    def __init__(self, k: int | None = None, threshold: float = 1.0, smooth_fraction: float = 0.0):
        errors.check_number("threshold", threshold)
        super().__init__(
            k,
            lambda labels: gain_forms.binary_gain(labels, threshold),
            "reciprocal",
            smooth_fraction,
            threshold=threshold,
        )
        self._separable = "reciprocal"

    def grades(self, labels: Tensor) -> Tensor:
        return self._gain(labels)


@keras.saving.register_keras_serializable(package="tfrankloss")
class ListMLELambdaWeight:
    """The weight of each place in ``ListMLELoss``: position-aware ListMLE, under TensorFlow Ranking's name.

    ``ListMLELoss(lambda_weight=ListMLELambdaWeight("log2"))`` is ``ListMLELoss(discount="log2")``.

    Args:
        discount: "log2", "reciprocal" or a function of 1-based ranks (registered with Keras, to be saved).

    Raises:
        ValueError: If there is no such discount.

    Example:
        >>> from tfrankloss.losses import ListMLELambdaWeight, ListMLELoss
        >>> loss = ListMLELoss(lambda_weight=ListMLELambdaWeight("log2"))
        >>> print(round(float(loss([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]])), 5))
        2.04312

    Source: Lan et al., "Position-Aware ListMLE: A Sequential Learning Process for Ranking", UAI 2014.
    """

    def __init__(self, discount: Gain = "log2"):
        gain_forms.get_discount(discount)
        self.discount = discount

    def __repr__(self) -> str:
        return f"ListMLELambdaWeight(discount={self.discount!r})"

    def get_config(self) -> dict[str, Any]:
        """The settings, from which ``from_config`` makes an equal weight."""
        return to_config({"discount": self.discount})

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ListMLELambdaWeight":
        """The weight of ``config``."""
        return cls(**from_config(config))
