"""The layers: hand-computed similarities, zero vectors, empty histories, lists of unknown length."""

import inspect

import keras
import numpy as np
import pytest
from backend import to_numpy
from keras import ops

from tfrankloss import functional, losses
from tfrankloss.functional.similarity import SIMILARITIES
from tfrankloss.layers import ApplyToLists, L2Normalize, LearnedTemperature, SafeMeanPooling, Similarity

pytestmark = pytest.mark.backends

QUERIES = np.array([[3.0, 4.0], [1.0, 0.0]], "float32")
CANDIDATES = np.array([[[1.0, 0.0], [0.0, 2.0], [-3.0, -4.0]], [[2.0, 2.0], [1.0, 0.0], [0.0, 5.0]]], "float32")


def gradient(function, x):
    """d function(x) / dx on the running backend."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        x = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(x)
        return tape.gradient(value, x).numpy()
    if backend == "jax":
        import jax

        return np.asarray(jax.grad(function)(x))
    x = ops.convert_to_tensor(x).clone().requires_grad_(True)
    function(x).backward()
    return x.grad.cpu().numpy()


def through_lists(layer, inputs):
    """Whatever a layer gives inside a functional model of unknown batch and list sizes."""
    specs = [keras.Input((None, *x.shape[2:]) if x.ndim == 3 else x.shape[1:]) for x in inputs]
    return keras.Model(specs, layer(*specs)).predict(inputs, verbose=0)


@pytest.mark.parametrize(
    ("similarity", "expected"),
    [
        ("dot", [[3, 8, -25], [2, 1, 0]]),
        ("cosine", [[3 / 5, 4 / 5, -1], [1 / np.sqrt(2), 1, 0]]),
        ("euclidean", [[-(2**2 + 4**2), -(3**2 + 2**2), -(6**2 + 8**2)], [-(1 + 4), 0, -(1 + 25)]]),
    ],
)
def test_similarity_by_hand(similarity, expected):
    layer = Similarity(similarity, temperature=0.5)
    expected = np.array(expected) / 0.5
    np.testing.assert_allclose(ops.convert_to_numpy(layer(QUERIES, CANDIDATES)), expected, rtol=1e-5, atol=1e-6)
    single = ops.convert_to_numpy(layer(QUERIES, CANDIDATES[:, 1]))
    assert single.shape == (2,)
    np.testing.assert_allclose(single, expected[:, 1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(through_lists(layer, [QUERIES, CANDIDATES]), expected, rtol=1e-5, atol=1e-6)
    assert layer.compute_output_shape((None, 2), (None, None, 2)) == (None, None)


def test_three_similarities_agree_on_unit_vectors():
    rng = np.random.default_rng(0)
    queries, candidates = (rng.normal(size=shape).astype("float32") for shape in ((5, 7), (5, 9, 7)))
    normalize = L2Normalize()
    dot, cosine, euclidean = (
        ops.convert_to_numpy(Similarity(name)(normalize(queries), normalize(candidates))) for name in SIMILARITIES
    )
    np.testing.assert_allclose(dot, cosine, atol=1e-6)
    np.testing.assert_allclose(euclidean, 2 * (cosine - 1), atol=1e-5)
    np.testing.assert_allclose(cosine, ops.convert_to_numpy(Similarity("cosine")(queries, candidates)), atol=1e-6)
    assert not np.allclose(dot, ops.convert_to_numpy(Similarity("dot")(queries, candidates)), atol=0.1)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_zero_vectors_score_and_differentiate(similarity):
    candidates = np.array([[[0.0, 0.0], [1.0, 2.0]]], "float32")
    scores = ops.convert_to_numpy(Similarity(similarity)(np.zeros((1, 2), "float32"), candidates))
    np.testing.assert_allclose(scores, [[0, -5 if similarity == "euclidean" else 0]])
    for x in (np.zeros((1, 2), "float32"), np.full((1, 2), 1e-30, "float32")):
        slope = gradient(lambda queries: ops.sum(Similarity(similarity)(queries, candidates)), x)
        assert np.all(np.abs(slope) < 100)


@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e25])
def test_normalised_at_any_scale(scale):
    x = np.array([[3.0, -4.0], [0.0, 1.0]], "float32")
    unit = ops.convert_to_numpy(L2Normalize()(x * np.float32(scale)))
    np.testing.assert_allclose(unit, [[0.6, -0.8], [0, 1]], rtol=1e-6)


def test_normalised_in_half_precision():
    unit = L2Normalize(dtype="float16")(np.array([[3e4, -4e4]], "float16"))
    assert keras.backend.standardize_dtype(unit.dtype) == "float16"
    np.testing.assert_allclose(ops.convert_to_numpy(unit), [[0.6, -0.8]], rtol=1e-3)


@pytest.mark.parametrize("vector", [[3.0, 4.0], [0.0, 2.0], [-1.0, 1.0]])
def test_gradient_of_normalisation(vector):
    # d(w . x/|x|)/dx = (w - u (u . w)) / |x|, u = x/|x|
    x, w = np.array([vector], "float32"), np.array([[1.0, 2.0]], "float32")
    length = np.linalg.norm(x)
    u = x / length
    np.testing.assert_allclose(
        gradient(lambda y: ops.sum(ops.multiply(L2Normalize()(y), w)), x), (w - u * np.sum(u * w)) / length, atol=1e-6
    )


def test_pooling_counts_only_valid_items():
    embeddings = np.array([[[1.0, 2.0], [3.0, 6.0], [np.nan, 9.0]], [[5.0, 5.0]] * 3], "float32")
    mask = np.array([[True, True, False], [False, False, False]])
    pooled = ops.convert_to_numpy(SafeMeanPooling()(embeddings, mask=mask))
    np.testing.assert_allclose(pooled, [[2, 4], [0, 0]])
    np.testing.assert_allclose(ops.convert_to_numpy(SafeMeanPooling()(embeddings[1:])), [[5, 5]])
    slope = gradient(lambda x: ops.sum(SafeMeanPooling()(x, mask=mask)), embeddings)
    np.testing.assert_allclose(slope, np.array([[0.5, 0.5, 0], [0, 0, 0]])[..., None] * np.ones(2))


def test_pooling_takes_the_mask_of_an_embedding():
    history = keras.Input((None,), dtype="int32", name="history")
    table = keras.layers.Embedding(5, 3, mask_zero=True, embeddings_initializer="normal")
    model = keras.Model(history, SafeMeanPooling()(table(history)))
    assert model.output_shape == (None, 3)
    rows = table.get_weights()[0]
    pooled = model.predict(np.array([[1, 2, 0, 0], [0, 0, 0, 0], [4, 0, 4, 3]]), verbose=0)
    np.testing.assert_allclose(pooled, [(rows[1] + rows[2]) / 2, np.zeros(3), (2 * rows[4] + rows[3]) / 3], rtol=1e-5)


@pytest.mark.parametrize("list_size", [None, 3])
def test_lists_of_several_inputs(list_size, tmp_path):
    ids, price = keras.Input((), dtype="int32", name="id"), keras.Input((2,), name="price")
    table = keras.layers.Embedding(7, 2)
    item = keras.Model({"id": ids, "price": price}, table(ids) + 10 * price)
    lists = {
        "id": keras.Input((list_size,), dtype="int32", name="id"),
        "price": keras.Input((list_size, 2), name="price"),
    }
    model = keras.Model(lists, ApplyToLists(item)(lists))
    assert model.output_shape == (None, list_size, 2)
    data = {"id": np.array([[1, 2, 3], [4, 5, 6]]), "price": np.arange(12, dtype="float32").reshape(2, 3, 2)}
    expected = table.get_weights()[0][data["id"]] + 10 * data["price"]
    np.testing.assert_allclose(model.predict(data, verbose=0), expected, rtol=1e-6)
    if list_size is None:
        shorter = {name: x[:, :2] for name, x in data.items()}
        np.testing.assert_allclose(model.predict(shorter, verbose=0), expected[:, :2], rtol=1e-6)
    model.save(tmp_path / "lists.keras")
    restored = keras.models.load_model(tmp_path / "lists.keras")
    np.testing.assert_array_equal(restored.predict(data, verbose=0), model.predict(data, verbose=0))
    assert len(restored.weights) == 1


def test_every_layer_is_registered_and_round_trips():
    tower = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    for layer in (
        L2Normalize(name="a"),
        Similarity("cosine", 0.2),
        SafeMeanPooling(dtype="float64"),
        ApplyToLists(tower),
    ):
        name = keras.saving.get_registered_name(type(layer))
        assert name == f"tfrankloss>{type(layer).__name__}"
        copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
        assert type(copy) is type(layer)
        assert copy.get_config() == layer.get_config()
        assert set(inspect.signature(type(layer)).parameters) - {"kwargs"} <= set(layer.get_config())


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: Similarity("manhattan"), ValueError, "`similarity` must be one of 'dot', 'cosine', 'euclidean'"),
        (lambda: Similarity(temperature=0), ValueError, "`temperature` must be greater than 0"),
        (lambda: Similarity()(QUERIES[0], CANDIDATES), ValueError, "`queries` must have shape"),
        (lambda: Similarity()(QUERIES, CANDIDATES[..., None]), ValueError, "`candidates` must have shape"),
        (lambda: Similarity()(QUERIES, CANDIDATES[..., :1]), ValueError, "same batch and embedding sizes"),
        (lambda: Similarity()(QUERIES, CANDIDATES[:1, 0]), ValueError, "same batch and embedding sizes"),
        (lambda: SafeMeanPooling()(QUERIES), ValueError, "`inputs` must have shape"),
        (lambda: SafeMeanPooling()(CANDIDATES, mask=np.ones((2, 1), bool)), ValueError, "must have the same shape"),
        (lambda: ApplyToLists(len), TypeError, "`model` must be a Keras model"),
    ],
)
def test_errors(build, error, message):
    with pytest.raises(error, match=message):
        build()


@pytest.mark.parametrize("similarity", ["dot", "euclidean"])
def test_learned_temperature_of_embeddings_is_that_of_scores(similarity, random):
    embeddings = random.normal(size=(4, 3, 2)).astype("float32")
    scaled = LearnedTemperature(temperature=0.3)(embeddings)
    by_embeddings = functional.in_batch_scores(scaled, similarity=similarity)
    by_scores = LearnedTemperature(temperature=0.3)(functional.in_batch_scores(embeddings, similarity=similarity))
    np.testing.assert_allclose(to_numpy(by_embeddings), to_numpy(by_scores), rtol=2e-5, atol=1e-5)


def test_learned_temperature_is_learned_and_bounded(tmp_path):
    """Where candidates are wrong, sharper is worse and the scale falls; where they are right it rises to its bound."""
    rows = np.float32([[[1, 0], [1, 0]], [[0, 1], [0, 1]]])
    inputs = keras.Input((2, 2))
    for sign, compare in ((-1, lambda scale: scale < 4), (1, lambda scale: abs(scale - 5) < 1e-4)):
        layer = LearnedTemperature(temperature=0.25, max_scale=5.0)
        model = keras.Model(inputs, layer(inputs))
        model.compile(keras.optimizers.SGD(100.0), losses.InBatchSoftmaxLoss())
        model.fit(rows * np.float32([[[1], [sign]]]), np.ones(2), epochs=3, verbose=0)
        assert compare(float(model.predict(rows, verbose=0)[0, 0, 0]) ** 2)
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(again.predict(rows, verbose=0), model.predict(rows, verbose=0))


def test_learned_temperature_refuses_a_bias_for_embeddings():
    with pytest.raises(ValueError, match="no bias"):
        LearnedTemperature(bias=0.0)(np.zeros((2, 2, 2), "float32"))
    for settings in ({"temperature": 0.0}, {"max_scale": -1.0}, {"bias": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            LearnedTemperature(**settings)
