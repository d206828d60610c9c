"""From a trained Keras model to a version that TF Serving loads: plan, trace, write aside, verify, publish."""

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from tfrankloss import errors
from tfrankloss.serving import config, manifest, publish, versions
from tfrankloss.serving import warmup as warmups
from tfrankloss.serving.features import layers_and_tables
from tfrankloss.serving.index import CandidateIndex
from tfrankloss.serving.plan import plan
from tfrankloss.serving.servable import Servable
from tfrankloss.serving.signature import Alias, Plan, Settings
from tfrankloss.serving.verify import Report, compare, refuse_operations

_MOST_WORDS = 10_000


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
    exclude: bool | int = False,
    list_size: int | None = None,
    context: Sequence[str] | None = None,
    padding: str | None = None,
    example_spec: Any = "auto",
    signatures: Sequence[str] | Mapping[str, str | Alias] | None = None,
    preprocessing: Mapping[str, keras.Model] | None = None,
    probe: Mapping[str, Any] | None = None,
    warmup: Sequence[tuple[str, Mapping[str, Any]]] | None = None,
    batching: Mapping[str, Any] | None = None,
    version: int | None = None,
    keep: int | None = None,
) -> ExportResult:
    """Write a model as the next version of a TensorFlow SavedModel that TF Serving loads.

    The version is written aside in ``base_path``, loaded again as a server does, compared with the live model on every
    signature, brought to the disk and renamed into place. A server that polls ``base_path`` sees nothing of it or all
    of it; on any failure nothing is left. It holds warm-up requests and a manifest with the SHA-256 of every file.

    A two-tower model has ``query_tower`` and ``candidate_tower``, functional models with dict inputs, and
    ``similarity``: "dot", "cosine", or "euclidean" for the negative squared distance; scores are divided by its
    ``temperature`` if it has one. Its signatures are:

    - ``serving_default``: query features -> ``ids`` and ``scores`` of shape (batch, k), best first;
    - ``search``: besides, ``k`` (batch,), up to the exported one; ``exclude_ids`` (batch, any), ids to leave out; and
      for an attribute of the index ``NAME_in`` (batch, any), the values to search in, all where there are none. After
      what is found come blanks: an empty id or -1, with the lowest float as score;
    - ``query_embedding``, ``candidate_embedding``: features of one side -> ``embedding`` (batch, D), of length 1
      for cosines, so that any index of dot products over them ranks as the model does;
    - ``score``: query features and, with a list axis after the batch, candidate features -> ``scores``
      (batch, list_size);
    - ``examples``: one serialized tf.Example of query features per row -> as ``serving_default``;
    - ``classify``: the same as the Classify API has it, ``inputs`` -> ``classes`` and ``scores``.

    Without ``candidates`` there is nothing to search, and ``serving_default`` is the same as ``score``.

    A functional model to scores (batch, list_size) is a ranker. Features with the list axis are those of items, the
    others context:

    - ``serving_default``: its inputs, and with ``padding`` where items stand -> ``scores`` in the order of the list,
      the lowest float for padding;
    - ``rank``: its inputs and ``item_ids``, strings, empty for padding -> ``ids`` and ``scores``, best first;
    - ``examples``: one serialized ExampleListWithContext per list, as ``inputs`` -> ``outputs`` (batch, longest list);
    - ``regress``: as the Regress API has it, one serialized tf.Example of context and item per row -> ``outputs``.

    A functional model to one score per row, (batch,) or (batch, 1), is a point-wise scorer: ``serving_default`` gives
    ``scores`` (batch,), and ``regress`` the same of serialized tf.Examples.

    A functional model to scores (batch, N) of a whole catalogue, such as `tfrankloss.models.catalog_scorer` or an
    ensemble of these, is exported with ``candidates=CandidateIndex(ids)``, the ids of its N columns. It has
    ``serving_default``, ``search``, ``examples`` and ``classify`` as two towers have them, and ``scores``: its inputs
    -> ``scores`` (batch, N).

    Arguments of signatures are named after ``keras.Input(name=)``; a feature with one value per row has shape (batch,).
    An open axis takes any length. Where TF Serving batches requests, all those of one batch whose lengths differ are
    answered with an error, and its option to pad them fills with the first element of a tensor, which gives wrong
    scores without a word: with batching, give ``list_size`` and ``exclude`` a number and pad in the client.

    Args:
        model: The trained model, on the TensorFlow backend of Keras.
        base_path: The local folder above the versions, as in "saved_models/movies". Made if missing.
        candidates: The catalogue that is searched, or None.
        k: How many candidates are returned at most; None for 100, or for all where there are fewer.
        exclude: Whether ``serving_default`` takes ``exclude_ids`` as well; a number fixes how many, in ``search`` too.
        list_size: The length of an open list axis, or None to leave it open.
        context: The inputs of a ranker that belong to the query; by default those without the list axis.
        padding: "mask" or "lengths" for a ranker whose ``serving_default`` takes ``mask`` (batch, list_size) or
            ``lengths`` (batch,); or None. A bool input named "mask" is the model's own, and is filled in from any.
        example_spec: How features are read from tf.Example: "auto", or `tf.io.FixedLenFeature` or
            `tf.io.RaggedFeature` by name for those that are read otherwise; None for no signatures of serialized
            features. By itself, lists of integers or strings may be shorter and are padded at the end; all else must be
            there whole.
        signatures: The names of those that are wanted, or None for all; or a dict from published names to these names
            or to `Alias`, as clients of another exporter expect them. The first is ``serving_default`` too, unless
            one is named so.
        preprocessing: Functional models from raw features to the inputs of the model, put in front of it in every
            signature: under "query" and "candidate" for a two-tower model, under "inputs" for others. String lookups
            belong here where training runs on integers; those of more than 10,000 words as files, or a warning says so.
        probe: Rows of raw features by name to verify with; candidate features without a list axis. By default zeros,
            empty strings, random numbers, and words from the vocabularies.
        warmup: Pairs of a signature and its inputs that TF Serving replays before the version answers; by default one
            of each signature, made from the probe. An empty list for none.
        batching: What TF Serving's batching may do with this model, as in {"max_batch_size": 32,
            "batch_timeout_micros": 1000, "num_batch_threads": 4, "allowed_batch_sizes": [8, 32]}.
        version: The number to publish under; by default one more than the highest.
        keep: How many versions stay, or None for all; older ones are removed after the new one is there.

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
    errors.check_positive_integer("keep", keep, optional=True)
    batching_text = config.batching_parameters(batching) if batching is not None else None
    settings = Settings(candidates, k, exclude, list_size, context, padding, example_spec, signatures, preprocessing)
    planned = plan(model, settings)
    with publish.staging(base) as folder:
        _write(planned, folder, base)
        with Servable(folder) as servable:
            report, asked = compare(servable, planned, probe)
            records = warmups.record(servable, asked if warmup is None else warmup)
        with publish.disk_errors(base):
            warmups.write(folder, records, base.name)
            if batching_text is not None:
                (folder / config.BATCHING_FILE).write_text(batching_text)
            manifest.write(folder)
        number = publish.publish(folder, base, version)
    if keep is not None:
        versions.keep_newest(base, keep)
    _print_recall(candidates, model, k)
    path = base / str(number)
    names = tuple(signature.name for signature in planned.signatures)
    return ExportResult(path, number, names, publish.size_bytes(path), report)


def _print_recall(candidates: CandidateIndex | None, model: Any, k: int | None) -> None:
    if candidates is not None and candidates.storage != "float32":
        k = min(k or 100, candidates.size)
        recall = candidates.recall(model.similarity, k)
        print(f"index stored as {candidates.storage}: recall@{k} {recall:.4f} of exact search, candidates as queries")


def _write(planned: Plan, folder: Path, base: Path) -> None:
    """Trace the signatures and write them, parameters once: an archive that tracks layers holds them twice."""
    layers, tables = layers_and_tables(planned.models)
    _warn_of_vocabularies(layers)
    unbuilt = [layer for layer in layers if not layer.built]
    archive = keras.export.ExportArchive()
    for table in tables:
        archive.track(table)
    for signature in planned.signatures:
        function = archive.add_endpoint(signature.name, signature.serve, [signature.inputs])
        refuse_operations(signature.name, function.get_concrete_function().graph.as_graph_def())
    names = [layer.name for layer in unbuilt if layer.built and layer.variables]
    if names:
        raise ValueError(
            f"`model` must be built: its export would hold random weights. Received: unbuilt layers {names}"
        )
    with publish.disk_errors(base):
        archive.write_out(str(folder), verbose=False)


def _warn_of_vocabularies(layers: list[keras.layers.Layer]) -> None:
    """Say it where words become constants of the graph, which a server parses slowly and holds several times over."""
    for layer in layers:
        # Keras keeps what was given unless it was a path.
        if isinstance(layer, keras.layers.StringLookup) and layer.input_vocabulary is not None:
            size = layer.vocabulary_size()
            if size > _MOST_WORDS:
                warnings.warn(
                    f"`vocabulary` of {layer.name!r} should be the path of a text file, a word a line: as a list its "
                    f"words become constants of the graph (a million load in 7 s and take 1 GB; as a file in 1 s and "
                    f"0.1 GB). Received: {size} words",
                    stacklevel=4,
                )
