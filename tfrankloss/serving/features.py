"""What a Keras model takes: its inputs as arguments of a signature, and the layers and tables inside it."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrankloss import errors

Features = Mapping[str, Any]
Specs = dict[str, tf.TensorSpec]

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_NAMED_BY_KERAS = re.compile(r"(keras_tensor|input_layer)(_\d+)?")


@dataclass(frozen=True)
class Stage:
    """A functional Keras model and the model in front of it, called on a dict of raw features.

    Eagerly this is `__call__`, in signatures ``graph``.

    Args:
        name: What messages call it, as in "model.query_tower".
        model: A functional model with dict inputs, or with one.
        preprocessing: A functional model from the raw features to the inputs of ``model``, or None.
    """

    name: str
    model: keras.Model
    preprocessing: keras.Model | None = None
    graph: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Traced once for all signatures that call it.
        object.__setattr__(self, "graph", tf.function(self.__call__, autograph=False))
        _check_functional(self.name, self.model)
        if self.preprocessing is not None:
            name = f"preprocessing of {self.name}"
            _check_functional(name, self.preprocessing)
            made = self.preprocessing.output
            taken = sorted(tensor.name for tensor in self.model.inputs)
            if sorted(made) != taken if isinstance(made, dict) else len(taken) != 1:
                raise ValueError(
                    f"`{name}` must output a dict with the keys {taken}. {errors.received('outputs', made)}"
                )

    @property
    def first(self) -> keras.Model:
        """The model that takes the raw features."""
        return self.preprocessing or self.model

    @property
    def models(self) -> tuple[keras.Model, ...]:
        """The models of this stage."""
        return (self.model,) if self.preprocessing is None else (self.preprocessing, self.model)

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """The shape of the only output."""
        return self.model.outputs[0].shape

    def __call__(self, features: Features) -> Any:
        """The output of the model for raw features, as at inference."""
        value: Any = dict(features)
        for model in self.models:
            value = model(_arranged(model, value), training=False)
        (output,) = keras.tree.flatten(value)
        return output

    @property
    def inputs(self) -> dict[str, keras.KerasTensor]:
        """What the raw features are, by the keys they are given under."""
        structure = _structure(self.first)
        return structure if isinstance(structure, dict) else {tensor.name: tensor for tensor in self.first.inputs}

    def specs(self, lists: Collection[str] = (), list_size: int | None = None) -> Specs:
        """The arguments of a signature that takes this stage's raw features.

        Args:
            lists: The features whose axis 1 may be of any length, as those of the items of a ranker.
            list_size: What such an axis is fixed to; None leaves it open.

        Returns:
            TensorSpec by name; scalar features have shape (batch,).
        """
        return {key: _spec(key, tensor, key in lists, list_size) for key, tensor in self.inputs.items()}


def _check_functional(name: str, model: Any) -> None:
    errors.check_kind(name, model, keras.Model, "a functional keras.Model")
    if not getattr(model, "inputs", None):
        raise ValueError(
            f"`{name}` must be built from named keras.Input objects (functional): a signature takes its arguments from "
            f"them. {errors.received(name, model)}"
        )


def _structure(model: keras.Model) -> Any:
    # A Sequential model has `input` only once it was called.
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def _arranged(model: keras.Model, value: Any) -> Any:
    """Tensors by name in the structure that the model takes; anything else is its only input."""
    if not isinstance(value, dict):
        value = {model.inputs[0].name: value}
    return keras.tree.map_structure(lambda tensor: value[tensor.name], _structure(model))


def _spec(key: str, tensor: keras.KerasTensor, listed: bool, list_size: int | None) -> tf.TensorSpec:
    _check_name(key, tensor)
    # Keras before 3.10 has no ragged tensors.
    sparse, ragged = tensor.sparse, getattr(tensor, "ragged", False)
    if sparse or ragged:
        raise ValueError(
            f"`{key}` must be a dense input: a signature would take a sparse or ragged one as dense without a word. "
            f"Received: sparse={sparse}, ragged={ragged}"
        )
    batch, *shape = tensor.shape
    if batch is not None:
        raise ValueError(f"`{key}` must have a batch axis of any size. Received: shape={tensor.shape}")
    if listed and shape and shape[0] is None:
        open_axes = shape[1:]
        shape[0] = list_size
    else:
        open_axes = shape
    if None in open_axes:
        raise ValueError(
            f"`{key}` must have a fixed shape after the batch axis, as in keras.Input(shape=(20,)): where TF Serving "
            f"joins requests it pads them with their first element. Received: shape={tensor.shape}"
        )
    # A trailing axis of one makes REST clients fail, and Keras adds it back by itself.
    shape = [] if shape == [1] and not listed else shape
    return tf.TensorSpec((None, *shape), tensor.dtype, name=key)


def _check_name(key: Any, tensor: keras.KerasTensor) -> None:
    """Keras names arguments after ``Input(name=)``; a key that differs would swap inputs silently."""
    if not isinstance(key, str) or not NAME.fullmatch(key) or key == "self":
        raise ValueError(
            f"`Input(name=)` must be a letter, then letters, digits or underscores, and not 'self'. "
            f"Received: name={key!r}"
        )
    if key != tensor.name:
        raise ValueError(f"`Input(name=)` must equal its key in the dict. Received: name={tensor.name!r}, key={key!r}")
    if _NAMED_BY_KERAS.fullmatch(key):
        raise ValueError(f"`Input(name=)` must be given: a client asks by this name. Received: name={key!r}")


def exact_array(name: str, values: Any, dtype: tf.DType) -> np.ndarray:
    """``values`` as an array of ``dtype``, where each of them has its place.

    Raises:
        TypeError: If text is given for numbers or numbers for text, or fractions for integers.
        ValueError: If an integer is out of range.
    """
    if dtype == tf.string:
        return _text(name, values)
    array = np.asarray(values)
    if array.dtype.kind == "O":
        array = np.array(array.tolist())
    wanted = np.dtype(dtype.as_numpy_dtype)
    fitting = "biu" if dtype.is_integer else "b" if dtype.is_bool else "biuf"
    # An empty list is of floats to NumPy.
    if array.size and array.dtype.kind not in fitting:
        raise TypeError(f"`{name}` must hold values of type {dtype.name}. Received: {name}.dtype={array.dtype}")
    if dtype.is_integer and array.size:
        limits = np.iinfo(wanted)
        least, largest = int(array.min()), int(array.max())
        if least < limits.min or largest > limits.max:
            raise ValueError(f"`{name}` must fit into {dtype.name}. Received: values from {least} to {largest}")
    return array.astype(wanted)


def _text(name: str, values: Any) -> np.ndarray:
    # NumPy's own text drops zero bytes at the end, of which serialized messages have some.
    array = values.astype(object) if isinstance(values, np.ndarray) else np.array(values, dtype=object)
    if not all(isinstance(value, (str, bytes)) for value in array.flat):
        raise TypeError(f"`{name}` must hold values of type string. Received: {name}.dtype={np.asarray(values).dtype}")
    return array


def layers_and_tables(
    models: Iterable[keras.Model],
) -> tuple[list[keras.layers.Layer], list[tf.saved_model.experimental.TrackableResource]]:
    """Every layer inside the models, and every lookup table among the attributes of those layers."""
    found = list(_walk(list(models), set()))
    layers = [value for value in found if isinstance(value, keras.layers.Layer)]
    return layers, [value for value in found if isinstance(value, tf.saved_model.experimental.TrackableResource)]


def _walk(values: list[Any], seen: set[int]) -> Iterator[Any]:
    """Layers and tables, through attributes, lists and dicts: tf.train.TrackableView misses layers in a plain list."""
    pending = values
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, keras.layers.Layer):
            yield value
            pending.extend(vars(value).values())
        elif isinstance(value, tf.saved_model.experimental.TrackableResource):
            yield value
        elif isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, (list, tuple, set)):
            pending.extend(value)
