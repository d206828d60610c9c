"""The benchmarks run and print their tables; what they measure is no test's business."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("the benchmarks run on TensorFlow", allow_module_level=True)

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
QUICK = {
    "losses.py": ["--losses", "softmax", "--seconds", "0.1", "--longest", "20"],
    "fit.py": ["--loss", "softmax", "--seconds", "0.1", "--longest", "20"],
    "backends.py": ["jax", "--losses", "softmax", "--seconds", "0.1", "--longest", "20"],
    "in_batch.py": ["--seconds", "0.1", "--largest", "1024"],
    "memory.py": ["--losses", "softmax", "--lists", "2", "--length", "10", "--rows", "32", "--part", "16"],
    "serving.py": ["--seconds", "0.1", "--rows", "1024", "--catalog", "1024"],
    "movielens.py": ["--splits", "1", "--epochs", "1", "--in-batch-epochs", "1"],
    "growth.py": ["--losses", "softmax", "RankNet", "--longest", "300"],
}


@pytest.mark.parametrize("script", QUICK)
def test_prints_its_table(script, tmp_path):
    plot = ["--plot", str(tmp_path / "growth.png")] if script == "growth.py" else []
    command = [sys.executable, str(BENCHMARKS / script), *QUICK[script], *plot]
    environment = {**os.environ, "PYTHONPATH": str(BENCHMARKS.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert any("softmax" in row or "1024x" in row for row in rows[2:])
    assert not plot or (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_every_benchmark_is_tried():
    assert {path.name for path in BENCHMARKS.glob("*.py")} - {"peers.py", "timing.py"} == set(QUICK)
