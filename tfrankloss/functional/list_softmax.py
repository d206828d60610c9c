"""Softmaxes over the items of lists, and cross entropies of them."""

from typing import Any, NamedTuple

from keras import ops

from tfrankloss.functional import gradients, lists

Tensor = Any


def masked_logsumexp(values: Tensor, mask: Tensor) -> Tensor:
    """log(sum(exp(values))) over the items of each list, (B, 1); lists without items give about ``lists.LOWEST``."""
    return ops.logsumexp(ops.where(mask, values, lists.LOWEST), axis=1, keepdims=True)


def masked_log_softmax(values: Tensor, mask: Tensor) -> Tensor:
    """log softmax of finite values over the items of each list, (B, L); 0 at padding."""

    @gradients.custom_gradient
    def log_softmax(values):
        terms = softmax_terms(values, mask)

        def gradient(*args, upstream=None):
            upstream = terms.items * (args[0] if upstream is None else upstream)
            return upstream - terms.exponentials * (ops.sum(upstream, axis=1, keepdims=True) / terms.total)

        return terms.items * (terms.centered - ops.log(terms.total)), gradient

    return log_softmax(values)


class CrossEntropy(NamedTuple):
    """targets * (log_targets - log softmax of scores over the items of each list), by item or added up by list.

    Attributes:
        targets: (B, L) what items weigh, 0 at padding but for lists of scale 0.
        scores: (B, L) finite scores.
        mask: (B, L) booleans, False at padding.
        scale: (B, 1) what the targets of each list are to be multiplied by; None for 1.
        log_targets: Finite numbers (B, L), and (B, 1) to be subtracted from them; None for 0.
        total: (B, 1) the sum of the targets of each list, which gets no gradient; None to add them up.
        anchored: Whether the softmax is over one more item of each list, of score 0.
    """

    targets: Tensor
    scores: Tensor
    mask: Tensor
    scale: Tensor | None = None
    log_targets: tuple[Tensor, Tensor] | None = None
    total: Tensor | None = None
    anchored: bool = False

    def losses(self) -> Tensor:
        """The losses (B, L) of items."""
        return self._weighed(self.targets if self.scale is None else self.targets * self.scale, by_list=False)

    def sums(self, weights: Tensor | None) -> Tensor:
        """The sums (B,) of the losses of each list, its items weighed by ``weights`` (B, L), 0 at padding; None for 1.

        The gradient takes less than that of ``losses``, which has to be ready for any weights.
        """
        if weights is None:
            sums = self._weighed(self.targets, by_list=True, total=self.total)
        else:
            sums = self._weighed(self.targets * weights, by_list=True)
        return (sums if self.scale is None else sums * self.scale)[:, 0]

    def _weighed(self, targets: Tensor, by_list: bool, total: Tensor | None = None) -> Tensor:
        """Losses (B, L), or their sums (B, 1); ``total`` is that of these targets, None to add them up."""

        def values(targets, scores, *log_targets):
            terms = softmax_terms(scores, self.mask, self.anchored)
            # The surprise of an item is that of its list less its own: finite at padding, where targets are 0.
            of_list = ops.log(terms.total) - log_targets[1] if log_targets else ops.log(terms.total)
            own = terms.centered - log_targets[0] if log_targets else terms.centered
            whole = ops.sum(targets, axis=1, keepdims=True) if by_list and total is None else total

            def gradient(*args, upstream=None):
                upstream = args[0] if upstream is None else upstream
                weighed = upstream * targets
                added_up = upstream * whole if by_list else ops.sum(weighed, axis=1, keepdims=True)
                slopes = terms.exponentials * (added_up / terms.total) - weighed
                of_log_targets = (weighed, -added_up) if log_targets else ()
                return terms.items * upstream * (of_list - own), slopes, *of_log_targets

            if by_list:
                return whole * of_list - ops.sum(targets * own, axis=1, keepdims=True), gradient
            return targets * (of_list - own), gradient

        return gradients.custom_gradient(values)(targets, self.scores, *(self.log_targets or ()))


class SoftmaxTerms(NamedTuple):
    """What a softmax over the items of each list is made of.

    Attributes:
        items: (B, L) 1 at items, 0 at padding.
        largest: (B, 1) the largest value of an item, about ``lists.LOWEST`` for a list without items.
        centered: (B, L) values minus ``largest``, at padding far below 0, but 0 in a list without items.
        exponentials: (B, L) of them, 0 at padding, but 1 in a list without items.
        total: (B, 1) their sum, at least 1.

    Where they are anchored, ``largest`` and ``total`` count one more item of value 0, and no list is without items.
    """

    items: Tensor
    largest: Tensor
    centered: Tensor
    exponentials: Tensor
    total: Tensor


def softmax_terms(values: Tensor, mask: Tensor, anchored: bool = False) -> SoftmaxTerms:
    """The terms of a softmax of finite values over the items of each list (B, L), and a value of 0 if ``anchored``."""
    items = ops.cast(mask, values.dtype)
    lowered = lists.filled(values, items)
    # XLA fuses what follows no longer where there is an initial value; only arrays known to be empty need one.
    largest = ops.max(lowered, axis=1, keepdims=True, initial=lists.LOWEST if 0 in values.shape else None)
    if anchored:
        largest = ops.relu(largest)
    centered = lowered - largest
    exponentials = ops.exp(centered)
    total = ops.sum(exponentials, axis=1, keepdims=True)
    if not values.shape[1]:
        # Of no items at all, or of nobody knows how many: the sum of none is 0, which has no logarithm.
        total = ops.where(total > 0, total, 1.0)
    if anchored:
        total = total + ops.exp(-largest)
    return SoftmaxTerms(items, largest, centered, exponentials, total)
