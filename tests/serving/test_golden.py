"""The golden export: what was exported once must load and answer alike in every later version."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from serving import client
from tfrankloss import serving

GOLDEN = Path(__file__).resolve().parents[2] / "saved_models" / "golden"
ANSWERS = json.loads((GOLDEN / "answers.json").read_text())


def read(inputs):
    """Messages from their digits, all else as it is."""
    return {
        name: list(map(bytes.fromhex, value)) if name in ("examples", "inputs") else value
        for name, value in inputs.items()
    }


def agrees(outputs, expected):
    assert set(outputs) == set(expected)
    for name, values in expected.items():
        if name in ("ids", "classes"):
            assert outputs[name].tolist() == values
        else:
            np.testing.assert_allclose(outputs[name], values, rtol=1e-6, atol=1e-6)


def test_it_answers_as_it_did():
    with serving.load(GOLDEN) as servable:
        assert servable.path.name == "1"
        assert {entry["signature"] for entry in ANSWERS} == set(servable.signatures)
        for entry in ANSWERS:
            agrees(servable.predict(read(entry["inputs"]), entry["signature"]), entry["outputs"])


def test_its_files_and_recorded_answers():
    report = serving.verify(GOLDEN)
    assert all(row["requests"] == 1 and row["largest_difference"] < 1e-6 for row in report.values())


def test_without_python(tmp_path):
    binary, fault = client.compiled()
    if binary is None:
        pytest.skip(f"the client in C cannot be compiled: {fault}")
    requests = []
    with serving.load(GOLDEN) as servable:
        for entry in ANSWERS:
            requests.append((entry["signature"], servable.fed(read(entry["inputs"]), entry["signature"])))
    for entry, outputs in zip(ANSWERS, client.ask(GOLDEN / "1", requests, tmp_path), strict=True):
        text = {
            key: np.vectorize(bytes.decode, otypes="O")(value)
            for key, value in outputs.items()
            if value.dtype == object
        }
        agrees({**outputs, **text}, entry["outputs"])


def test_the_same_model_gives_the_same_answers_today(tmp_path, monkeypatch):
    """What wrote it, run again: the formulas of towers, search and signatures have not moved."""
    spec = importlib.util.spec_from_file_location("make_golden", GOLDEN / "make.py")
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    monkeypatch.setattr(make, "FOLDER", tmp_path)
    make.main()
    for new, old in zip(json.loads((tmp_path / "answers.json").read_text()), ANSWERS, strict=True):
        assert new["signature"] == old["signature"] and new["inputs"] == old["inputs"]
        agrees({key: np.array(value) for key, value in new["outputs"].items()}, old["outputs"])
