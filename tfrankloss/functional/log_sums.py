"""Logarithms of sums of exponentials over parts of lists, for any range of values, with gradients in closed form."""

from typing import Any, NamedTuple

import numpy as np
from keras import ops

from tfrankloss.functional import branches, gradients, lists
from tfrankloss.functional.lists import LOWEST

Tensor = Any


class LogSum(NamedTuple):
    """The logarithm of a sum of exponentials in two parts, so that no digits of near values are lost.

    Attributes:
        largest: The largest exponent, without gradient.
        excess: log of the sum divided by its largest term, from 0 to the logarithm of the number of terms.
    """

    largest: Tensor
    excess: Tensor

    def over(self, values: Tensor) -> Tensor:
        """The log of the sum minus ``values``."""
        return (self.largest - values) + self.excess

    def over_sum(self, other: "LogSum") -> Tensor:
        """The log of the sum minus that of another one."""
        return (self.largest - other.largest) + (self.excess - other.excess)

    def at(self, index: Any) -> "LogSum":
        """The sums at places, as NumPy counts them."""
        return LogSum(self.largest[index], self.excess[index])


def suffix_logsumexp(values: Tensor, mask: Tensor) -> LogSum:
    """At each place the logsumexp of all items from there to the end of the list, (B, L).

    Stable for any range of values: no prefix is ever subtracted, every sum has its own maximum. Places after the last
    item, behind which there are none, hold about ``LOWEST``. Its gradient is ``suffix_slopes``.
    """
    blocks = lists.in_blocks(ops.where(mask, values, LOWEST), LOWEST)
    inside = _triangle_logsumexp(LogSum(blocks, ops.zeros_like(blocks)), strict=False)
    behind = _triangle_logsumexp(inside.at(np.s_[:, :, 0]), strict=True).at(np.s_[:, :, None])
    largest = ops.maximum(inside.largest, behind.largest)
    excess = log_add((inside.largest - largest) + inside.excess, (behind.largest - largest) + behind.excess)
    return LogSum(_joined(largest, values), _joined(excess, values))


def suffix_slopes(values: Tensor, mask: Tensor, sums: LogSum, upstream: Tensor) -> Tensor:
    """The slopes (B, L) of upstream (B, L) times the suffix sums of values: what each has of the sums over it.

    From place to place sums never grow, so that every exponent is at most 0.
    """
    # The length of one of them may be known where that of another is not: blocks are those of the values.
    size = lists.block_size(values.shape[1])
    blocks = lists.in_blocks(ops.where(mask, values, LOWEST), LOWEST, size)
    weights = lists.in_blocks(upstream, 0.0, size)
    sums = LogSum(lists.in_blocks(sums.largest, LOWEST, size), lists.in_blocks(sums.excess, 0.0, size))
    shares = -sums.at(np.s_[..., None]).over(blocks[:, :, None, :])
    shares = ops.exp(ops.where(_triangle(size, strict=False), shares, LOWEST))
    inside = ops.sum(weights[:, :, :, None] * shares, axis=2)
    # What a block holds is carried to the first place of the next one, and from there to that of each later one.
    first = sums.at(np.s_[:, :, 0])
    following = LogSum(
        *(
            ops.concatenate([part[:, 1:], ops.full_like(part[:, :1], last)], axis=1)
            for part, last in zip(first, (LOWEST, 0.0), strict=True)
        )
    ).at(np.s_[:, :, None])
    held = ops.sum(weights * ops.exp(-sums.over_sum(following)), axis=2)
    ways = -following.over_sum(first.at(np.s_[:, None, :]))
    ways = ops.exp(ops.where(_triangle(ops.shape(held)[1], strict=True), ways, LOWEST))
    carried = ops.sum(held[:, :, None] * ways, axis=1)[:, :, None]
    slopes = inside + carried * ops.exp(-first.at(np.s_[:, :, None]).over(blocks))
    return ops.where(mask, _joined(slopes, values), 0.0)


def _joined(blocks: Tensor, like: Tensor) -> Tensor:
    """Blocks (B, n, T) as lists (B, L) again."""
    batch, length = ops.shape(like)
    return ops.reshape(blocks, (batch, -1))[:, :length]


def _triangle(size: Any, strict: bool) -> Tensor:
    """Whether the place of a column stands behind that of a row, or is the same one, if not ``strict``."""
    index = ops.arange(size)
    return index[None, :] > index[:, None] if strict else index[None, :] >= index[:, None]


def _triangle_logsumexp(terms: LogSum, strict: bool) -> LogSum:
    """At each place of the last axis the logsumexp from there (after there, if ``strict``) to the end."""
    counted = _triangle(ops.shape(terms.largest)[-1], strict)
    exponents = ops.where(counted, ops.expand_dims(terms.largest, -2), LOWEST)
    largest = ops.max(exponents, axis=-1, initial=LOWEST)
    excess = ops.where(counted, ops.expand_dims(terms.excess, -2), 0.0)
    return LogSum(largest, ops.logsumexp(exponents - ops.expand_dims(largest, -1) + excess, axis=-1))


def lower_logsumexp(labels: Tensor, values: Tensor, mask: Tensor) -> LogSum:
    """For each item the logsumexp of the ``values`` of all items of lower label, (B, L).

    Where there is no such item it is ``LOWEST``, without gradient.
    """
    is_graded = lists.are_grades(labels)

    @gradients.custom_gradient
    def parts(values):
        largest, excess = ops.cond(
            is_graded,
            lambda: tuple(_LowerGrades(labels, values, mask).sums()),
            branches.lazily(lambda: tuple(_LowerLabels(labels, values, mask).sums())),
        )

        def gradient(*args, upstream=None):
            # What is largest has no part in it: the excess tells how the sum moves.
            upstream = (args[0] if upstream is None else upstream)[1]
            return ops.cond(
                is_graded,
                lambda: _LowerGrades(labels, values, mask).slopes(upstream),
                branches.lazily(lambda: _LowerLabels(labels, values, mask).slopes(upstream)),
            )

        return ops.stack([largest, excess]), gradient

    return LogSum(*ops.unstack(parts(values), 2))


class _LowerGrades:
    """``lower_logsumexp`` of grades: one sum for each."""

    def __init__(self, labels: Tensor, values: Tensor, mask: Tensor):
        grades = ops.cast(ops.arange(lists.GRADES), labels.dtype)[:, None, None]
        lower = ops.cast(ops.logical_and(labels < grades, mask), values.dtype)
        lowered = lists.filled(values, lower)
        self._largest = ops.max(lowered, axis=2, keepdims=True, initial=LOWEST)
        self._terms = lower * ops.exp(lowered - self._largest)
        total = ops.sum(self._terms, axis=2, keepdims=True)
        self._total = total + ops.cast(total <= 0, total.dtype)
        self._here = ops.cast(ops.equal(labels, grades), values.dtype)

    def sums(self) -> LogSum:
        """The sums (B, L)."""
        return LogSum(*(ops.sum(self._here * part, axis=0) for part in (self._largest, ops.log(self._total))))

    def slopes(self, upstream: Tensor) -> Tensor:
        """The slopes (B, L) of upstream (B, L) times the sums."""
        pushed = ops.sum(self._here * upstream, axis=2, keepdims=True)
        return ops.sum(self._terms * (pushed / self._total), axis=0)


class _LowerLabels:
    """``lower_logsumexp`` of any labels, over sorted lists."""

    def __init__(self, labels: Tensor, values: Tensor, mask: Tensor):
        self._order = lists.descending_order(labels, mask)
        labels, self._values, self._mask = (lists.take(tensor, self._order) for tensor in (labels, values, mask))
        self._below, self._exists = lists.group_below(lists.tie_groups(labels, self._mask), self._mask)
        self._sums = suffix_logsumexp(self._values, self._mask)

    def sums(self) -> LogSum:
        """The sums (B, L)."""
        parts = zip(self._sums, (LOWEST, 0.0), strict=True)
        found = (ops.where(self._exists, lists.take(part, self._below), nothing) for part, nothing in parts)
        return LogSum(*(lists.put_back(part, self._order) for part in found))

    def slopes(self, upstream: Tensor) -> Tensor:
        """The slopes (B, L) of upstream (B, L) times the sums."""
        upstream = ops.where(self._exists, lists.take(upstream, self._order), 0.0)
        slopes = suffix_slopes(self._values, self._mask, self._sums, lists.total_at(upstream, self._below))
        return lists.put_back(slopes, self._order)


def log_add(first: Tensor, second: Tensor) -> Tensor:
    """log(exp(first) + exp(second)); unlike ``ops.logaddexp`` it keeps float64 on every backend."""
    return ops.logsumexp(ops.stack([first, second], axis=-1), axis=-1)
