"""The versions of a base folder: going back to one, removing old ones and what dead exporters left."""

import os
import shutil
from pathlib import Path

from tfrankloss import errors
from tfrankloss.serving import manifest, publish
from tfrankloss.serving.verify import verify


def clean_staging(base_path: str | os.PathLike[str]) -> list[str]:
    """Remove what exporters left in a base folder that were killed; every export does so too.

    The staging folder of an exporter that lives is locked, and stays.

    Args:
        base_path: The folder above the versions.

    Returns:
        The names of the folders that were removed.

    Raises:
        NotADirectoryError: If there is no such folder.
    """
    base = _existing(base_path)
    before = {path.name for path in base.glob(publish.STAGING_PREFIX + "*")}
    publish.sweep(base)
    return sorted(before - {path.name for path in base.iterdir()})


def rollback(base_path: str | os.PathLike[str], version: int | None = None) -> int:
    """Publish an older version again, under the next number, so that servers which take the highest go back to it.

    It is checked against its manifest and its recorded answers first, and appears as an export does: at once and whole.

    Args:
        base_path: The folder above the versions.
        version: The version to go back to; by default the one before the newest.

    Returns:
        The new number.

    Raises:
        NotADirectoryError: If there is no such folder.
        ValueError: If there is no such version, or it does not answer as it did.
    """
    base = _existing(base_path)
    found = publish.version_folders(base)
    errors.check_positive_integer("version", version, optional=True)
    if version is None:
        if len(found) < 2:
            raise ValueError(f"`base_path` must hold two versions or more. Received: {sorted(found)}")
        version = sorted(found)[-2]
    errors.check_choice("version", int(version), sorted(found))
    with publish.staging(base) as folder:
        with publish.disk_errors(base):
            shutil.copytree(found[int(version)], folder, dirs_exist_ok=True)
        verify(folder)
        return publish.publish(folder, base, None)


def keep_newest(base_path: str | os.PathLike[str], keep: int) -> list[int]:
    """Remove all versions but the newest.

    A version disappears at once, by a rename, and its files after that. A server that has it loaded keeps answering.

    Args:
        base_path: The folder above the versions.
        keep: How many stay, at least 1.

    Returns:
        The numbers that were removed.

    Raises:
        NotADirectoryError: If there is no such folder.
    """
    errors.check_positive_integer("keep", keep)
    base = _existing(base_path)
    found = publish.version_folders(base)
    old = sorted(found)[:-keep]
    for number in old:
        publish.discard(found[number])
    return old


def _existing(base_path: str | os.PathLike[str]) -> Path:
    base = Path(base_path)
    if not base.is_dir():
        raise NotADirectoryError(f"`base_path` must be a folder. {errors.received('base_path', os.fspath(base_path))}")
    return base


def describe(base_path: str | os.PathLike[str]) -> list[dict[str, object]]:
    """The versions of a base folder, lowest first: number, size, signatures, and what made them."""
    rows: list[dict[str, object]] = []
    for number, folder in sorted(publish.version_folders(_existing(base_path)).items()):
        made = manifest.read(folder) or {"made_by": {}}
        rows.append({"version": number, "size_bytes": publish.size_bytes(folder), "made_by": made["made_by"]})
    return rows
