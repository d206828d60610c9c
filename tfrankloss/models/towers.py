"""What a tower is: a functional Keras model of single items with named dense inputs and one embedding (B, D).

Checks towers, calls them by input name, and keeps the layers that two towers share shared when they are loaded again.
"""

import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tfrankloss import errors
from tfrankloss.layers import ApplyToLists

# What Keras calls an input that was given no name.
_UNNAMED = re.compile(r"(keras_tensor|input_layer)(_\d+)?")


def input_names(tower: keras.Model) -> list[str]:
    """The names of the inputs of a tower."""
    return [x.name for x in tower.inputs]


def check_tower(name: str, tower: Any) -> None:
    """Raise unless ``tower`` is a model with named dense inputs and one output."""
    errors.check_kind(name, tower, keras.Model, "a functional or Sequential Keras model")
    if not getattr(tower, "inputs", None):
        raise ValueError(
            f"`{name}` must be a functional Keras model, or a Sequential one that starts with keras.Input, so that its "
            f"inputs are known. {errors.received(name, tower)}"
        )
    unnamed = [x for x in input_names(tower) if _UNNAMED.fullmatch(x)]
    if unnamed:
        raise ValueError(f"`{name}` must have named inputs, as in keras.Input(name='age'). Received: inputs={unnamed}")
    loose = [x.name for x in tower.inputs if getattr(x, "sparse", False) or getattr(x, "ragged", False)]
    if loose:
        raise ValueError(f"`{name}` must have dense inputs: pad lists. Received: sparse or ragged inputs={loose}")
    # A Sequential model has no dict of inputs, and `input` only once it was called.
    structure = tower.inputs if isinstance(tower, keras.Sequential) else tower.input
    crossed = {key: x.name for key, x in structure.items() if key != x.name} if isinstance(structure, dict) else {}
    if crossed:
        raise ValueError(f"`{name}` must have input keys equal to the input names. Received: keys to names={crossed}")
    if len(tower.outputs) != 1:
        raise ValueError(f"`{name}` must have one output. Received: {len(tower.outputs)} outputs")


def check_towers(query_tower: Any, candidate_tower: Any) -> None:
    """Raise unless both are towers with embeddings of one size and no name in common."""
    for name, tower in (("query_tower", query_tower), ("candidate_tower", candidate_tower)):
        check_tower(name, tower)
        errors.check_rank(f"{name} output", tower.outputs[0].shape, 2, "(batch, embedding)")
    sizes = [tower.outputs[0].shape[-1] for tower in (query_tower, candidate_tower)]
    if sizes[0] is None or sizes[0] != sizes[1]:
        raise ValueError(
            "`query_tower` and `candidate_tower` must have embeddings of the same known size. "
            f"Received: query_tower={sizes[0]}, candidate_tower={sizes[1]}"
        )
    names = [query_tower.name, candidate_tower.name, *input_names(query_tower), *input_names(candidate_tower)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            "`query_tower` and `candidate_tower` must have model and input names that all differ, because their inputs "
            f"become one dict: rename, as in keras.Input(name='candidate_{twice[0]}'). "
            f"Received: names used twice={twice}"
        )


def list_inputs(tower: keras.Model, axes: tuple[int | None, ...] = ()) -> dict[str, keras.KerasTensor]:
    """New inputs of the tower by name, with ``axes`` put between the batch axis and the rest."""
    return {x.name: keras.Input((*axes, *x.shape[1:]), dtype=x.dtype, name=x.name) for x in tower.inputs}


def arranged(tower: keras.Model, tensors: Mapping[str, Any]) -> Any:
    """The named tensors in the structure that the tower takes."""
    if isinstance(tower, keras.Sequential):
        return tensors[tower.inputs[0].name]
    return keras.tree.map_structure(lambda x: tensors[x.name], tower.input)


def named(name: str, tower: keras.Model, inputs: Any) -> dict[str, Any]:
    """The tower's inputs by name, out of a mapping with perhaps more, or of the array of its only input."""
    names = input_names(tower)
    if not isinstance(inputs, Mapping):
        inputs = {names[0]: inputs} if len(names) == 1 else {}
    missing = [x for x in names if x not in inputs]
    if missing:
        raise ValueError(f"`{name}` must hold every input of its tower. Received: missing inputs={missing}")
    return {x: inputs[x] for x in names}


def check_rows(name: str, tower: keras.Model, arrays: Mapping[str, np.ndarray]) -> None:
    """Raise unless there is at least one row, of whole numbers where the tower takes those."""
    for tensor in tower.inputs:
        array = arrays[tensor.name]
        if not array.ndim or not len(array):
            raise ValueError(f"`{name}` must hold at least one row. Received: {tensor.name}.shape={array.shape}")
        if "int" in tensor.dtype and array.dtype.kind not in "biu":
            raise TypeError(f"`{name}` must hold integers as {tensor.name!r}. Received: dtype={array.dtype}")
        if "float" in tensor.dtype and array.dtype.kind not in "biuf":
            raise TypeError(f"`{name}` must hold numbers as {tensor.name!r}. Received: dtype={array.dtype}")


def apply_tower(tower: keras.Model, inputs: Mapping[str, Any], lists: bool) -> Any:
    """Embeddings (B, D) of named inputs, or (B, L, D) where the inputs are ``lists``."""
    model = ApplyToLists(tower, name=f"{tower.name}_of_lists") if lists else tower
    return model(arranged(tower, inputs))


def shared_layers(first: keras.Model, second: keras.Model) -> list[str]:
    """The names of the layers, with weights, that stand directly in both towers.

    Raises:
        ValueError: If weights are shared in any other way, which could not be restored.
    """
    in_first = {id(layer) for layer in first.layers}
    layers = [layer for layer in second.layers if id(layer) in in_first and layer.weights]
    restorable = {id(weight) for layer in layers for weight in layer.weights}
    both = {id(weight) for weight in first.weights} & {id(weight) for weight in second.weights}
    if both - restorable:
        lost = [weight.path for weight in second.weights if id(weight) in both - restorable]
        raise ValueError(
            f"`candidate_tower` must share whole layers, not parts of nested models. Received: shared={lost}"
        )
    return [layer.name for layer in layers]


def share_layers(first: keras.Model, second: keras.Model, names: list[str]) -> keras.Model:
    """The second tower with the named layers replaced by those of the first.

    Keras restores each tower on its own, so a table of item embeddings used by both would come back as two tables.
    """
    if not names:
        return second
    shared = {name: first.get_layer(name) for name in names}
    return keras.models.clone_model(second, clone_function=lambda layer: shared.get(layer.name, layer))
