"""Losses whose gradient is known in closed form."""

from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from tfrankloss.functional import branches, gradients, lists

Tensor = Any


def common_weight(weights: Tensor, counted: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """What those counted along an axis weigh, with that axis kept, and whether they all weigh the same.

    Where none is counted it is a number that must not be used.
    """
    largest = ops.max(ops.where(counted, weights, lists.LOWEST), axis=axis, keepdims=True, initial=lists.LOWEST)
    return largest, ops.all(ops.logical_or(ops.equal(weights, largest), ops.logical_not(counted)))


def losses_with_slopes(
    scores: Tensor,
    mask: Tensor,
    losses_and_slopes: Callable[[Tensor], Sequence[Tensor]],
    weighed_slopes: Callable[[Tensor, Tensor], Tensor],
    how_twice: str | None = None,
) -> Tensor:
    """Losses of items that all hang on all scores of their list, (B, L), with their gradient.

    Items of a list mostly weigh the same, and then the gradient is known as soon as the losses are.

    Args:
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding.
        losses_and_slopes: A function of the scores that gives the losses, and the gradient of their sum, (B, L).
        weighed_slopes: A function of the scores and of weights (B, L), 0 at padding, that gives the gradient of the
            sum of the losses times the weights.
        how_twice: As in ``gradients.custom_gradient``.
    """

    def losses(scores):
        values, slopes = losses_and_slopes(scores)

        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            weight, is_common = common_weight(upstream, mask, axis=1)
            return ops.cond(
                is_common,
                lambda: ops.where(mask, weight, 0.0) * slopes,
                branches.lazily(lambda: weighed_slopes(scores, ops.where(mask, upstream, 0.0))),
            )

        return values, gradient

    return gradients.custom_gradient(losses, how_twice=how_twice)(scores)


def sums_with_slopes(
    scores: Tensor,
    weights: Tensor | None,
    losses_and_slopes: Callable[[Tensor, Tensor | None], Sequence[Tensor]],
    how_twice: str | None = None,
) -> Tensor:
    """The sums (B,) of the losses of each list, with their gradient: where weights are known it takes one pass.

    Args:
        scores: (B, L) scores.
        weights: (B, L) what items weigh, 0 at padding; None for 1.
        losses_and_slopes: A function of the scores and of these weights that gives the losses without weights, and the
            gradient of the sum of the losses times the weights, (B, L).
        how_twice: As in ``gradients.custom_gradient``.
    """

    def sums(scores, *weights):
        values, slopes = losses_and_slopes(scores, weights[0] if weights else None)

        def gradient(*args, upstream=None):
            upstream = (args[0] if upstream is None else upstream)[:, None]
            return (upstream * slopes, upstream * values) if weights else upstream * slopes

        return ops.sum(values * weights[0] if weights else values, axis=1), gradient

    given = () if weights is None else (weights,)
    return gradients.custom_gradient(sums, how_twice=how_twice)(scores, *given)
