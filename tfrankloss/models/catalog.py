"""Models whose list is the whole catalog: every item is scored for the items of a history, in training too."""

from typing import Any

import keras
from keras import ops

from tfrankloss import errors
from tfrankloss.functional.similarity import l2_normalize


@keras.saving.register_keras_serializable(package="tfrankloss")
class CatalogScores(keras.layers.Layer):
    """Scores of all items for users who are known by their items; `catalog_scorer` makes a model of it.

    Formulas, with a history x (N,) of 0 and 1, n its sum, tables W and E (N, D) and b (N,):
        - the user: `u = sum_j x_j W_j / n`; in training each x_j is dropped or divided by what is kept, n is not
        - the score of item i: `u . E_i / temperature + b_i`, or the cosine of u and E_i in place of the product
        - in training item i is taken out of its own user: `(u - x_i W_i / n) . E_i`. Otherwise the model learns that an
          item comes with itself, which helps no ranking of what the user has not got yet. With "cosine" the length of u
          stays as it is.

    Call it with histories (B, N); it returns scores (B, N).

    Args:
        dimension: D.
        dropout: Fraction of the items of a history that is dropped in training, from 0 to below 1.
        similarity: "dot" or "cosine".
        temperature: What the similarities are divided by, above 0.
        leave_one_out: Whether an item is taken out of its own user in training.
        **kwargs: As in `keras.layers.Layer`.

    Raises:
        TypeError: If a setting is of the wrong kind.
        ValueError: If a setting is out of its range, or (when called) histories are not (B, N) with a known N.

    Example:
        >>> import numpy as np
        >>> layer = CatalogScores(dimension=2)
        >>> layer.build((None, 2))
        >>> layer.set_weights([np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.0, 4.0], [2.0, 0.0]]), np.zeros(2)])
        >>> keras.ops.convert_to_numpy(layer(np.array([[1.0, 0.0], [1.0, 1.0]]))).tolist()
        [[0.0, 2.0], [2.0, 1.0]]

    Source: the zero diagonal as in Steck, "Embarrassingly Shallow Autoencoders for Sparse Data" (2019),
    arXiv:1905.03375.
    """

    def __init__(
        self,
        dimension: int = 128,
        dropout: float = 0.8,
        similarity: str = "dot",
        temperature: float = 1.0,
        leave_one_out: bool = True,
        **kwargs: Any,
    ):
        errors.check_positive_integer("dimension", dimension)
        errors.check_number("dropout", dropout)
        if not 0 <= dropout < 1:
            raise ValueError(f"`dropout` must be at least 0 and less than 1. {errors.received('dropout', dropout)}")
        errors.check_choice("similarity", similarity, ("dot", "cosine"))
        errors.check_positive("temperature", temperature)
        errors.check_bool("leave_one_out", leave_one_out)
        super().__init__(**kwargs)
        self.dimension = dimension
        self.dropout = dropout
        self.similarity = similarity
        self.temperature = temperature
        self.leave_one_out = leave_one_out
        self.drop = keras.layers.Dropout(dropout)

    def build(self, input_shape: Any) -> None:
        """Make the two tables and the bias."""
        errors.check_rank("history", input_shape, 2, "(batch, items)")
        size = input_shape[-1]
        if size is None:
            raise ValueError(f"`history` must have a known number of items. Received: history.shape={input_shape}")
        normal = keras.initializers.RandomNormal
        self.of_history = self.add_weight(shape=(size, self.dimension), initializer=normal(), name="of_history")
        self.of_items = self.add_weight(shape=(size, self.dimension), initializer=normal(), name="of_items")
        self.bias = self.add_weight(shape=(size,), initializer="zeros", name="bias")

    def call(self, history: Any, training: bool | None = None) -> Any:
        """Scores (B, N) for histories (B, N)."""
        count = ops.sum(history, axis=1, keepdims=True)
        kept = self.drop(history, training=training) / ops.maximum(count, ops.ones_like(count))
        users, items = ops.matmul(kept, self.of_history), self.of_items
        scale = 1.0
        if self.similarity == "cosine":
            items = l2_normalize(items)
            # One factor for what is left of the user, so that the own part is taken out before the division.
            squares = ops.sum(ops.square(users), axis=1, keepdims=True)
            scale = ops.rsqrt(ops.where(squares > 0, squares, ops.ones_like(squares)))
        scores = ops.matmul(users, ops.transpose(items))
        if training and self.leave_one_out:
            scores = scores - kept * ops.sum(self.of_history * items, axis=1)
        return scores * scale / self.temperature + self.bias

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the histories."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """The settings of the constructor."""
        return {
            **super().get_config(),
            "dimension": self.dimension,
            "dropout": self.dropout,
            "similarity": self.similarity,
            "temperature": self.temperature,
            "leave_one_out": self.leave_one_out,
        }


def catalog_scorer(
    num_items: int,
    dimension: int = 128,
    *,
    dropout: float = 0.8,
    similarity: str = "dot",
    temperature: float = 1.0,
    leave_one_out: bool = True,
    name: str = "catalog_scorer",
) -> keras.Model:
    """A model that scores the whole catalog for a history: full softmax instead of sampled or in-batch negatives.

    Use it where a catalog has up to some ten thousand items: there is no sampling to correct for, and the model needs
    no table of users, so that a new user is served from the first item on. Train it with `SoftmaxLoss` and the
    histories as both input and labels; `CatalogScores` says why that does not teach it to copy.

    Args:
        num_items: Size N of the catalog.
        dimension: Size D of the embeddings.
        dropout: Fraction of the items of a history that is dropped in training, from 0 to below 1.
        similarity: "dot" or "cosine"; cosines need a temperature of about 0.1 to 0.3.
        temperature: What the similarities are divided by, above 0.
        leave_one_out: Whether an item is taken out of its own user in training.
        name: Name of the model.

    Returns:
        A functional Keras model from histories (B, N) of 0 and 1 to scores (B, N); exported, its argument is named
        "history".

    Raises:
        TypeError: If a setting is of the wrong kind.
        ValueError: If a setting is out of its range.

    Example:
        >>> import numpy as np
        >>> from tfrankloss import SoftmaxLoss
        >>> model = catalog_scorer(num_items=3, dimension=2)
        >>> model.compile("adamw", SoftmaxLoss())
        >>> histories = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
        >>> _ = model.fit(histories, histories, verbose=0)
        >>> model.predict(histories, verbose=0).shape
        (2, 3)
    """
    errors.check_positive_integer("num_items", num_items)
    history = keras.Input((num_items,), name="history")
    scores = CatalogScores(dimension, dropout, similarity, temperature, leave_one_out, name="catalog_scores")
    return keras.Model(history, scores(history), name=name)
