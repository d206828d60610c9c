"""Backups of a training: all that the next step hangs on, in one file that is either whole or not there."""

import collections
import inspect
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

FILE = "backup.npz"


class Progress(NamedTuple):
    """How far a training has come.

    Attributes:
        epoch: The epoch to go on with, from 0.
        step: The step of that epoch to go on with, from 0.
        history: The logs of the epochs before, by name.
        callbacks: What callbacks have come to, as `CallbackNumbers.numbers` gives it.
    """

    epoch: int
    step: int
    history: dict[str, list[float]]
    callbacks: dict[str, dict[str, Any]]


START = Progress(0, 0, {}, {})


class CallbackNumbers:
    """The numbers that callbacks keep from epoch to epoch, such as the best result so far and how long ago it was.

    Args:
        callbacks: The callbacks of this worker.
    """

    def __init__(self, callbacks: Sequence[keras.callbacks.Callback]):
        # By kind and place among those of a kind, since some are called on one worker only.
        kinds: collections.Counter[str] = collections.Counter()
        self.callbacks = {}
        for callback in callbacks:
            kind = type(callback).__name__
            self.callbacks[f"{kind} {kinds[kind]}"] = callback
            kinds[kind] += 1

    def numbers(self) -> dict[str, dict[str, Any]]:
        """Their numbers, by callback and attribute."""
        return {name: _numbers_of(callback) for name, callback in self.callbacks.items()}

    def restore(self, numbers: dict[str, dict[str, Any]]) -> None:
        """Put such numbers back."""
        for name, values in numbers.items():
            if name in self.callbacks:
                vars(self.callbacks[name]).update(values)


def _numbers_of(callback: keras.callbacks.Callback) -> dict[str, Any]:
    """The attributes of a callback that are numbers or nothing, but for its settings, which are given again."""
    settings = {name for kind in type(callback).__mro__[:-1] for name in inspect.signature(kind).parameters}
    found = {}
    for name, value in vars(callback).items():
        if isinstance(value, np.generic):
            value = value.item()
        if name not in settings and (value is None or isinstance(value, (bool, int, float))):
            found[name] = value
    return found


def variables_of(model: keras.Model) -> list[Any]:
    """Weights, seeds, and the state of the optimizer and of the metrics, each once."""
    found = [*model.variables, *model.metrics_variables]
    if model.optimizer is not None:
        found += model.optimizer.variables
    return list({id(variable): variable for variable in found}.values())


def save(model: keras.Model, folder: Path, progress: Progress, *, write: bool) -> None:
    """Put a backup in the place of the one before.

    Args:
        model: The model, whose state all workers read together.
        folder: Where to put it.
        progress: How far it has come.
        write: Whether this worker writes.
    """
    import tensorflow as tf

    variables = variables_of(model)
    # All workers together, since the state of metrics is added up over replicas.
    tensors = [tf.identity(variable.value) for variable in variables]
    if not write:
        return
    about = {"progress": progress._asdict(), "paths": [variable.path for variable in variables]}
    arrays = [_portable(keras.ops.convert_to_numpy(tensor)) for tensor in tensors]
    content = io.BytesIO()
    by_name: dict[str, Any] = {f"v{number}": array for number, array in enumerate(arrays)}
    np.savez(content, about=json.dumps(about), **by_name)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{FILE}"
    with open(unfinished, "wb") as file:
        file.write(content.getbuffer())
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, folder / FILE)


def restore(model: keras.Model, folder: Path) -> Progress:
    """Take up the backup in ``folder``; where there is none, the training is at its beginning.

    Raises:
        ValueError: If the backup is that of another model.
    """
    path = folder / FILE
    if not path.exists():
        return START
    variables = variables_of(model)
    with np.load(path) as content:
        about = json.loads(str(content["about"]))
        arrays = [content[f"v{number}"] for number in range(len(about["paths"]))]
    shapes = [tuple(variable.shape) for variable in variables]
    if [array.shape for array in arrays] != shapes:
        raise ValueError(
            "`backup_dir` must hold a backup of the same model, compiled alike. "
            f"Received: {path} of variables {about['paths']}, and a model of {[v.path for v in variables]}"
        )
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(keras.ops.cast(array, variable.dtype))
    return Progress(**about["progress"])


def remove(folder: Path) -> None:
    """Remove the backup, and the folder if nothing else is in it."""
    (folder / FILE).unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _portable(array: np.ndarray) -> np.ndarray:
    """Floats that NumPy has no type of its own for, such as bfloat16, as float32, which holds them exactly."""
    return array.astype("float32") if array.dtype.kind == "V" else array
