"""Sums over pairs of items by sorted scores, without the pairs: losses of gaps for any labels, and smooth ranks.

The distinct labels of a list are numbered, and two numbers first differ at one of their digits to the base ``BASE``.
So the pairs of different labels are, digit by digit, the pairs of one prefix and different digits: kernel sums with
one channel per digit, over lists cut into runs of equal prefix. Labels of a few grades need one such pass, and L
different labels log L of them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops

from tfrankloss.functional import kernels, lists

Tensor = Any

# Web search grades from 0 to 4: one digit.
BASE = 5


class Digit(NamedTuple):
    """Lists sorted by prefix and descending score, as one digit sees them.

    Attributes:
        blocks: The sorted lists.
        orders: Indices (B, L) that sort the lists, one after the other.
        own: (B, L, BASE) 1 at the digit of each item, all 0 at padding.
        worse: (B, L, BASE) 1 at the digits below it.
        better: (B, L, BASE) 1 at the digits above it.
        runs: (B, L) the prefix of each place; None where there is none.
    """

    blocks: kernels.Blocks
    orders: tuple[Tensor, ...]
    own: Tensor
    worse: Tensor
    better: Tensor
    runs: Tensor | None


def sum_over_digits(labels: Tensor, scores: Tensor, mask: Tensor, of_digit: Callable[[Digit], Tensor]) -> Tensor:
    """The sum over the digits of the labels of ``of_digit``, which gives (B, L, C) in sorted order.

    Args:
        labels: (B, L) labels, clean at padding.
        scores: (B, L) scores, clean at padding.
        mask: (B, L) booleans, False at padding.
        of_digit: What the pairs add that differ first at a digit.

    Returns:
        (B, L, C) in the order of the input.
    """
    grades = _grades(labels, mask)
    by_score = lists.descending_order(scores, mask)
    scores, grades, mask = (lists.take(values, by_score) for values in (_filled(scores, mask), grades, mask))
    top = ops.max(grades, initial=0)
    unit = ops.while_loop(lambda unit: unit * BASE <= top, lambda unit: unit * BASE, ops.ones((), "int32"))

    def of_unit(unit, order, runs):
        """The sum of the digit worth ``unit``, back in the order of descending scores."""
        sorted_scores, sorted_grades, sorted_mask = scores, grades, mask
        if order is not None:
            sorted_scores, sorted_grades, sorted_mask = (lists.take(v, order) for v in (scores, grades, mask))
        digits = ops.floor_divide(sorted_grades, unit) % BASE
        numbers = ops.arange(BASE)
        own, worse, better = (
            ops.cast(ops.logical_and(sorted_mask[:, :, None], chosen), scores.dtype)
            for chosen in (
                ops.equal(digits[:, :, None], numbers),
                digits[:, :, None] > numbers,
                digits[:, :, None] < numbers,
            )
        )
        orders = (by_score,) if order is None else (by_score, order)
        return of_digit(Digit(kernels.blocks_of(sorted_scores, runs), orders, own, worse, better, runs))

    total = of_unit(unit, None, None)

    def next_digit(unit, total):
        unit = unit // BASE
        # Padding has a run of its own, behind all others.
        prefix = ops.where(mask, ops.floor_divide(grades, unit * BASE), top + 1)
        order = ops.argsort(prefix, axis=1)
        return unit, total + put_back(of_unit(unit, order, lists.take(prefix, order)), order)

    _, total = ops.while_loop(lambda unit, _: unit > 1, next_digit, (unit, total))
    return put_back(total, by_score)


def put_back(values: Tensor, order: Tensor) -> Tensor:
    """Values (B, L, C) in sorted order back at the places they came from."""
    batch, length, channels = ops.shape(values)
    places = ops.cast(order, "int32") + length * ops.arange(batch, dtype="int32")[:, None]
    flat = ops.scatter(ops.reshape(places, (-1, 1)), ops.reshape(values, (-1, channels)), (batch * length, channels))
    return ops.reshape(flat, (batch, length, channels))


def _filled(scores: Tensor, mask: Tensor) -> Tensor:
    """Scores with the lowest of their list at padding."""
    lowest = ops.min(ops.where(mask, scores, lists.LARGEST_SCORE), axis=1, keepdims=True, initial=lists.LARGEST_SCORE)
    return ops.where(mask, scores, lowest)


def _grades(labels: Tensor, mask: Tensor) -> Tensor:
    """The labels (B, L) as small integers in the same order: themselves, or their places among the distinct ones."""
    small = ops.all(ops.logical_and(ops.equal(labels, ops.floor(labels)), labels < BASE))

    def numbered():
        order = ops.argsort(labels, axis=1)
        ordered = lists.take(labels, order)
        steps = ops.cast(ops.not_equal(ordered[:, 1:], ordered[:, :-1]), "int32")
        numbers = ops.concatenate([ops.zeros_like(order[:, :1], dtype="int32"), ops.cumsum(steps, axis=1)], axis=1)
        return put_back(numbers[:, :, None], order)[:, :, 0]

    return ops.cond(small, lambda: ops.cast(labels, "int32"), numbered)


class GapForm(NamedTuple):
    """The loss of a gap d = s_i - s_j of a better item i and another one j, by kernels of t = exp(-|d|).

    Attributes:
        value: f, the loss where the better item is above.
        slope: g, minus the derivative there.
        grows: What the loss is where the better item is below: |d| + f with the derivative g - 1, or, if False, 1 - f
            with the derivative -g.
    """

    value: kernels.Kernel
    slope: kernels.Kernel
    grows: bool


LOGISTIC = GapForm(kernels.SOFTPLUS, kernels.SIGMOID, grows=True)
SOFT_ZERO_ONE = GapForm(kernels.SIGMOID, kernels.SIGMOID_SLOPE, grows=False)


def losses_and_slopes(labels: Tensor, scores: Tensor, mask: Tensor, form: GapForm) -> tuple[Tensor, Tensor]:
    """For each item the loss of the pairs in which it is better, and the slope of all losses in its score, (B, L).

    Args:
        labels: (B, L) labels, clean at padding.
        scores: (B, L) scores, clean at padding.
        mask: (B, L) booleans, False at padding.
        form: The loss of a gap.
    """

    def of_digit(digit):
        moments = kernels.moments_of(digit.blocks, digit.own)
        above, gap_above = kernels.sums_above(digit.blocks, digit.own)
        values = kernels.kernel_sums(digit.blocks, digit.own, moments, form.value, signed=not form.grows)
        values = values + gap_above if form.grows else above - values
        slopes = kernels.kernel_sums(digit.blocks, digit.own, moments, form.slope, signed=form.grows)
        if form.grows:
            below = _of_run(digit, digit.own) - above - digit.own
            slopes = (digit.worse + digit.better) * slopes - digit.worse * above + digit.better * below
        else:
            slopes = (digit.better - digit.worse) * slopes
        return ops.stack([ops.sum(digit.worse * values, axis=2), ops.sum(slopes, axis=2)], axis=2)

    sums = sum_over_digits(labels, scores, mask, of_digit)
    return sums[:, :, 0], sums[:, :, 1]


def weighed_slopes(labels: Tensor, scores: Tensor, mask: Tensor, form: GapForm, weights: Tensor) -> Tensor:
    """The slope (B, L), in the score of each item, of the losses of all items weighed by ``weights`` (B, L)."""
    weights = ops.where(mask, weights, 0.0)

    def of_digit(digit):
        own_weights = weights
        for order in digit.orders:
            own_weights = lists.take(own_weights, order)
        own_weights = own_weights[:, :, None]
        channels = ops.concatenate([digit.own, digit.own * own_weights], axis=2)
        moments = kernels.moments_of(digit.blocks, channels)
        slopes = kernels.kernel_sums(digit.blocks, channels, moments, form.slope, signed=form.grows)
        as_better, as_worse = slopes[:, :, :BASE], slopes[:, :, BASE:]
        if form.grows:
            above, _ = kernels.sums_above(digit.blocks, channels)
            below = _of_run(digit, channels) - above - channels
            as_better, as_worse = as_better - above[:, :, :BASE], as_worse + below[:, :, BASE:]
        else:
            as_better = -as_better
        slopes = own_weights * digit.worse * as_better + digit.better * as_worse
        return ops.sum(slopes, axis=2, keepdims=True)

    return sum_over_digits(labels, scores, mask, of_digit)[:, :, 0]


def _of_run(digit: Digit, values: Tensor) -> Tensor:
    """The sum of ``values`` (B, L, C) over the run of each place, that broadcasts to (B, L, C)."""
    if digit.runs is None:
        return ops.sum(values, axis=1, keepdims=True)
    groups = lists.tie_groups(digit.runs, ops.ones_like(digit.runs, dtype="bool"))
    return lists.group_sum(values, groups)


def smooth_ranks(scores: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """1/2 plus the sum of sigmoid((s_j - s_i) / T) over all items j, for each item i, (B, L); 1 at padding."""
    order = ops.stop_gradient(lists.descending_order(scores, mask))
    sorted_mask = lists.take(mask, order)
    items = ops.cast(sorted_mask, scores.dtype)[:, :, None]

    @ops.custom_gradient
    def ranks(scores):
        blocks = kernels.blocks_of(lists.take(_filled(scores, mask), order), temperature=temperature)
        below = kernels.kernel_sums(blocks, items, kernels.moments_of(blocks, items), kernels.SIGMOID, signed=True)
        exact = ops.cast(lists.places(scores), scores.dtype)
        values = ops.where(sorted_mask, exact - below[:, :, 0], 1.0)

        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            channels = ops.concatenate([items, items * lists.take(upstream, order)[:, :, None]], axis=2)
            moments = kernels.moments_of(blocks, channels)
            slopes = kernels.kernel_sums(blocks, channels, moments, kernels.SIGMOID_SLOPE)
            total = slopes[:, :, 1] * items[:, :, 0] - channels[:, :, 1] * slopes[:, :, 0]
            return put_back(total[:, :, None] / temperature, order)[:, :, 0]

        return put_back(values[:, :, None], order)[:, :, 0], gradient

    return ranks(scores)
