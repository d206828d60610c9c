"""What rankers and point-wise scorers answer, against the live models."""

import importlib
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_ranking_modules

from serving import page
from tfrankloss import serving
from tfrankloss.data import to_elwc, to_example
from tfrankloss.serving.search import LOWEST

LENGTHS = np.array([4, 1, 0, 3])
MASK = np.arange(4) < LENGTHS[:, None]


def lists(seed=0):
    return np.random.default_rng(seed).normal(size=(4, 4, 10)).astype(np.float32)


def padded(scores, mask=MASK):
    return np.where(mask, scores, LOWEST)


@pytest.fixture(scope="module")
def servable(ranker):
    with serving.load(ranker.result.path) as opened:
        yield opened


def test_signatures_of_a_ranker(ranker):
    found = serving.signatures(ranker.result.path)
    assert {name: sorted(one["inputs"]) for name, one in found.items()} == {
        "serving_default": ["features", "lengths"],
        "rank": ["features", "item_ids"],
        "examples": ["inputs"],
        "regress": ["inputs"],
    }
    assert {name: sorted(one["outputs"]) for name, one in found.items()} == {
        "serving_default": ["scores"],
        "rank": ["ids", "scores"],
        "examples": ["outputs"],
        "regress": ["outputs"],
    }
    assert found["serving_default"]["inputs"]["features"].shape.as_list() == [None, None, 10]


def test_lengths(servable, ranker):
    scores = servable.query(features=lists(), lengths=LENGTHS)["scores"]
    np.testing.assert_allclose(scores, padded(ranker.model(lists())), rtol=1e-5, atol=1e-6)
    for wrong in (5, -1):
        with pytest.raises(tf.errors.InvalidArgumentError, match="`lengths` must be from 0 to"):
            servable.query(features=lists(), lengths=[wrong] * 4)


def test_rank(servable, ranker):
    ids = np.array([[f"doc {row} {place}" for place in range(4)] for row in range(4)], object)
    answers = servable.query("rank", features=lists(), item_ids=np.where(MASK, ids, ""))
    scores = padded(ranker.model(lists()).numpy())
    for row in range(4):
        order = np.argsort(-scores[row], kind="stable")
        assert answers["ids"][row].tolist() == np.where(MASK, ids, "")[row][order].tolist()
        np.testing.assert_allclose(answers["scores"][row], scores[row][order], rtol=1e-5, atol=1e-6)
    equal = servable.query("rank", features=np.ones((1, 3, 10)), item_ids=[["b", "a", "c"]])
    assert equal["ids"].tolist() == [["b", "a", "c"]]


def test_lists_with_context_as_tensorflow_ranking_served_them(servable, ranker):
    messages = [
        to_elwc({"query": "not asked for"}, [{"features": item} for item in features[:length]])
        for features, length in zip(lists(), LENGTHS, strict=True)
    ]
    outputs = servable.query("examples", inputs=messages)["outputs"]
    np.testing.assert_allclose(outputs, padded(ranker.model(lists())), rtol=1e-5, atol=1e-6)
    assert servable.query("examples", inputs=[messages[2]])["outputs"].shape == (1, 0)
    assert servable.query("examples", inputs=[])["outputs"].shape == (0, 0)
    for wrong, match in (
        (b"\x00not a message", "(?i)proto|parse"),
        (to_elwc({}, [{"price": 1.0}]), "features"),
        (to_elwc({}, [{"features": [1.0, 2.0]}]), "features"),
    ):
        with pytest.raises(tf.errors.OpError, match=match):
            servable.query("examples", inputs=[wrong])


def test_regress_scores_single_items(servable, ranker):
    rows = lists()[:, 0]
    outputs = servable.query("regress", inputs=[to_example({"features": row}) for row in rows])["outputs"]
    np.testing.assert_allclose(outputs, ranker.model(lists())[:, 0], rtol=1e-5, atol=1e-6)


def with_context(list_size=None, mask=False):
    """Scores of items by how their tags go with the age of a query; with ``mask``, less the mean over the list."""
    age = keras.Input((), name="age", dtype="int32")
    tags = keras.Input((list_size, 3), name="tags", dtype="int32")
    price = keras.Input((list_size,), name="price")
    vectors = keras.layers.Embedding(9, 2)
    scores = keras.ops.sum(vectors(tags), (-1, -2)) * keras.ops.cast(age, "float32")[:, None] + price
    inputs = {"age": age, "tags": tags, "price": price}
    if mask:
        inputs["mask"] = keras.Input((list_size,), name="mask", dtype="bool")
        stands = keras.ops.cast(inputs["mask"], "float32")
        total = keras.ops.sum(scores * stands, 1, keepdims=True)
        scores = scores - total / keras.ops.maximum(keras.ops.sum(stands, 1, keepdims=True), 1)
    model = keras.Model(inputs, scores)
    vectors.set_weights([np.random.default_rng(5).normal(size=(9, 2))])
    return model


def features(size):
    generator = np.random.default_rng(size)
    return {
        "age": generator.integers(0, 9, 2).astype(np.int32),
        "tags": generator.integers(1, 9, (2, size, 3)).astype(np.int32),
        "price": generator.random((2, size)).astype(np.float32),
    }


@pytest.mark.parametrize("list_size", [None, 5])
def test_context_and_items(tmp_path, list_size):
    model = with_context(list_size)
    result = serving.export(model, tmp_path)
    assert result.signatures == ("serving_default", "rank", "examples", "regress")
    asked = features(5)
    lengths, expected = (5, 3), model(asked).numpy()
    messages = [
        to_elwc(
            {"age": asked["age"][row]},
            [{"tags": asked["tags"][row, place], "price": asked["price"][row, place]} for place in range(lengths[row])],
        )
        for row in range(2)
    ]
    with serving.load(tmp_path) as servable:
        np.testing.assert_allclose(servable.predict(asked)["scores"], expected, rtol=1e-5, atol=1e-6)
        outputs = servable.query("examples", inputs=messages)["outputs"]
        mask = np.arange(5) < np.array(lengths)[:, None]
        np.testing.assert_allclose(outputs, padded(expected, mask), rtol=1e-5, atol=1e-6)
        # A row of context and one item; histories may be shorter than the model takes, not longer.
        row = {"age": 3, "tags": [4, 5], "price": 0.5}
        (output,) = servable.query("regress", inputs=[to_example(row)])["outputs"]
        single = {"age": np.array([3]), "tags": np.zeros((1, 5, 3), int), "price": np.full((1, 5), 0.5)}
        single["tags"][0, 0] = [4, 5, 0]
        np.testing.assert_allclose(output, model(single)[0, 0], rtol=1e-5)
        for wrong, match in (
            ({**row, "tags": [1] * 4}, "`tags` must hold at most 3 values"),
            ({**row, "age": 2**40}, "`age` must fit into int32"),
            ({"tags": [1], "price": 1.0}, "age"),
        ):
            with pytest.raises(tf.errors.InvalidArgumentError, match=match):
                servable.query("regress", inputs=[to_example(wrong)])


@pytest.mark.parametrize("padding", [None, "mask", "lengths"])
def test_a_model_with_a_mask_of_its_own(tmp_path, padding):
    model = with_context(mask=True)
    serving.export(model, tmp_path, padding=padding)
    asked = features(4)
    mask = MASK[:2]
    expected = model({**asked, "mask": mask}).numpy()
    given = {"lengths": LENGTHS[:2]} if padding == "lengths" else {"mask": mask}
    with serving.load(tmp_path) as servable:
        scores = servable.predict({**asked, **given})["scores"]
        ranked = servable.predict({**asked, "item_ids": np.where(mask, "x", "").astype(object)}, "rank")["scores"]
        messages = [
            to_elwc({"age": asked["age"][row]}, [{key: asked[key][row, 0] for key in ("tags", "price")}])
            for row in range(2)
        ]
        alone = servable.query("examples", inputs=messages)["outputs"]
    np.testing.assert_allclose(scores[mask], expected[mask], rtol=1e-5, atol=1e-6)
    assert padding != "lengths" or (scores[~mask] == LOWEST).all()
    np.testing.assert_allclose(ranked, -np.sort(-padded(expected, mask), 1), rtol=1e-5, atol=1e-6)
    # Of a list of one item the mean is its own score.
    np.testing.assert_allclose(alone, [[0], [0]], atol=1e-6)


def test_what_is_context_can_be_said(tmp_path):
    query, item = keras.Input((3,), name="query"), keras.Input((3, 2), name="item")
    scores = keras.ops.sum(item, -1) * keras.ops.sum(query, -1, keepdims=True)
    model = keras.Model({"query": query, "item": item}, scores)
    names = ["examples"]
    result = serving.export(model, tmp_path, context=["query"], signatures=names)
    message = to_elwc({"query": [1.0, 1, 1]}, [{"item": [1.0, 2]}, {"item": [3.0, 4]}])
    with serving.load(result.path) as servable:
        assert servable.query("examples", inputs=[message])["outputs"].tolist() == [[9, 21, LOWEST]]
    for arguments, match in (
        ({"context": ["user"]}, "`context` must name inputs among"),
        ({"padding": "ragged"}, "`padding` must be one of"),
        ({"exclude": True}, "`exclude` must be False"),
        ({"example_spec": {"user": tf.io.FixedLenFeature([], tf.int64)}}, "`example_spec` must hold features among"),
        ({"signatures": ["predict"]}, "`signatures` must be one of"),
    ):
        with pytest.raises(ValueError, match=match):
            serving.export(model, tmp_path, **arguments)
    for arguments, match in (
        ({"signatures": "rank"}, "`signatures` must be names in a list or dict"),
        ({"example_spec": 7}, "`example_spec` must be"),
        ({"example_spec": {"item": tf.io.VarLenFeature(tf.float32)}}, "FixedLenFeature or a RaggedFeature"),
    ):
        with pytest.raises(TypeError, match=match):
            serving.export(model, tmp_path, **arguments)


def names_of(signature):
    """Of a traced function or of an export: names and types of arguments and outputs."""
    if not isinstance(signature, dict):
        (arguments, _), outputs = signature.structured_input_signature, signature.structured_outputs
        signature = {
            "inputs": {argument.name: argument for argument in arguments},
            "outputs": {name: tf.TensorSpec.from_tensor(value) for name, value in outputs.items()},
        }
    return {
        side: {name: (spec.dtype, spec.shape.rank) for name, spec in found.items()} for side, found in signature.items()
    }


def test_clients_of_tensorflow_ranking_need_not_change(tmp_path, monkeypatch):
    """Names, types and scores, against its own signatures over the same model."""
    if tensorflow_ranking_modules.load() is None:
        pytest.skip("TensorFlow Ranking is not installed")
    # Its module of data wants this of TensorFlow, for what is not asked of it here.
    monkeypatch.setattr(tf, "estimator", types.SimpleNamespace(ModeKeys=None), raising=False)
    saved_model = importlib.import_module("tensorflow_ranking.python.keras.saved_model")
    model = with_context()
    scalar, tags = tf.io.FixedLenFeature([], tf.int64), tf.io.FixedLenFeature([3], tf.int64, [0, 0, 0])
    price = tf.io.FixedLenFeature([], tf.float32, 7.0)

    def called(inputs, training):
        given = {name: tf.cast(inputs[name], model.input[name].dtype) for name in model.input}
        return model(given, training=training)

    theirs = saved_model.Signatures(called, {"age": scalar}, {"tags": tags, "price": price}, "mask")()
    page.run("As tfr.keras.saved_model.Signatures", model, tmp_path, example_spec={"price": price, "tags": tags})
    ours = serving.signatures(tmp_path)
    assert set(ours) == set(theirs)
    lists = [to_elwc({"age": 2}, [{"tags": [1, 4, 2], "price": 2.0}, {"tags": [3, 3, 8]}]), to_elwc({"age": 1}, [{}])]
    rows = [to_example({"age": 2, "tags": [1, 4, 2], "price": 2.0}), to_example({"age": 1, "tags": [3, 3, 8]})]
    with serving.load(tmp_path) as servable:
        for name, function in theirs.items():
            assert names_of(ours[name]) == names_of(function.get_concrete_function())
            asked = tf.constant(lists if name.endswith("predict") else rows)
            scores, expected = servable.query(name, inputs=asked.numpy())["outputs"], function(asked)["outputs"].numpy()
            there = scores > LOWEST
            assert there.sum() == (3 if name.endswith("predict") else 2)
            np.testing.assert_allclose(scores[there], expected[there], rtol=1e-6)


def test_clients_of_its_estimators_need_not_change(tmp_path):
    """Names as TensorFlow's own classes give them, by which TensorFlow Ranking's estimators were exported."""
    from tensorflow.python.saved_model.model_utils import export_output

    with tf.Graph().as_default():
        receiver = {"input_ranking_data": tf.compat.v1.placeholder(tf.string, [None])}
        logits = tf.zeros((2, 3))
        regress, predict = export_output.RegressionOutput(logits), export_output.PredictOutput(logits)
        wanted = {
            "serving_default": regress.as_signature_def(receiver),
            "tensorflow/serving/regress": regress.as_signature_def(receiver),
            "tensorflow/serving/predict": predict.as_signature_def(receiver),
        }
    page.run("As an estimator of TF-Ranking", with_context(), tmp_path)
    ours = serving.signatures(tmp_path)
    assert set(ours) == set(wanted)
    for name, signature in wanted.items():
        for side in ("inputs", "outputs"):
            theirs = {key: info.dtype for key, info in getattr(signature, side).items()}
            assert {key: spec.dtype.as_datatype_enum for key, spec in ours[name][side].items()} == theirs, name


@pytest.mark.parametrize("axes", [(), (1,)])
def test_pointwise(tmp_path, axes):
    age, history = keras.Input((), name="age"), keras.Input((4,), name="history", dtype="int32")
    scores = keras.ops.max(keras.layers.Embedding(9, 1)(history), (1, 2)) + age
    model = keras.Model({"age": age, "history": history}, keras.ops.reshape(scores, (-1, *axes)))
    result = serving.export(model, tmp_path)
    assert result.signatures == ("serving_default", "regress")
    rows = {"age": np.array([1.0, 2]), "history": np.array([[1, 2, 3, 0], [0, 0, 0, 0]])}
    expected = np.reshape(model(rows), -1)
    messages = [to_example({"age": 1.0, "history": [1, 2, 3]}), to_example({"age": 2.0})]
    with serving.load(tmp_path) as servable:
        np.testing.assert_allclose(servable.predict(rows)["scores"], expected, rtol=1e-6)
        np.testing.assert_allclose(servable.query("regress", inputs=messages)["outputs"], expected, rtol=1e-6)
    for arguments in ({"list_size": 3}, {"padding": "mask"}, {"context": ["age"]}):
        with pytest.raises(ValueError, match="must be None for a model of one score per row"):
            serving.export(model, tmp_path, **arguments)
