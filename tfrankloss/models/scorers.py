"""Scoring models: features of lists (B, L, F) in, scores (B, L) out."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from tfrankloss import errors
from tfrankloss.layers import FeatureVectors
from tfrankloss.models import towers


def list_scorer(item_model: keras.Model, list_size: int | None = None, name: str | None = None) -> keras.Model:
    """A model that scores every item of a list with one model of single items.

    Use it to train any per-item model with a ranking loss. Items are scored apart from each other, so the scores depend
    neither on the order of the list nor on its padding, unless the item model has batch normalisation, which sees
    padded items too.

    Args:
        item_model: A functional or Sequential model with named inputs (N, ...) and one output (N, 1) or (N,).
        list_size: Items per list, or None where it varies.
        name: Name of the model.

    Returns:
        A functional Keras model to scores (B, L), from what the item model takes, with a list axis: a dict of its
        inputs, (B, L, ...) each, or the one input (B, L, ...) of an item model that is not built on a dict.

    Raises:
        TypeError: If ``item_model`` is not a Keras model.
        ValueError: If its inputs have no names, it has several outputs or an output of another shape.

    Example:
        >>> import numpy as np
        >>> price = keras.Input((), name="price")
        >>> model = list_scorer(keras.Model(price, -price))
        >>> model.predict(np.array([[1.0, 2.0], [4.0, 3.0]]), verbose=0).tolist()
        [[-1.0, -2.0], [-4.0, -3.0]]
    """
    towers.check_tower("item_model", item_model)
    errors.check_positive_integer("list_size", list_size, optional=True)
    shape = item_model.outputs[0].shape
    if len(shape) > 2 or (len(shape) == 2 and shape[1] != 1):
        raise ValueError(f"`item_model` must give one score per item, (N, 1) or (N,). Received: output shape={shape}")
    inputs = towers.list_inputs(item_model, (list_size,))
    scores = towers.apply_tower(item_model, inputs, lists=True)
    one_tensor = isinstance(item_model, keras.Sequential) or isinstance(item_model.input, keras.KerasTensor)
    taken = next(iter(inputs.values())) if one_tensor else inputs
    return keras.Model(taken, ops.squeeze(scores, axis=-1) if len(shape) == 2 else scores, name=name)


def linear_scorer(num_features: int, list_size: int | None = None, name: str = "linear_scorer") -> keras.Model:
    """A linear model of list features: the least that a ranking loss should be compared on.

    Formula: `score = w . x`; there is no bias, because no ranking depends on it.

    Args:
        num_features: Features per item, F.
        list_size: Items per list, or None where it varies.
        name: Name of the model.

    Returns:
        A functional Keras model from features (B, L, F) to scores (B, L); exported, its argument is named "features".

    Raises:
        TypeError: If a size is not an integer.
        ValueError: If a size is below 1.

    Example:
        >>> linear_scorer(num_features=46, list_size=120).output_shape
        (None, 120)
    """
    return mlp_scorer(num_features, hidden=(), list_size=list_size, name=name)


def mlp_scorer(
    num_features: int,
    hidden: Sequence[int] = (128, 64, 32),
    *,
    activation: Any = "relu",
    dropout: float = 0.0,
    list_size: int | None = None,
    name: str = "mlp_scorer",
) -> keras.Model:
    """A multilayer perceptron of list features, the usual scorer for LETOR data.

    Features should be on one scale (standardised, or log1p of counts). There is no batch normalisation: it would mix
    the items of other lists and padding into the scores.

    Args:
        num_features: Features per item, F.
        hidden: Units of the hidden layers; none for a linear model.
        activation: Activation of the hidden layers, as in `keras.layers.Dense`.
        dropout: Fraction of each hidden layer dropped in training, from 0 to below 1.
        list_size: Items per list, or None where it varies.
        name: Name of the model.

    Returns:
        A functional Keras model from features (B, L, F) to scores (B, L); exported, its argument is named "features".

    Raises:
        TypeError: If a size is not an integer.
        ValueError: If a size is below 1 or ``dropout`` lies outside [0, 1).

    Example:
        >>> mlp_scorer(num_features=46, hidden=(16, 8)).count_params()
        896
    """
    check_network(num_features, hidden, dropout)
    item = keras.Sequential([keras.Input((num_features,), name="features")], name="item_scorer")
    for units in hidden:
        item.add(keras.layers.Dense(units, activation=activation))
        if dropout:
            item.add(keras.layers.Dropout(dropout))
    item.add(keras.layers.Dense(1, use_bias=False))
    return list_scorer(item, list_size=list_size, name=name)


def deep_fm_scorer(
    num_features: int,
    dimension: int = 8,
    hidden: Sequence[int] = (128, 64, 32),
    *,
    activation: Any = "relu",
    dropout: float = 0.0,
    list_size: int | None = None,
    name: str = "deep_fm_scorer",
) -> keras.Model:
    """A factorization machine and a network over the same vectors of the same features, their scores added (DeepFM).

    The machine sees all pairs of features, the network what takes more than two. Feature f with value x is the vector
    `x v_f` to both, with one table of vectors, which is why neither needs pretraining.

    Args:
        num_features: Features per item, F, on one scale; one-hot where they are categories.
        dimension: Size D of the vectors; the network starts from F * D numbers.
        hidden: Units of the hidden layers; none for a network that is linear.
        activation: Activation of the hidden layers, as in `keras.layers.Dense`.
        dropout: Fraction of each hidden layer dropped in training, from 0 to below 1.
        list_size: Items per list, or None where it varies.
        name: Name of the model.

    Returns:
        A functional Keras model from features (B, L, F) to scores (B, L); exported, its argument is named "features".

    Raises:
        TypeError: If a size is not an integer.
        ValueError: If a size is below 1 or ``dropout`` lies outside [0, 1).

    Example:
        >>> deep_fm_scorer(num_features=10, dimension=4, hidden=(16,)).count_params()  # 10 + 40, (40 + 1) * 16, 16
        722

    Source: Guo et al., "DeepFM: A Factorization-Machine based Neural Network for CTR Prediction" (2017),
    arXiv:1703.04247.
    """
    check_network(num_features, hidden, dropout)
    features = keras.Input((num_features,), name="features")
    vectors = FeatureVectors(dimension, name="feature_vectors")(features)
    # The pairs of a factorization machine: square of the sum less sum of the squares.
    pairs = ops.square(ops.sum(vectors, axis=1)) - ops.sum(ops.square(vectors), axis=1)
    crossed = 0.5 * ops.sum(pairs, axis=-1, keepdims=True)
    deep = keras.layers.Flatten()(vectors)
    for units in hidden:
        deep = keras.layers.Dense(units, activation=activation)(deep)
        if dropout:
            deep = keras.layers.Dropout(dropout)(deep)
    scores = keras.layers.add([keras.layers.Dense(1, use_bias=False)(x) for x in (features, deep)] + [crossed])
    return list_scorer(keras.Model(features, scores, name="item_scorer"), list_size=list_size, name=name)


def check_network(num_features: Any, hidden: Any, dropout: Any) -> None:
    """Raise unless these are the sizes of a network and a fraction to drop."""
    errors.check_positive_integer("num_features", num_features)
    errors.check_kind("hidden", hidden, Sequence, "a sequence of integers, as in (64, 32)")
    for units in hidden:
        errors.check_positive_integer("hidden", units)
    errors.check_number("dropout", dropout)
    if not 0 <= dropout < 1:
        raise ValueError(f"`dropout` must be at least 0 and less than 1. {errors.received('dropout', dropout)}")
