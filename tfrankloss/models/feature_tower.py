"""A tower over categorical, numeric and multi-valued features: Keras' preprocessing, then a network."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from tfrankloss import errors
from tfrankloss.layers import SafeMeanPooling
from tfrankloss.models.scorers import check_network

_FORM = "pairs of a keras.Input with a name and a layer, a list of layers or None"


def mlp_tower(
    features: Any,
    dimension: int = 32,
    hidden: Sequence[int] = (64,),
    *,
    embedding: int = 16,
    activation: Any = "relu",
    dropout: float = 0.0,
    name: str = "mlp_tower",
) -> keras.Model:
    """A tower over raw features: a network over what Keras' preprocessing layers make of them.

    Preprocessing is part of the tower, so what is saved and exported takes raw features: an exported model is asked
    with the words and numbers that it was trained on. Lookups of strings run in a model on TensorFlow only.

    Each feature is a pair of its input and its preprocessing: a layer, several of them one after the other, or None.
    What comes out is joined to the rest
        - as it is, if it is numbers (B,) or (B, F), as those of `keras.layers.Normalization`
        - through an embedding, if it is integers (B,), as those of `StringLookup`, `IntegerLookup`, `Hashing` and
          `Discretization`
        - through the mean of embeddings, if it is integers (B, H): several values, of which 0 is padding, as with
          ``StringLookup(mask_token="")``
        - through the mean, if it is embeddings (B, H, E) that the pair's own `Embedding` made

    Args:
        features: The pairs; or a `keras.utils.FeatureSpace` with output mode "concat" that has been adapted. That one
            takes features of one value only, and has categories as one-hot.
        dimension: Size D of what comes out.
        hidden: Units of the hidden layers; none for a linear model.
        embedding: Size of the embeddings of integers.
        activation: Activation of the hidden layers, as in `keras.layers.Dense`.
        dropout: Fraction of each hidden layer dropped in training, from 0 to below 1.
        name: Name of the model; two towers need two names.

    Returns:
        A functional Keras model from a dict of features by name to embeddings (B, D), as `two_tower` takes it.

    Raises:
        TypeError: If ``features`` is neither, or a size is not an integer.
        ValueError: If there are no features, one has no name, or the integers of one have no known number, and for
            sizes below 1 or a ``dropout`` outside of [0, 1).

    Example:
        >>> import numpy as np
        >>> from keras.layers import Embedding, IntegerLookup, Normalization
        >>> features = [
        ...     (keras.Input((), name="price"), Normalization(axis=None, mean=20.0, variance=25.0)),
        ...     (keras.Input((), dtype="int32", name="year"), IntegerLookup(vocabulary=[1995, 1996])),
        ...     (keras.Input((3,), dtype="int32", name="genres"), Embedding(10, 4, mask_zero=True)),
        ... ]
        >>> tower = mlp_tower(features, dimension=8, name="items")
        >>> raw = {"price": np.array([9.5]), "year": np.array([1996]), "genres": np.array([[4, 7, 0]])}
        >>> tower.predict(raw, verbose=0).shape
        (1, 8)
    """
    check_network(dimension, hidden, dropout)
    errors.check_positive_integer("embedding", embedding)
    if isinstance(features, keras.utils.FeatureSpace):
        inputs, joined = _from_feature_space(features)
    else:
        inputs, joined = _from_pairs(features, embedding)
    for units in hidden:
        joined = layers.Dense(units, activation=activation)(joined)
        if dropout:
            joined = layers.Dropout(dropout)(joined)
    return keras.Model(inputs, layers.Dense(dimension)(joined), name=name)


def _from_feature_space(space: keras.utils.FeatureSpace) -> tuple[dict[str, Any], Any]:
    """Inputs (B,) by name and what the space makes of them, (B, F)."""
    errors.check_choice("features.output_mode", space.output_mode, ("concat",))
    own = dict(space.get_inputs())
    encoder = keras.Model(own, space.get_encoded_features(), name="feature_space")
    # A space has columns (B, 1), where tables and requests have (B,).
    inputs = {name: keras.Input((), dtype=x.dtype, name=name) for name, x in own.items()}
    return inputs, encoder({name: layers.Reshape((1,))(x) for name, x in inputs.items()})


def _from_pairs(features: Any, embedding: int) -> tuple[dict[str, Any], Any]:
    """Inputs by name and all that is made of them, (B, F)."""
    errors.check_kind("features", features, (list, tuple), f"a keras.utils.FeatureSpace or a list of {_FORM}")
    if not features:
        raise ValueError("`features` must hold at least one feature. Received: features=[]")
    inputs, columns = {}, []
    for pair in features:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not isinstance(pair[0], keras.KerasTensor):
            raise TypeError(f"`features` must hold {_FORM}. {errors.received('features', pair)}")
        tensor, preprocessing = pair
        if tensor.name in inputs:
            raise ValueError(f"`features` must have names that all differ. Received: {tensor.name!r} twice")
        inputs[tensor.name] = tensor
        columns.append(_column(tensor, preprocessing, embedding))
    return inputs, columns[0] if len(columns) == 1 else layers.concatenate(columns)


def _column(tensor: Any, preprocessing: Any, embedding: int) -> Any:
    """What one feature adds to the features (B, F) of the network."""
    given = preprocessing if isinstance(preprocessing, (list, tuple)) else [preprocessing]
    steps = [step for step in given if step is not None]
    value = tensor
    for step in steps:
        errors.check_callable("features", step)
        value = step(value)
    if "int" in value.dtype:
        size = _number_of_integers(tensor.name, steps[-1] if steps else None)
        value = layers.Embedding(size, embedding, mask_zero=len(value.shape) > 1, name=f"{tensor.name}_embedding")(
            value
        )
    if "float" not in value.dtype:
        raise ValueError(
            "`features` must become numbers: give words a lookup, as keras.layers.StringLookup. "
            f"Received: {tensor.name!r} of dtype {value.dtype}"
        )
    if len(value.shape) == 1:
        return layers.Reshape((1,))(value)
    return SafeMeanPooling()(value) if len(value.shape) == 3 else value


def _number_of_integers(name: str, layer: Any) -> int:
    """How many integers a preprocessing layer can give."""
    if hasattr(layer, "vocabulary_size"):
        return int(layer.vocabulary_size())
    if isinstance(layer, layers.Discretization):
        return len(layer.bin_boundaries) + 1
    if getattr(layer, "num_bins", None):
        return int(layer.num_bins)
    raise ValueError(
        "`features` must say how many integers there are: end the preprocessing of integers with a lookup or with "
        f"keras.layers.Embedding. Received: {name!r} with {layer!r}"
    )
