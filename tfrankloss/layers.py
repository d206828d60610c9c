"""Keras layers that score, cross, normalise and pool features and embeddings, on every Keras backend.

Each survives what users give it: a zero vector has a defined cosine (0), an empty history a defined mean (zeros), so
that no NaN reaches a loss or a served index.
"""

import math
from typing import Any

import keras
from keras import ops

from tfrankloss import errors
from tfrankloss.functional.similarity import SIMILARITIES, l2_normalize


@keras.saving.register_keras_serializable(package="tfrankloss")
class L2Normalize(keras.layers.Layer):
    """Vectors divided by their Euclidean length.

    Use it on towers whose embeddings are compared by cosine: afterwards the dot product is the cosine and the squared
    Euclidean distance is 2 * (1 - cosine), so all three order candidates alike. A zero vector stays zero and passes its
    gradient on unchanged, where `keras.layers.UnitNormalization` multiplies it by 1e12.

    Formula: `x / sqrt(sum(x ** 2))` over the last axis.

    Call it with float vectors of shape (..., D); it returns the same shape and dtype.

    Example:
        >>> import numpy as np
        >>> unit = keras.ops.convert_to_numpy(L2Normalize()(np.array([[3.0, 4.0], [0.0, 0.0]])))
        >>> [[round(float(x), 3) for x in row] for row in unit]
        [[0.6, 0.8], [0.0, 0.0]]

    Source: documents, recall modes, section 2.2.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        """Unit vectors of the shape of ``inputs``."""
        return l2_normalize(inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the inputs."""
        return input_shape


@keras.saving.register_keras_serializable(package="tfrankloss")
class Similarity(keras.layers.Layer):
    """Scores of candidates for their query, higher is closer.

    Use "dot" where the length of an embedding may carry popularity, "cosine" where only direction should count (with a
    temperature of about 0.05 to 0.2: cosines lie in [-1, 1], too narrow for a softmax or a sigmoid), "euclidean" where
    the embeddings are points, as for an index of distances. On vectors of length 1 the three order candidates alike.

    Formulas: dot `sum(q * c)`; cosine `sum(q * c) / (|q| * |c|)`, 0 if either is a zero vector; euclidean
    `-sum((q - c) ** 2)`, the negative SQUARED distance, which is `2 * (cosine - 1)` on vectors of length 1. Each is
    divided by ``temperature``.

    Call it with queries (B, D) and candidates (B, D), for scores (B,), or candidates (B, L, D), for scores (B, L).

    Args:
        similarity: "dot", "cosine" or "euclidean".
        temperature: What the similarities are divided by, above 0; below 1 it sharpens a softmax over the scores.
        **kwargs: As in `keras.layers.Layer`.

    Raises:
        ValueError: If ``similarity`` is none of the three, ``temperature`` is not above 0, or (when called) the shapes
            of queries and candidates do not belong together.

    Example:
        >>> import numpy as np
        >>> query, candidates = np.array([[3.0, 4.0]]), np.array([[[1.0, 0.0], [0.0, 2.0]]])
        >>> for name in ("dot", "cosine", "euclidean"):
        ...     scores = keras.ops.convert_to_numpy(Similarity(name)(query, candidates))
        ...     print(name, [round(float(score), 3) for score in scores[0]])
        dot [3.0, 8.0]
        cosine [0.6, 0.8]
        euclidean [-20.0, -13.0]

    Source: documents, recall modes, sections 2 and 3.
    """

    def __init__(self, similarity: str = "dot", temperature: float = 1.0, **kwargs: Any):
        errors.check_choice("similarity", similarity, SIMILARITIES)
        errors.check_positive("temperature", temperature)
        super().__init__(**kwargs)
        self.similarity = similarity
        self.temperature = temperature

    def call(self, queries: Any, candidates: Any) -> Any:
        """Scores (B,) of candidates (B, D), or (B, L) of candidates (B, L, D), for queries (B, D)."""
        _check_embeddings(queries.shape, candidates.shape)
        if self.similarity == "cosine":
            queries, candidates = l2_normalize(queries), l2_normalize(candidates)
        if len(candidates.shape) == 3:
            queries = ops.expand_dims(queries, axis=1)
        if self.similarity == "euclidean":
            scores = -ops.sum(ops.square(queries - candidates), axis=-1)
        else:
            scores = ops.sum(queries * candidates, axis=-1)
        return scores / self.temperature

    def compute_output_shape(self, queries_shape: Any, candidates_shape: Any) -> Any:
        """The shape of the candidates without the embedding axis."""
        return tuple(candidates_shape[:-1])

    def get_config(self) -> dict[str, Any]:
        """The settings of the constructor."""
        return {**super().get_config(), "similarity": self.similarity, "temperature": self.temperature}


@keras.saving.register_keras_serializable(package="tfrankloss")
class LearnedTemperature(keras.layers.Layer):
    """Scores with a scale that is learned, and with a bias if asked for: the temperature as a variable.

    Use it where a softmax over cosines needs a temperature that nobody wants to tune: on scores, or on the embeddings
    of an in-batch loss, whose own temperature then stays 1. Embeddings (B, 2 + K, D) are multiplied by the square root
    of the scale, so that products and squared distances of any two of them have the whole of it; a loss with
    "cosine" would undo that, so normalise first and let the loss take "dot". The softmax over a row takes no notice of
    a bias; a sigmoid does.

    Formula: `alpha * s + beta` for scores s, with `alpha = min(exp(w), max_scale)` for a variable w that starts at
    `-log(temperature)`, and beta a variable that starts at ``bias``.

    Call it with scores (B,) or (B, L), or embeddings (B, 2 + K, D); it returns the same shape.

    Args:
        temperature: The temperature to start from, 1 / alpha, above 0.
        bias: The beta to start from; None for no bias.
        max_scale: The largest alpha, above 0; None for no bound. It keeps the training of CLIP stable.
        **kwargs: As in `keras.layers.Layer`.

    Raises:
        ValueError: If a setting has a wrong value, or (when called) embeddings are given to a layer with a bias.

    Example:
        >>> import numpy as np
        >>> layer = LearnedTemperature(temperature=0.5, bias=-1.0)
        >>> [round(float(score), 3) for score in layer(np.array([1.0, 3.0]))]
        [1.0, 5.0]

    Source: alpha and beta of the project's documents; Radford et al. (CLIP), 2021; Zhai et al. (SigLIP), 2023 (bias).
    """

    def __init__(
        self, temperature: float = 0.07, bias: float | None = None, max_scale: float | None = 100.0, **kwargs: Any
    ):
        errors.check_positive("temperature", temperature)
        if bias is not None:
            errors.check_number("bias", bias)
        if max_scale is not None:
            errors.check_positive("max_scale", max_scale)
        super().__init__(**kwargs)
        self.temperature = temperature
        self.bias = bias
        self.max_scale = max_scale
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        """Make the variables."""
        start = keras.initializers.Constant(-math.log(self.temperature))
        self.log_scale = self.add_weight(shape=(), initializer=start, name="log_scale")
        if self.bias is not None:
            self.shift = self.add_weight(shape=(), initializer=keras.initializers.Constant(self.bias), name="bias")

    def call(self, inputs: Any) -> Any:
        """Scores or embeddings of the shape of ``inputs``."""
        rank = len(inputs.shape)
        if rank > 3 or (rank == 3 and self.bias is not None):
            rule = "(batch,) or (batch, list_size)" + (", or embeddings where there is no bias" if rank == 3 else "")
            raise ValueError(f"`inputs` must have shape {rule}. Received: inputs.shape={tuple(inputs.shape)}")
        log_scale = self.log_scale
        if self.max_scale is not None:
            log_scale = ops.minimum(log_scale, math.log(self.max_scale))
        if rank == 3:
            return inputs * ops.exp(log_scale / 2)
        scores = inputs * ops.exp(log_scale)
        return scores if self.bias is None else scores + self.shift

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the inputs."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The settings of the constructor."""
        own = {"temperature": self.temperature, "bias": self.bias, "max_scale": self.max_scale}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="tfrankloss")
class SafeMeanPooling(keras.layers.Layer):
    """The mean of the embeddings of a history, zeros for an empty history.

    Use it after `keras.layers.Embedding(mask_zero=True)` for lists of watched items, words and the like.
    `keras.layers.GlobalAveragePooling1D` divides by 0 where a history is all padding: the NaN becomes a zero embedding
    in some served graphs and wrong results in all. Padded embeddings never enter the mean, NaN in them included.

    Formula: `sum(mask * x) / max(1, sum(mask))` over the second-last axis.

    Call it with embeddings (..., H, D) and a mask (..., H), given or carried by Keras; without one every entry counts.
    It returns (..., D).

    Example:
        >>> import numpy as np
        >>> embeddings = np.array([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]])
        >>> mask = np.array([[True, True], [False, False]])
        >>> keras.ops.convert_to_numpy(SafeMeanPooling()(embeddings, mask=mask)).tolist()
        [[2.0, 3.0], [0.0, 0.0]]
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Means (..., D) of ``inputs`` (..., H, D) where ``mask`` (..., H) is True."""
        if len(inputs.shape) < 3:
            errors.check_rank("inputs", inputs.shape, 3, "(batch, history, embedding)")
        valid = ops.ones_like(inputs[..., 0], dtype="bool") if mask is None else ops.cast(mask, "bool")
        errors.check_same_shape("mask", valid.shape, "inputs without the embedding axis", inputs.shape[:-1])
        kept = ops.where(ops.expand_dims(valid, axis=-1), inputs, ops.zeros_like(inputs))
        count = ops.sum(ops.cast(valid, inputs.dtype), axis=-1, keepdims=True)
        return ops.sum(kept, axis=-2) / ops.maximum(count, ops.ones_like(count))

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """None: the masked axis is gone."""
        return None

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the inputs without the history axis."""
        return (*input_shape[:-2], input_shape[-1])


@keras.saving.register_keras_serializable(package="tfrankloss")
class FactorizationMachine(keras.layers.Layer):
    """A score with a weight for every feature and every pair of features, the pairs from products of vectors.

    Use it where crosses of features tell what no feature tells alone, and most crosses are rare: a pair that was never
    seen together still gets its weight from the vectors of the two. It costs F times D, not F squared.

    Formula: `w_0 + sum_f w_f x_f + sum_{f < g} (v_f . v_g) x_f x_g`, where the last sum over pairs is computed as
    `1/2 sum_d [(sum_f v_fd x_f)^2 - sum_f v_fd^2 x_f^2]`.

    Call it with features (..., F), numbers or one-hot; it returns scores (..., 1), as `keras.layers.Dense(1)` does.

    Args:
        dimension: Size D of the vectors.
        use_bias: Whether there is a `w_0`; no ranking depends on it.
        **kwargs: As in `keras.layers.Layer`.

    Raises:
        TypeError: If ``dimension`` is not an integer, or ``use_bias`` no bool.
        ValueError: If ``dimension`` is below 1 or, when built, the number of features is unknown.

    Example:
        >>> import numpy as np
        >>> layer = FactorizationMachine(dimension=1)
        >>> layer.build((None, 3))
        >>> layer.set_weights([np.array([[2.0], [3.0], [0.0]]), np.array([[1.0], [0.0], [0.0]]), np.array([10.0])])
        >>> keras.ops.convert_to_numpy(layer(np.array([[1.0, 5.0, 7.0]]))).tolist()  # 10 + 1 * 1 + 2 * 3 * 1 * 5
        [[41.0]]

    Source: Rendle, "Factorization Machines" (2010), ICDM; documents, pairwise losses, feature crosses.
    """

    def __init__(self, dimension: int, use_bias: bool = True, **kwargs: Any):
        errors.check_positive_integer("dimension", dimension)
        errors.check_bool("use_bias", use_bias)
        super().__init__(**kwargs)
        self.dimension = dimension
        self.use_bias = use_bias

    def build(self, input_shape: Any) -> None:
        """Make a weight and a vector for every feature."""
        self.vectors = _feature_vectors(self, input_shape[-1], self.dimension)
        self.linear = self.add_weight(shape=(input_shape[-1], 1), initializer="glorot_uniform", name="linear")
        self.bias = self.add_weight(shape=(1,), initializer="zeros", name="bias") if self.use_bias else None

    def call(self, inputs: Any) -> Any:
        """Scores (..., 1) of features (..., F)."""
        first = ops.matmul(inputs, self.linear)
        both = ops.square(ops.matmul(inputs, self.vectors))
        same = ops.matmul(ops.square(inputs), ops.square(self.vectors))
        scores = first + 0.5 * ops.sum(both - same, axis=-1, keepdims=True)
        return scores if self.bias is None else scores + self.bias

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the features with one score in their place."""
        return (*input_shape[:-1], 1)

    def get_config(self) -> dict[str, Any]:
        """The settings of the constructor."""
        return {**super().get_config(), "dimension": self.dimension, "use_bias": self.use_bias}


@keras.saving.register_keras_serializable(package="tfrankloss")
class FeatureVectors(keras.layers.Layer):
    """A vector for every feature, times the value of the feature: what a network over feature crosses starts from.

    Formula: `x_f v_f`, so that a category that is not there (0) gives zeros.

    Call it with features (..., F); it returns (..., F, D).

    Args:
        dimension: Size D of the vectors.
        **kwargs: As in `keras.layers.Layer`.

    Raises:
        TypeError: If ``dimension`` is not an integer.
        ValueError: If ``dimension`` is below 1 or, when built, the number of features is unknown.

    Example:
        >>> import numpy as np
        >>> layer = FeatureVectors(dimension=2)
        >>> layer.build((None, 2))
        >>> layer.set_weights([np.array([[1.0, 2.0], [3.0, 4.0]])])
        >>> keras.ops.convert_to_numpy(layer(np.array([[1.0, 0.5]]))).tolist()
        [[[1.0, 2.0], [1.5, 2.0]]]
    """

    def __init__(self, dimension: int, **kwargs: Any):
        errors.check_positive_integer("dimension", dimension)
        super().__init__(**kwargs)
        self.dimension = dimension

    def build(self, input_shape: Any) -> None:
        """Make a vector for every feature."""
        self.vectors = _feature_vectors(self, input_shape[-1], self.dimension)

    def call(self, inputs: Any) -> Any:
        """Vectors (..., F, D) of features (..., F)."""
        return ops.expand_dims(inputs, axis=-1) * self.vectors

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the features with an axis for the vectors."""
        return (*input_shape, self.dimension)

    def get_config(self) -> dict[str, Any]:
        """The settings of the constructor."""
        return {**super().get_config(), "dimension": self.dimension}


@keras.saving.register_keras_serializable(package="tfrankloss")
class ApplyToLists(keras.layers.Layer):
    """A model of single items, applied to every item of lists.

    Use it to give lists of candidates to a tower or scorer written for one. Both axes are merged, so the model sees
    (B * L, ...) items of any dtype and any number of inputs. Its weights stay its own: nothing is copied. B and L may
    be unknown until run time. `keras.layers.TimeDistributed` takes neither several inputs nor strings.

    Call it with inputs (B, L, ...) in the structure the model expects; it returns (B, L, ...).

    Args:
        model: A functional or Sequential Keras model with one output.
        **kwargs: As in `keras.layers.Layer`.

    Raises:
        TypeError: If ``model`` is not a Keras model.

    Example:
        >>> import numpy as np
        >>> item = keras.Input((2,))
        >>> total = keras.Model(item, keras.ops.sum(item, axis=-1))
        >>> lists = np.array([[[1.0, 2.0], [3.0, 4.0]]])
        >>> keras.ops.convert_to_numpy(ApplyToLists(total)(lists)).tolist()
        [[3.0, 7.0]]
    """

    def __init__(self, model: keras.Model, **kwargs: Any):
        errors.check_kind("model", model, keras.Model, "a Keras model")
        super().__init__(**kwargs)
        self.model = model

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Outputs (B, L, ...) of the model for ``inputs`` (B, L, ...)."""
        lists = ops.shape(keras.tree.flatten(inputs)[0])[:2]
        items = keras.tree.map_structure(lambda x: ops.reshape(x, (lists[0] * lists[1], *x.shape[2:])), inputs)
        outputs = self.model(items, training=training)
        return ops.reshape(outputs, (*lists, *outputs.shape[1:]))

    def compute_output_spec(self, inputs: Any, training: bool | None = None) -> keras.KerasTensor:
        """Shape and dtype of the outputs, without tracing: not every backend can trace strings and unknown axes."""
        output = self.model.outputs[0]
        return keras.KerasTensor((*keras.tree.flatten(inputs)[0].shape[:2], *output.shape[1:]), dtype=output.dtype)

    def get_config(self) -> dict[str, Any]:
        """The settings of the constructor."""
        return {**super().get_config(), "model": keras.saving.serialize_keras_object(self.model)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ApplyToLists":
        """The layer of ``config``."""
        return cls(
            keras.saving.deserialize_keras_object(config["model"]), **{k: v for k, v in config.items() if k != "model"}
        )


def _check_embeddings(queries_shape: errors.Shape, candidates_shape: errors.Shape) -> None:
    """Raise unless (B, D) queries and (B, D) or (B, L, D) candidates belong together."""
    errors.check_rank("queries", queries_shape, 2, "(batch, embedding)")
    if len(candidates_shape) != 2:
        errors.check_rank("candidates", candidates_shape, 3, "(batch, embedding) or (batch, list_size, embedding)")
    if errors.shapes_differ(queries_shape, (candidates_shape[0], candidates_shape[-1])):
        raise ValueError(
            "`queries` and `candidates` must have the same batch and embedding sizes. "
            f"Received: queries.shape={tuple(queries_shape)}, candidates.shape={tuple(candidates_shape)}"
        )


def _feature_vectors(layer: keras.layers.Layer, size: int | None, dimension: int) -> Any:
    """The weight (F, D) of a layer over F features."""
    if size is None:
        raise ValueError("`inputs` must have a known number of features. Received: inputs.shape[-1]=None")
    # Vectors of zeros would have no gradient where only products of two of them are used.
    normal = keras.initializers.RandomNormal(stddev=0.05)
    return layer.add_weight(shape=(size, dimension), initializer=normal, name="vectors")
