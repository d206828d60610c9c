"""From a trained Keras model to a version that TF Serving loads: plan, trace, write aside, verify, publish."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from tfrankloss.serving import publish
from tfrankloss.serving.features import layers_and_tables
from tfrankloss.serving.index import CandidateIndex
from tfrankloss.serving.servable import Servable
from tfrankloss.serving.signatures import Plan, plan
from tfrankloss.serving.verify import Report, compare, refuse_operations


@dataclass(frozen=True)
class ExportResult:
    """What `export` has published.

    Args:
        path: The version folder.
        version: Its number.
        signatures: The names that clients can ask for.
        size_bytes: The size of all its files.
        report: How far each signature is from the live model, as from `verify`.
    """

    path: Path
    version: int
    signatures: tuple[str, ...]
    size_bytes: int
    report: Report


def export(
    model: Any,
    base_path: str | os.PathLike[str],
    *,
    candidates: CandidateIndex | None = None,
    k: int | None = None,
    list_size: int | None = None,
    preprocessing: Mapping[str, keras.Model] | None = None,
    probe: Mapping[str, Any] | None = None,
    version: int | None = None,
) -> ExportResult:
    """Write a model as the next version of a TensorFlow SavedModel that TF Serving loads.

    The version is written aside in ``base_path``, loaded again as a server does, compared with the live model on every
    signature, brought to the disk and renamed into place. A server that polls ``base_path`` sees nothing of it or all
    of it; on any failure nothing is left.

    A two-tower model has ``query_tower`` and ``candidate_tower``, functional models with dict inputs, and
    ``similarity``: "dot", "cosine", or "euclidean" for the negative squared distance; scores are divided by its
    ``temperature`` if it has one. Its signatures are:

    - ``serving_default``: query features -> ``ids`` and ``scores`` of shape (batch, k), best first;
    - ``query_embedding``, ``candidate_embedding``: features of one side -> ``embedding`` (batch, D), of length 1
      for cosines, so that any index of dot products over them ranks as the model does;
    - ``score``: query features and, with a list axis after the batch, candidate features -> ``scores``
      (batch, list_size).

    Without ``candidates`` there is nothing to search, and ``serving_default`` is the same as ``score``.

    Any other functional model is a ranker: its one signature ``serving_default`` takes its inputs and gives ``scores``
    (batch, list_size), in the order of the list.

    Arguments of signatures are named after ``keras.Input(name=)``; a feature with one value per row has shape (batch,).
    An open list axis takes lists of any length. Where TF Serving batches requests it joins those of equal length only;
    its option to pad the others fills with the first element of a tensor, which gives wrong scores without a word: give
    ``list_size`` and pad in the client, or leave that option off.

    Args:
        model: The trained model, on the TensorFlow backend of Keras.
        base_path: The local folder above the versions, as in "saved_models/movies". Made if missing.
        candidates: The catalogue that a two-tower model searches, or None.
        k: How many candidates ``serving_default`` returns; None for 100, or for all where there are fewer.
        list_size: The length of an open list axis, or None to leave it open.
        preprocessing: Functional models from raw features to the inputs of the model, put in front of it in every
            signature: under "query" and "candidate" for a two-tower model, under "inputs" for a ranker. String lookups
            belong here where training runs on integers.
        probe: Rows of raw features by name to verify with; candidate features without a list axis. By default zeros,
            empty strings, random numbers, and words from the vocabularies.
        version: The number to publish under; by default one more than the highest.

    Returns:
        An `ExportResult`.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If the model cannot be served faithfully, with the reason.
        FileExistsError: If ``version`` exists.
        OSError: If ``base_path`` cannot be written.
        RuntimeError: If Keras runs on another backend.

    Example:
        >>> import tempfile, keras
        >>> from tfrankloss.serving import export, load
        >>> features = keras.Input((None, 2), name="features")
        >>> ones = keras.layers.Dense(1, kernel_initializer="ones")
        >>> model = keras.Model(features, keras.ops.squeeze(ones(features), -1))
        >>> with tempfile.TemporaryDirectory() as base:
        ...     result = export(model, base)
        ...     result.path.name, load(base).query(features=[[[1, 2], [3, 4]]])["scores"].tolist()
        ('1', [[3.0, 7.0]])

    Reference:
        SavedModel in TensorFlow Serving: https://www.tensorflow.org/tfx/serving/serving_basic
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "`export` must run on the TensorFlow backend of Keras: save the model with `model.save` and export it "
            f"under KERAS_BACKEND=tensorflow. Received: backend={keras.backend.backend()!r}"
        )
    base = publish.check_base(base_path, version)
    planned = plan(model, candidates, k, list_size, preprocessing)
    with publish.staging(base) as folder:
        _write(planned, folder, base)
        with Servable(folder) as servable:
            report = compare(servable, planned, probe)
        number = publish.publish(folder, base, version)
    path = base / str(number)
    names = tuple(signature.name for signature in planned.signatures)
    return ExportResult(path, number, names, publish.size_bytes(path), report)


def _write(planned: Plan, folder: Path, base: Path) -> None:
    """Trace the signatures and write them, parameters once: an archive that tracks layers holds them twice."""
    layers, tables = layers_and_tables(planned.models)
    unbuilt = [layer for layer in layers if not layer.built]
    archive = keras.export.ExportArchive()
    for table in tables:
        archive.track(table)
    for signature in planned.signatures:
        function = archive.add_endpoint(signature.name, signature.compute, [signature.inputs])
        refuse_operations(signature.name, function.get_concrete_function().graph.as_graph_def())
    names = [layer.name for layer in unbuilt if layer.built and layer.variables]
    if names:
        raise ValueError(
            f"`model` must be built: its export would hold random weights. Received: unbuilt layers {names}"
        )
    with publish.disk_errors(base):
        archive.write_out(str(folder), verbose=False)
