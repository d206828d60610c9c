"""What a retriever answers to all that can be asked, against NumPy over the live towers."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from serving import page
from tfrankloss import models, serving
from tfrankloss.data import to_example
from tfrankloss.serving.search import LOWEST

USERS = np.array(["3", "7", "never seen"], object)


@pytest.fixture(scope="module")
def servable(retriever):
    with serving.load(retriever.result.path) as opened:
        yield opened


@pytest.fixture
def table(retriever):
    """Scores of all candidates for `USERS`, in float64."""
    lookups = retriever.arguments["preprocessing"]["query"]
    queries = retriever.model.query_tower(lookups({"user_id": tf.constant(USERS)})).numpy().astype(np.float64)
    return queries @ retriever.arguments["candidates"].embeddings.astype(np.float64).T


def expected(retriever, scores, k, allowed=None):
    """Ids and scores of the best k by a full sort, blanks after them."""
    ids = retriever.arguments["candidates"].ids
    order = [place for place in np.argsort(-scores, kind="stable") if allowed is None or allowed[place]][:k]
    return [*ids[order], *[""] * (k - len(order))], [*scores[order], *[LOWEST] * (k - len(order))]


def asked(**changes):
    return {
        "user_id": USERS,
        "k": [20] * 3,
        "exclude_ids": np.zeros((3, 0), object),
        "decade_in": np.zeros((3, 0), int),
        "parity_in": np.zeros((3, 0), int),
        **changes,
    }


def agrees(retriever, answers, row, scores, k, allowed=None):
    ids, best = expected(retriever, scores[row], k, allowed)
    width = answers["ids"].shape[1]
    assert answers["ids"][row].tolist() == [*ids, *[""] * (width - k)]
    np.testing.assert_allclose(answers["scores"][row], [*best, *[LOWEST] * (width - k)], rtol=1e-5, atol=1e-5)


def test_search_with_nothing_else_is_the_default(servable):
    plain, search = servable.query(user_id=USERS), servable.query("search", **asked())
    for name in ("ids", "scores"):
        np.testing.assert_array_equal(plain[name], search[name])
    messages = [to_example({"user_id": user}) for user in USERS]
    for name, argument, ids in (("examples", "examples", "ids"), ("classify", "inputs", "classes")):
        answers = servable.predict({argument: messages}, name)
        np.testing.assert_array_equal(answers[ids], plain["ids"])
        np.testing.assert_array_equal(answers["scores"], plain["scores"])


def test_k_of_each_row(servable, retriever, table):
    answers = servable.query("search", **asked(k=[5, 1, 12]))
    assert answers["ids"].shape == (3, 12)
    for row, k in enumerate((5, 1, 12)):
        agrees(retriever, answers, row, table, k)


@pytest.mark.parametrize("k", [0, -1, 21])
def test_k_out_of_range(servable, k):
    with pytest.raises(tf.errors.InvalidArgumentError, match="`k` must be from 1 to 20"):
        servable.query("search", **asked(k=[20, k, 20]))


@pytest.mark.parametrize("count", [0, 1, 7, 299, 300, 1000])
def test_excluded_ids(servable, retriever, table, count):
    ids = retriever.arguments["candidates"].ids
    generator = np.random.default_rng(count)
    excluded = np.array([[*generator.permutation(ids)[:count], *["unknown"] * (count - 300)] for _ in USERS], object)
    answers = servable.query("search", **asked(exclude_ids=excluded.reshape(3, count)))
    for row in range(3):
        agrees(retriever, answers, row, table, 20, ~np.isin(ids, excluded[row]))


def test_filters_and_exclusion_together(servable, retriever, table):
    index = retriever.arguments["candidates"]
    decades = np.unique(index.attributes["decade"])
    wanted = np.array([[decades[0], 99], [decades[-1], decades[0]], [99, 99]])
    answers = servable.query(
        "search", **asked(decade_in=wanted, parity_in=[[1], [0], [0]], exclude_ids=[[index.ids[1]]] * 3)
    )
    for row, parity in enumerate((1, 0, 0)):
        allowed = np.isin(index.attributes["decade"], wanted[row]) & (index.attributes["parity"] == parity)
        agrees(retriever, answers, row, table, 20, allowed & (index.ids != index.ids[1]))
    assert set(answers["ids"][2]) == {""}


def test_rows_that_do_not_belong_together(servable):
    for name, few in (("k", [20]), ("exclude_ids", [["1"]]), ("parity_in", [[1]])):
        with pytest.raises(tf.errors.InvalidArgumentError):
            servable.query("search", **asked(**{name: few}))


def test_large_and_empty_batches(servable, monkeypatch):
    users = np.resize(np.arange(1, 200).astype(str).astype(object), 10_000)
    answers = servable.query(user_id=users)
    np.testing.assert_array_equal(answers["ids"][::199], np.repeat(answers["ids"][:1], len(users[::199]), 0))
    assert servable.query(user_id=np.zeros(0, object))["ids"].shape == (0, 20)
    empty = {name: np.asarray(value)[:0] for name, value in asked().items()}
    assert servable.query("search", **empty)["scores"].shape == (0, 0)


def identity(similarity, dimension=3, **attributes):
    """A two-tower model whose towers pass vectors on."""
    from types import SimpleNamespace

    query, item = keras.Input((dimension,), name="query"), keras.Input((dimension,), name="item")
    towers = {"query_tower": keras.Model(query, query * 1.0), "candidate_tower": keras.Model(item, item * 1.0)}
    return SimpleNamespace(**towers, similarity=similarity, **attributes)


@pytest.mark.parametrize("similarity", ["dot", "cosine", "euclidean"])
def test_parts_of_a_large_batch_and_ties(tmp_path, monkeypatch, similarity):
    monkeypatch.setattr("tfrankloss.serving.search._MOST_SCORES", 4000)
    # Coordinates of few values: many candidates tie, and the earlier one comes first.
    rows = np.random.default_rng(0).integers(-1, 2, (1000, 3)).astype(np.float32)
    index = serving.CandidateIndex(np.arange(1000), rows, {"group": np.arange(1000) // 10})
    serving.export(identity(similarity), tmp_path, candidates=index, k=7, exclude=2, signatures=["serving_default"])
    queries = np.random.default_rng(1).integers(-1, 2, (11, 3)).astype(np.float32)
    with serving.load(tmp_path) as servable:
        assert servable.inputs()["exclude_ids"].shape.as_list() == [None, 2]
        answers = servable.query(query=queries, exclude_ids=np.stack([np.arange(11)] * 2, 1))
    products = queries @ rows.T
    if similarity == "euclidean":
        products = -((queries[:, None] - rows) ** 2).sum(-1)
    elif similarity == "cosine":
        norms = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(rows, axis=1)
        products = np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)
    products[np.arange(11), np.arange(11)] = -np.inf
    best = -np.sort(-products, axis=1)[:, :7]
    np.testing.assert_allclose(answers["scores"], best, atol=1e-6)
    if similarity == "dot":
        assert answers["ids"].tolist() == np.argsort(-products, axis=1, kind="stable")[:, :7].tolist()


@pytest.mark.parametrize(
    "similarity, storage", [("dot", "int8"), ("cosine", "int8"), ("euclidean", "int8"), ("dot", "float16")]
)
def test_short_storage(tmp_path, capsys, similarity, storage):
    rows = np.random.default_rng(0).normal(size=(20_000, 3)).astype(np.float32) + (similarity == "euclidean")
    index = serving.CandidateIndex(np.arange(20_000), rows, storage=storage)
    error = np.abs(index.embeddings - rows)
    assert 0 < error.max() <= (2**-11 * 8 if storage == "float16" else np.abs(rows).max() / 127)
    result = serving.export(identity(similarity), tmp_path, candidates=index, k=9, signatures=["serving_default"])
    printed = capsys.readouterr().out
    assert f"index stored as {storage}: recall@9 {index.recall(similarity, 9):.4f}" in printed
    # Ids, keys, order and factors take 28 bytes of each candidate, the embeddings 3 or 6.
    assert result.size_bytes < 20_000 * (8 + 8 + 4 + 12 + (6 if storage == "float16" else 3)) + 200_000
    queries = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    with serving.load(tmp_path) as servable:
        answers = servable.query(query=queries)
    stored = index.embeddings.astype(np.float64)
    scores = queries @ stored.T
    if similarity == "euclidean":
        scores = -((queries[:, None] - stored) ** 2).sum(-1)
    elif similarity == "cosine":
        scores /= np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(stored, axis=1)
    np.testing.assert_allclose(answers["scores"], -np.sort(-scores, axis=1)[:, :9], atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(scores, answers["ids"], 1), answers["scores"], atol=1e-5)


def test_a_query_that_is_no_number_finds_nothing(tmp_path):
    index = serving.CandidateIndex(["a", "b"], np.eye(2))
    serving.export(identity("dot", 2), tmp_path, candidates=index, signatures=["serving_default"])
    with serving.load(tmp_path) as servable:
        answers = servable.query(query=[[np.nan, 1], [1, 0]])
    assert answers["ids"].tolist() == [["", ""], ["a", "b"]]
    assert (answers["scores"][0] == LOWEST).all()


def test_clients_of_tensorflow_recommenders_need_not_change(tmp_path):
    """BruteForce gives scores first; Keras 2 numbers what a model of a class takes and gives."""
    model = identity("dot", 2)
    user = keras.Input((2,), name="user_id")
    model.query_tower = keras.Model(user, user * 1.0)
    index = serving.CandidateIndex([f"item-{place}" for place in range(12)], np.arange(24).reshape(12, 2))
    page.run("As tfrs.layers.factorized_top_k.BruteForce", model, tmp_path, index)
    (found,) = serving.signatures(tmp_path).values()
    assert sorted(found["inputs"]) == ["input_1"] and sorted(found["outputs"]) == ["output_1", "output_2"]
    with serving.load(tmp_path) as servable:
        answers = servable.query(input_1=[[2, 1]])
    assert answers["output_2"].tolist() == [[f"item-{place}" for place in range(11, 1, -1)]]
    assert answers["output_1"].tolist() == [[6 * place + 1 for place in range(11, 1, -1)]]


def test_names_that_an_alias_cannot_change(tmp_path):
    index = serving.CandidateIndex(["a", "b", "c"], [[1, 0], [0, 1], [1, 1]])
    for wrong in ({"inputs": {"x": "y"}}, {"outputs": {"x": "y"}}):
        with pytest.raises(ValueError, match="of an Alias must name"):
            serving.export(
                identity("dot", 2),
                tmp_path,
                candidates=index,
                signatures={"serving_default": serving.Alias("serving_default", **wrong)},
            )


def scorers(similarities, size):
    """Models of a whole catalog, with parameters that are no small numbers."""
    generator = np.random.default_rng(7)
    models_ = []
    for place, similarity in enumerate(similarities):
        model = models.catalog_scorer(size, 4, similarity=similarity, temperature=0.5, name=f"member_{place}")
        for weight in model.weights:
            if weight.dtype == "float32":
                weight.assign(generator.normal(size=weight.shape))
        models_.append(model)
    return models_


@pytest.mark.parametrize("similarities", [("dot",), ("dot", "cosine")], ids=["one", "ensemble"])
def test_models_of_a_whole_catalog(tmp_path, example, monkeypatch, similarities):
    full = example("movielens_full_softmax")
    monkeypatch.setattr(full, "HISTORY", 3)
    ids, parity = np.array([f"item-{place}" for place in range(300)], object), np.arange(300) % 2
    members = scorers(similarities, 300)
    model = members[0] if len(members) == 1 else full.ensemble(members)
    lookup = {"inputs": full.lookup(ids)}
    arguments = {"k": 7, "exclude": True, "preprocessing": lookup}
    if len(members) == 1:
        arguments["signatures"] = ["serving_default", "search", "classify", "scores"]
    index = serving.CandidateIndex(ids, attributes={"parity": parity})
    result = serving.export(model, tmp_path, candidates=index, **arguments)
    assert set(result.signatures) == {"serving_default", "search", "classify", "scores"} | (
        {"examples"} if len(members) > 1 else set()
    )
    watched = [full.padded(row) for row in (["item-5", "item-17"], ["item-17", "never seen"], [])]
    table = model(lookup["inputs"]({"watched": tf.constant(watched)})["history"]).numpy().astype(np.float64)

    def best(without, of=(0, 1)):
        good = [~np.isin(ids, row) & np.isin(parity, of) for row in without]
        return [
            [place for place in np.argsort(-row, kind="stable") if fine[place]][:7]
            for row, fine in zip(table, good, strict=True)
        ]

    rest = {"watched": watched, "k": [7] * 3, "exclude_ids": [[""]] * 3}
    with serving.load(tmp_path) as servable:
        np.testing.assert_allclose(servable.query("scores", watched=watched)["scores"], table, rtol=1e-4, atol=1e-5)
        for answers, expected in (
            (servable.query(watched=watched, exclude_ids=[[""]] * 3), best([[]] * 3)),
            (servable.query(watched=watched, exclude_ids=watched), best(watched)),
            (servable.query("search", **rest, parity_in=[[1]] * 3), best([[]] * 3, of=[1])),
        ):
            assert answers["ids"].tolist() == ids[expected].tolist()
            found = np.take_along_axis(table, np.array(expected), 1)
            np.testing.assert_allclose(answers["scores"], found, rtol=1e-4, atol=1e-5)
        messages = [to_example({"watched": row}) for row in watched]
        assert servable.query("classify", inputs=messages)["classes"].tolist() == ids[best([[]] * 3)].tolist()
    # The parameters once.
    parameters = sum(weight.numpy().nbytes for member in members for weight in member.weights)
    assert parameters < result.size_bytes < parameters + 500_000
    assert all(row["largest_difference"] < 1e-5 for row in serving.verify(tmp_path).values())
    shuffled = serving.CandidateIndex(ids[::-1], attributes={"parity": parity})
    with pytest.raises(ValueError, match="'serving_default' differs"):
        serving.verify(tmp_path, model, candidates=shuffled, **arguments)


def test_all_of_a_catalog_whose_scores_are_negative(tmp_path):
    features = keras.Input((3,), name="features")
    index = serving.CandidateIndex([7, 8, 9])
    serving.export(keras.Model(features, features * 1.0), tmp_path, candidates=index, signatures=["search"])
    with serving.load(tmp_path) as servable:
        answers = servable.query("search", features=[[-3, -1, -2]] * 2, k=[3, 3], exclude_ids=[[5], [8]])
    assert answers["ids"].tolist() == [[8, 9, 7], [9, 7, -1]]
    np.testing.assert_array_equal(answers["scores"], np.array([[-1, -2, -3], [-2, -3, LOWEST]], np.float32))


def test_index_from_a_catalog(capsys):
    model = identity("dot", 2)
    catalog = {"item": np.eye(2), "id": np.array([7, 9]), "year": [1999, 2007], "name": ["x", "y"]}
    index = serving.CandidateIndex.from_model(model, catalog, attributes=["year"], verbose=False)
    assert index.ids.tolist() == [7, 9] and index.attributes["year"].tolist() == [1999, 2007]
    assert capsys.readouterr().err == ""
    assert serving.CandidateIndex.from_model(model, catalog, "name").ids.tolist() == ["x", "y"]
    assert "candidates" in capsys.readouterr().err
    for changes, match in (
        ({"ids": "title"}, "`ids` must name a column"),
        ({"attributes": ["price"]}, "`attributes` must name columns"),
    ):
        with pytest.raises(ValueError, match=match):
            serving.CandidateIndex.from_model(model, catalog, **changes)
    del catalog["id"]
    with pytest.raises(ValueError, match="`ids` must be given"):
        serving.CandidateIndex.from_model(model, catalog)
    item = keras.Input((), name="item_id", dtype="string")
    model.candidate_tower = keras.Model(
        item, keras.layers.Embedding(3, 2)(keras.layers.StringLookup(vocabulary=["p", "q"])(item))
    )
    assert serving.CandidateIndex.from_model(model, {"item_id": ["q", "p"]}).ids.tolist() == ["q", "p"]


def test_index_arguments():
    for changes, error, match in (
        ({"storage": "int4"}, ValueError, "`storage` must be one of"),
        ({"attributes": {"a b": [1, 2]}}, ValueError, "`attributes` must have names"),
        ({"attributes": {"year": [1.5, 2]}}, TypeError, "`year` must hold values of type int64"),
        ({"attributes": {"year": [1]}}, ValueError, "must have the same length"),
        ({"embeddings": None, "storage": "int8"}, ValueError, "`storage` must be 'float32' without embeddings"),
        ({"ids": ["", "b"]}, ValueError, "must not be -1 or empty"),
        ({"ids": [-1, 2]}, ValueError, "must not be -1 or empty"),
        ({"embeddings": np.full((2, 2), 1e5), "storage": "float16"}, ValueError, "at most 65504"),
    ):
        with pytest.raises(error, match=match):
            serving.CandidateIndex(**{"ids": ["a", "b"], "embeddings": np.eye(2), **changes})


def test_equal_keys_of_different_ids(monkeypatch):
    """Ids that hash alike are told apart: another salt when exporting, the id itself when asked."""
    from tfrankloss.serving import search

    real = search._Ids._keys
    monkeypatch.setattr(search._Ids, "_keys", lambda self, ids: real(self, ids) % (2 if self._salt < 3 else 2**62))
    ids = search._Ids(serving.CandidateIndex(["a", "b", "c"], np.eye(3)), 4)
    assert ids._salt == 3
    monkeypatch.setattr(search._Ids, "_keys", lambda self, ids: tf.zeros_like(ids, tf.int64) + self._sorted[1])
    found = ids.columns(tf.constant([["a", "b", "c", "d"]])).numpy()[0].tolist()
    assert sum(column < 3 for column in found) == 1 and found[3] == 3


def test_manifest_names_every_file(retriever):
    path = retriever.result.path
    manifest = json.loads((path / "assets.extra/tfrankloss_manifest.json").read_text())
    files = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    assert set(manifest["files"]) == files - {"assets.extra/tfrankloss_manifest.json"}
    assert "assets.extra/tf_serving_warmup_requests" in files
    assert manifest["made_by"]["tensorflow"] == tf.__version__
