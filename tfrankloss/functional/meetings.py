"""Every two items of a short list once: half of the pairs that a square of items holds.

Items meet as players of a round robin tournament do: in round k everyone meets the one k places on, at the end of the
list the ones at its start. With an odd number of players, to which a list is filled up, (L - 1) / 2 rounds bring every
two together once. Lists stand on the last axis, so that whatever moves are whole rows.

Nothing is gathered: copies of the L players one behind the other, cut into rows of L + 1, are the players whom the
first ones meet in round 1, in round 2 and so on, each row beginning one player later. The last one in a row, who is
its first one again, meets nobody.
"""

import functools
from typing import Any

import numpy as np
from keras import ops

Tensor = Any


class Meetings:
    """The meetings of the items of lists of one length, in R rounds of P meetings and one of nobody.

    Args:
        length: The static length of the lists, L.

    Attributes:
        turned: (R, P + 1, 1) whether the second item of a meeting stands before the first one in its list.
    """

    def __init__(self, length: int):
        self.length = length
        self.players = length + 1 - length % 2
        self.rounds = self.players // 2
        rounds, players = np.arange(1, self.rounds + 1), np.arange(self.players + 1)
        self.turned = (rounds[:, None] + players[None, :] >= self.players)[:, :, None]

    def of(self, values: Tensor, nobody: Any = 0) -> tuple[Tensor, Tensor]:
        """Values (B, L) of the first item (1, P + 1, B), the same in all rounds, and of the second (R, P + 1, B).

        Args:
            values: The values.
            nobody: The value of the player who is not there.
        """
        values = ops.transpose(values)
        batch, row = ops.shape(values)[1], self.players + 1
        first = ops.concatenate([values, ops.full((row - self.length, batch), nobody, dtype=values.dtype)], axis=0)
        copies = ops.tile(first[: self.players], (self.rounds + 2, 1))
        return first[None], ops.reshape(copies[row : row * (self.rounds + 1)], (self.rounds, row, batch))

    def totals(self, *sides: tuple[Tensor, Tensor | None]) -> list[Tensor]:
        """For each item the sums (B, L) of what its meetings hold for it.

        Args:
            *sides: For each sum what a meeting holds for its first item and for its second one, (R, P + 1, B) each; 0
                for whoever meets nobody. None for the second item if it gets minus what the first one gets.
        """
        # Beside each other, so that XLA does not work out every value again for each sum, see ``_totals``.
        of_first = ops.concatenate([first for first, _ in sides], axis=2)
        of_second = ops.concatenate([first if second is None else second for first, second in sides], axis=2)
        if len(sides) == 1 and sides[0][1] is None:
            # In one round more nobody meets.
            of_first = of_second = ops.concatenate([of_first, ops.zeros_like(of_first[:1])], axis=0)
        totals = self._totals(of_first, of_second)
        of_first, of_second = (ops.split(ops.transpose(rows), len(sides), axis=0) for rows in totals)
        return [
            first - second if side[1] is None else first + second
            for side, first, second in zip(sides, of_first, of_second, strict=True)
        ]

    def passes(self, passed: Tensor) -> Tensor:
        """The number (B, L) of items that pass each one.

        Args:
            passed: (R, P + 1, B) 1 where the second item of a meeting passes the first one, 0 where the first passes
                the second, or how much of a pass the second has; whoever is not there passes everyone.
        """
        first, second = self._totals(passed, passed)
        absent = self.players - self.length
        return ops.transpose((first - second) + (self.rounds - absent))

    def _totals(self, of_first: Tensor, of_second: Tensor) -> tuple[Tensor, Tensor]:
        """The sums (L, B) over the rounds of what items get as the first of a meeting, and as the second."""
        # XLA fuses no concatenation into what follows it: otherwise it adds up in the order of the transposed result,
        # which takes several times as long.
        totals = ops.concatenate([ops.sum(of_first, axis=0), self._sum_of_second(of_second)], axis=0)
        return totals[: self.length], totals[self.players + 1 :][: self.length]

    def _sum_of_second(self, values: Tensor) -> Tensor:
        """The sums (P, B) over the rounds of what second items get."""
        batch, whole = ops.shape(values)[2], self.rounds * self.players
        values = ops.reshape(values[: self.rounds], (self.rounds * (self.players + 1), batch))
        sums = ops.sum(ops.reshape(values[:whole], (self.rounds, self.players, batch)), axis=0)
        # Row n belongs to player n + 1, counted around the list.
        last = self.players - 1
        return ops.concatenate([sums[last:], sums[: self.rounds] + values[whole:], sums[self.rounds : last]], axis=0)


@functools.cache
def of_length(length: int) -> Meetings:
    """The meetings of lists of this length."""
    return Meetings(length)
