"""The index of faiss against the exact search."""

import builtins

import numpy as np
import pytest

from tfrankloss import retrieval

pytest.importorskip("faiss")

RANDOM = np.random.default_rng(0)
CANDIDATES, QUERIES = RANDOM.normal(size=(2000, 16)), RANDOM.normal(size=(50, 16))


@pytest.mark.parametrize("similarity", ["dot", "cosine", "euclidean"])
def test_a_flat_index_is_exact(similarity):
    index = retrieval.FaissIndex(CANDIDATES, similarity, factory="Flat")
    exclude = [(0, int(row)) for row in retrieval.top_k(QUERIES[:1], CANDIDATES, 5, similarity=similarity)[1][0]]
    values, indices = index.top_k(QUERIES, 10, exclude)
    expected, places = retrieval.top_k(QUERIES, CANDIDATES, 10, exclude, similarity)
    np.testing.assert_array_equal(indices, places)
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-4)
    assert index.recall(QUERIES, 10, exclude, verbose=False) == 1.0


def test_what_it_misses_is_said(capsys):
    """Few cells looked into miss more than many; a graph finds nearly all."""
    shares = {
        name: retrieval.FaissIndex(CANDIDATES, factory=factory, search=search).recall(QUERIES, 10)
        for name, factory, search in (
            ("one cell", "IVF32,Flat", {"nprobe": 1}),
            ("all cells", "IVF32,Flat", {"nprobe": 32}),
            ("graph", "HNSW32", {"efSearch": 200}),
        )
    }
    assert shares["one cell"] < 0.6 < 0.95 < shares["graph"] <= 1.0 == shares["all cells"]
    first = capsys.readouterr().out.splitlines()[0]
    assert first == f"recall@10 of 50 queries against the exact search: {shares['one cell']:.3f}"


def test_where_it_finds_fewer_there_are_blanks():
    index = retrieval.FaissIndex(CANDIDATES[:4], factory="Flat")
    values, indices = index.top_k(QUERIES[:2], 3, exclude=[(1, 0), (1, 1), (1, 2)])
    assert (indices[0] >= 0).all() and indices[1].tolist() == [3, -1, -1]
    assert np.isinf(values[1, 1:]).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: retrieval.FaissIndex(CANDIDATES, "near"), "`similarity`"),
        (lambda: retrieval.FaissIndex(CANDIDATES, factory="no such"), "`factory`"),
        (lambda: retrieval.FaissIndex(CANDIDATES, search={"none": 1}), "`factory` and `search`"),
        (lambda: retrieval.FaissIndex([[np.nan]]), "`candidates` must be finite"),
        (lambda: retrieval.FaissIndex(CANDIDATES, factory="Flat").top_k(QUERIES[:, :3], 1), "`queries`"),
        (lambda: retrieval.FaissIndex(CANDIDATES, factory="Flat").top_k(QUERIES, 2001), "`k`"),
        (lambda: retrieval.FaissIndex(CANDIDATES, factory="Flat").top_k(QUERIES, 1, [(50, 0)]), "`exclude`"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_without_faiss(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **keywords):
        if name == "faiss":
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="pip install faiss-cpu"):
        retrieval.FaissIndex(CANDIDATES)
