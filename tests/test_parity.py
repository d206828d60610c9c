"""Every row of docs/parity.md, measured again; and that the page has every row."""

import ast
import re
from pathlib import Path

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("TensorFlow Ranking runs on TensorFlow", allow_module_level=True)

from parity import measure, page, rax_rows, tensorflow_ranking

if tensorflow_ranking.tfr is None:
    pytest.skip("tensorflow-ranking is not installed", allow_module_level=True)

TESTS = Path(__file__).resolve().parent
SECTIONS = page.sections()
ROWS = [pytest.param(row, id=f"{row.theirs}-{row.ours}") for rows in SECTIONS.values() for row in rows]


@pytest.mark.parametrize("row", ROWS)
def test_row(row):
    of_values, of_gradients = measure.differences(row)
    assert of_values <= measure.TOLERANCE
    assert of_gradients is None or of_gradients <= measure.TOLERANCE


def test_every_public_name_of_tensorflow_ranking_has_a_row():
    named = {row.theirs.split()[0] for row in SECTIONS["TensorFlow Ranking 0.5.5"]}
    assert set(tensorflow_ranking.public_names()) - named == set()


def test_the_page_has_these_rows():
    if not rax_rows.INSTALLED:
        pytest.skip("rax is not installed")
    text = page.PAGE.read_text()
    written = re.findall(r"^\| `(.*?)` \| `(.*?)` \|", text, flags=re.MULTILINE)
    assert written == [(row.theirs, row.ours) for rows in SECTIONS.values() for row in rows]
    for line in page.differences():
        assert line in text


@pytest.mark.parametrize(("file", "name"), [pytest.param(f, n, id=n) for _, f, n in page.DIFFERENCES])
def test_each_difference_is_pinned(file, name):
    functions = [node.name for node in ast.walk(ast.parse((TESTS / file).read_text())) if hasattr(node, "name")]
    assert name in functions
