"""Every two items of a short list once: half of the pairs that a square of items holds.

Items meet as players of a round robin tournament do: in round k everyone meets the one k places on, at the end of the
list the ones at its start. With an odd number of players, to which a list is filled up, (L - 1) / 2 rounds bring every
two together once. Lists stand on the last axis, so that whatever moves are whole rows.

Nothing is gathered: copies of the L players one behind the other, cut into rows of L + 1, are the players of round 0,
of round 1 and so on, each row beginning one player later.
"""

import functools
from typing import Any

import numpy as np
from keras import ops

Tensor = Any


class Meetings:
    """The meetings of the items of lists of one length, in R rounds of P meetings.

    Args:
        length: The static length of the lists, L.

    Attributes:
        turned: (R, P, 1) whether the second item of a meeting stands before the first one in its list.
    """

    def __init__(self, length: int):
        self.length = length
        self.players = length + 1 - length % 2
        self.rounds = self.players // 2
        rounds, players = np.arange(1, self.rounds + 1), np.arange(self.players)
        self.turned = (rounds[:, None] + players[None, :] >= self.players)[:, :, None]

    def of(self, values: Tensor, nobody: Any = 0) -> tuple[Tensor, Tensor]:
        """Values (B, L) of the first item and of the second one of each meeting, (R, P, B) each.

        Args:
            values: The values.
            nobody: The value of the player who is not there.
        """
        values = ops.transpose(values)
        batch, row = ops.shape(values)[1], self.players + 1
        if self.players > self.length:
            values = ops.concatenate([values, ops.full((1, batch), nobody, dtype=values.dtype)], axis=0)
        copies = ops.tile(values, (self.rounds + 2, 1))
        first = ops.reshape(copies[: self.rounds * self.players], (self.rounds, self.players, batch))
        return first, ops.reshape(copies[row : row * (self.rounds + 1)], (self.rounds, row, batch))[:, :-1]

    def totals(self, *sides: tuple[Tensor, Tensor]) -> list[Tensor]:
        """For each item the sums (B, L) of what its meetings hold for it.

        Args:
            *sides: For each sum what a meeting holds for its first item and for its second one, (R, P, B) each.
        """
        # XLA fuses no concatenation into what follows it. Without these it works out every value again for each sum,
        # and adds up in the order of the transposed result, which takes several times as long.
        of_first, of_second = (ops.concatenate(side, axis=2) for side in zip(*sides, strict=True))
        totals = ops.concatenate([ops.sum(of_first, axis=0), self._sum_of_second(of_second)], axis=0)
        totals = ops.transpose(totals)
        totals = totals[:, : self.length] + totals[:, self.players : self.players + self.length]
        return ops.split(totals, len(sides), axis=0)

    def _sum_of_second(self, values: Tensor) -> Tensor:
        batch = ops.shape(values)[2]
        nobody = ops.zeros((1, batch), dtype=values.dtype)
        values = ops.reshape(
            ops.concatenate([values, ops.zeros_like(values[:, :1])], axis=1), (self.rounds * (self.players + 1), batch)
        )
        # Row n belongs to player n + 1, counted around the list.
        missing = -(1 + self.rounds * (self.players + 1)) % self.players
        values = ops.concatenate([nobody, values, ops.tile(nobody, (missing, 1))], axis=0)
        return ops.sum(ops.reshape(values, (-1, self.players, batch)), axis=0)


@functools.cache
def of_length(length: int) -> Meetings:
    """The meetings of lists of this length."""
    return Meetings(length)
