"""An export, asked the way TF Serving asks it: loaded into a session by tag, fed and fetched by signature."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfrankloss import errors
from tfrankloss.serving.features import exact_array
from tfrankloss.serving.publish import version_folders


class Servable:
    """A version of a model in a session of its own; see `load`.

    `tf.saved_model.load` would not do: it repairs in Python what the C++ path of a server cannot find.

    Args:
        path: A folder with a ``saved_model.pb``.
    """

    def __init__(self, path: Path):
        self.path = path
        self._closed = False
        graph = tf.Graph()
        # Without a GPU: TensorFlow shortens numbers there, and a loaded export must not take the memory of training.
        self._session = tf.compat.v1.Session(graph=graph, config=tf.compat.v1.ConfigProto(device_count={"GPU": 0}))
        with graph.as_default(), _without_warnings():
            meta = tf.compat.v1.saved_model.load(self._session, ["serve"], str(path))
        self._signatures = {name: value for name, value in meta.signature_def.items() if not name.startswith("__")}

    @property
    def signatures(self) -> tuple[str, ...]:
        """The names of the signatures."""
        return tuple(sorted(self._signatures))

    def inputs(self, signature_name: str = "serving_default") -> dict[str, tf.TensorSpec]:
        """The arguments of a signature by name."""
        return _specs(self._signature(signature_name).inputs)

    def outputs(self, signature_name: str = "serving_default") -> dict[str, tf.TensorSpec]:
        """What a signature answers, by name."""
        return _specs(self._signature(signature_name).outputs)

    def query(self, signature_name: str = "serving_default", **inputs: Any) -> dict[str, np.ndarray]:
        """The answers to a batch of requests, with features given by keyword; see `predict`."""
        return self.predict(inputs, signature_name)

    def predict(self, inputs: Mapping[str, Any], signature_name: str = "serving_default") -> dict[str, np.ndarray]:
        """The answers to a batch of requests.

        Args:
            inputs: Every argument of the signature by name, each of shape (batch, ...).
            signature_name: The signature that answers.

        Returns:
            The outputs by name, each of shape (batch, ...); strings as str.

        Raises:
            TypeError: If values are of another kind, such as floats for integers.
            ValueError: If there is no such signature, the names or shapes are not those it takes, or the session is
                closed.
        """
        answers = self.raw(self.fed(inputs, signature_name), signature_name)
        return {name: _decoded(value) for name, value in answers.items()}

    def fed(self, inputs: Mapping[str, Any], signature_name: str = "serving_default") -> dict[str, np.ndarray]:
        """The arguments as arrays of their types, checked as `predict` says."""
        specs = self.inputs(signature_name)
        if set(inputs) != set(specs):
            raise ValueError(f"`inputs` must be the features {sorted(specs)}. Received: {sorted(inputs)}")
        return {name: _fed(name, inputs[name], spec) for name, spec in specs.items()}

    def raw(self, fed: Mapping[str, np.ndarray], signature_name: str = "serving_default") -> dict[str, np.ndarray]:
        """The answers to arguments from `fed`, strings as bytes."""
        if self._closed:
            raise ValueError(f"The session must be open to be asked. Received: closed session of {self.path.name!r}")
        signature = self._signature(signature_name)
        feeds = {signature.inputs[name].name: value for name, value in fed.items()}
        return self._session.run({name: info.name for name, info in signature.outputs.items()}, feeds)

    def close(self) -> None:
        """Free the session."""
        self._closed = True
        self._session.close()

    def __enter__(self) -> "Servable":
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def _signature(self, name: str) -> Any:
        errors.check_choice("signature_name", name, self.signatures)
        return self._signatures[name]


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """TensorFlow advises against the one call that loads what a server loads, on every use."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(level)


def _fed(name: str, values: Any, spec: tf.TensorSpec) -> np.ndarray:
    array = exact_array(name, values, spec.dtype)
    if not spec.shape.is_compatible_with(array.shape):
        raise ValueError(f"`{name}` must have shape {tuple(spec.shape)}. Received: {name}.shape={array.shape}")
    return array


def _decoded(values: np.ndarray) -> np.ndarray:
    if values.dtype != object:
        return values
    return np.array([value.decode("utf-8", "surrogateescape") for value in values.ravel()], dtype=object).reshape(
        values.shape
    )


def version_folder(path: str | os.PathLike[str]) -> Path:
    """The folder of a SavedModel: ``path``, or its newest version.

    Raises:
        FileNotFoundError: If there is no SavedModel.
    """
    folder = Path(path)
    found = version_folders(folder)
    if found and not (folder / "saved_model.pb").exists():
        folder = found[max(found)]
    if not (folder / "saved_model.pb").exists():
        raise FileNotFoundError(
            f"`path` must hold a SavedModel or versions of one. {errors.received('path', os.fspath(path))}"
        )
    return folder


def load(path: str | os.PathLike[str]) -> Servable:
    """An export in a session, to be asked from Python as TF Serving asks it.

    Args:
        path: A base folder, of which the newest version is loaded, or a version folder.

    Returns:
        A `Servable`: ``.signatures`` are its names, ``.query(signature_name, user=[...])`` its answers.

    Raises:
        FileNotFoundError: If there is no SavedModel.

    Example:
        >>> from tfrankloss.serving import load
        >>> load("no/such/model")
        Traceback (most recent call last):
        FileNotFoundError: `path` must hold a SavedModel or versions of one. Received: path='no/such/model'
    """
    return Servable(version_folder(path))


def signatures(path: str | os.PathLike[str]) -> dict[str, dict[str, dict[str, tf.TensorSpec]]]:
    """What an export can be asked, read from its graph without loading the weights.

    Args:
        path: A base folder, of which the newest version is read, or a version folder.

    Returns:
        By signature, "inputs" and "outputs": a `tf.TensorSpec` by name.

    Raises:
        FileNotFoundError: If there is no SavedModel.
        ValueError: If its graph is damaged.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    file = version_folder(path) / "saved_model.pb"
    message = saved_model_pb2.SavedModel()
    try:
        message.ParseFromString(file.read_bytes())
    except Exception as error:  # protobuf's class differs between its implementations
        raise ValueError(f"`path` must hold a whole saved_model.pb. Received: {str(file)!r}, {error}") from error
    found = {}
    for graph in message.meta_graphs:
        if "serve" in graph.meta_info_def.tags:
            named = {key: value for key, value in graph.signature_def.items() if not key.startswith("__")}
            found = {
                key: {"inputs": _specs(value.inputs), "outputs": _specs(value.outputs)} for key, value in named.items()
            }
    return dict(sorted(found.items()))


def _specs(tensors: Mapping[str, Any]) -> dict[str, tf.TensorSpec]:
    return {name: tf.TensorSpec(info.tensor_shape, info.dtype, name) for name, info in sorted(tensors.items())}
