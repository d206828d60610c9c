"""Whether an export answers as the live model does, found by loading it as a server does and comparing numbers."""

import os
import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrankloss.serving.features import layers_and_tables
from tfrankloss.serving.index import CandidateIndex
from tfrankloss.serving.probes import Rows, probe_rows, requests
from tfrankloss.serving.servable import Servable, load
from tfrankloss.serving.signatures import Plan, Signature, plan

Report = dict[str, dict[str, float]]

_HALF = ("bfloat16", "float16")
_PYTHON = re.compile(r"(Eager)?PyFunc(Stateless)?|NumPy")
_RANDOM = re.compile(
    r"Random.*|(Parameterized)?TruncatedNormal|Multinomial|Stateful(Random|Standard|Uniform|Truncated).*|Rng.*"
)
_WRITES = re.compile(r"Assign.*|Scatter(?!Nd$).*|ResourceScatter.*")


def refuse_operations(name: str, graph: Any) -> None:
    """Raise if a signature's GraphDef holds operations that a server cannot run or that answer differently each time.

    Raises:
        ValueError: With the operation.
    """
    nodes = list(graph.node)
    functions = graph.library.function
    for function in functions:
        nodes.extend(function.node_def)
    if any(item.attr["_XlaMustCompile"].b for item in (*nodes, *functions) if "_XlaMustCompile" in item.attr):
        raise ValueError(f"`model` must not force XLA (jit_compile=True): TF Serving refuses it. Received: in {name!r}")
    for pattern, rule in (
        (_PYTHON, "must not call Python: a server has none"),
        (_RANDOM, "must not draw random numbers when asked: two calls would differ"),
        (_WRITES, "must not change its state when asked"),
    ):
        found = sorted({node.op for node in nodes if pattern.fullmatch(node.op)})
        if found:
            raise ValueError(f"`model` {rule}. Received: operations {found} in {name!r}")


def compare(servable: Servable, planned: Plan, probe: Mapping[str, Any] | None) -> Report:
    """The largest difference of each signature from the live model; see `verify`."""
    layers, _ = layers_and_tables(planned.models)
    rows = probe_rows(planned.features, layers, probe)
    # Half precision carries two or three digits, and the graph rounds at other places than eager calls do.
    tolerance = 1e-2 if any(layer.compute_dtype in _HALF for layer in layers) else 1e-5
    names = tuple(sorted(signature.name for signature in planned.signatures))
    if servable.signatures != names:
        raise ValueError(f"`path` must hold the signatures {names}. Received: {servable.signatures}")
    return {signature.name: _compare(servable, signature, rows, tolerance) for signature in planned.signatures}


def _compare(servable: Servable, signature: Signature, rows: Rows, tolerance: float) -> dict[str, float]:
    gaps = [_gap(servable, signature, request) for request in requests(signature, rows)]
    if not max(gaps) <= tolerance:
        raise ValueError(
            f"`path` must answer as the live model does, within {tolerance} of it relative to the largest output. "
            f"Received: {signature.name!r} differs by {max(gaps)}"
        )
    return {"requests": len(gaps), "largest_difference": max(gaps)}


def _gap(servable: Servable, signature: Signature, request: Rows) -> float:
    try:
        answers, again = (servable.predict(request, signature.name) for _ in range(2))
    except tf.errors.OpError as error:
        raise ValueError(
            f"`probe` must hold rows that the model takes: those made by default may not be among them, such as words "
            f"outside a vocabulary. Received: from {signature.name!r}, {error.message}"
        ) from error
    # The live side first: it says of an output that is not finite which request it belongs to.
    gap = signature.gap(request, answers)
    if not all(np.array_equal(answers[name], again[name], equal_nan=answers[name].dtype != object) for name in answers):
        raise ValueError(f"`model` must answer a request the same way each time. Received: {signature.name!r} differs")
    return gap


def verify(
    path: str | os.PathLike[str],
    model: Any,
    *,
    candidates: CandidateIndex | None = None,
    k: int | None = None,
    list_size: int | None = None,
    preprocessing: Mapping[str, keras.Model] | None = None,
    probe: Mapping[str, Any] | None = None,
) -> Report:
    """How far the answers of an export are from those of a live model.

    `export` does this before it publishes. The export is loaded into a session, as TF Serving loads it, and every
    signature is asked at several batch sizes; the live side calls the Keras towers and sorts in NumPy.

    Args:
        path: A base folder, of which the newest version is taken, or a version folder.
        model: The model that was exported.
        candidates: As in `export`.
        k: As in `export`.
        list_size: As in `export`.
        preprocessing: As in `export`.
        probe: As in `export`.

    Returns:
        For each signature ``requests``, how many were made, and ``largest_difference``, as a part of 1 + the largest
        output.

    Raises:
        FileNotFoundError: If there is no SavedModel.
        ValueError: If a signature does not answer, answers differently twice, or not as the live model does.
    """
    planned = plan(model, candidates, k, list_size, preprocessing)
    with load(path) as servable:
        return compare(servable, planned, probe)
