"""Who may import whom, and that losses and metrics never load TensorFlow on another backend."""

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "tfrankloss"
MODULES = sorted(PACKAGE.rglob("*.py"))

USE = """
import sys
import tfrankloss
from tfrankloss import NDCG, ListMLELoss
assert tfrankloss.ListMLELoss is ListMLELoss
loss = float(ListMLELoss()([[2.0, 0.0, 1.0]], [[0.5, 0.1, 0.3]]))
assert 0 < loss < 10
metric = NDCG()
metric.update_state([[2.0, 0.0, 1.0]], [[0.5, 0.1, 0.3]])
assert float(metric.result()) == 1
assert "tensorflow" not in sys.modules, "TensorFlow was loaded"
"""

# What each part may import of the others; data, serving and the package itself come after all of these.
ALLOWED = {
    "version": set(),
    "errors": set(),
    "config": set(),
    "names": {"errors"},
    "functional": {"errors"},
    "inputs": {"errors", "functional"},
    "losses": {"config", "distribution", "errors", "functional", "inputs", "names"},
    "metrics": {"config", "errors", "functional", "inputs", "names"},
    "retrieval": {"errors", "functional", "inputs"},
    "layers": {"errors", "functional"},
    "sampling": {"errors"},
    "models": {"errors", "functional", "layers"},
    "distribution": {"errors", "functional", "inputs"},
    "data": {"errors", "retrieval"},
    "serving": {"errors", "functional", "data", "layers", "retrieval", "version"},
}


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_tensorflow_is_not_loaded_on_another_backend(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run([sys.executable, "-c", USE], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def part_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(nodes):
    """The full names of what import statements import."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    part = part_of(path)
    if part == "__init__":
        return
    names = {name.split(".")[1] for name in imported(ast.walk(ast.parse(path.read_text()))) if "tfrankloss." in name}
    assert part in ALLOWED, f"say in this test what tfrankloss.{part} may import"
    assert names <= ALLOWED[part] | {part}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_data_and_serving_import_a_backend(path):
    if part_of(path) in ("data", "serving"):
        return
    backends = {name.split(".")[0] for name in imported(ast.parse(path.read_text()).body)}
    assert not backends & {"tensorflow", "jax", "torch", "tf_keras"}


def test_every_public_name_is_there():
    import tfrankloss

    for name in tfrankloss.__all__:
        assert hasattr(tfrankloss, name)
    for module in (tfrankloss.functional, tfrankloss.losses, tfrankloss.metrics, tfrankloss.models):
        assert sorted(module.__all__) == sorted(set(module.__all__))
        for name in module.__all__:
            assert hasattr(module, name)
