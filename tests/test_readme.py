"""The README's Python runs as printed, and its tables name what there is."""

import re
from pathlib import Path

import pytest
from laws import cases

from tfrankloss import losses, metrics

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
# Names wait here for the tables of the README until they are released.
UNRELEASED = (ROOT / "CHANGELOG.md").read_text().split("\n## ")[1]
BLOCKS = re.findall(r"^## Quick start: ([^\n]+)\n.*?^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_both_quick_starts_are_found():
    assert [title for title, _ in BLOCKS] == ["rank lists", "retrieve from a catalog"]
    assert README.count("```python") == len(BLOCKS)


@pytest.mark.parametrize("code", [code for _, code in BLOCKS], ids=[title for title, _ in BLOCKS])
def test_a_quick_start_runs(code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert "scores" in capsys.readouterr().out or "saved_models/ranker" in code
    assert list(tmp_path.glob("saved_models/*/1/saved_model.pb"))


@pytest.mark.parametrize(
    "classes, module", [(cases.LOSS_CLASSES, losses), (cases.METRIC_CLASSES, metrics)], ids=["losses", "metrics"]
)
def test_the_tables_name_every_loss_and_metric(classes, module):
    cells = re.findall(r"^\| (`.*?) \|", README, re.MULTILINE)
    named = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert {cls.__name__ for cls in classes} <= named | set(re.findall(r"`(\w+)`", UNRELEASED))
    assert named <= {*losses.__all__, *metrics.__all__}
