"""What the members of groups add up to at the nodes of their integrals, and the way back, by ``race_tables``."""

from typing import Any

from keras import ops

from tfrankloss.functional.race_tables import HIGHEST, Tables

Tensor = Any

# Powers are added up for so many items of a list at a time: one by one, hundreds of equal numbers round the same way.
# Lists of more than LONG items take larger blocks, of which there are fewer.
BLOCK, LONG, LONG_BLOCK = 32, 512, 128


def of_groups(members: Tensor, values: Tensor) -> Tensor:
    """The sums (B, G, 1) of values (B, L) over the members (B, G, L) of each group."""
    return ops.sum(members * values[:, None, :], axis=2, keepdims=True)


class GroupSums:
    """The sums of the groups of a batch at nodes, by the powers of the places of log rates in bins.

    Args:
        rates: (B, L) log rates of items.
        members: (B, G, L) 1 where an item is of a group that is counted, 0 elsewhere.
        places: (B, L) the group of each item among the R = B * G groups.
        table: The constants for lists of this length.
        nodes: How many of the nodes are needed, None for all.

    Attributes:
        log_times: (K,) the nodes.
        log_weights: (K,) logarithms of what they stand for of log time.
        constant: (B, G, 1) what slow items add at all times.
    """

    def __init__(self, rates: Tensor, members: Tensor, places: Tensor, table: Tables, nodes: Tensor | None = None):
        self.log_times, self.log_weights, self._arrived, self._late = (
            ops.convert_to_tensor(part, dtype=rates.dtype)[..., :nodes]
            for part in (table.log_times, table.log_weights, table.arrived, table.late)
        )
        # TensorFlow infers a wrong size where there are no lists.
        self._shape = (*ops.shape(members)[:2], ops.shape(self.log_times)[0])
        place = ops.minimum(rates, float(HIGHEST)) - table.lowest
        # In the lowest bin, which has no end, log z is apart.
        is_slow = ops.cast(place < 0, rates.dtype)
        self._slow = of_groups(members, is_slow)
        # Log times are taken less that of the mode of a slow group, where the rest of its sum is small.
        self._mode = ops.log(ops.maximum(self._slow, 1.0))
        self.constant = of_groups(members, is_slow * rates) + self._slow * self._mode
        bin_place = place / table.width
        start = ops.clip(ops.floor(ops.stop_gradient(bin_place)), -1.0, table.bins - 2.0)
        inside = is_slow * ops.exp(ops.minimum(place, 0.0)) + (1 - is_slow) * (bin_place - start)
        # 0 where not counted.
        self._powers = powers(2 * inside - 1, ops.sum(members, axis=1), table.powers)
        bins = places * table.bins + _index(start + 1, table.bins)
        self._bins = ops.reshape(bins, (-1,))
        self._sums = self._by_bin(bins, self._shape[0] * self._shape[1] * table.bins)

    def _by_bin(self, bins: Tensor, count: int) -> Tensor:
        """The sums (R, bins * P) of powers, block by block of each list."""
        length = ops.shape(bins)[1]
        block = BLOCK if bins.shape[1] is not None and bins.shape[1] <= LONG else LONG_BLOCK
        blocks = (length + block - 1) // block
        parts = (ops.arange(length, dtype="int32") // block) * count + bins
        size = self._powers.shape[-1]
        sums = ops.segment_sum(
            ops.reshape(self._powers, (-1, size)), ops.reshape(parts, (-1,)), num_segments=blocks * count
        )
        sums = ops.sum(ops.reshape(sums, (blocks, count * size)), axis=0)
        return ops.reshape(sums, (-1, self._arrived.shape[0]))

    def at_nodes(self) -> tuple[Tensor, Tensor]:
        """Both (B, G, K): log probabilities that all members have arrived, less ``constant``; and derivatives."""
        arrived, late = (ops.reshape(self._sums @ part, self._shape) for part in (self._arrived, self._late))
        return arrived + self._slow * (self.log_times - self._mode), late

    def slopes(self, density: Tensor) -> Tensor:
        """The mean (B, L) of the derivative of each item over a density (B, G, K)."""
        batch, groups, nodes = self._shape
        by_bin = ops.reshape(density, (batch * groups, nodes)) @ ops.transpose(self._late)
        size = self._powers.shape[-1]
        coefficients = ops.take(ops.reshape(by_bin, (-1, size)), self._bins, axis=0)
        return ops.sum(ops.reshape(coefficients, ops.shape(self._powers)) * self._powers, axis=-1)


def _index(numbers: Tensor, count: int) -> Tensor:
    """Whole numbers below ``count`` as integers, those that are NaN as any that is an index."""
    return ops.clip(ops.cast(numbers, "int32"), 0, count - 1)


def powers(values: Tensor, first: Tensor, count: int) -> Tensor:
    """``values`` (B, L) to the powers from 0 to ``count`` - 1 along a new last axis, times ``first``."""
    result, power = first[None], values
    while (size := result.shape[0]) < count:
        result = ops.concatenate([result, result[: count - size] * power], axis=0)
        power = power * power
    # TensorFlow joins whole tensors and turns them in half the time in which it joins their last axes.
    return ops.reshape(ops.transpose(ops.reshape(result, (count, -1))), (*ops.shape(values), count))
