"""The models of both examples, untrained, each exported once for all tests that ask."""

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    collect_ignore_glob = ["*"]
else:
    from tfrankloss import serving
    from tfrankloss.serving.plan import plan
    from tfrankloss.serving.signature import Plan, Settings

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@dataclass
class Exported:
    """A version, and what it was made of."""

    result: Any
    model: Any
    arguments: dict
    planned: "Plan"
    data: Any = None

    def request(self, name, size=3, seed=0):
        """Arguments for a signature, made as those of a probe."""
        signature = next(one for one in self.planned.signatures if one.name == name)
        specs = signature.inputs if signature.features is None else signature.features
        features = {
            key: values(spec, size, key in signature.listed, seed + place)
            for place, (key, spec) in enumerate(specs.items())
        }
        return signature.request(signature.extend(features))


def values(spec, size, listed, seed):
    generator = np.random.default_rng(seed)
    shape = [size, *([4] if listed else []), *(axis or 4 for axis in spec.shape[2 if listed else 1 :])]
    if spec.dtype.name == "string":
        return generator.integers(1, 30, shape).astype(str).astype(object)
    if spec.dtype.is_floating:
        return generator.random(shape).astype(np.float32)
    return generator.integers(0, 2, shape).astype(spec.dtype.as_numpy_dtype)


@pytest.fixture(scope="session")
def example():
    """Import an example as a script finds its helpers: from its own folder."""
    sys.path.insert(0, str(EXAMPLES))
    yield importlib.import_module
    sys.path.remove(str(EXAMPLES))


@pytest.fixture(scope="session")
def retriever(example, tmp_path_factory):
    """The two towers of the example: raw string ids in, all signatures, a filter by decade."""
    keras.utils.set_random_seed(1)
    movielens = example("movielens_two_tower")
    data = movielens.simulate(quick=True)
    model = movielens.with_popularity(movielens.build(data, 8), np.arange(len(data.item_ids)))
    catalog = movielens.catalog(data)
    attributes = {"decade": catalog["decades"].astype(int), "parity": np.arange(len(data.item_ids)) % 2}
    embeddings = model.embed_candidates(catalog)
    arguments = {
        "candidates": serving.CandidateIndex(data.item_ids, embeddings, attributes),
        "k": 20,
        "preprocessing": movielens.lookups(data),
    }
    result = serving.export(model, tmp_path_factory.mktemp("retriever") / "movies", **arguments)
    return Exported(result, model, arguments, plan(model, Settings(**arguments)), data)


@pytest.fixture(scope="session")
def ranker(example, tmp_path_factory):
    """The scorer of the example, whose clients say how long their lists are."""
    keras.utils.set_random_seed(1)
    model = example("letor_listwise").MODELS["mlp"](10)
    arguments = {"padding": "lengths"}
    result = serving.export(model, tmp_path_factory.mktemp("ranker") / "letor", **arguments)
    return Exported(result, model, arguments, plan(model, Settings(**arguments)))
