"""Requests and answers in the JSON of TF Serving's REST API, so that an export can be asked as it will be."""

import base64
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfrankloss import errors
from tfrankloss.serving.servable import Servable

_KEYS = ("instances", "inputs", "signature_name")


def predict(servable: Servable, body: Any, signature_name: str = "serving_default") -> dict[str, Any]:
    """What TF Serving answers to the body of ``POST /v1/models/NAME:predict``.

    Args:
        servable: The loaded export.
        body: ``{"instances": [row, ...]}`` with an object per row, or a bare value where the signature takes one input;
            or ``{"inputs": {name: column}}``. A list stands for instances. "signature_name" may be there too.
        signature_name: The signature, where the body names none.

    Returns:
        ``{"predictions": [...]}`` for rows, ``{"outputs": ...}`` for columns.

    Raises:
        TypeError: If values are of another kind than the signature takes.
        ValueError: If the body is not as the API takes it, or the request fails in the graph.
    """
    body = {"instances": body} if isinstance(body, list) else body
    errors.check_kind("request", body, Mapping, "a JSON object, or a list of rows")  # type: ignore[type-abstract]
    unknown = sorted(set(body) - set(_KEYS))
    if unknown or ("instances" in body) == ("inputs" in body):
        raise ValueError(f"`request` must hold either 'instances' or 'inputs'. Received: keys {sorted(body)}")
    name = body.get("signature_name", signature_name)
    specs = servable.inputs(name)
    columns = _of_rows(body["instances"], specs) if "instances" in body else _of_columns(body["inputs"], specs)
    missing, extra = sorted(set(specs) - set(columns)), sorted(set(columns) - set(specs))
    if missing or extra:
        raise ValueError(
            f"`request` must hold the inputs {sorted(specs)}. Received: missing {missing}, unknown {extra}"
        )
    fed = {key: _array(key, columns[key], spec) for key, spec in specs.items()}
    try:
        answers = servable.raw(servable.fed(fed, name), name)
    except tf.errors.OpError as error:
        raise ValueError(error.message) from error
    values = {key: _listed(key, value) for key, value in sorted(answers.items())}
    if "inputs" in body:
        return {"outputs": next(iter(values.values())) if len(values) == 1 else values}
    if len(values) == 1:
        return {"predictions": next(iter(values.values()))}
    rows = zip(*values.values(), strict=True)
    return {"predictions": [dict(zip(values, row, strict=True)) for row in rows]}


def _of_rows(rows: Any, specs: Mapping[str, tf.TensorSpec]) -> dict[str, list[Any]]:
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"`instances` must be a list of at least one row. {errors.received('instances', rows)}")
    # An object is a row of named inputs, unless it holds encoded bytes.
    named = [isinstance(row, dict) and set(row) != {"b64"} for row in rows]
    if not any(named):
        if len(specs) != 1:
            raise ValueError(f"`instances` must be objects with {sorted(specs)}. {errors.received('row', rows[0])}")
        return {next(iter(specs)): rows}
    if not all(named) or any(set(row) != set(rows[0]) for row in rows):
        raise ValueError("`instances` must hold the same inputs in every row. Received: rows that differ")
    return {key: [row[key] for row in rows] for key in rows[0]}


def _of_columns(columns: Any, specs: Mapping[str, tf.TensorSpec]) -> dict[str, Any]:
    if isinstance(columns, dict) and set(columns) != {"b64"}:
        return columns
    if len(specs) != 1:
        raise ValueError(f"`inputs` must be an object with {sorted(specs)}. {errors.received('inputs', columns)}")
    return {next(iter(specs)): columns}


def _array(name: str, values: Any, spec: tf.TensorSpec) -> np.ndarray:
    decoded = _decoded(values)
    try:
        array = np.array(decoded, dtype=object if spec.dtype == tf.string else None)
    except ValueError:
        array = np.array(None)
    if spec.dtype == tf.string and any(isinstance(value, list) for value in array.ravel()[:1]):
        array = np.array(None)
    if array.dtype == object and array.ndim == 0:
        raise ValueError(f"`{name}` must have rows of equal lengths: pad lists. {errors.received(name, values)}")
    # An empty list has no type, and perhaps fewer axes.
    if not array.size and array.ndim < spec.shape.rank:
        array = array.reshape((*array.shape, *[0 if axis is None else axis for axis in spec.shape[array.ndim :]]))
    return array


def _decoded(values: Any) -> Any:
    if isinstance(values, list):
        return [_decoded(value) for value in values]
    if isinstance(values, dict) and set(values) == {"b64"}:
        return base64.b64decode(values["b64"])
    return values


def _listed(name: str, values: np.ndarray) -> Any:
    if values.dtype != object:
        return values.tolist()
    # Names that end so are sent encoded: JSON holds no bytes.
    if name.endswith("_bytes"):
        flat: list[Any] = [{"b64": base64.b64encode(value).decode()} for value in values.ravel()]
    else:
        flat = [value.decode("utf-8", "replace") for value in values.ravel()]
    return np.array(flat, dtype=object).reshape(values.shape).tolist()


def dumps(answer: Mapping[str, Any]) -> str:
    """The text of an answer; floats in the fewest digits that give the same float32."""
    return json.dumps(_shortened(answer), indent=1, ensure_ascii=False)


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shortened(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_shortened(one) for one in value]
    if isinstance(value, float) and math.isfinite(value):
        return float(str(np.float32(value)))
    return value
