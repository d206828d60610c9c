"""The hinge loss of all pairs by sorted scores, without the pairs: exact, in time that grows with L log L.

In descending order of scores, what costs a better item is a prefix of the worse ones: all places down to its reach,
the last place less than the margin below it. There is missing to the margin what is missing at the reach, plus the gap
from the reach to the place in question. Both are sums of terms of one sign, so that small losses beside large scores
keep their digits.
"""

from typing import Any, NamedTuple

from keras import ops

from tfrankloss.functional import hinge_sums, lists
from tfrankloss.functional.sorted_pairs import BASE, Digit, Runs

Tensor = Any


class HingeForm(NamedTuple):
    """max(0, m - d) of a gap d = s_i - s_j of a better item i and another one j: a ``SortedForm``.

    Attributes:
        margin: m > 0.
    """

    margin: float

    @property
    def gaps(self) -> hinge_sums.Hinge:
        """As in ``SortedForm``."""
        return hinge_sums.Hinge(self.margin)

    def losses_and_slopes(self, digit: Digit) -> tuple[Tensor, Tensor]:
        """As in ``SortedForm``."""
        runs, (own, worse, better) = Runs(digit), digit.classes()
        reach = self._reach(digit.scores, runs)
        above = runs.above(own)
        gaps = runs.gaps_above(digit.scores, above)
        reached = lists.take(ops.concatenate([gaps, above + own], axis=2), reach)
        gaps, counts = reached[:, :, :BASE], reached[:, :, BASE:]
        missing = self.gaps.missing(digit.scores, lists.take(digit.scores, reach))[:, :, None]
        below = runs.total(own) - lists.take(above, _first_reaching(reach))
        losses = ops.sum(worse * (gaps + counts * missing), axis=2)
        return losses, ops.sum(better * below - worse * counts, axis=2)

    def weighed_slopes(self, digit: Digit, weights: Tensor) -> Tensor:
        """As in ``SortedForm``."""
        runs, (own, worse, better) = Runs(digit), digit.classes()
        weights = weights[:, :, None]
        reach = self._reach(digit.scores, runs)
        weighed = own * weights
        counts = lists.take(runs.above(own) + own, reach)
        below = lists.take(runs.from_here(weighed), _first_reaching(reach))
        return ops.sum(better * below - weights * worse * counts, axis=2)

    def _reach(self, scores: Tensor, runs: Runs) -> Tensor:
        """The index (B, L) of the last place of each place's run that is less than the margin below it."""
        batch, length = ops.shape(scores)
        # Among all places of the batch.
        offset = length * ops.arange(batch, dtype="int32")[:, None]
        every, last = ops.reshape(scores, (-1,)), runs.last(scores) + offset

        def is_reached(index):
            # The very comparison of the pairs by themselves: a gap equal to the margin costs nothing.
            return scores - ops.take(every, index, axis=0) < self.margin

        return lists.furthest(lists.indices(scores) + offset, is_reached, last, length) - offset


def _first_reaching(reach: Tensor) -> Tensor:
    """The index (B, L) of the first place whose reach is at or below each place: reaches never go back up."""
    return lists.numbers_up_to(reach + 1, ops.shape(reach)[1])
