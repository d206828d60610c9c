"""Lambda weights: how much a pair of items matters for a metric, from their gains and their present ranks.

Every weight is a function of two items, each told by a gain and a rank. The two may be any views of the list that
broadcast, a block of rows against a block of columns: nothing here makes a (B, L, L) tensor of its own.

Source: Burges, Ragno and Le, "Learning to Rank with Nonsmooth Cost Functions", NIPS 2006 (LambdaRank); Wang et al.,
"The LambdaLoss Framework for Ranking Metric Optimization", CIKM 2018; the forms and defaults are TensorFlow Ranking's.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

from keras import ops

from tfrankloss import errors
from tfrankloss.functional import lists
from tfrankloss.functional.gains import DISCOUNTS, cutoff, discount_step
from tfrankloss.functional.gains import Transform as Discount

Tensor = Any


class RankedItems(NamedTuple):
    """Items as a lambda weight sees them, each field (B, L) or a view that broadcasts against others.

    Attributes:
        gains: What an item is worth.
        ranks: Its present place, from 1.
    """

    gains: Tensor
    ranks: Tensor

    def rows(self) -> "RankedItems":
        """As the first items (B, L, 1) of pairs."""
        return RankedItems(self.gains[:, :, None], self.ranks[:, :, None])

    def columns(self) -> "RankedItems":
        """As the second items (B, 1, L) of pairs."""
        return RankedItems(self.gains[:, None, :], self.ranks[:, None, :])


class RankTerm(NamedTuple):
    """A part of a lambda weight's factor of ranks: a product, for the upper and the lower item of a pair.

    Attributes:
        of_upper: A function of the upper rank, the smaller one; None for 1.
        of_lower: A function of the lower rank; None for 1.
        discount: The name of the discount d whose |d(n) - d(n + 1)| at a rank distance n is a factor; None for 1.
    """

    of_upper: Discount | None = None
    of_lower: Discount | None = None
    discount: str | None = None


class PairWeight(Protocol):
    """What the pair engine asks of a lambda weight."""

    def item_gains(self, labels: Tensor, mask: Tensor) -> Tensor:
        """What each item is worth, (B, L)."""

    def pair_weights(self, first: RankedItems, second: RankedItems) -> Tensor:
        """The weight of each pair, in the shape to which the two broadcast; ``first`` is the better item."""

    def rank_terms(self) -> tuple[RankTerm, ...] | None:
        """What the weight divided by the difference of the gains is the sum of; None where only pairs can tell."""


def rank_distance_terms(discount: str, k: int | None) -> tuple[RankTerm, ...]:
    """``rank_distance_factor`` in parts."""
    return (RankTerm(of_upper=None if k is None else lambda ranks: cutoff(ranks, k), discount=discount),)


def rank_distance_v2_terms(discount: str, k: int | None) -> tuple[RankTerm, ...]:
    """``rank_distance_factor_v2`` in parts."""

    def beyond(ranks: Tensor) -> Tensor:
        return ops.where(ranks > k, 1 / (1 - DISCOUNTS[discount](ops.maximum(ranks, 2.0))), 1.0)

    return (RankTerm(of_lower=None if k is None else beyond, discount=discount),)


def swap_terms(discount: str, k: int | None) -> tuple[RankTerm, ...]:
    """``swap_factor`` in parts: the upper rank has the larger discount."""

    def discounted(ranks: Tensor) -> Tensor:
        return DISCOUNTS[discount](ranks) * cutoff(ranks, k)

    return RankTerm(of_upper=discounted), RankTerm(of_lower=lambda ranks: -discounted(ranks))


def across_cutoff_terms(k: int) -> tuple[RankTerm, ...]:
    """``across_cutoff_factor`` in parts."""
    return (RankTerm(of_upper=lambda ranks: cutoff(ranks, k), of_lower=lambda ranks: 1 - cutoff(ranks, k)),)


def times(factor: float, terms: tuple[RankTerm, ...]) -> tuple[RankTerm, ...]:
    """The terms, each multiplied by a number; none for 0."""

    def scaled(term: RankTerm) -> RankTerm:
        of_upper = ops.ones_like if term.of_upper is None else term.of_upper
        return term._replace(of_upper=lambda ranks: factor * of_upper(ranks))

    return tuple(map(scaled, terms)) if factor not in (0, 1) else terms * int(factor)


@runtime_checkable
class ItemWeight(Protocol):
    """What the losses of the softmax family ask of a lambda weight."""

    def discounted_gains(self, labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        """What each item adds to a metric at its present place, (B, L), without gradient."""


def check_item_weight(value: Any) -> None:
    """Raise unless ``value`` is a weight of items by discounted gains or None."""
    wording = "None or a weight of discounted gains such as NDCGLambdaWeight()"
    errors.check_kind("lambda_weight", value, (ItemWeight, type(None)), wording)


def ranked_items(weight: PairWeight, labels: Tensor, scores: Tensor, mask: Tensor) -> RankedItems:
    """The items (B, L) of a list in the present order of their scores, without gradient."""
    labels, scores = ops.stop_gradient(labels), ops.stop_gradient(scores)
    return RankedItems(weight.item_gains(labels, mask), lists.mean_ranks(labels, scores, mask))


def rank_distance_factor(first: Tensor, second: Tensor, discount: Discount, k: int | None) -> Tensor:
    """|d(n) - d(n + 1)| for two ranks n apart (LambdaLoss); 0 where both lie beyond ``k``."""
    distance = ops.abs(first - second)
    is_apart = ops.cast(distance > 0, distance.dtype)
    apart = distance + (1.0 - is_apart)
    factor = is_apart * ops.abs(discount_step(discount, apart))
    return factor if k is None else factor * _reaches(first, second, k)


def mixed(share: float, one: Callable[[], Tensor], other: Callable[[], Tensor]) -> Tensor:
    """``other()`` for a share of 1, ``one()`` for 0, and that mix of both between."""
    if share in (0, 1):
        return other() if share else one()
    return (1 - share) * one() + share * other()


def swap_factor(first: Tensor, second: Tensor, discount: Discount, k: int | None) -> Tensor:
    """|d(r_i) - d(r_j)| (LambdaMART), with a discount of 0 beyond ``k``."""
    return ops.abs(discount(first) * cutoff(first, k) - discount(second) * cutoff(second, k))


def rank_distance_factor_v2(first: Tensor, second: Tensor, discount: Discount, k: int | None) -> Tensor:
    """|d(n) - d(n + 1)| for two ranks n apart, divided by 1 - d(r) where the greater rank r lies beyond ``k``."""
    factor = rank_distance_factor(first, second, discount, None)
    if k is None:
        return factor
    greater = ops.maximum(ops.maximum(first, second), 2.0)
    return factor * ops.where(greater > k, 1 / (1 - discount(greater)), 1.0)


def across_cutoff_factor(first: Tensor, second: Tensor, k: int) -> Tensor:
    """1 where one rank is at most ``k`` and the other is not, else 0."""
    return ops.abs(cutoff(first, k) - cutoff(second, k))


def neighbor_factor(first: Tensor, second: Tensor) -> Tensor:
    """1 where two ranks are next to each other, else 0."""
    distance = ops.abs(first - second)
    return ops.cast(ops.equal(distance, 1.0), distance.dtype)


def _reaches(first: Tensor, second: Tensor, k: int | None) -> Tensor:
    """1 where the smaller rank is at most ``k``, else 0."""
    return cutoff(ops.minimum(first, second), k)
