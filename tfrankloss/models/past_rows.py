"""A queue of the rows of past batches, whose candidates are further negatives of an in-batch loss."""

from typing import Any

import keras
from keras import ops

Tensor = Any


@keras.saving.register_keras_serializable(package="tfrankloss")
class PastRows(keras.layers.Layer):
    """The newest rows of past batches: their embeddings, as they were then and without a gradient, and their ids.

    It is not called: an in-batch loss looks at the rows and adds those of its batch.

    Args:
        size: How many rows it holds.
        **kwargs: As in `keras.layers.Layer`.

    Source: Wang et al., "Cross-Batch Memory for Embedding Learning", CVPR 2020.
    """

    def __init__(self, size: int, **kwargs: Any):
        super().__init__(**{"name": "past_rows", "trainable": False, **kwargs})
        self.size = size

    def build(self, input_shape: Any) -> None:
        """Make room for embeddings (size, 2, D) of queries and their candidates; at first there are none."""
        settings = {"initializer": "zeros", "trainable": False}
        self.embeddings = self.add_weight(shape=(self.size, *input_shape[1:]), name="embeddings", **settings)
        # JAX has no larger integers.
        dtype = "int32" if keras.backend.backend() == "jax" else "int64"
        self.ids = self.add_weight(shape=(self.size,), dtype=dtype, name="ids", **settings)
        self.filled = self.add_weight(shape=(self.size,), dtype="int32", name="filled", **settings)

    def rows(self) -> tuple[Tensor, Tensor, Tensor]:
        """Ids (size,), embeddings (size, 2, D) and which rows there are (size,), the newest first."""
        ids, embeddings, filled = (
            ops.convert_to_tensor(of_all.value) for of_all in (self.ids, self.embeddings, self.filled)
        )
        return ids, embeddings, filled > 0

    def add(self, ids: Tensor, embeddings: Tensor, mask: Tensor) -> None:
        """Put rows in front and drop as many of the oldest.

        Args:
            ids: (B,) what the candidates are known by; anything where that is unknown.
            embeddings: (B, 2, D) queries and candidates.
            mask: (B,) booleans, False at padding, which stays out of all losses.
        """
        for held, new in ((self.ids, ids), (self.embeddings, embeddings), (self.filled, mask)):
            new = ops.cast(ops.stop_gradient(ops.cast(new, held.dtype)), held.dtype)
            both = ops.concatenate([new, ops.convert_to_tensor(held.value)], axis=0)
            held.assign(ops.reshape(both[: self.size], held.shape))

    def get_config(self) -> dict[str, Any]:
        """The settings of the constructor."""
        return {**super().get_config(), "size": self.size}
