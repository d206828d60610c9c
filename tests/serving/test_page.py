"""The requests in docs/serving.md are answered as the page says."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from serving import page
from tfrankloss import serving
from tfrankloss.serving import rest

ROOT = Path(__file__).resolve().parents[2]
ASKED = re.findall(r"curl -d '(.*?)' \\\n.*?```json\n(.*?)```", page.TEXT, flags=re.DOTALL)


def test_every_request_is_found():
    assert len(ASKED) == page.TEXT.count("curl -d") == 3


@pytest.mark.parametrize("request_, answer", ASKED, ids=["default", "search", "score"])
def test_request(request_, answer):
    with serving.load(ROOT / "saved_models" / "golden") as servable:
        given = rest.predict(servable, json.loads(request_))
    expected = json.loads(answer)
    assert list(given) == list(expected)
    if "outputs" in expected:
        np.testing.assert_allclose(given["outputs"], expected["outputs"], rtol=1e-5, atol=1e-6)
    else:
        for one, other in zip(given["predictions"], expected["predictions"], strict=True):
            assert one["ids"] == other["ids"]
            np.testing.assert_allclose(one["scores"], other["scores"], rtol=1e-5)


def test_python_on_the_page_compiles():
    for block in page.CODE:
        compile(block, "docs/serving.md", "exec")
