"""How a version appears in a base folder: written aside, synced, renamed. A server sees nothing of it, or all of it."""

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from tfrankloss import errors

# TF Serving takes canonical decimals among the children of the base as versions and passes over all other names.
STAGING_PREFIX = ".tfrankloss-staging-"
_VERSION = re.compile(r"[0-9]+")


def check_base(base_path: str | os.PathLike[str], version: int | None) -> Path:
    """The base folder as an absolute path, refused here rather than after minutes of tracing.

    Raises:
        TypeError: If ``base_path`` is no path.
        ValueError: If it is a URL, or a SavedModel rather than the folder above its versions.
        NotADirectoryError: If it is a file.
        FileExistsError: If ``version`` is there already.
    """
    errors.check_kind("base_path", base_path, (str, os.PathLike), "a path")
    errors.check_positive_integer("version", version, optional=True)
    text = os.fspath(base_path)
    if "://" in text:
        raise ValueError(
            "`base_path` must be a local folder: object stores have no atomic rename. Export to a local folder, upload "
            f"NAME/VERSION from there, and only then let a server poll that place. Received: base_path={text!r}"
        )
    base = Path(text).absolute()
    if base.exists() and not base.is_dir():
        raise NotADirectoryError(f"`base_path` must be a folder. Received: base_path={text!r}")
    if (base / "saved_model.pb").exists():
        raise ValueError(f"`base_path` must be the folder above the versions. Received: base_path={text!r}")
    if version in versions(base):
        raise _taken(base, version)
    return base


def versions(base: Path) -> set[int]:
    """The versions in a base folder; 01 counts as 1, as for TF Serving."""
    return set(version_folders(base))


def version_folders(base: Path) -> dict[int, Path]:
    """The folders of the versions by number."""
    names = os.listdir(base) if base.is_dir() else []
    return {int(name): base / name for name in names if _VERSION.fullmatch(name)}


def _taken(base: Path, version: int | None) -> FileExistsError:
    return FileExistsError(f"`version` must not exist yet in {str(base)!r}. {errors.received('version', version)}")


@contextlib.contextmanager
def disk_errors(base: Path) -> Iterator[None]:
    """Say what it means when a folder cannot be written: TensorFlow reports a full disk in its own kinds of error."""
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        # The first argument of OSError chooses the subclass, so a PermissionError remains one.
        number = getattr(error, "errno", None)
        text = f"`base_path` must be writable and have room for the export ({error}). Received: base_path={str(base)!r}"
        raise (OSError(number, text) if number else OSError(text)) from error


@contextlib.contextmanager
def staging(base: Path) -> Iterator[Path]:
    """An empty folder inside ``base`` to write in; gone afterwards unless published, and so are folders made for it."""
    made = [folder for folder in (base, *base.parents) if not folder.exists()]
    lock = -1
    folder = base
    try:
        with disk_errors(base):
            base.mkdir(parents=True, exist_ok=True)
            for parent in made:
                _open_to_readers(parent)
                _sync(parent.parent)
            sweep(base)
            folder, lock = _locked_folder(base)
        yield folder
    finally:
        if lock >= 0:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
        # Innermost first; a folder that holds a version by now stays.
        with contextlib.suppress(OSError):
            for parent in made:
                parent.rmdir()


def _locked_folder(base: Path) -> tuple[Path, int]:
    """A staging folder and the open lock on it, which the system drops when this process dies."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=base))
        lock = _lock(folder)
        # Another exporter may have swept the folder in the moment before it was locked.
        if lock is not None and folder.exists():
            return folder, lock
        if lock is not None:
            os.close(lock)


def _lock(folder: Path) -> int | None:
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def discard(folder: Path) -> None:
    """Remove a version: from sight at once, from the disk after that, or by a later sweep."""
    hidden, lock = _locked_folder(folder.parent)
    try:
        os.rename(folder, hidden / folder.name)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
        os.close(lock)


def sweep(base: Path) -> None:
    """Remove what exporters left that died: nobody holds the lock of their staging folders."""
    for folder in base.glob(STAGING_PREFIX + "*"):
        lock = _lock(folder)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def publish(folder: Path, base: Path, version: int | None) -> int:
    """Rename a finished staging folder to its version, the next free one by default.

    Returns:
        The version.

    Raises:
        FileExistsError: If another exporter took ``version`` meanwhile.
        OSError: If the folder cannot be synced or renamed.
    """
    with disk_errors(base):
        sync_tree(folder)
    while True:
        number = version or max(versions(base), default=0) + 1
        if version in versions(base):
            raise _taken(base, version)
        try:
            # Fails where another exporter was quicker: a version folder is never empty.
            os.rename(folder, base / str(number))
            break
        except OSError as error:
            if number not in versions(base):
                raise OSError(
                    error.errno, f"`base_path` must allow a rename inside. Received: {str(base)!r}"
                ) from error
    _sync(base)
    return number


def sync_tree(folder: Path) -> None:
    """Let everyone read what lies under ``folder``, whatever the umask, and bring it to the disk."""
    for path, _, names in os.walk(folder):
        for name in names:
            _open_to_readers(Path(path, name))
            _sync(Path(path, name))
        _open_to_readers(Path(path))
        _sync(Path(path))


def _open_to_readers(path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    path.chmod(mode | (0o555 if path.is_dir() else 0o444))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def size_bytes(folder: Path) -> int:
    """The bytes of all files under ``folder``."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
