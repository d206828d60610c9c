"""By what probability candidates come to be in a batch: estimated while training, or counted beforehand.

An in-batch loss takes the logarithm of this from scores, since popular candidates are negatives more often than others.
"""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfrankloss import errors


def probability_table(ids: Any, size: int) -> np.ndarray:
    """The share of each id among all ids of a data set, in one pass: a table for ``candidate_probability=``.

    An id that never occurs counts as if it occurred once, so that every entry is a probability.

    Args:
        ids: (N,) integer ids from 0 to ``size`` - 1, or an iterable of such arrays, as batches are.
        size: How many ids there are.

    Returns:
        (size,) probabilities, float64.

    Raises:
        TypeError: If ids are no integers or ``size`` is none.
        ValueError: If an id is out of range, or there are none.

    Example:
        >>> from tfrankloss.sampling import probability_table
        >>> probability_table([0, 0, 2, 0], size=3).tolist()
        [0.75, 0.25, 0.25]
    """
    errors.check_positive_integer("size", size)
    counts = np.zeros(size, "int64")
    for batch in [ids] if isinstance(ids, (np.ndarray, list, tuple)) else _batches(ids):
        array = np.asarray(batch).reshape(-1)
        if array.dtype.kind not in "iu":
            raise TypeError(f"`ids` must hold integers. Received: dtype={array.dtype}")
        if array.size and not (array.min() >= 0 and array.max() < size):
            raise ValueError(f"`ids` must be from 0 to {size - 1}. Received: {array.min()} to {array.max()}")
        counts += np.bincount(array, minlength=size)
    if not counts.any():
        raise ValueError("`ids` must hold at least one id. Received: none")
    return np.maximum(counts, 1) / counts.sum()


def _batches(ids: Iterable[Any]) -> Iterable[np.ndarray]:
    return (ops.convert_to_numpy(batch) for batch in ids)


@keras.saving.register_keras_serializable(package="tfrankloss")
class StreamingProbability(keras.layers.Layer):
    """The logarithm of the estimated probability that an id is in a batch, learned from the batches themselves.

    Use it where candidates come as a stream, whose frequencies nobody knows beforehand and which drift, as in
    ``InBatchSoftmaxLoss(candidate_probability="embeddings")``. Every batch in training is a step; the estimate is one
    over the mean number of steps between two batches with an id, a moving average that is kept in arrays of fixed size
    whatever the number of ids. An id has one place in each array, its remainder by a prime, so that two ids that meet
    in one are apart in the next; the array with the rarest sightings counts, as collisions only make ids look
    frequent. An id that was never seen counts as seen once in all steps.

    Formula: at step t, `b += learning_rate * (t - a - b)` and then `a = t` for the places a and b of each id in the
    batch, where a is the last step and b the mean distance (at first sight, t); the result is `-log(max(b))`.

    Call it with integer ids of any shape, negative ones for padding; it returns float32 of the same shape, 0 at
    padding.

    Args:
        size: Places of an array, at least 2: some multiple of the number of ids that are in use.
        arrays: How many arrays there are.
        learning_rate: Of the moving average, between 0 and 1; the smaller, the steadier and the slower to follow.
        **kwargs: As in `keras.layers.Layer`.

    Raises:
        TypeError: If ``size`` or ``arrays`` is not an integer, or (when called) ids are not.
        ValueError: If a setting has a wrong value.

    Example:
        >>> import numpy as np
        >>> layer = StreamingProbability(size=100)
        >>> for ids in ([3, 8], [3, 9], [3, 8], [3, 9]):
        ...     logs = layer(np.array(ids), training=True)
        >>> [round(float(p), 2) for p in keras.ops.exp(layer(np.array([3, 8, 77])))]
        [1.0, 0.95, 0.25]

    A two-tower model gives it the ids of every batch, in training and to evaluate, and its loss what it says of them;
    embeddings that are predicted and served know nothing of it:

        >>> from tfrankloss import InBatchSoftmaxLoss
        >>> from tfrankloss.models import two_tower
        >>> user, item = keras.Input((), dtype="int32", name="user"), keras.Input((), dtype="int32", name="item")
        >>> model = two_tower(
        ...     keras.Model(user, keras.layers.Embedding(50, 4)(user), name="users"),
        ...     keras.Model(item, keras.layers.Embedding(50, 4)(item), name="items"),
        ...     candidate_probability=StreamingProbability(),
        ... )
        >>> model.compile("adam", InBatchSoftmaxLoss(targets="candidate_ids", candidate_probability="embeddings"))
        >>> places = np.arange(50)
        >>> _ = model.fit({"user": places, "item": places}, places, verbose=0)
        >>> int(model.candidate_probability.step), model.predict({"user": places, "item": places}, verbose=0).shape
        (2, (50, 2, 4))

    Source: Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations", RecSys 2019,
    algorithms 2 and 3, with remainders for hashes and the first distance for a start.
    """

    def __init__(self, size: int = 2**16, arrays: int = 2, learning_rate: float = 0.05, **kwargs: Any):
        errors.check_positive_integer("size", size)
        errors.check_positive_integer("arrays", arrays)
        errors.check_fraction("learning_rate", learning_rate)
        primes = _primes(size, arrays)
        if len(primes) < arrays:
            raise ValueError(f"`size` must be larger, with {arrays} primes up to it. Received: size={size}")
        super().__init__(**kwargs)
        self.size = size
        self.arrays = arrays
        self.learning_rate = learning_rate
        self._primes = primes

    def build(self, input_shape: Any) -> None:
        """Make the arrays, whose last place is that of padding."""
        shape = (self.arrays * (self.size + 1),)
        settings = {"initializer": "zeros", "trainable": False}
        self.step = self.add_weight(shape=(), dtype="int32", name="step", **settings)
        self.last_steps = self.add_weight(shape=shape, dtype="int32", name="last_steps", **settings)
        self.distances = self.add_weight(shape=shape, dtype="float32", name="distances", **settings)

    def call(self, ids: Any, training: bool | None = None) -> Any:
        """Log probabilities of the shape of ``ids``; with ``training`` the ids are a batch that was seen."""
        ids = ops.convert_to_tensor(ids)
        if "int" not in keras.backend.standardize_dtype(ids.dtype):
            raise TypeError(
                f"`ids` must hold integers. Received: ids.dtype={keras.backend.standardize_dtype(ids.dtype)}"
            )
        flat = ops.reshape(ids, (-1,))
        places = ops.stack(
            [
                ops.where(flat < 0, self.size, ops.cast(ops.mod(flat, prime), "int32")) + number * (self.size + 1)
                for number, prime in enumerate(self._primes)
            ]
        )
        distances = ops.take(self.distances.value, places)
        step = ops.convert_to_tensor(self.step.value)
        if training:
            step = step + 1
            passed = ops.cast(step - ops.take(self.last_steps.value, places), "float32")
            first = ops.equal(distances, 0)
            distances = ops.where(first, passed, distances + self.learning_rate * (passed - distances))
            where = ops.reshape(places, (-1, 1))
            # Ids that are in a batch twice, or meet in a place, all put the same there.
            updated = ops.scatter_update(self.distances.value, where, ops.reshape(distances, (-1,)))
            self.distances.assign(updated)
            steps = ops.broadcast_to(step, ops.shape(ops.reshape(places, (-1,))))
            self.last_steps.assign(ops.scatter_update(self.last_steps.value, where, steps))
            self.step.assign(step)
        never = ops.cast(ops.maximum(step, 1), "float32")
        rarest = ops.max(ops.where(ops.equal(distances, 0), never, distances), axis=0)
        return ops.reshape(ops.where(flat < 0, 0.0, -ops.log(rarest)), ops.shape(ids))

    def compute_output_spec(self, ids: Any, training: bool | None = None) -> keras.KerasTensor:
        """Log probabilities of the shape of ``ids``."""
        return keras.KerasTensor(ids.shape, dtype="float32")

    def get_config(self) -> dict[str, Any]:
        """The settings of the constructor."""
        own = {"size": self.size, "arrays": self.arrays, "learning_rate": self.learning_rate}
        return {**super().get_config(), **own}


def _primes(most: int, count: int) -> list[int]:
    """The ``count`` largest primes up to ``most``, or all there are."""
    found: list[int] = []
    number = most
    while number > 1 and len(found) < count:
        if all(number % divisor for divisor in range(2, int(number**0.5) + 1)):
            found.append(number)
        number -= 1
    return found
