"""docs/migrate.md: its script runs, it leaves out no name of theirs, and names nothing of ours that is not there."""

import re
from pathlib import Path

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("exports a model", allow_module_level=True)

import tensorflow_ranking_modules

import tfrankloss
from tfrankloss import losses, metrics, retrieval

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "migrate.md").read_text()
ROWS = re.findall(r"^\| (`.*?) \| (.*?) \|", PAGE, flags=re.MULTILINE)


def test_the_script_prints_what_the_page_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    exec(compile(code, "migrate.md", "exec"), {})
    assert capsys.readouterr().out in re.findall(r"^```text\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_every_name_of_tensorflow_ranking_is_told():
    tfr = tensorflow_ranking_modules.load()
    if tfr is None:
        pytest.skip("tensorflow-ranking is not installed")
    from parity import tensorflow_ranking

    told = {name for theirs, _ in ROWS for name in re.findall(r"\w+", theirs)}
    assert set(tensorflow_ranking.public_names()) <= told


def test_our_names_are_there():
    ours = {
        name for _, cell in ROWS for code in re.findall(r"`(.*?)`", cell) for name in re.findall(r"\b[A-Z]\w+", code)
    }
    modules = (tfrankloss, losses, metrics, retrieval)
    assert {name for name in ours if not any(hasattr(module, name) for module in modules)} == set()
