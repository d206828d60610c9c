"""What a version consists of, file by file, so that a copy of it can be told from a damaged one."""

import hashlib
import json
import platform
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tfrankloss.version import __version__

# TF Serving passes over what it does not know in this folder.
PATH = "assets.extra/tfrankloss_manifest.json"


def write(folder: Path) -> None:
    """Write the manifest of all files that lie in ``folder`` by now."""
    made_by = {
        "tfrankloss": __version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "python": platform.python_version(),
    }
    path = folder / PATH
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"made_by": made_by, "files": _files(folder)}, indent=1) + "\n")


def read(folder: Path) -> dict[str, Any] | None:
    """The manifest of a version, or None if it has none.

    Raises:
        ValueError: If it is damaged.
    """
    path = folder / PATH
    if not path.exists():
        return None
    try:
        manifest = json.loads(path.read_text())
        return {"made_by": dict(manifest["made_by"]), "files": dict(manifest["files"])}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"`path` must hold a whole manifest. Received: {str(path)!r}, {error}") from error


def check(folder: Path) -> int | None:
    """The number of files, each of which is what the manifest says; None if there is no manifest.

    Raises:
        ValueError: If a file is missing, changed or not in the manifest.
    """
    manifest = read(folder)
    if manifest is None:
        return None
    written, found = manifest["files"], _files(folder)
    for wording, names in (
        ("missing", set(written) - set(found)),
        ("not in the manifest", set(found) - set(written)),
        ("changed", {name for name in set(written) & set(found) if written[name] != found[name]}),
    ):
        if names:
            raise ValueError(f"`path` must hold the files of its manifest. Received: {wording}: {sorted(names)}")
    return len(found)


def _files(folder: Path) -> dict[str, dict[str, Any]]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {
        name: {"bytes": path.stat().st_size, "sha256": _digest(path)} for name, path in names.items() if name != PATH
    }


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _by_blocks(file)


def _by_blocks(file: Any) -> str:
    digest = hashlib.sha256()
    for block in iter(lambda: file.read(1 << 20), b""):
        digest.update(block)
    return digest.hexdigest()
