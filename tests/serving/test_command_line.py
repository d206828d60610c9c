"""`python -m tfrankloss.serving`: tables that can be read, and the JSON of TF Serving."""

import base64
import io
import json
import os
import shutil
import sys

import numpy as np
import pytest

from tfrankloss import serving
from tfrankloss.data import to_example
from tfrankloss.serving import rest
from tfrankloss.serving.__main__ import main


@pytest.fixture
def run(capsys):
    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def query(run, exported, request, *options):
    code, out, err = run(
        "query", exported.result.path, request if isinstance(request, str) else json.dumps(request), *options
    )
    assert not err
    return code, json.loads(out)


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as done:
        main(["--help"])
    assert done.value.code == 0
    printed = capsys.readouterr().out
    for word in ("show", "verify", "query", "clean", "config", "examples:", "--keep 3", "--signature score"):
        assert word in printed
    for command in ("query", "clean"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert "PATH" in capsys.readouterr().out


def test_show(run, retriever):
    code, out, _ = run("show", retriever.result.path.parent)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == ["version", "size", "tfrankloss", "tensorflow", "keras"]
    assert lines[2].split()[0] == "1"
    table = [line.split() for line in lines]
    assert ["serving_default", "input", "user_id", "string", "(?)"] in table
    assert ["output", "ids", "string", "(?,", "20)"] in table
    assert ["input", "exclude_ids", "string", "(?,", "?)"] in table
    assert {line[0] for line in table if line} >= set(retriever.result.signatures)


def test_verify(run, retriever, tmp_path):
    code, out, _ = run("verify", retriever.result.path)
    assert code == 0 and "files are those of the manifest" in out
    assert {line.split()[0] for line in out.splitlines()[3:]} == set(retriever.result.signatures)
    copy = shutil.copytree(retriever.result.path, tmp_path / "1")
    (copy / "saved_model.pb").write_bytes(b"")
    code, out, err = run("verify", copy)
    assert code == 1 and not out and err.startswith("error: `path` must hold the files of its manifest")
    code, _, err = run("verify", tmp_path / "none")
    assert code == 1 and "must hold a SavedModel" in err


def test_rows_and_columns(run, retriever):
    """The forms of the REST API: https://www.tensorflow.org/tfx/serving/api_rest."""
    with serving.load(retriever.result.path) as servable:
        answers = servable.query(user_id=["3", "nobody"])
    rows = [{"user_id": "3"}, {"user_id": "nobody"}]
    code, answer = query(run, retriever, {"instances": rows})
    assert code == 0 and list(answer) == ["predictions"]
    assert [row["ids"] for row in answer["predictions"]] == answers["ids"].tolist()
    scores = np.array([row["scores"] for row in answer["predictions"]], np.float32)
    np.testing.assert_array_equal(scores, answers["scores"])
    for same in (
        rows,
        {"instances": ["3", "nobody"]},
        {"instances": [{"b64": encoded(b"3")}, {"b64": encoded(b"nobody")}]},
    ):
        assert query(run, retriever, same) == (0, answer)
    code, columns = query(run, retriever, {"inputs": {"user_id": ["3", "nobody"]}})
    assert columns["outputs"]["ids"] == answers["ids"].tolist()
    assert query(run, retriever, {"inputs": ["3", "nobody"]}) == (0, columns)
    # A single output stands without its name.
    code, answer = query(run, retriever, {"signature_name": "query_embedding", "instances": rows})
    assert np.shape(answer["predictions"]) == (2, 9)
    code, columns = query(run, retriever, {"inputs": {"user_id": ["3"]}}, "--signature", "query_embedding")
    assert np.shape(columns["outputs"]) == (1, 9)
    message = {"b64": encoded(to_example({"user_id": "3"}))}
    code, answer = query(run, retriever, {"instances": [message]}, "--signature", "classify")
    assert answer["predictions"][0]["classes"] == answers["ids"][0].tolist()


def encoded(value):
    return base64.b64encode(value).decode()


def test_requests_from_files(run, retriever, tmp_path, monkeypatch):
    request = {"instances": [{"user_id": "3", "k": 2, "exclude_ids": [], "decade_in": [], "parity_in": [1]}]}
    (tmp_path / "request.json").write_text(json.dumps(request))
    code, answer = query(run, retriever, f"@{tmp_path}/request.json", "--signature", "search")
    assert code == 0 and len(answer["predictions"][0]["ids"]) == 2
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(request)))
    assert query(run, retriever, "-", "--signature", "search") == (0, answer)
    code, _, err = run("query", retriever.result.path, "@no/such/file")
    assert code == 1 and "no/such/file" in err


SEARCH = {"user_id": "3", "k": 2, "exclude_ids": [], "decade_in": [], "parity_in": []}


@pytest.mark.parametrize(
    "request_, match",
    [
        ("{", "Expecting property name"),
        ("7", "`request` must be a JSON object"),
        ({}, "either 'instances' or 'inputs'"),
        ({"instances": [], "inputs": {}}, "either 'instances' or 'inputs'"),
        ({"instances": [{"user_id": "3"}], "model": "x"}, "either 'instances' or 'inputs'"),
        ({"instances": []}, "at least one row"),
        ({"instances": [{"user_id": "3"}, {"user": "3"}]}, "the same inputs in every row"),
        ({"instances": [{"user": "3"}]}, "missing ['user_id'], unknown ['user']"),
        ({"instances": [{"user_id": "3", "more": 1}]}, "missing [], unknown ['more']"),
        ({"instances": [{"user_id": 3}]}, "`user_id` must hold values of type string"),
        ({"instances": [{"user_id": None}]}, "`user_id` must hold values of type string"),
        ({"instances": [{"user_id": ["3"]}]}, "`user_id` must have shape"),
        ({"instances": [{"user_id": ["3"]}, {"user_id": ["3", "4"]}]}, "rows of equal lengths"),
        ({"instances": ["3"], "signature_name": "search"}, "`instances` must be objects"),
        ({"inputs": ["3"], "signature_name": "search"}, "`inputs` must be an object"),
        ({"instances": ["3"], "signature_name": "predict"}, "`signature_name` must be one of"),
        ({"instances": [{**SEARCH, "k": 0}], "signature_name": "search"}, "`k` must be from 1 to 20"),
        ({"instances": [{**SEARCH, "k": -1}], "signature_name": "search"}, "`k` must be from 1 to 20"),
        ({"instances": [{**SEARCH, "k": 21}], "signature_name": "search"}, "`k` must be from 1 to 20"),
        ({"instances": [{**SEARCH, "k": 1.5}], "signature_name": "search"}, "`k` must hold values of type int32"),
        ({"instances": [{**SEARCH, "k": 2**40}], "signature_name": "search"}, "`k` must fit into int32"),
        ({"instances": [{"inputs": {"b64": "!"}}], "signature_name": "classify"}, ""),
    ],
)
def test_bad_requests_are_answered_with_an_error(run, retriever, request_, match):
    code, answer = query(run, retriever, request_)
    assert code == 1 and list(answer) == ["error"] and match in answer["error"]


@pytest.mark.parametrize("user", ["", "nobody", "x" * 100_000, "\x00", "é\u2028"])
def test_odd_users_are_answered(run, retriever, user):
    code, answer = query(run, retriever, [{"user_id": user}] * 3)
    assert code == 0 and [len(row["ids"]) for row in answer["predictions"]] == [20] * 3


@pytest.mark.parametrize("count", [0, 1, 3, 299, 1000])
def test_exclude_lists_of_every_length(run, retriever, count):
    excluded = [str(number) for number in range(1, count + 1)]
    code, answer = query(run, retriever, [{**SEARCH, "exclude_ids": excluded}], "--signature", "search")
    ids = answer["predictions"][0]["ids"]
    assert code == 0 and len(ids) == 2 and not set(ids) & set(excluded)
    assert (ids == ["", ""]) == (count == 1000)


def test_a_ranker_is_asked(run, ranker):
    rows = [{"features": [[0.5] * 10, [1] * 10, [0.0] * 10], "lengths": length} for length in (3, 1)]
    code, answer = query(run, ranker, {"instances": rows})
    assert code == 0 and np.shape(answer["predictions"]) == (2, 3)
    assert answer["predictions"][1][1:] == [-3.4028235e38] * 2
    code, answer = query(run, ranker, '{"instances": [{"features": [[NaN]], "lengths": 1}]}')
    assert code == 1 and "`features` must have shape" in answer["error"]
    row = {"features": [[float("nan")] * 10, [1.0] * 10], "lengths": 2}
    code, answer = query(run, ranker, {"instances": [row]})
    assert code == 0 and np.shape(answer["predictions"]) == (1, 2) and np.isfinite(answer["predictions"][0][1])


@pytest.mark.parametrize("size", [0, 10_000])
def test_batches_of_every_size(run, retriever, tmp_path, size):
    (tmp_path / "request.json").write_text(json.dumps({"inputs": {"user_id": ["3"] * size}}))
    code, answer = query(run, retriever, f"@{tmp_path}/request.json")
    assert code == 0 and len(answer["outputs"]["ids"]) == len(answer["outputs"]["scores"]) == size


def test_bytes_are_encoded():
    class Model:
        def inputs(self, name):
            return {}

        def fed(self, inputs, name):
            return {}

        def raw(self, fed, name):
            return {"image_bytes": np.array([b"\xff\x00"], object), "name": np.array([b"\xff"], object)}

    answer = rest.predict(Model(), {"inputs": {}})
    assert answer == {"outputs": {"image_bytes": [{"b64": encoded(b"\xff\x00")}], "name": ["\ufffd"]}}


def test_clean(run, tmp_path, retriever):
    base = tmp_path / "name"
    for number in ("1", "2", "5"):
        shutil.copytree(retriever.result.path, base / number)
    (base / ".tfrankloss-staging-dead").mkdir()
    code, out, _ = run("clean", base, "--keep", 2)
    assert code == 0 and out.splitlines() == [
        "removed of killed exporters: .tfrankloss-staging-dead",
        "removed versions: 1",
    ]
    assert sorted(os.listdir(base)) == ["2", "5"]
    assert run("clean", base)[1] == "removed of killed exporters: nothing\n"
    assert run("clean", base, "--keep", 0)[::2] == (1, "error: `keep` must be at least 1. Received: keep=0\n")


def test_config(run, tmp_path):
    arguments = ["config", "a=/models/a", "b=/b", "c=/c"]
    arguments += ["--versions", "a=3,4", "--versions", "b=latest:2", "--versions", "c=all", "--label", "a:canary=4"]
    code, out, _ = run(*arguments)
    assert code == 0
    for text in (
        "specific { versions: 3 versions: 4 }",
        "latest { num_versions: 2 }",
        "all {}",
        'version_labels { key: "canary" value: 4 }',
    ):
        assert text in out
    assert run(*arguments, "--output", tmp_path / "models.config") == (0, "", "")
    assert (tmp_path / "models.config").read_text() == out
    for wrong in (["a"], ["a=/a", "--label", "a=4"], ["a=/a", "--versions", "a=x"], ["a=b"]):
        code, out, err = run("config", *wrong)
        assert code == 1 and not out and err.startswith("error: ")
