"""Retrieval against a slow float64 loop, ties and exclusion by hand, one and many blocks."""

import math

import keras
import numpy as np
import pytest

from tfrankloss import InBatchSoftmaxLoss
from tfrankloss.models import two_tower
from tfrankloss.retrieval import (
    RetrievalEvaluation,
    embedding_scores,
    evaluate,
    exact,
    popularity_scores,
    random_scores,
    top_k,
    two_tower_scores,
)

pytestmark = pytest.mark.backends

CUTOFFS = (1, 3, 7)


def slow_similarity(a, b, similarity):
    if similarity == "euclidean":
        return -sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    if similarity == "dot":
        return dot
    lengths = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))
    return dot / lengths if lengths else 0.0


def slow_ranking(scores, excluded):
    """Candidates by descending score, the lower index first."""
    return sorted((i for i in range(len(scores)) if i not in excluded), key=lambda i: (-scores[i], i))


def slow_metrics(ranking, relevant, k):
    found = [1 if candidate in relevant else 0 for candidate in ranking[:k]]
    first = found.index(1) + 1 if any(found) else None
    gains = sum(hit / math.log2(rank + 1) for rank, hit in enumerate(found, start=1))
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(relevant)) + 1))
    precisions = [sum(found[:rank]) / rank for rank in range(1, len(found) + 1) if found[rank - 1]]
    return {
        f"recall@{k}": sum(found) / len(relevant),
        f"hit_rate@{k}": 1.0 if first else 0.0,
        f"mrr@{k}": 1 / first if first else 0.0,
        f"map@{k}": sum(precisions) / len(relevant),
        f"ndcg@{k}": gains / ideal,
    }


@pytest.fixture
def problem():
    """Small integers, so that ties abound and floats are exact; some queries have nothing relevant."""
    rng = np.random.default_rng(3)
    queries = rng.integers(-2, 3, (23, 3)).astype("float64")
    candidates = rng.integers(-2, 3, (17, 3)).astype("float64")
    pairs = rng.permutation([(q, c) for q in range(23) if q % 5 for c in range(17)])
    return queries, candidates, pairs[:60], pairs[60:160]


@pytest.fixture(params=[2**24, 17 * 4, 1], ids=["one block", "four queries a block", "one query a block"])
def block(request, monkeypatch):
    monkeypatch.setattr(exact, "_BLOCK_ELEMENTS", request.param)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("similarity", ["dot", "euclidean"])
@pytest.mark.parametrize("excluding", [True, False])
def test_against_the_slow_loop(problem, similarity, excluding):
    queries, candidates, relevant, exclude = problem
    expected = {}
    for query in sorted(set(relevant[:, 0].tolist())):
        scores = [slow_similarity(queries[query], candidate, similarity) for candidate in candidates]
        excluded = set(exclude[exclude[:, 0] == query, 1].tolist()) if excluding else set()
        ranking = slow_ranking(scores, excluded)
        wanted = set(relevant[relevant[:, 0] == query, 1].tolist())
        for k in CUTOFFS:
            for name, value in slow_metrics(ranking, wanted, k).items():
                expected.setdefault(name, []).append(value)
    # Centring rounds the Euclidean scores, which breaks ties; the loop's own scores, as a function, keep them.
    table = np.array([[slow_similarity(q, c, similarity) for c in candidates] for q in queries])
    sources = [lambda rows: table[rows]] + ([embedding_scores(queries, candidates)] if similarity == "dot" else [])
    for source in sources:
        settings = {"k": CUTOFFS, "exclude": exclude if excluding else None, "verbose": False}
        found = evaluate(source, relevant, per_query=True, **settings)
        assert set(found) == set(expected)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-12, err_msg=name)
        means = evaluate(source, np.concatenate([relevant, relevant[::-1]]), **settings)
        assert means == {name: pytest.approx(np.mean(values)) for name, values in expected.items()}


@pytest.mark.usefixtures("block")
def test_beyond_accuracy_against_the_slow_loop(problem):
    queries, candidates, relevant, exclude = problem
    counts = [3, 0, 7, 1, 1, 4, 0, 2, 9, 1, 5, 2, 2, 6, 1, 0, 8]
    # One query keeps its relevant candidates only: the places beyond them are no recommendations.
    first = relevant[0, 0]
    wanted = relevant[relevant[:, 0] == first, 1]
    assert 0 < len(wanted) < max(CUTOFFS)
    exclude = np.concatenate([exclude, [(first, c) for c in range(17) if c not in wanted]])
    table = queries @ candidates.T
    expected, seen = {}, {k: set() for k in CUTOFFS}
    for query in sorted(set(relevant[:, 0].tolist())):
        ranking = slow_ranking(table[query], set(exclude[exclude[:, 0] == query, 1].tolist()))
        for k in CUTOFFS:
            top = ranking[:k]
            seen[k].update(top)
            bits = [-math.log2(max(counts[i], 1) / sum(counts)) for i in top]
            expected.setdefault(f"novelty@{k}", []).append(sum(bits) / len(top))
            expected.setdefault(f"mean_popularity@{k}", []).append(sum(counts[i] for i in top) / len(top))
    chosen = sum(counts[i] for _, i in relevant) / len(relevant)
    for k in CUTOFFS:
        expected[f"coverage@{k}"] = len(seen[k]) / 17
        expected[f"popularity_lift@{k}"] = np.mean(expected[f"mean_popularity@{k}"]) / chosen - 1
    settings = {"k": CUTOFFS, "exclude": exclude, "verbose": False}
    found = evaluate(lambda rows: table[rows], relevant, popularity=counts, per_query=True, **settings)
    plain = evaluate(lambda rows: table[rows], relevant, per_query=True, **settings)
    assert set(found) == set(plain) | set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-12, err_msg=name)
    means = evaluate(lambda rows: table[rows], relevant, popularity=counts, **settings)
    assert all(means[name] == pytest.approx(np.mean(values)) for name, values in expected.items())


def test_popularity_lifts_and_chance_covers():
    rng = np.random.default_rng(0)
    counts = rng.permutation(200)
    relevant = [(q, int(c)) for q in range(100) for c in rng.choice(200, 3, replace=False, p=counts / counts.sum())]
    settings = {"k": 10, "popularity": counts, "verbose": False}
    popular = evaluate(popularity_scores(counts), relevant, **settings)
    chance = evaluate(random_scores(200), relevant, **settings)
    assert popular["coverage@10"] == 10 / 200 < 0.9 < chance["coverage@10"]
    assert popular["popularity_lift@10"] > 0.4 and chance["popularity_lift@10"] < -0.1
    assert popular["novelty@10"] < chance["novelty@10"]


class Rise(keras.callbacks.Callback):
    """Moves the weights as a training would: queries find their candidate only once the table is the identity."""

    def on_epoch_end(self, epoch, logs=None):
        self.model.query_tower.layers[-1].set_weights([np.eye(4) if epoch == 1 else -np.eye(4)])


def test_metrics_of_each_epoch_drive_stopping_and_checkpoints(tmp_path):
    user, item = keras.Input((), name="user", dtype="int32"), keras.Input((), name="item", dtype="int32")
    ones = keras.initializers.Constant(np.eye(4))
    users = keras.Model(user, keras.layers.Embedding(4, 4)(user), name="users")
    items = keras.Model(item, keras.layers.Embedding(4, 4, ones, trainable=False)(item), name="items")
    model = two_tower(users, items)
    model.compile("sgd", InBatchSoftmaxLoss())
    place, own = np.arange(4), np.stack([np.arange(4)] * 2, axis=1)
    watched = {"monitor": "val_ndcg@1", "mode": "max"}
    history = model.fit(
        {"user": place, "item": place},
        np.ones(4),
        epochs=9,
        verbose=0,
        callbacks=[
            Rise(),
            RetrievalEvaluation(two_tower_scores(place, place), own, k=(1, 2), popularity=np.ones(4)),
            keras.callbacks.ModelCheckpoint(str(tmp_path / "best.keras"), save_best_only=True, **watched),
            keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True, **watched),
        ],
    ).history
    assert history["val_ndcg@1"] == [0, 1, 0, 0]
    assert history["val_coverage@1"][1] == 1 and len(history["val_recall@2"]) == 4
    best = keras.models.load_model(tmp_path / "best.keras")
    for found in (model, best):
        np.testing.assert_allclose(found.embed_queries(place), np.eye(4), atol=1e-6)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("similarity", ["dot", "cosine", "euclidean"])
def test_top_k_against_the_slow_loop(similarity):
    rng = np.random.default_rng(0)
    queries, candidates = 5 + rng.normal(size=(9, 4)), 5 + rng.normal(size=(30, 4))
    exclude = np.array([(q, c) for q in range(9) for c in range(30) if (q * c) % 3 == 1])
    scores, indices = top_k(queries, candidates, 6, exclude, similarity)
    assert scores.shape == indices.shape == (9, 6)
    for q in range(9):
        expected = [slow_similarity(queries[q], c, similarity) for c in candidates]
        ranking = slow_ranking(expected, {c for c in range(30) if (q * c) % 3 == 1})
        assert indices[q].tolist() == ranking[:6]
        np.testing.assert_allclose(scores[q], np.array(expected)[ranking[:6]], rtol=1e-9)


def test_ties_go_to_the_lower_index():
    candidates = np.ones((200, 2), "float32")
    candidates[[150, 60, 170]] = 2
    scores, indices = top_k(np.ones((1, 2)), candidates, 5)
    assert indices.tolist() == [[60, 150, 170, 0, 1]]
    assert scores.tolist() == [[4, 4, 4, 2, 2]]


def test_exclusion_can_leave_too_few():
    scores, indices = top_k([[1.0], [1.0]], [[1.0], [2.0], [3.0]], 3, exclude=[(1, 2), (1, 0), (1, 0)])
    assert indices.tolist() == [[2, 1, 0], [1, -1, -1]]
    assert scores.tolist() == [[3, 2, 1], [2, -np.inf, -np.inf]]
    never = evaluate(lambda rows: np.full((len(rows), 4), -np.inf), [(0, 0)], k=4, verbose=False)
    assert set(never.values()) == {0.0}


def test_zero_vectors_have_cosine_zero():
    scores, _ = top_k([[0.0, 0.0], [1e-30, 0.0]], [[0.0, 0.0], [3.0, 4.0]], 2, similarity="cosine")
    np.testing.assert_allclose(scores, [[0, 0], [0.6, 0]], rtol=1e-6)


def test_baselines():
    counts = [5, 9, 1, 7]
    relevant = [(0, 1), (3, 3), (8, 2)]
    popular = evaluate(popularity_scores(counts), relevant, k=(1, 2), exclude=[(3, 1)], verbose=False)
    # Ranks: query 0 finds item 1 first; query 3 finds 3 first since 1 is excluded; query 8 finds 2 last.
    assert popular["recall@1"] == pytest.approx(2 / 3)
    assert popular["ndcg@2"] == pytest.approx(2 / 3)
    many = np.stack([np.arange(4000), np.arange(4000) % 50], axis=1)
    assert set(evaluate(random_scores(7), [(0, 1)], verbose=False)) >= {"recall@5", "ndcg@1"}
    assert "recall@10" not in evaluate(random_scores(7), [(0, 1)], verbose=False)
    chance = evaluate(random_scores(50, seed=1), many, k=10, verbose=False)
    assert chance["recall@10"] == pytest.approx(10 / 50, abs=4 * math.sqrt(0.2 * 0.8 / 4000))
    assert chance == evaluate(random_scores(50, seed=1), many, k=10, verbose=False)
    assert chance != evaluate(random_scores(50, seed=2), many, k=10, verbose=False)


@pytest.mark.parametrize("dtype", ["int64", "float32"])
def test_scores_are_not_written_to_and_integers_will_do(dtype):
    table = np.array([[3, 2, 1]], dtype)
    results = evaluate(lambda rows: table, [(0, 1)], k=1, exclude=[(0, 0)], verbose=False)
    assert results["recall@1"] == 1
    assert table.tolist() == [[3, 2, 1]]


def test_progress_bar(capsys):
    for verbose in (True, False):
        evaluate(random_scores(3), [(0, 1)], k=1, verbose=verbose)
        assert ("1/1" in capsys.readouterr().err) is verbose


ONE = [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: top_k(ONE, np.zeros((0, 2)), 1), ValueError, "`candidates` must not be empty"),
        (lambda: top_k(ONE, [[1.0]], 1), ValueError, "the same embedding size"),
        (lambda: top_k(ONE, [1.0], 1), ValueError, "`candidates` must have shape"),
        (lambda: top_k(ONE, ONE, 2), ValueError, "`k` must be at most the number of candidates, 1"),
        (lambda: top_k(ONE, ONE, 0), ValueError, "`k` must be at least 1"),
        (lambda: top_k(ONE, ONE, 1.0), TypeError, "`k` must be an integer"),
        (lambda: top_k(ONE, [[1.0, np.nan]], 1), ValueError, "`candidates` must be finite.*first 0"),
        (lambda: top_k([[np.inf, 0.0]], ONE, 1), ValueError, "`queries` must be finite"),
        (lambda: top_k(ONE, ONE, 1, similarity="l2"), ValueError, "`similarity` must be one of"),
        (lambda: top_k(ONE, ONE, 1, exclude=[(0, 1)]), ValueError, "`exclude` must hold candidate indices below 1"),
        (lambda: top_k(ONE, ONE, 1, exclude=[(1, 0)]), ValueError, "`exclude` must hold query indices below 1"),
        (lambda: top_k(ONE, ONE, 1, exclude=[(0, -1)]), ValueError, "`exclude` must hold indices of at least 0"),
        (lambda: top_k(ONE, ONE, 1, exclude=[0, 0]), ValueError, "`exclude` must hold pairs"),
        (lambda: top_k(ONE, ONE, 1, exclude=[(0.0, 0.0)]), TypeError, "`exclude` must hold integers"),
        (lambda: evaluate(embedding_scores(ONE, ONE), []), ValueError, "`relevant` must hold at least one pair"),
        (lambda: evaluate(embedding_scores(ONE, ONE), [(1, 0)], 1), ValueError, "Query indices must be below"),
        (lambda: evaluate(embedding_scores(ONE, ONE), [(0, 1)], 1), ValueError, "candidate indices below 1"),
        (lambda: evaluate(embedding_scores(ONE, ONE), [(0, 0)], [1, 5]), ValueError, "`k` must be at most"),
        (lambda: evaluate(embedding_scores(ONE, ONE), [(0, 0)], []), ValueError, "at least one cutoff"),
        (lambda: evaluate(random_scores(3), [(0, 1)], 1, exclude=[(0, 1)]), ValueError, r"no pair in common.*\(0, 1\)"),
        (lambda: evaluate(ONE, [(0, 0)]), TypeError, "`scores` must be a function"),
        (lambda: evaluate(random_scores(2), [(0, 0)], 1, popularity=[1]), ValueError, "must have the same shape"),
        (lambda: evaluate(random_scores(2), [(0, 0)], 1, popularity=["a", "b"]), TypeError, "must hold numbers"),
        (lambda: evaluate(random_scores(2), [(0, 0)], 1, popularity=[0, 0]), ValueError, "counts of at least 0"),
        (lambda: evaluate(random_scores(2), [(0, 0)], 1, popularity=[-1, 2]), ValueError, "counts of at least 0"),
        (lambda: RetrievalEvaluation(None, [(0, 0)]), TypeError, "`scores` must be a function"),
        (lambda: evaluate(lambda r: np.full((1, 2), np.nan), [(0, 0)], 1), ValueError, "must not give NaN"),
        (lambda: evaluate(lambda r: np.ones((3, 2)), [(0, 0)], 1), ValueError, "must have the same shape"),
        (lambda: evaluate(lambda r: np.ones(2), [(0, 0)], 1), ValueError, r"`scores\(rows\)` must have shape"),
        (lambda: popularity_scores([[1, 2]]), ValueError, "`counts` must have shape"),
        (lambda: random_scores(0), ValueError, "`num_candidates` must be at least 1"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
