"""The text files that TF Serving is configured with: which models and versions it serves, and how it batches."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfrankloss import errors

# TF Serving reads it from the version folder, with --enable_per_model_batching_parameters.
BATCHING_FILE = "batching_params.pbtxt"

_NUMBERS = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")
POLICIES = ("latest", "all")


def batching_parameters(settings: Mapping[str, Any]) -> str:
    """The text of a BatchingParameters message.

    Args:
        settings: ``max_batch_size``, ``batch_timeout_micros``, ``max_enqueued_batches``, ``num_batch_threads``:
            integers; ``allowed_batch_sizes``: ascending integers, the last of which is ``max_batch_size``.

    Returns:
        The text of ``batching_params.pbtxt``.

    Raises:
        TypeError: If a value is no integer.
        ValueError: If there is no such setting, or TF Serving would refuse the values.

    Example:
        >>> print(batching_parameters({"max_batch_size": 32, "allowed_batch_sizes": [8, 32]}), end="")
        max_batch_size { value: 32 }
        allowed_batch_sizes: 8
        allowed_batch_sizes: 32
    """
    errors.check_kind("batching", settings, Mapping, "a dict of settings")  # type: ignore[type-abstract]
    if "pad_variable_length_inputs" in settings:
        raise ValueError(
            "`batching` must not pad: TF Serving pads with the first element of a tensor, which gives wrong scores "
            f"without a word. {errors.received('batching', dict(settings))}"
        )
    lines = []
    for name, value in settings.items():
        errors.check_choice("batching", name, (*_NUMBERS, "allowed_batch_sizes"))
        if name == "batch_timeout_micros" and value == 0:
            lines.append(f"{name} {{ value: 0 }}")
        elif name in _NUMBERS:
            errors.check_positive_integer(name, value)
            lines.append(f"{name} {{ value: {value} }}")
    sizes = list(settings.get("allowed_batch_sizes", ()))
    for size in sizes:
        errors.check_positive_integer("allowed_batch_sizes", size)
    if sizes and (sizes != sorted(set(sizes)) or sizes[-1] != settings.get("max_batch_size")):
        raise ValueError(
            f"`allowed_batch_sizes` must ascend to `max_batch_size`. Received: allowed_batch_sizes={sizes}, "
            f"max_batch_size={settings.get('max_batch_size')}"
        )
    return "".join(f"{line}\n" for line in [*lines, *(f"allowed_batch_sizes: {size}" for size in sizes)])


def write_model_config(
    path: str | os.PathLike[str],
    models: Mapping[str, str | os.PathLike[str]],
    *,
    versions: Mapping[str, Sequence[int] | int | str] | None = None,
    labels: Mapping[str, Mapping[str, int]] | None = None,
) -> str:
    """Write the file for ``--model_config_file`` of TF Serving, which may serve several models and versions.

    The file is replaced at once, so that a server with ``--model_config_file_poll_wait_seconds`` reads the old one or
    the new one. Labels let clients ask for "stable" or "canary" while the numbers behind them change; TF Serving takes
    a label for a version that is loaded already, unless ``--allow_version_labels_for_unavailable_models`` is given.

    Args:
        path: The file.
        models: The base path of each model by its name, as the server sees it: "/models/movies".
        versions: By model, which versions are served: a number for that many of the newest, a list of versions,
            "latest" (the default) or "all".
        labels: By model, versions by label.

    Returns:
        The text.

    Raises:
        TypeError: If a version is no integer.
        ValueError: If a name is empty or unknown, a base path is not absolute, or a label stands for a version that is
            not served.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     models = {"movies": "/models/movies"}
        ...     print(write_model_config(f"{folder}/models.config", models, versions={"movies": [3, 4]},
        ...                              labels={"movies": {"stable": 3, "canary": 4}}))
        model_config_list {
          config {
            name: "movies"
            base_path: "/models/movies"
            model_platform: "tensorflow"
            model_version_policy { specific { versions: 3 versions: 4 } }
            version_labels { key: "stable" value: 3 }
            version_labels { key: "canary" value: 4 }
          }
        }
        <BLANKLINE>

    Reference:
        https://www.tensorflow.org/tfx/serving/serving_config
    """
    errors.check_kind("models", models, Mapping, "a dict of base paths by name")  # type: ignore[type-abstract]
    versions, labels = versions or {}, labels or {}
    for name, given in (("versions", versions), ("labels", labels)):
        unknown = sorted(set(given) - set(models))
        if unknown:
            raise ValueError(f"`{name}` must be of the models {sorted(models)}. Received: {unknown}")
    configs = [
        _model(name, os.fspath(base), versions.get(name, "latest"), labels.get(name, {}))
        for name, base in models.items()
    ]
    if not configs:
        raise ValueError("`models` must hold at least one model. Received: models={}")
    text = "model_config_list {\n" + "".join(configs) + "}\n"
    _replace(Path(path), text)
    return text


def _model(name: str, base: str, versions: Sequence[int] | int | str, labels: Mapping[str, int]) -> str:
    if not name or not isinstance(name, str):
        raise ValueError(f"`models` must have names. {errors.received('name', name)}")
    if not base.startswith("/") and "://" not in base:
        raise ValueError(f"`models` must have absolute base paths: TF Serving takes no others. Received: {base!r}")
    lines = [f"name: {_quoted(name)}", f"base_path: {_quoted(base)}", 'model_platform: "tensorflow"']
    policy = _policy(versions)
    if policy:
        lines.append(f"model_version_policy {{ {policy} }}")
    for label, version in labels.items():
        errors.check_positive_integer(f"labels[{label!r}]", version)
        if not isinstance(versions, (int, str)) and version not in versions:
            raise ValueError(f"`labels` must stand for versions that are served. Received: {label!r}={version}")
        lines.append(f"version_labels {{ key: {_quoted(label)} value: {version} }}")
    return "  config {\n" + "".join(f"    {line}\n" for line in lines) + "  }\n"


def _policy(versions: Sequence[int] | int | str) -> str:
    if isinstance(versions, str):
        errors.check_choice("versions", versions, POLICIES)
        return "all {}" if versions == "all" else ""
    if isinstance(versions, int):
        errors.check_positive_integer("versions", versions)
        return f"latest {{ num_versions: {versions} }}"
    for version in versions:
        errors.check_positive_integer("versions", version)
    if not versions:
        raise ValueError("`versions` must name at least one version. Received: versions=[]")
    return "specific { " + " ".join(f"versions: {version}" for version in versions) + " }"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _replace(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # A server may run as another user.
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
