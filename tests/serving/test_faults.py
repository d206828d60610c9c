"""What goes wrong outside an exporter, and faulty models: the base is as it was, to the byte."""

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from serving.faults import files_of
from tfrankloss import serving

TESTS = Path(__file__).resolve().parents[1]


def test_killed_crowded_and_cramped_exporters():
    """A short form of `make faults`: 2 kills instead of 200."""
    own_mounts = ["unshare", "--mount"]
    if not shutil.which("unshare") or subprocess.run([*own_mounts, "true"], check=False).returncode:
        own_mounts = []
    command = [*own_mounts, sys.executable, "-m", "serving.faults", "2"]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    if "not tried" in done.stdout:
        pytest.skip(next(line for line in done.stdout.splitlines() if "not tried" in line))


def towers(layer=None, **changes):
    query, item = keras.Input((2,), name="query"), keras.Input((2,), name="item")
    parts = {
        "query_tower": keras.Model({"query": query}, layer(query) if layer else query * 1.0),
        "candidate_tower": keras.Model({"item": item}, item * 1.0),
        "similarity": "dot",
    }
    return SimpleNamespace(**{**parts, **changes})


def index(ids=(1, 2, 3)):
    return serving.CandidateIndex(list(ids), np.arange(6.0).reshape(3, 2))


class CallsPython(keras.layers.Layer):
    def call(self, inputs):
        return tf.ensure_shape(tf.py_function(lambda values: values * 2, [inputs], tf.float32), inputs.shape)

    def compute_output_shape(self, shape):
        return shape


class BuildsLate(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.inner = keras.layers.Dense(2)

    def build(self, shape):
        pass

    def call(self, inputs):
        return self.inner(inputs) if hasattr(inputs, "graph") else inputs

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape, inputs.dtype)


def crossed():
    left, right = keras.Input((2,), name="left"), keras.Input((2,), name="right")
    return keras.Model({"left": right, "right": left}, left - right)


def ragged():
    history = keras.Input((None,), name="history", dtype="int32", ragged=True)
    return keras.Model({"history": history}, keras.layers.Lambda(lambda x: x, output_shape=(2,))(history))


FAULTS = {
    "crossed names": (lambda: towers(query_tower=crossed()), {}, ValueError, "must equal its key"),
    "unbuilt layer": (lambda: towers(BuildsLate()), {}, ValueError, "must be built"),
    "py_function": (lambda: towers(CallsPython()), {}, ValueError, "must not call Python"),
    "ragged input": (lambda: towers(query_tower=ragged()), {}, ValueError, "dense input"),
    "k above N": (towers, {"k": 4}, ValueError, "`k` must be at most the 3 candidates"),
    "wrong warm-up": (towers, {"warmup": [("search", {"query": [[1, 2]]})]}, ValueError, "`warmup` must hold"),
    "existing version": (towers, {"version": 1}, FileExistsError, "`version` must not exist"),
    "batching": (towers, {"batching": {"max_batch_size": -1}}, ValueError, "at least 1"),
    "a name that clashes": (
        lambda: towers(query_tower=keras.Model((k := keras.Input((2,), name="k")), k * 1.0)),
        {},
        ValueError,
        "must not have inputs named",
    ),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    base = tmp_path_factory.mktemp("faults") / "name"
    serving.export(towers(), base, candidates=index(), signatures=["serving_default"])
    return base


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict")
def test_a_refusal_changes_no_byte(base, fault):
    build, arguments, error, match = FAULTS[fault]
    before = files_of(base)
    times = {path: path.stat().st_mtime_ns for path in base.rglob("*")}
    signatures = ["serving_default", "search"]
    with pytest.raises(error, match=match):
        serving.export(build(), base, **{"candidates": index(), "signatures": signatures, **arguments})
    assert files_of(base) == before
    # But for the base itself, in which a staging folder came and went.
    assert {path: path.stat().st_mtime_ns for path in base.rglob("*")} == times


def test_faults_of_an_index_never_reach_an_export():
    for ids, embeddings, match in (
        ((1, 2, 2), np.ones((3, 2)), "unique"),
        ((1, 2, 3), np.full((3, 2), np.nan), "finite"),
        ((1, 2), np.ones((3, 2)), "same length"),
    ):
        with pytest.raises(ValueError, match=match):
            serving.CandidateIndex(ids, embeddings)
