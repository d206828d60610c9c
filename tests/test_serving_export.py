"""What an export answers, against NumPy over the live towers, in the session that TF Serving would open."""

import warnings
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrankloss import models, serving
from tfrankloss.models.two_tower import MODES
from tfrankloss.serving import manifest

SIMILARITIES = ("dot", "cosine", "euclidean")
WORDS = [f"u{number}" for number in range(30)]


def towers(similarity="dot", dimension=6, temperature=1.0):
    """A two-tower model of integers: a user with a history, an item with a price."""
    user, history = keras.Input((), name="user", dtype="int32"), keras.Input((4,), name="history", dtype="int32")
    pooled = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(50, dimension)(history))
    query = keras.Model(
        {"user": user, "history": history},
        keras.layers.Dense(dimension)(keras.layers.Embedding(31, dimension)(user) + pooled),
    )
    item, price = keras.Input((), name="item", dtype="int32"), keras.Input((1,), name="price")
    joined = keras.layers.concatenate([keras.layers.Embedding(50, dimension)(item), price])
    candidate = keras.Model({"item": item, "price": price}, keras.layers.Dense(dimension)(joined))
    # Embeddings start so near zero that a wrong similarity would hide in the tolerance.
    for weight in (*query.weights, *candidate.weights):
        weight.assign(np.random.default_rng(len(weight.shape)).normal(size=weight.shape))
    return SimpleNamespace(
        query_tower=query, candidate_tower=candidate, similarity=similarity, mode="in_batch", temperature=temperature
    )


def words_to_users(vocabulary=WORDS):
    """Preprocessing from raw user ids to the integers of `towers`."""
    user_id, history = keras.Input((), name="user_id", dtype="string"), keras.Input((4,), name="history", dtype="int32")
    lookup = keras.layers.StringLookup(vocabulary=vocabulary)
    return {
        "query": keras.Model({"user_id": user_id, "history": history}, {"user": lookup(user_id), "history": history})
    }


def catalog(size=40):
    generator = np.random.default_rng(3)
    return {"item": np.arange(size, dtype=np.int32), "price": generator.random(size).astype(np.float32)}


def index_of(model, ids=None, size=40):
    ids = [f"item-{number}" for number in range(size)] if ids is None else ids
    return serving.CandidateIndex.from_model(model, catalog(size), ids, batch_size=16)


def queries(size, generator=None):
    generator = generator or np.random.default_rng(size)
    return {
        "user": generator.integers(0, 31, size).astype(np.int32),
        "history": generator.integers(0, 50, (size, 4)).astype(np.int32),
    }


def table(model, query_inputs, candidate_inputs):
    """Scores of all candidates for each query: float64, one pair at a time."""
    left = model.query_tower(query_inputs).numpy().astype(np.float64)
    right = model.candidate_tower(candidate_inputs).numpy().astype(np.float64)
    scores = np.zeros((len(left), len(right)))
    for row, query in enumerate(left):
        for column, candidate in enumerate(right):
            if model.similarity == "euclidean":
                scores[row, column] = -sum((a - b) ** 2 for a, b in zip(query, candidate, strict=True))
            else:
                scores[row, column] = query @ candidate
                if model.similarity == "cosine":
                    scores[row, column] /= np.sqrt(query @ query) * np.sqrt(candidate @ candidate)
    return scores / model.temperature


@pytest.mark.parametrize(
    "similarity, ids",
    [*((name, None) for name in SIMILARITIES), ("dot", np.arange(40) * 10**12)],
    ids=[*SIMILARITIES, "integers"],
)
def test_top_k_is_a_full_sort(tmp_path, similarity, ids):
    model = towers(similarity, temperature=0.5)
    index = index_of(model, ids)
    # Serialized features ask the same search: once for ids of each kind is enough, for strings in tests/serving.
    names = ("serving_default", "search") if ids is None else ("serving_default", "search", "examples", "classify")
    result = serving.export(model, tmp_path / "movies", candidates=index, k=5, signatures=names)
    assert result.path == tmp_path / "movies" / "1" and result.version == 1
    assert result.signatures == names
    assert all(entry["largest_difference"] < 1e-5 for entry in result.report.values())
    with serving.load(tmp_path / "movies") as servable:
        for size in (1, 2, 7):
            features = queries(size)
            scores = table(model, features, catalog())
            order = np.argsort(-scores, axis=1, kind="stable")[:, :5]
            answers = servable.query(**features)
            assert answers["ids"].tolist() == index.ids[order].tolist()
            np.testing.assert_allclose(answers["scores"], np.take_along_axis(scores, order, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_score_and_embeddings(tmp_path, similarity):
    model = towers(similarity)
    names = ("score", "query_embedding", "candidate_embedding")
    serving.export(model, tmp_path, candidates=index_of(model), k=3, signatures=names)
    servable = serving.load(tmp_path / "1")
    features, lists = queries(3), {name: values[:12].reshape(3, 4) for name, values in catalog().items()}
    scores = servable.query("score", **features, **lists)["scores"]
    expected = table(model, features, {name: values[:12] for name, values in catalog().items()})
    rows = np.arange(3)
    np.testing.assert_allclose(scores, expected.reshape(3, 3, 4)[rows, rows], rtol=1e-5, atol=1e-5)
    for signature, tower, inputs in (
        ("query_embedding", model.query_tower, features),
        ("candidate_embedding", model.candidate_tower, catalog()),
    ):
        embedding = servable.query(signature_name=signature, **inputs)["embedding"]
        expected = tower(inputs).numpy()
        if similarity == "cosine":
            expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(embedding, expected, rtol=1e-5, atol=1e-6)
    # One value per row: a trailing axis of one makes REST clients fail.
    assert servable.inputs("candidate_embedding")["price"].shape.as_list() == [None]
    assert servable.inputs("score")["price"].shape.as_list() == [None, None]


@pytest.fixture(params=["list", "file"])
def vocabulary(request, tmp_path):
    """A vocabulary in the graph, or as an asset file."""
    path = tmp_path / "words.txt"
    path.write_text("\n".join(WORDS))
    return WORDS if request.param == "list" else str(path)


def test_strings_at_serving_integers_in_training(tmp_path, vocabulary):
    model = towers()
    index = index_of(model)
    arguments = {"candidates": index, "k": 4, "preprocessing": words_to_users(vocabulary)}
    result = serving.export(model, tmp_path / "base", signatures=["serving_default"], **arguments)
    (tmp_path / "words.txt").unlink()
    history = np.zeros((3, 4), np.int32)
    with serving.load(result.path) as servable:
        assert servable.inputs()["user_id"].dtype == tf.string and "user" not in servable.inputs()
        answers = servable.query(user_id=["u0", "u29", "nobody"], history=history)
    # StringLookup gives 0 to the unknown and the vocabulary follows.
    scores = table(model, {"user": np.array([1, 30, 0]), "history": history}, catalog())
    assert answers["ids"].tolist() == index.ids[np.argsort(-scores, axis=1)[:, :4]].tolist()


@pytest.mark.parametrize("as_file", [True, False])
def test_long_vocabularies_belong_in_files(tmp_path, as_file):
    words = [f"w{number}" for number in range(10_001)]
    (tmp_path / "words.txt").write_text("\n".join(words))
    word = keras.Input((3,), name="word", dtype="string")
    known = keras.layers.StringLookup(vocabulary=str(tmp_path / "words.txt") if as_file else words)
    model = keras.Model(word, keras.ops.cast(known(word), "float32"))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        result = serving.export(model, tmp_path / "base", signatures=["serving_default"])
    assert ["should be the path of a text file" in str(one.message) for one in said].count(True) == (not as_file)
    assert len(list((result.path / "assets").iterdir())) == as_file
    with serving.load(result.path) as servable:
        assert servable.query(word=[["w0", "w10000", "?"]])["scores"].tolist() == [[1, 10_001, 0]]


@pytest.mark.parametrize("vocabulary", ["file"], indirect=True)
def test_verify_finds_a_vocabulary_cut_short(tmp_path, vocabulary):
    model, preprocessing = towers(), words_to_users(vocabulary)
    arguments = {"candidates": index_of(model), "k": 4, "preprocessing": preprocessing}
    arguments["signatures"] = ["serving_default"]
    result = serving.export(model, tmp_path / "base", **arguments)
    (asset,) = (result.path / "assets").iterdir()
    asset.write_text("\n".join(WORDS[:20]))
    with pytest.raises(ValueError, match=r"manifest. Received: changed: \['assets/words.txt'\]"):
        serving.verify(result.path, model, **arguments)
    (result.path / manifest.PATH).unlink()
    with pytest.raises(ValueError, match="'serving_default' differs"):
        serving.verify(result.path, model, **arguments)
    with pytest.raises(ValueError, match="warm-up records as it did"):
        serving.verify(result.path)


def test_without_candidates_the_default_scores(tmp_path):
    model = towers()
    result = serving.export(model, tmp_path, list_size=4)
    with serving.load(tmp_path) as servable:
        assert servable.inputs()["item"].shape.as_list() == [None, 4]
        request = {**queries(2), **{name: values[:8].reshape(2, 4) for name, values in catalog().items()}}
        answers = [servable.predict(request, name)["scores"] for name in ("serving_default", "score")]
    np.testing.assert_array_equal(*answers)
    assert result.report["score"]["requests"] == 4


@pytest.mark.parametrize("mode", MODES)
def test_the_two_tower_class(tmp_path, mode):
    parts = towers()
    model = models.two_tower(
        parts.query_tower,
        parts.candidate_tower,
        mode=mode,
        similarity="cosine",
        temperature=1 if mode == "in_batch" else 0.1,
    )
    index = serving.CandidateIndex.from_model(model, catalog(), list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN"))
    serving.export(model, tmp_path, candidates=index, k=3, signatures=["score"])
    lists = {name: values[:12].reshape(3, 4) for name, values in catalog().items()}
    with serving.load(tmp_path) as servable:
        scores = servable.query("score", **queries(3), **lists)["scores"]
    np.testing.assert_allclose(scores, model.score(queries(3), lists), rtol=1e-5, atol=1e-5)


def test_cosine_of_a_zero_vector_is_zero(tmp_path):
    query, item = keras.Input((2,), name="query"), keras.Input((2,), name="item")
    model = SimpleNamespace(query_tower=keras.Model(query, query * 1.0), candidate_tower=keras.Model(item, item * 1.0))
    model.similarity = "cosine"
    index = serving.CandidateIndex([5, 6, 7], [[0, 0], [3, 4], [-3, -4]])
    serving.export(model, tmp_path, candidates=index, k=3, signatures=["serving_default", "score"])
    with serving.load(tmp_path) as servable:
        answers = servable.query(query=[[0, 0], [6, 8]])
        scored = servable.query("score", query=[[6, 8]], item=[[[0, 0], [3, 4]]])["scores"]
    np.testing.assert_allclose(answers["scores"], [[0, 0, 0], [1, 0, -1]], atol=1e-6)
    assert answers["ids"][1].tolist() == [6, 5, 7]
    np.testing.assert_allclose(scored, [[0, 1]], atol=1e-6)


@pytest.mark.parametrize("sides", [(1000,), (-150, 150)], ids=["one-side", "two-sides"])
def test_euclidean_far_from_the_origin(tmp_path, sides):
    # |q|^2 - 2qc + |c|^2 alone would lose every digit on one side, and the order of the nearest on two.
    generator = np.random.default_rng(0)
    rows = (np.resize(sides, (500, 1)) + generator.random((500, 8))).astype(np.float32)
    query, item = keras.Input((8,), name="query"), keras.Input((8,), name="item")
    model = SimpleNamespace(query_tower=keras.Model(query, query * 1.0), candidate_tower=keras.Model(item, item * 1.0))
    model.similarity = "euclidean"
    serving.export(
        model, tmp_path, candidates=serving.CandidateIndex(np.arange(500), rows), k=3, signatures=["serving_default"]
    )
    with serving.load(tmp_path) as servable:
        answers = servable.query(query=rows[:9])
    distances = ((rows[:9, None].astype(np.float64) - rows) ** 2).sum(-1)
    assert answers["ids"].tolist() == np.argsort(distances, axis=1)[:, :3].tolist()
    expected = -np.sort(distances, axis=1)[:, :3]
    np.testing.assert_allclose(answers["scores"], expected, atol=2e-4)


@pytest.mark.parametrize("list_size", [None, 6])
def test_ranker(tmp_path, list_size):
    model = models.mlp_scorer(num_features=5, hidden=(8,), dropout=0.5)
    serving.export(model, tmp_path, list_size=list_size)
    features = np.random.default_rng(0).normal(size=(3, 6, 5)).astype(np.float32)
    with serving.load(tmp_path) as servable:
        assert servable.signatures == ("examples", "rank", "regress", "serving_default")
        assert servable.inputs()["features"].shape.as_list() == [None, list_size, 5]
        scores = servable.query(features=features)["scores"]
    assert scores.shape == (3, 6)
    np.testing.assert_allclose(scores, model(features, training=False), rtol=1e-5, atol=1e-6)


def test_ranker_with_raw_strings(tmp_path):
    words, price = keras.Input((None,), name="word", dtype="string"), keras.Input((None,), name="price")
    number = keras.Input((None,), name="number", dtype="int64")
    raw = keras.Model(
        {"word": words, "price": price},
        {"number": keras.layers.StringLookup(vocabulary=["a", "b"])(words), "price": price},
    )
    scored = keras.ops.squeeze(keras.layers.Embedding(3, 1)(number), -1) + price
    model = keras.Model({"number": number, "price": price}, scored)
    serving.export(model, tmp_path, preprocessing={"inputs": raw})
    with serving.load(tmp_path) as servable:
        scores = servable.query(word=[["b", "?", "a"]], price=[[1, 2, 3]])["scores"]
    np.testing.assert_allclose(
        scores, model({"number": np.array([[2, 0, 1]]), "price": np.array([[1.0, 2.0, 3.0]])}), rtol=1e-6
    )


def test_bfloat16_answers_in_float32(tmp_path):
    features = keras.Input((3, 4), name="features")
    dense = keras.layers.Dense(1, dtype="bfloat16")
    model = keras.Model(features, keras.ops.squeeze(dense(features), -1))
    assert model.output.dtype == "bfloat16"
    serving.export(model, tmp_path, signatures=["serving_default"])
    with serving.load(tmp_path) as servable:
        assert servable.query(features=np.ones((2, 3, 4)))["scores"].dtype == np.float32


def test_parameters_are_on_disk_once(tmp_path):
    user, item = keras.Input((), name="user", dtype="int32"), keras.Input((), name="item", dtype="int32")
    model = SimpleNamespace(
        query_tower=keras.Model({"user": user}, keras.layers.Embedding(200_000, 64)(user)),
        candidate_tower=keras.Model({"item": item}, keras.layers.Embedding(50, 64)(item)),
        similarity="dot",
    )
    result = serving.export(model, tmp_path, candidates=serving.CandidateIndex.from_model(
        model, {"item": np.arange(50)}, np.arange(50)
    ), k=5)  # fmt: skip
    parameters = 4 * 64 * (200_000 + 50 + 50)
    assert 51_000_000 < parameters < result.size_bytes < 53_000_000
    assert result.size_bytes == sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())


def test_given_probe_is_used(tmp_path):
    features = keras.Input((2, 3), name="features")
    model = keras.Model(features, keras.ops.sum(keras.ops.log(features), -1))
    arguments = {"signatures": ["serving_default"]}
    with pytest.raises(ValueError, match=r"finite outputs.*probe"):
        serving.export(model, tmp_path, **arguments)
    serving.export(model, tmp_path, probe={"features": np.ones((2, 2, 3))}, **arguments)
    with pytest.raises(ValueError, match="`features` must have shape"):
        serving.export(model, tmp_path, probe={"features": np.ones((2, 3))}, **arguments)
    with pytest.raises(ValueError, match="`probe` must hold the features"):
        serving.export(model, tmp_path, probe={"feature": np.ones((2, 2, 3))}, **arguments)


def test_verify_finds_another_model(tmp_path):
    model = towers()
    index = index_of(model)
    arguments = {"candidates": index, "k": 5, "signatures": ["serving_default", "candidate_embedding"]}
    serving.export(model, tmp_path, **arguments)
    assert set(serving.verify(tmp_path, model, **arguments)) == set(serving.load(tmp_path).signatures)
    shuffled = serving.CandidateIndex(index.ids[::-1], index.embeddings)
    with pytest.raises(ValueError, match="'serving_default' differs"):
        serving.verify(tmp_path, model, **{**arguments, "candidates": shuffled})
    weight = model.candidate_tower.weights[-1]
    weight.assign(weight + 0.01)
    with pytest.raises(ValueError, match="'candidate_embedding' differs"):
        serving.verify(tmp_path, model, **arguments)


def test_load_takes_the_newest_version(tmp_path):
    features = keras.Input((2, 1), name="features")
    for number in range(1, 12):
        model = keras.Model(features, keras.ops.squeeze(features, -1) * float(number))
        if number in (1, 2, 10):
            serving.export(model, tmp_path, version=number, signatures=["serving_default"])
    with serving.load(tmp_path) as newest, serving.load(tmp_path / "2") as second:
        assert newest.query(features=[[[1], [2]]])["scores"].tolist() == [[10, 20]]
        assert second.query(features=[[[1], [2]]])["scores"].tolist() == [[2, 4]]
        with pytest.raises(ValueError, match="`inputs` must be the features"):
            newest.query(feature=[[[1], [2]]])
        with pytest.raises(ValueError, match="`features` must have shape"):
            newest.query(features=[[1, 2, 3]])
        with pytest.raises(ValueError, match="`signature_name` must be one of"):
            newest.query("no_such", features=[[[1], [2]]])
