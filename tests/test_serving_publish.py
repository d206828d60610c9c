"""A version is there whole or not at all, whatever goes wrong while it is written."""

import os
import sys
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrankloss import serving
from tfrankloss.serving import publish

MODULE = sys.modules["tfrankloss.serving.export"]
# Patched here: the first export of a process imports `tf.saved_model` anew, which undoes a patch there.
ARCHIVE = type(keras.export.ExportArchive())


def ranker(factor=1.0):
    features = keras.Input((2, 1), name="features")
    return keras.Model(features, keras.layers.Rescaling(factor)(keras.ops.squeeze(features, -1)))


def export(model, base, **arguments):
    """With one signature alone: what is published has no part in how."""
    return serving.export(model, base, signatures=["serving_default"], **arguments)


def answer(path):
    with serving.load(path) as servable:
        return servable.query(features=np.ones((1, 2, 1)))["scores"][0, 0]


def test_versions_count_up_and_are_never_overwritten(tmp_path):
    (tmp_path / "007").mkdir()
    (tmp_path / "12a").mkdir()
    assert export(ranker(8), tmp_path).version == 8
    assert export(ranker(3), tmp_path, version=3).version == 3
    assert export(ranker(9), tmp_path).version == 9
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    # 7 would clash with 007: a server reads both as 7.
    for version in (3, 7, 9):
        with pytest.raises(FileExistsError, match=f"`version` must not exist yet.*version={version}"):
            export(ranker(5), tmp_path, version=version)
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before
    assert answer(tmp_path) == 9 and answer(tmp_path / "3") == 3


@pytest.mark.parametrize("stage", ["write", "verify", "sync", "rename"])
@pytest.mark.parametrize("new", [True, False], ids=["new-base", "old-base"])
def test_failure_leaves_the_base_untouched(tmp_path, monkeypatch, stage, new):
    base = tmp_path / "models" / "name"
    if not new:
        export(ranker(), base)
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    reached = []

    def fail(*arguments, **keywords):
        reached.append([path.name for path in base.iterdir()])
        raise OSError(28, "No space left on device")

    target, name = {
        "write": (ARCHIVE, "write_out"),
        "verify": (MODULE, "compare"),
        "sync": (os, "fsync"),
        "rename": (os, "rename"),
    }[stage]
    if stage == "sync" and new:
        base.mkdir(parents=True)
        before = sorted(str(path) for path in tmp_path.rglob("*"))
    monkeypatch.setattr(target, name, fail)
    with pytest.raises(OSError):
        export(ranker(), base)
    monkeypatch.undo()
    assert reached and any(entry.startswith(publish.STAGING_PREFIX) for entry in reached[0])
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), tf.errors.ResourceExhaustedError(None, None, "No space left")]
)
def test_full_disk_is_said_clearly(tmp_path, monkeypatch, error):
    def write_out(archive, path, **keywords):
        # A first file is there, the second does not fit.
        with open(os.path.join(path, "saved_model.pb"), "wb") as file:
            file.write(b"half")
        raise error

    monkeypatch.setattr(ARCHIVE, "write_out", write_out)
    with pytest.raises(OSError, match=r"`base_path` must be writable and have room for the export.*No space left"):
        export(ranker(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_two_exporters_get_two_numbers(tmp_path, monkeypatch):
    folders = []
    for content in "ab":
        folder = tmp_path / f".{content}"
        folder.mkdir()
        (folder / "saved_model.pb").write_text(content)
        folders.append(folder)
    both, looked, numbers = threading.Barrier(2), set(), []
    real = publish.versions

    def versions(base):
        found = real(base)
        if threading.current_thread() not in looked:
            looked.add(threading.current_thread())
            # Neither renames before both have looked: both try the same number.
            both.wait(timeout=20)
        return found

    monkeypatch.setattr(publish, "versions", versions)
    threads = [
        threading.Thread(target=lambda folder=folder: numbers.append(publish.publish(folder, tmp_path, None)))
        for folder in folders
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == [1, 2]
    assert {(tmp_path / str(number) / "saved_model.pb").read_text() for number in numbers} == {"a", "b"}


def test_files_are_readable_under_umask_077(tmp_path):
    previous = os.umask(0o077)
    try:
        result = export(ranker(), tmp_path / "models" / "name")
    finally:
        os.umask(previous)
    paths = [tmp_path / "models", tmp_path / "models" / "name", result.path, *result.path.rglob("*")]
    assert len(paths) > 6
    for path in paths:
        wanted = 0o555 if path.is_dir() else 0o444
        assert path.stat().st_mode & wanted == wanted, path


def test_every_file_is_synced_before_the_rename(tmp_path, monkeypatch):
    events = []
    sync, rename = os.fsync, os.rename
    monkeypatch.setattr(
        os, "fsync", lambda handle: (events.append(os.readlink(f"/proc/self/fd/{handle}")), sync(handle))
    )
    monkeypatch.setattr(os, "rename", lambda *paths: (events.append("rename"), rename(*paths)))
    result = export(ranker(), tmp_path)
    at = len(events) - 1 - events[::-1].index("rename")
    synced = {path.split(publish.STAGING_PREFIX)[-1].partition("/")[2] for path in events[:at] if "staging" in path}
    assert synced >= {str(path.relative_to(result.path)) for path in result.path.rglob("*")}
    assert str(tmp_path) in events[at:]


@pytest.mark.parametrize("url", ["gs://bucket/models", "s3://bucket/models"])
def test_object_stores(url):
    with pytest.raises(ValueError, match=r"must be a local folder.*upload"):
        export(ranker(), url)


def test_bases_that_cannot_be(tmp_path, monkeypatch):
    def trace(*arguments, **keywords):
        raise AssertionError("traced")

    (tmp_path / "file").write_text("")
    export(ranker(), tmp_path / "name")
    monkeypatch.setattr(keras.export, "ExportArchive", trace)
    with pytest.raises(NotADirectoryError, match="`base_path` must be a folder"):
        export(ranker(), tmp_path / "file")
    with pytest.raises(OSError, match="`base_path` must be"):
        export(ranker(), tmp_path / "file" / "name")
    with pytest.raises(ValueError, match="folder above the versions"):
        export(ranker(), tmp_path / "name" / "1")
    with pytest.raises(TypeError, match="`base_path` must be a path"):
        export(ranker(), 7)
    # The process may be root, whom no mode stops; /proc takes no folders from anyone.
    with pytest.raises(OSError, match="`base_path` must be writable"):
        export(ranker(), "/proc/tfrankloss/name")
    monkeypatch.setattr(publish.tempfile, "mkdtemp", lambda **_: (_ for _ in ()).throw(PermissionError(13, "denied")))
    with pytest.raises(PermissionError, match="`base_path` must be writable"):
        export(ranker(), tmp_path / "name")


def test_load_without_a_model(tmp_path):
    with pytest.raises(FileNotFoundError, match="`path` must hold a SavedModel"):
        serving.load(tmp_path)
