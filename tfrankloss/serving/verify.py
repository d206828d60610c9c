"""Whether an export answers as the live model does, found by loading it as a server does and comparing numbers."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfrankloss.serving import manifest, warmup
from tfrankloss.serving.features import layers_and_tables
from tfrankloss.serving.plan import plan
from tfrankloss.serving.probes import Rows, probe_rows, requests
from tfrankloss.serving.servable import Servable, version_folder
from tfrankloss.serving.signature import Plan, Settings, Signature

Report = dict[str, dict[str, float]]
# Signatures and what they are asked.
Asked = list[tuple[str, Rows]]

# Of answers on another machine, which may add in another order.
_REPLAYED = 1e-5

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


def compare(servable: Servable, planned: Plan, probe: Mapping[str, Any] | None) -> tuple[Report, Asked]:
    """The largest difference of each signature from the live model, and what was asked; see `verify`."""
    layers, _ = layers_and_tables(planned.models)
    rows = probe_rows(planned.features, layers, probe)
    # Half precision carries two or three digits, and the graph rounds at other places than eager calls do.
    tolerance = 1e-2 if any(layer.compute_dtype in _HALF for layer in layers) else 1e-5
    names = tuple(sorted(signature.name for signature in planned.signatures))
    if servable.signatures != names:
        raise ValueError(f"`path` must hold the signatures {names}. Received: {servable.signatures}")
    asked = {signature.name: requests(signature, rows) for signature in planned.signatures}
    report = {
        signature.name: _compare(servable, signature, asked[signature.name], tolerance)
        for signature in planned.signatures
    }
    # A batch of two is enough to warm up with; the smallest would miss what depends on the batch.
    return report, [(one.name, one.request(asked[one.name][1])) for one in planned.signatures]


def _compare(servable: Servable, signature: Signature, asked: list[Rows], tolerance: float) -> dict[str, float]:
    gaps = [_gap(servable, signature, request) for request in asked]
    if not max(gaps) <= tolerance:
        raise ValueError(
            f"`path` must answer as the live model does, within {tolerance} of it relative to the largest output. "
            f"Received: {signature.name!r} differs by {max(gaps)}"
        )
    return {"requests": len(gaps), "largest_difference": max(gaps)}


def _gap(servable: Servable, signature: Signature, asked: Rows) -> float:
    request = signature.request(asked)
    try:
        answers, again = (servable.predict(request, signature.name) for _ in range(2))
    except tf.errors.OpError as error:
        raise ValueError(
            f"`probe` must hold rows that the model takes: those made by default may not be among them, such as words "
            f"outside a vocabulary. Received: from {signature.name!r}, {error.message}"
        ) from error
    # The live side first: it says of an output that is not finite which request it belongs to.
    gap = signature.gap(asked, answers)
    if not all(np.array_equal(answers[name], again[name], equal_nan=answers[name].dtype != object) for name in answers):
        raise ValueError(f"`model` must answer a request the same way each time. Received: {signature.name!r} differs")
    return gap


def replay(servable: Servable, folder: Path) -> Report:
    """The largest difference of each signature from the answers in the warm-up records of a version.

    Raises:
        ValueError: If a record is not answered, or not as it was.
    """
    report: Report = {name: {"requests": 0, "largest_difference": 0.0} for name in servable.signatures}
    for entry in warmup.read(folder):
        try:
            gap = warmup.gap(entry, servable.raw(servable.fed(entry.inputs, entry.signature), entry.signature))
        except (ValueError, TypeError, tf.errors.OpError) as error:
            raise ValueError(
                f"`path` must answer its warm-up records. Received: from {entry.signature!r}, "
                f"{getattr(error, 'message', error)}"
            ) from error
        row = report[entry.signature]
        row["requests"] += 1
        row["largest_difference"] = max(row["largest_difference"], gap)
        if not gap <= _REPLAYED:
            raise ValueError(
                f"`path` must answer its warm-up records as it did when it was exported, within {_REPLAYED}. "
                f"Received: {entry.signature!r} differs by {gap}"
            )
    return report


def verify(
    path: str | os.PathLike[str], model: Any = None, *, probe: Mapping[str, Any] | None = None, **arguments: Any
) -> Report:
    """How far the answers of an export are from what they should be.

    The export is loaded into a session, as TF Serving loads it; a load alone tells nothing, as a version without its
    weights loads and then fails every request. Its files must be those of its manifest, if it has one.

    Without a model, as on the machine of a server, its recorded requests are asked again and compared with the recorded
    answers. With the live model every signature is asked at several batch sizes, and the live side calls the Keras
    towers and sorts in NumPy. `export` does both before it publishes.

    Args:
        path: A base folder, of which the newest version is taken, or a version folder.
        model: The model that was exported, or None.
        probe: As in `export`.
        **arguments: The other arguments that the model was exported with, as far as they decide its signatures.

    Returns:
        For each signature ``requests``, how many were made, and ``largest_difference``, as a part of 1 + the largest
        output.

    Raises:
        FileNotFoundError: If there is no SavedModel.
        TypeError: If there is no such argument.
        ValueError: If a file is not that of the manifest, or a signature does not answer, answers differently twice,
            or not as it should.
    """
    folder = version_folder(path)
    if model is None and (probe is not None or arguments):
        raise TypeError(f"`model` must be given with {sorted(arguments) or ['probe']}. Received: model=None")
    planned = None if model is None else plan(model, Settings(**arguments))
    manifest.check(folder)
    try:
        servable = Servable(folder)
    except (tf.errors.OpError, RuntimeError, KeyError, OSError) as error:
        raise ValueError(f"`path` must load as a SavedModel. Received: {str(folder)!r}, {error}") from error
    with servable:
        return replay(servable, folder) if planned is None else compare(servable, planned, probe)[0]
