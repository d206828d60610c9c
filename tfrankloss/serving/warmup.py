"""Warm-up records: requests that TF Serving replays before it lets a version answer, as it reads them.

The file is a TFRecord of the message ``PredictionLog``, encoded here without tensorflow-serving-api, which is pinned to
a minor version of TensorFlow. A record that fails makes TF Serving refuse the version, so each is replayed before a
version is published. The answers are recorded too: TF Serving passes over them, `verify` compares with them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfrankloss import errors
from tfrankloss.data.records import message_field, message_fields, read_records, write_records
from tfrankloss.serving.reference import relative_gap
from tfrankloss.serving.servable import Servable

PATH = "assets.extra/tf_serving_warmup_requests"
# TF Serving refuses a version with more.
MOST_RECORDS = 1000

# Numbers of fields in tensorflow_serving/apis: prediction_log.proto, predict.proto and model.proto.
_PREDICT_LOG = 6
_REQUEST, _RESPONSE = 1, 2
_MODEL_SPEC_OF_REQUEST, _INPUTS = 1, 2
_OUTPUTS, _MODEL_SPEC_OF_RESPONSE = 1, 2
_MODEL_NAME, _SIGNATURE_NAME = 1, 3
_KEY, _VALUE = 1, 2

Tensors = dict[str, np.ndarray]


@dataclass(frozen=True)
class Record:
    """A request of a signature and what it was answered.

    Args:
        signature: The name of the signature.
        inputs: Its arguments by name.
        outputs: Its outputs by name.
    """

    signature: str
    inputs: Tensors
    outputs: Tensors

    def encode(self, model_name: str) -> bytes:
        """The serialized PredictionLog."""
        spec = message_field(_MODEL_NAME, model_name.encode()) + message_field(_SIGNATURE_NAME, self.signature.encode())
        request = message_field(_MODEL_SPEC_OF_REQUEST, spec) + _encoded(_INPUTS, self.inputs)
        response = _encoded(_OUTPUTS, self.outputs) + message_field(_MODEL_SPEC_OF_RESPONSE, spec)
        return message_field(_PREDICT_LOG, message_field(_REQUEST, request) + message_field(_RESPONSE, response))

    @classmethod
    def decode(cls, serialized: bytes) -> "Record":
        """The record of a PredictionLog that `encode` has made."""
        log = dict(message_fields(dict(message_fields(serialized))[_PREDICT_LOG]))
        spec = dict(message_fields(dict(message_fields(log[_REQUEST]))[_MODEL_SPEC_OF_REQUEST]))
        return cls(spec[_SIGNATURE_NAME].decode(), _decoded(_INPUTS, log[_REQUEST]), _decoded(_OUTPUTS, log[_RESPONSE]))


def _encoded(number: int, tensors: Tensors) -> bytes:
    entries = []
    for name, values in sorted(tensors.items()):
        proto = tf.make_tensor_proto(values).SerializeToString(deterministic=True)
        entries.append(message_field(number, message_field(_KEY, name.encode()) + message_field(_VALUE, proto)))
    return b"".join(entries)


def _decoded(number: int, serialized: bytes) -> Tensors:
    entries = [dict(message_fields(entry)) for field, entry in message_fields(serialized) if field == number]
    out = {}
    for entry in entries:
        proto = tf.make_tensor_proto(0)
        proto.ParseFromString(entry[_VALUE])
        out[entry[_KEY].decode()] = tf.make_ndarray(proto)
    return out


def record(servable: Servable, requests: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Record]:
    """Ask every request and keep what was answered.

    Raises:
        TypeError: If ``requests`` are no pairs of signature and inputs, or inputs are of another kind.
        ValueError: If there are too many, or one is not answered: TF Serving would not load the version.
    """
    if len(requests) > MOST_RECORDS:
        raise ValueError(f"`warmup` must hold at most {MOST_RECORDS} requests. Received: {len(requests)}")
    records = []
    for request in requests:
        if not (isinstance(request, (tuple, list)) and len(request) == 2 and isinstance(request[1], Mapping)):
            raise TypeError(
                f"`warmup` must hold pairs (signature, inputs by name). {errors.received('warmup', request)}"
            )
        name, inputs = request
        try:
            fed = servable.fed(inputs, name)
            records.append(Record(name, fed, servable.raw(fed, name)))
        except (ValueError, tf.errors.OpError) as error:
            raise ValueError(
                f"`warmup` must hold requests that are answered: TF Serving refuses a version whose warm-up fails. "
                f"Received: for {name!r}, {getattr(error, 'message', error)}"
            ) from error
    return records


def write(folder: Path, records: Sequence[Record], model_name: str) -> None:
    """Write the warm-up file of a version, unless there is nothing in it."""
    if records:
        (folder / PATH).parent.mkdir(exist_ok=True)
        write_records(folder / PATH, (entry.encode(model_name) for entry in records))


def read(folder: Path) -> list[Record]:
    """The records of a version; none if it has no such file.

    Raises:
        ValueError: If the file is damaged.
    """
    if not (folder / PATH).exists():
        return []
    try:
        return [Record.decode(serialized) for serialized in read_records(folder / PATH)]
    except KeyError as error:
        raise ValueError(f"`path` must hold warm-up records of predictions. Received: no field {error}") from error


def gap(entry: Record, answers: Tensors) -> float:
    """How far answers are from the recorded ones; infinite where names, shapes or strings differ.

    Ids may change places where the scores beside them are equal up to rounding.
    """
    if set(answers) != set(entry.outputs):
        return float("inf")
    gaps = [0.0]
    for name, expected in entry.outputs.items():
        actual = answers[name]
        if actual.shape != expected.shape:
            return float("inf")
        if expected.dtype.kind == "f":
            gaps.append(relative_gap(actual, expected.astype(np.float64)))
        else:
            differs = actual != expected
            gaps.append(float("inf") if (differs & ~_tied(entry.outputs.get("scores"), expected.shape)).any() else 0.0)
    return max(gaps)


def _tied(scores: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    """Where a score is that of its neighbour up to rounding."""
    if scores is None or scores.shape != shape or scores.ndim != 2:
        return np.zeros(shape, bool)
    steps = np.abs(np.diff(scores.astype(np.float64), axis=1)) <= 1e-5 * (1 + np.abs(scores[:, 1:]))
    edge = np.zeros((len(scores), 1), bool)
    # The last place too: what follows it was cut off.
    last = edge | (scores.shape[1] > 0)
    return np.concatenate([edge, steps], 1)[:, : shape[1]] | np.concatenate([steps, last], 1)[:, : shape[1]]
