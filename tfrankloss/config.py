"""Settings of losses, metrics and weights as Keras configs, and back."""

from typing import Any

import keras
import numpy as np


def to_config(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as JSON can hold them: functions and objects with a config of their own are serialized."""
    return {name: _plain(value) for name, value in settings.items()}


def from_config(config: dict[str, Any]) -> dict[str, Any]:
    """The reverse of ``to_config``."""
    return {name: _object(value) for name, value in config.items()}


def _plain(value: Any) -> Any:
    if callable(value) or hasattr(value, "get_config"):
        return keras.saving.serialize_keras_object(value)
    if isinstance(value, np.ndarray):
        return value.tolist()
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _object(value: Any) -> Any:
    if isinstance(value, dict) and "class_name" in value:
        return keras.saving.deserialize_keras_object(value)
    return [_object(item) for item in value] if isinstance(value, (list, tuple)) else value
