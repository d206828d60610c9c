"""The exports of both examples, asked as a server asks: by a client in C, by TensorFlow's session, by its own tool."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from serving import client
from tfrankloss import serving

BATCHES = (1, 2, 7)


@pytest.fixture(scope="module")
def gcc():
    binary, fault = client.compiled()
    if binary is None:
        pytest.skip(f"the client in C cannot be compiled: {fault}")


@pytest.fixture(scope="module")
def asked(retriever, ranker):
    """Of both exports, requests of all signatures, and what the functions answer that were exported."""
    return {"retriever": asked_of(retriever), "ranker": asked_of(ranker)}


def asked_of(exported):
    requests, live = [], []
    for signature in exported.planned.signatures:
        function = tf.function(signature.serve, input_signature=[signature.inputs])
        for size in BATCHES:
            inputs = exported.request(signature.name, size)
            arrays = {
                name: np.asarray(inputs[name], object if spec.dtype == tf.string else spec.dtype.as_numpy_dtype)
                for name, spec in signature.inputs.items()
            }
            requests.append((signature.name, arrays))
            live.append({name: value.numpy() for name, value in function(arrays).items()})
    assert {name for name, _ in requests} == set(exported.result.signatures)
    return exported, requests, live


def same(answers, expected):
    assert set(answers) == set(expected)
    for name, values in expected.items():
        assert answers[name].dtype == values.dtype and answers[name].shape == values.shape
        # Bit for bit: of numbers, and of strings.
        assert answers[name].tobytes() == values.tobytes() or answers[name].tolist() == values.tolist()


@pytest.mark.parametrize("name", ["retriever", "ranker"])
def test_the_session_answers_bit_for_bit(asked, name):
    exported, requests, live = asked[name]
    with serving.load(exported.result.path) as servable:
        for (signature, inputs), expected in zip(requests, live, strict=True):
            same(servable.raw(inputs, signature), expected)


@pytest.mark.parametrize("name", ["retriever", "ranker"])
def test_a_client_in_c_answers_bit_for_bit(asked, name, gcc, tmp_path):
    exported, requests, live = asked[name]
    for answer, expected in zip(client.ask(exported.result.path, requests, tmp_path), live, strict=True):
        assert isinstance(answer, dict), answer
        same(answer, expected)


CLI = """
import json, sys
from tensorflow.python.tools import saved_model_cli
for arguments in json.load(sys.stdin):
    sys.argv = ["saved_model_cli", "run", *arguments]
    try:
        saved_model_cli.main()
    except SystemExit as done:
        if done.code:
            raise
assert "keras" not in sys.modules and "tfrankloss" not in sys.modules
"""


def test_saved_model_cli_answers_bit_for_bit(asked, tmp_path):
    """TensorFlow's own tool, which loads by `tf.compat.v1`, in a process that knows neither tfrankloss nor Keras."""
    runs, expected = [], []
    for exported, requests, live in asked.values():
        # It loads a model for each request: one of each signature.
        for (signature, inputs), answers in list(zip(requests, live, strict=True))[1 :: len(BATCHES)]:
            folder = tmp_path / str(len(runs))
            folder.mkdir()
            for key, values in inputs.items():
                np.save(folder / f"{key}.npy", values)
            given = ";".join(f"{key}={folder / key}.npy" for key in inputs)
            arguments = ["--dir", exported.result.path, "--tag_set", "serve", "--signature_def", signature]
            runs.append([str(one) for one in (*arguments, "--inputs", given, "--outdir", folder / "answers")])
            expected.append((folder / "answers", answers))
    assert len(runs) == sum(len(exported.result.signatures) for exported, *_ in asked.values())
    command, environment = [sys.executable, "-c", CLI], {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(command, input=json.dumps(runs), capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for folder, answers in expected:
        same({file.stem: np.load(file, allow_pickle=True) for file in folder.iterdir()}, answers)


def abused(**changes):
    """The arguments of ``search``, some of them not as they should be."""
    usual = {
        "user_id": np.array(["3", "4"], object),
        "k": np.array([5, 5], np.int32),
        "exclude_ids": np.zeros((2, 0), object),
        "decade_in": np.zeros((2, 0), np.int64),
        "parity_in": np.zeros((2, 0), np.int64),
    }
    return {name: value for name, value in {**usual, **changes}.items() if value is not None}


def texts(*values):
    return np.array(values, object)


ABUSE = {
    # name: (signature, inputs, shape of ids or a part of the error's message)
    "unknown and empty ids": ("serving_default", {"user_id": texts("nobody", "", "\0", "é" * 9)}, (4, 20)),
    "bytes that are no text": ("serving_default", {"user_id": texts(b"\xff\xfe", b"\x00" * 9)}, (2, 20)),
    "100 kB strings": ("serving_default", {"user_id": texts("x" * 100_000, "é" * 50_000)}, (2, 20)),
    "no rows": ("serving_default", {"user_id": texts()}, (0, 20)),
    "10,000 rows": ("serving_default", {"user_id": np.full(10_000, "3", object)}, (10_000, 20)),
    "a matrix of ids": ("serving_default", {"user_id": texts(["3"])}, "shape"),
    "numbers for strings": ("serving_default", {"user_id": np.array([3])}, "expects arg[0] to be string"),
    "no input": ("serving_default", {}, "user_id"),
    "one more input": ("serving_default", {"user_id": texts("3"), ("search", "k"): np.zeros(1, np.int32)}, (1, 20)),
    "k of 0": ("search", abused(k=np.array([5, 0], np.int32)), "`k` must be from 1 to 20"),
    "negative k": ("search", abused(k=np.array([-5, 1], np.int32)), "`k` must be from 1 to 20"),
    "k above the maximum": ("search", abused(k=np.array([21, 1], np.int32)), "`k` must be from 1 to 20"),
    "least k": ("search", abused(k=np.array([-(2**31)] * 2, np.int32)), "`k` must be from 1 to 20"),
    "k of another type": ("search", abused(k=np.array([5, 5])), "to be int32"),
    "fewer k than rows": ("search", abused(k=np.array([5], np.int32)), "same number of rows"),
    "no k": ("search", abused(k=None), "k"),
    "excluded, none": ("search", abused(), (2, 5)),
    "excluded, one": ("search", abused(exclude_ids=texts(["1"], [""])), (2, 5)),
    "excluded, many": ("search", abused(exclude_ids=np.full((2, 50_000), "1", object)), (2, 5)),
    "excluded, other rows": ("search", abused(exclude_ids=np.full((3, 2), "1", object)), "same number of rows"),
    "excluded, long strings": ("search", abused(exclude_ids=np.full((2, 2), "x" * 100_000, object)), (2, 5)),
    "filter, extremes": ("search", abused(parity_in=np.array([[2**63 - 1], [-(2**63)]])), (2, 5)),
    "filter, many": ("search", abused(parity_in=np.tile(np.arange(50_000), (2, 1))), (2, 5)),
    "no message": ("examples", {"examples": texts(b"\xff\xff")}, "pars"),
    "empty message": ("examples", {"examples": texts(b"")}, "user_id"),
    "no messages": ("classify", {"inputs": texts()}, (0, 20)),
    "a deep message": ("classify", {"inputs": texts(b"\x0a" * 100_000)}, "pars"),
}


def test_abuse_of_a_retriever(retriever, gcc, tmp_path):
    """Through the client in C: an answer of the right shape or an error that names the fault, and never a crash."""
    answers = client.ask(retriever.result.path, [case[:2] for case in ABUSE.values()], tmp_path)
    for (case, (*_, expected)), answer in zip(ABUSE.items(), answers, strict=True):
        if isinstance(expected, str):
            assert isinstance(answer, str) and expected.lower() in answer.lower(), (case, answer)
        else:
            assert isinstance(answer, dict), (case, answer)
            name = "classes" if "classes" in answer else "ids"
            assert answer[name].shape == answer["scores"].shape == expected, case
            assert np.isfinite(answer["scores"]).all(), case
    # The session still answers after all that, and right.
    again = client.ask(retriever.result.path, [ABUSE["unknown and empty ids"][:2]] * 2, tmp_path)
    same(again[0], again[1])


def test_abuse_of_a_ranker(ranker, gcc, tmp_path):
    ones, lengths = np.ones((2, 3, 10), np.float32), np.array([3, 0], np.int32)
    names = np.full((2, 3), "doc", object)
    cases = [
        ("serving_default", {"features": ones * np.nan, "lengths": lengths}, (2, 3)),
        ("serving_default", {"features": ones * np.inf, "lengths": lengths}, (2, 3)),
        ("serving_default", {"features": ones[:0], "lengths": lengths[:0]}, (0, 3)),
        ("serving_default", {"features": ones[:, :0], "lengths": lengths * 0}, (2, 0)),
        ("serving_default", {"features": ones[:1].repeat(9999, 0), "lengths": lengths[:1].repeat(9999)}, (9999, 3)),
        ("serving_default", {"features": ones, "lengths": lengths + 1}, "`lengths` must be from 0 to"),
        ("serving_default", {"features": ones, "lengths": lengths - 1}, "`lengths` must be from 0 to"),
        ("serving_default", {"features": ones}, "lengths"),
        ("serving_default", {"features": ones[:, :, :9], "lengths": lengths}, "shape"),
        ("serving_default", {"features": ones.reshape(2, 6, 5), "lengths": lengths}, "shape"),
        ("serving_default", {"features": ones.reshape(1, 60), "lengths": lengths[:1]}, "shape"),
        ("serving_default", {"features": ones, "lengths": lengths[:1]}, "same number of rows"),
        ("rank", {"features": ones, "item_ids": names}, (2, 3)),
        ("rank", {"features": ones, "item_ids": np.full((2, 3), "", object)}, (2, 3)),
        ("rank", {"features": ones, "item_ids": names[:, :2]}, "same number of items"),
        ("rank", {"features": ones, "item_ids": names[:1]}, "same number of rows"),
        ("examples", {"inputs": texts(b"\xff" * 50)}, ""),
        ("examples", {"inputs": texts()}, (0, 0)),
        ("examples", {"inputs": texts(b"", b"")}, (2, 0)),
        ("regress", {"inputs": texts(b"")}, "features"),
        ("regress", {"inputs": texts()}, (0,)),
    ]  # fmt: skip
    answers = client.ask(ranker.result.path, [case[:2] for case in cases], tmp_path)
    for (name, inputs, expected), answer in zip(cases, answers, strict=True):
        if isinstance(expected, str):
            assert isinstance(answer, str) and expected in answer, (name, inputs, answer)
        else:
            assert isinstance(answer, dict), (name, answer)
            assert {value.shape for value in answer.values()} == {expected}, (name, inputs)
