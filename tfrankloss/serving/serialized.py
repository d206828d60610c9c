"""Signatures that take serialized features: a tf.Example per row, or an ExampleListWithContext per list."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from tfrankloss import errors
from tfrankloss.data import records
from tfrankloss.serving.features import Features, Specs
from tfrankloss.serving.signature import Outputs, Signature

ExampleSpec = dict[str, Any]


def example_spec(specs: Specs, given: Any) -> ExampleSpec:
    """How features are read from a tf.Example.

    Scalars and numbers of a fixed shape must be there whole. A list of integers or strings, such as a history, may be
    shorter than the model takes: it is padded at its end with 0 or "".

    Args:
        specs: The features, as a signature takes them.
        given: "auto", or `tf.io.FixedLenFeature` or `tf.io.RaggedFeature` by name for those that are read otherwise.
    """
    given = {} if isinstance(given, str) else given
    for name in specs:
        if name in given:
            kinds = (tf.io.FixedLenFeature, tf.io.RaggedFeature)
            errors.check_kind(f"example_spec[{name!r}]", given[name], kinds, "a FixedLenFeature or a RaggedFeature")
    return {name: given.get(name) or _read(spec) for name, spec in specs.items()}


def check_names(given: Any, names: set[str]) -> None:
    """Raise if a spec tells of features that there are not."""
    unknown = [] if isinstance(given, (str, type(None))) else sorted(set(given) - names)
    if unknown:
        raise ValueError(f"`example_spec` must hold features among {sorted(names)}. Received: {unknown}")


def _read(spec: tf.TensorSpec) -> Any:
    dtype = tf.string if spec.dtype == tf.string else tf.float32 if spec.dtype.is_floating else tf.int64
    if spec.shape.rank == 2 and dtype != tf.float32:
        return tf.io.RaggedFeature(dtype)
    return tf.io.FixedLenFeature(spec.shape[1:], dtype)


def fitted(values: tf.Tensor, spec: tf.TensorSpec, lists: bool = False) -> tf.Tensor:
    """What was read in the type and shape that the model takes; short histories padded at the end.

    Fails, when asked, for an integer that does not fit and for a history that is too long.
    """
    cast = tf.cast(values, spec.dtype)
    axis = 2 if lists else 1
    checks = []
    if spec.dtype != values.dtype and spec.dtype.is_integer:
        message = [f"`{spec.name}` must fit into {spec.dtype.name}"]
        checks.append(tf.debugging.Assert(tf.reduce_all(tf.cast(cast, values.dtype) == values), message))
    if spec.shape.rank == axis + 1 and spec.shape[axis] is not None and values.shape[axis] != spec.shape[axis]:
        size = tf.shape(values)[axis]
        message = [f"`{spec.name}` must hold at most {spec.shape[axis]} values. Received:", size]
        checks.append(tf.debugging.Assert(size <= spec.shape[axis], message))
        with tf.control_dependencies(checks):
            missing = tf.maximum(spec.shape[axis] - size, 0)
            cast = tf.pad(cast, [*[[0, 0]] * axis, [0, missing]])
    with tf.control_dependencies(checks):
        return tf.ensure_shape(tf.identity(cast), spec.shape)


def of_examples(name: str, argument: str, signature: Signature, spec: ExampleSpec) -> Signature:
    """``signature`` asked with one serialized tf.Example per row, under the one ``argument``."""
    specs = signature.inputs

    def compute(tensors: dict[str, tf.Tensor]) -> Outputs:
        parsed = records.parse_examples(tensors[argument], spec)
        return signature.compute({key: fitted(parsed[key], specs[key]) for key in specs})

    def encode(asked: Features) -> Features:
        rows = range(len(next(iter(asked.values()))))
        return {argument: [records.to_example({key: asked[key][row] for key in specs}) for row in rows]}

    inputs = {argument: tf.TensorSpec((None,), tf.string, name=argument)}
    return replace(signature, name=name, inputs=inputs, compute=compute, features=specs, encode=encode)


def of_lists(
    name: str,
    argument: str,
    signature: Signature,
    spec: ExampleSpec,
    lists: frozenset[str],
    list_size: int | None,
) -> Signature:
    """``signature``, which takes features and ``mask``, asked with one serialized ExampleListWithContext per list."""
    specs = {key: value for key, value in signature.inputs.items() if key != "mask"}

    def compute(tensors: dict[str, tf.Tensor]) -> Outputs:
        context, items, mask = records.parse_elwc(
            tensors[argument],
            {key: spec[key] for key in specs if key not in lists},
            {key: spec[key] for key in specs if key in lists},
            list_size,
        )
        features = {key: fitted(value, specs[key]) for key, value in context.items()}
        features.update({key: fitted(value, specs[key], lists=True) for key, value in items.items()})
        return signature.compute({**features, "mask": mask})

    def encode(asked: Features) -> Features:
        return {argument: [_elwc(asked, row, specs, lists) for row in range(len(asked["mask"]))]}

    inputs = {argument: tf.TensorSpec((None,), tf.string, name=argument)}
    return replace(signature, name=name, inputs=inputs, compute=compute, features=specs, encode=encode)


def _elwc(asked: Features, row: int, specs: Mapping[str, Any], lists: frozenset[str]) -> bytes:
    context = {key: asked[key][row] for key in specs if key not in lists}
    places = np.flatnonzero(asked["mask"][row])
    return records.to_elwc(context, [{key: asked[key][row, place] for key in lists} for place in places])


def rows_of(specs: Specs, lists: frozenset[str]) -> Specs:
    """The features of one item in a row: those of lists without the list axis."""
    return {
        key: tf.TensorSpec((None, *value.shape[2:]), value.dtype, name=key) if key in lists else value
        for key, value in specs.items()
    }
