"""Requests to check an export with: rows of raw features, and batches of them for a signature."""

from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrankloss.serving.features import Specs, exact_array
from tfrankloss.serving.signature import Signature

Rows = dict[str, np.ndarray]

_ROWS = 8
_LIST_SIZE = 5
_BATCH_SIZES = (1, 2, 7)


def probe_rows(specs: Specs, layers: Iterable[keras.layers.Layer], probe: Mapping[str, Any] | None) -> Rows:
    """Rows of raw features: the given ones or made ones, and one with an empty history.

    Args:
        specs: The features.
        layers: Layers to read vocabularies from.
        probe: Values by feature, or None.

    Returns:
        Arrays by feature, equally long.

    Raises:
        ValueError: If the names, shapes or lengths of ``probe`` do not fit.
    """
    rows = _made(specs, list(layers)) if probe is None else _given(specs, probe)
    # Zeros and empty strings are padding: this is how a user without a past comes to the server.
    empty = {name: _empty(values[:1], specs[name]) for name, values in rows.items()}
    return {name: np.concatenate([empty[name], values]) for name, values in rows.items()}


def _empty(first: np.ndarray, spec: tf.TensorSpec) -> np.ndarray:
    if first.ndim < 2 or spec.dtype.is_floating:
        return first
    return np.full_like(first, "" if spec.dtype == tf.string else 0)


def _given(specs: Specs, probe: Mapping[str, Any]) -> Rows:
    if set(probe) != set(specs):
        raise ValueError(f"`probe` must hold the features {sorted(specs)}. Received: {sorted(probe)}")
    rows = {name: exact_array(name, probe[name], spec.dtype) for name, spec in specs.items()}
    for name, spec in specs.items():
        if not spec.shape.is_compatible_with(rows[name].shape):
            raise ValueError(f"`{name}` must have shape {tuple(spec.shape)}. Received: probe shape {rows[name].shape}")
    lengths = {name: len(values) for name, values in rows.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ValueError(f"`probe` must hold one or more rows, as many for each feature. Received: lengths={lengths}")
    return rows


def _made(specs: Specs, layers: list[keras.layers.Layer]) -> Rows:
    """Zeros, then random rows: numbers in [0, 1), integers that every table holds, known and unknown words."""
    generator = np.random.default_rng(0)
    tokens = ["", "unknown"]
    for layer in layers:
        if isinstance(layer, keras.layers.StringLookup):
            # The end too: a vocabulary cut short loses its last words.
            words = layer.get_vocabulary(include_special_tokens=False)
            tokens += [*words[:4], *words[-4:]]
    limits = [size for layer in layers for size in (getattr(layer, "input_dim", None),) if isinstance(size, int)]
    rows: Rows = {}
    for name, spec in specs.items():
        shape = (_ROWS, *(size or _LIST_SIZE for size in spec.shape[1:]))
        if spec.dtype == tf.string:
            values = generator.choice(np.array(tokens, dtype=object), shape)
        elif spec.dtype.is_floating:
            values = generator.random(shape).astype(spec.dtype.as_numpy_dtype)
        else:
            values = generator.integers(0, min(limits, default=2), shape).astype(spec.dtype.as_numpy_dtype)
        values[0] = "" if spec.dtype == tf.string else 0
        rows[name] = values
    return rows


def requests(signature: Signature, rows: Rows) -> list[Rows]:
    """What a signature is asked: batches of 1, 2 and 7 rows and of all rows."""
    length = len(next(iter(rows.values())))
    return [dict(signature.extend(_request(signature, rows, size))) for size in (*_BATCH_SIZES, length)]


def _request(signature: Signature, rows: Rows, size: int) -> Rows:
    # Beginning elsewhere for each size, so that the single row is not the empty one.
    batch = np.arange(size) + size
    request = {}
    for name, spec in (signature.inputs if signature.features is None else signature.features).items():
        taken = batch
        if name in signature.listed:
            length = spec.shape[1] or _LIST_SIZE
            taken = batch[:, None] * length + np.arange(length)
        request[name] = rows[name][taken % len(rows[name])]
    return request
