"""The two-tower model: what each mode gives, by hand; what `compile` refuses; what a saved model keeps."""

import keras
import numpy as np
import pytest
from keras import ops

from tfrankloss.layers import SafeMeanPooling
from tfrankloss.models import TwoTower, two_tower

pytestmark = pytest.mark.backends

BATCH, LIST, SIZE = 4, 5, 3


class EmbeddingLoss(keras.losses.Loss):
    """Any loss of (B, 2 + K, D) embeddings: softmax of each query over all first candidates of the batch."""

    def __init__(self, similarity="dot", **kwargs):
        super().__init__(**kwargs)
        self.similarity = similarity

    def call(self, y_true, y_pred):
        logits = ops.matmul(y_pred[:, 0], ops.transpose(y_pred[:, 1]))
        return -ops.diagonal(ops.log_softmax(logits, axis=-1))

    def get_config(self):
        return {**super().get_config(), "similarity": self.similarity}


def make_towers(seed=0):
    """A query tower with an integer history and floats, a candidate tower with an integer and a float vector."""
    keras.utils.set_random_seed(seed)
    history, age = keras.Input((None,), dtype="int32", name="history"), keras.Input((), name="age")
    pooled = SafeMeanPooling()(keras.layers.Embedding(20, 6, mask_zero=True)(history))
    joined = keras.layers.Concatenate()([pooled, keras.layers.Reshape((1,))(age)])
    query = keras.Model({"history": history, "age": age}, keras.layers.Dense(SIZE)(joined), name="query")
    item, price = keras.Input((), dtype="int32", name="item"), keras.Input((2,), name="price")
    joined = keras.layers.Concatenate()([keras.layers.Embedding(20, 6)(item), price])
    # Without a bias: in a softmax over candidates it would cancel, with a gradient of exactly 0.
    embedding = keras.layers.Dense(SIZE, use_bias=False)(joined)
    candidate = keras.Model({"item": item, "price": price}, embedding, name="candidate")
    return query, candidate


def make_data(*axes):
    rng = np.random.default_rng(1)
    return {
        "history": rng.integers(0, 20, (BATCH, 7)).astype("int32"),
        "age": rng.normal(size=BATCH).astype("float32"),
        "item": rng.integers(0, 20, (BATCH, *axes)).astype("int32"),
        "price": rng.normal(size=(BATCH, *axes, 2)).astype("float32"),
    }


def part(data, *names):
    return {name: data[name] for name in names}


def reference_embeddings(model, data):
    """Queries (B, D) and candidates (B, ..., D), one candidate at a time."""
    queries = ops.convert_to_numpy(model.query_tower(part(data, "history", "age")))
    axes = data["item"].shape
    flat = {"item": data["item"].reshape(-1), "price": data["price"].reshape(-1, 2)}
    rows = [model.candidate_tower({k: v[i : i + 1] for k, v in flat.items()}) for i in range(len(flat["item"]))]
    return queries, np.concatenate([ops.convert_to_numpy(row) for row in rows]).reshape(*axes, SIZE)


def reference_scores(similarity, queries, candidates):
    queries = queries.reshape(BATCH, *([1] * (candidates.ndim - 2)), SIZE)
    if similarity == "euclidean":
        return -np.sum((queries - candidates) ** 2, axis=-1)
    dots = np.sum(queries * candidates, axis=-1)
    if similarity == "cosine":
        dots /= np.linalg.norm(queries, axis=-1) * np.linalg.norm(candidates, axis=-1)
    return dots


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize("similarity", ["dot", "cosine", "euclidean"])
@pytest.mark.parametrize("num_negatives", [None, 1, 3])
def test_in_batch_embeddings(similarity, num_negatives):
    model = two_tower(*make_towers(), similarity=similarity, num_negatives=num_negatives)
    count = 1 if num_negatives is None else 1 + num_negatives
    assert model.output_shape == (None, 1 + count, SIZE)
    data = make_data() if num_negatives is None else make_data(count)
    queries, candidates = reference_embeddings(model, data)
    expected = np.concatenate([queries[:, None], candidates.reshape(BATCH, count, SIZE)], axis=1)
    if similarity == "cosine":
        expected = unit(expected)
    np.testing.assert_allclose(model.predict(data, verbose=0), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("similarity", ["dot", "cosine", "euclidean"])
@pytest.mark.parametrize(
    ("mode", "axes", "list_size"),
    [("listwise", (LIST,), None), ("listwise", (LIST,), LIST), ("pairwise", (2,), 2), ("pointwise", (), None)],
)
def test_scores(similarity, mode, axes, list_size):
    model = two_tower(*make_towers(), similarity=similarity, mode=mode, temperature=0.25, list_size=list_size)
    assert model.output_shape == (None, *((list_size,) if axes else ()))
    data = make_data(*axes)
    expected = reference_scores(similarity, *reference_embeddings(model, data)) / 0.25
    scores = model.predict(data, verbose=0)
    assert scores.shape == (BATCH, *axes)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)
    queries, candidates = part(data, "history", "age"), part(data, "item", "price")
    np.testing.assert_allclose(ops.convert_to_numpy(model.score(queries, candidates)), expected, rtol=1e-4, atol=1e-5)


def test_lists_of_any_length_and_extra_inputs():
    model = two_tower(*make_towers(), mode="listwise")
    long, short = make_data(LIST), make_data(LIST)
    short["item"], short["price"] = long["item"][:, :2], long["price"][:, :2]
    np.testing.assert_allclose(
        model.predict(short, verbose=0), model.predict(long, verbose=0)[:, :2], rtol=1e-5, atol=1e-6
    )
    everything = {**long, "unused": np.zeros(BATCH)}
    np.testing.assert_allclose(
        ops.convert_to_numpy(model.score(everything, everything)), model.predict(long, verbose=0), rtol=1e-5, atol=1e-6
    )


def test_an_empty_history_scores_finitely():
    model = two_tower(*make_towers(), similarity="cosine", mode="listwise")
    data = make_data(LIST)
    data["history"][:] = 0
    data["age"][:] = 0
    np.testing.assert_allclose(model.predict(data, verbose=0), 0, atol=1e-6)


@pytest.mark.parametrize("similarity", ["dot", "cosine", "euclidean"])
def test_embeddings_as_the_similarity_sees_them(similarity):
    model = two_tower(*make_towers(), similarity=similarity)
    data = make_data()
    queries, candidates = reference_embeddings(model, data)
    if similarity == "cosine":
        queries, candidates = unit(queries), unit(candidates)
    for found in (
        model.embed_queries(data, batch_size=3),
        ops.convert_to_numpy(model.query_encoder()(part(data, "history", "age"))),
        model.predict(data, verbose=0)[:, 0],
    ):
        np.testing.assert_allclose(found, queries, rtol=1e-4, atol=1e-6)
    for found in (
        model.embed_candidates(data, batch_size=3),
        ops.convert_to_numpy(model.candidate_encoder()(part(data, "item", "price"))),
        model.predict(data, verbose=0)[:, 1],
    ):
        np.testing.assert_allclose(found, candidates, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mode", ["in_batch", "negatives", "listwise", "pointwise"])
def test_fit_moves_both_towers_and_counts_weights_once(mode):
    settings = {"num_negatives": 2} if mode == "negatives" else {"mode": mode}
    model = two_tower(*make_towers(), **settings)
    assert len(model.weights) == len(model.query_tower.weights) + len(model.candidate_tower.weights) == 5
    assert model.count_params() == model.query_tower.count_params() + model.candidate_tower.count_params()
    data = make_data(*{"negatives": (3,), "listwise": (LIST,)}.get(mode, ()))
    before = [np.array(ops.convert_to_numpy(weight)) for weight in model.weights]
    labels = np.ones(data["item"].shape) if mode in ("listwise", "pointwise") else np.ones(BATCH)
    loss = EmbeddingLoss() if mode in ("in_batch", "negatives") else "mse"
    model.compile(keras.optimizers.SGD(0.1), loss)
    model.fit(data, labels, verbose=0)
    for old, weight in zip(before, model.weights, strict=True):
        assert np.max(np.abs(old - ops.convert_to_numpy(weight))) > 1e-6, weight.path


@pytest.mark.parametrize(
    "settings",
    [
        {"similarity": "cosine"},
        {"similarity": "dot", "num_negatives": 2, "name": "retrieval"},
        {"similarity": "cosine", "mode": "listwise", "temperature": 0.1, "list_size": LIST},
        {"similarity": "euclidean", "mode": "listwise"},
        {"mode": "pointwise"},
    ],
)
def test_saved_model_predicts_and_trains_on(settings, tmp_path):
    model = two_tower(*make_towers(), **settings)
    in_batch = model.mode == "in_batch"
    axes = {"listwise": (LIST,)}.get(model.mode, (3,) if "num_negatives" in settings else ())
    data = make_data(*axes)
    labels = np.linspace(0, 1, BATCH) if in_batch else np.linspace(0, 1, data["item"].size).reshape(data["item"].shape)
    model.compile(keras.optimizers.Adam(0.05), "mse" if not in_batch else keras.losses.MeanSquaredError())
    labels = labels[:, None, None] * np.ones(model.output_shape[1:]) if in_batch else labels
    model.fit(data, labels, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    assert type(restored) is TwoTower
    assert restored.name == model.name
    for setting in ("similarity", "mode", "temperature", "num_negatives", "list_size"):
        assert getattr(restored, setting) == getattr(model, setting)
    assert restored.output_shape == model.output_shape
    np.testing.assert_array_equal(restored.predict(data, verbose=0), model.predict(data, verbose=0))
    np.testing.assert_array_equal(restored.embed_candidates(make_data()), model.embed_candidates(make_data()))
    for each in (model, restored):
        each.fit(data, labels, epochs=2, verbose=0, shuffle=False)
    np.testing.assert_allclose(restored.predict(data, verbose=0), model.predict(data, verbose=0), rtol=1e-5, atol=1e-6)


def test_saved_loss_is_checked_and_restored(tmp_path):
    model = two_tower(*make_towers())
    model.compile("adam", EmbeddingLoss())
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras", custom_objects={"EmbeddingLoss": EmbeddingLoss})
    assert isinstance(restored.loss, EmbeddingLoss)
    assert restored.evaluate(make_data(), np.ones(BATCH), verbose=0) == pytest.approx(
        model.evaluate(make_data(), np.ones(BATCH), verbose=0)
    )


def test_shared_embeddings_stay_shared(tmp_path):
    table = keras.layers.Embedding(20, SIZE, mask_zero=True, name="items")
    history, item = (keras.Input(shape, dtype="int32", name=n) for n, shape in (("history", (None,)), ("item", ())))
    query = keras.Model(history, keras.layers.Dense(SIZE)(SafeMeanPooling()(table(history))), name="query")
    candidate = keras.Model(item, keras.layers.Dense(SIZE)(table(item)), name="candidate")
    model = two_tower(query, candidate, mode="listwise")
    assert len(model.weights) == 5
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    assert len(restored.weights) == 5
    assert restored.query_tower.get_layer("items") is restored.candidate_tower.get_layer("items")
    data = part(make_data(LIST), "history", "item")
    np.testing.assert_array_equal(restored.predict(data, verbose=0), model.predict(data, verbose=0))
    restored.save(tmp_path / "again.keras")
    again = keras.models.load_model(tmp_path / "again.keras")
    np.testing.assert_array_equal(again.predict(data, verbose=0), model.predict(data, verbose=0))


def test_weights_shared_inside_nested_models_cannot_be_saved():
    table = keras.layers.Embedding(20, SIZE)
    history, item = (keras.Input(shape, dtype="int32", name=n) for n, shape in (("history", (3,)), ("item", ())))
    inner = keras.Model(history, keras.layers.Flatten()(table(history)), name="inner")
    outer = keras.Input((3,), dtype="int32", name="history")
    query = keras.Model(outer, keras.layers.Dense(SIZE)(inner(outer)), name="query")
    model = two_tower(query, keras.Model(item, table(item), name="candidate"))
    with pytest.raises(ValueError, match="must share whole layers"):
        model.get_config()


def test_sequential_and_single_input_towers(tmp_path):
    query = keras.Sequential([keras.Input((2,), name="user"), keras.layers.Dense(SIZE)])
    item = keras.Input((2,), name="item_features")
    model = two_tower(query, keras.Model(item, keras.layers.Dense(SIZE)(item)), mode="listwise", name="pair")
    data = {"user": np.ones((2, 2), "float32"), "item_features": np.ones((2, LIST, 2), "float32")}
    scores = model.predict(data, verbose=0)
    assert scores.shape == (2, LIST)
    np.testing.assert_allclose(
        ops.convert_to_numpy(model.score(data["user"], data["item_features"])), scores, rtol=1e-6
    )
    np.testing.assert_allclose(model.embed_queries(data["user"]), model.embed_queries(data))
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras").predict(data, verbose=0), scores)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="strings need TensorFlow")
@pytest.mark.parametrize("dtype", [object, "U5", "S5"])
def test_string_inputs(dtype, tmp_path):
    def tower(name, words):
        x = keras.Input((), dtype="string", name=name)
        lookup = keras.layers.StringLookup(vocabulary=words)
        return keras.Model({name: x}, keras.layers.Embedding(len(words) + 1, SIZE)(lookup(x)), name=f"{name}_tower")

    import tensorflow as tf

    model = two_tower(tower("user", ["ann", "bob"]), tower("title", ["alien", "brazil", "heat"]), mode="listwise")
    users, titles = np.array(["ann", "bob"], dtype), np.array([["heat", "alien"], ["??", "heat"]], dtype)
    scores = ops.convert_to_numpy(model({"user": tf.constant(users), "title": tf.constant(titles)}))
    queries, candidates = model.embed_queries({"user": users}), model.embed_candidates({"title": titles.reshape(-1)})
    expected = np.sum(queries[:, None] * candidates.reshape(2, 2, SIZE), axis=-1)
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-7)
    assert len(np.unique(scores)) == 4
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(restored.embed_queries({"user": users}), queries)


@pytest.mark.parametrize(
    ("similarity", "mode", "of_loss", "message"),
    [
        ("dot", "in_batch", "dot", None),
        ("cosine", "in_batch", "dot", None),
        ("cosine", "in_batch", "cosine", None),
        ("euclidean", "in_batch", "euclidean", None),
        ("dot", "in_batch", "cosine", "must have similarity 'dot' for a model of similarity 'dot'"),
        ("dot", "in_batch", "euclidean", "must have similarity"),
        ("cosine", "in_batch", "euclidean", "must have similarity 'dot' or 'cosine'"),
        ("euclidean", "in_batch", "dot", "must have similarity 'euclidean'"),
        ("euclidean", "in_batch", "cosine", "must have similarity 'euclidean'"),
        ("dot", "listwise", "dot", "must take scores in mode 'listwise'"),
    ],
)
def test_compile_matches_the_loss(similarity, mode, of_loss, message):
    model = two_tower(*make_towers(), similarity=similarity, mode=mode)
    if message is None:
        model.compile("adam", EmbeddingLoss(of_loss))
    else:
        for loss in (EmbeddingLoss(of_loss), [EmbeddingLoss(of_loss)]):
            with pytest.raises(ValueError, match=message):
                model.compile("adam", loss)


def _tower(name="x", size=SIZE, tower_name=None):
    x = keras.Input((2,), name=name)
    return keras.Model(x, keras.layers.Dense(size)(x), name=tower_name)


def _two_outputs():
    x = keras.Input((2,), name="y")
    return keras.Model(x, [keras.layers.Dense(SIZE)(x), keras.layers.Dense(SIZE)(x)])


def _crossed():
    a, b = keras.Input((2,), name="a"), keras.Input((2,), name="b")
    return keras.Model({"a": b, "b": a}, a + 2 * b)


def _matrix_output():
    x = keras.Input((2, 3), name="y")
    return keras.Model(x, keras.layers.Dense(SIZE)(x))


@pytest.mark.parametrize(
    ("candidate", "settings", "error", "message"),
    [
        (lambda: _tower("y"), {"similarity": "l1"}, ValueError, "`similarity` must be one of"),
        (lambda: _tower("y"), {"mode": "triplet"}, ValueError, "`mode` must be one of"),
        (lambda: _tower("y"), {"temperature": 0.1}, ValueError, "`temperature` must be 1 in mode 'in_batch'"),
        (lambda: _tower("y"), {"mode": "pointwise", "temperature": -1}, ValueError, "greater than 0"),
        (lambda: _tower("y"), {"num_negatives": 0}, ValueError, "`num_negatives` must be at least 1"),
        (lambda: _tower("y"), {"mode": "listwise", "num_negatives": 1}, ValueError, "`num_negatives` must be None"),
        (lambda: _tower("y"), {"list_size": 3}, ValueError, "`list_size` must be None"),
        (lambda: len, {}, TypeError, "`candidate_tower` must be a functional or Sequential Keras model"),
        (lambda: keras.Sequential([keras.layers.Dense(3)]), {}, ValueError, "so that its inputs are known"),
        (lambda: _tower(None), {}, ValueError, "`candidate_tower` must have named inputs"),
        (lambda: _tower("x"), {}, ValueError, r"names used twice=\['x'\]"),
        (lambda: _tower("y", tower_name="first"), {}, ValueError, r"names used twice=\['first'\]"),
        (lambda: _tower("y", size=SIZE + 1), {}, ValueError, "embeddings of the same known size"),
        (_two_outputs, {}, ValueError, "`candidate_tower` must have one output"),
        (_crossed, {}, ValueError, "input keys equal to the input names"),
        (_matrix_output, {}, ValueError, "`candidate_tower output` must have shape"),
    ],
)
def test_errors(candidate, settings, error, message):
    with pytest.raises(error, match=message):
        two_tower(_tower("x", tower_name="first"), candidate(), **settings)


def test_missing_inputs_are_named():
    model = two_tower(*make_towers(), mode="listwise")
    with pytest.raises(ValueError, match=r"`catalog` must hold every input.*\['price'\]"):
        model.embed_candidates({"item": np.zeros(2, "int32")})
    with pytest.raises(ValueError, match="`query_inputs` must hold every input"):
        model.score(np.zeros(2), make_data(LIST))
    with pytest.raises(ValueError, match="`batch_size` must be at least 1"):
        model.embed_queries(make_data(), batch_size=0)


@pytest.mark.parametrize("loss", ["binary_crossentropy", "BinaryFocalCrossentropy", keras.losses.BinaryCrossentropy()])
def test_scores_are_not_taken_for_probabilities(loss):
    model = two_tower(*make_towers(), mode="pointwise")
    with pytest.raises(ValueError, match=r"`loss` must take logits in mode 'pointwise'.*Received: loss="):
        model.compile("adam", loss)
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    model.compile("adam", "mse")


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (0, ValueError, r"`query_inputs` must hold at least one row\. Received: user.shape=\(\)"),
        ([], ValueError, r"`query_inputs` must hold at least one row\. Received: user.shape=\(0,\)"),
        ([1.5], TypeError, "`query_inputs` must hold integers as 'user'. Received: dtype=float64"),
        (["a"], TypeError, "`query_inputs` must hold integers as 'user'"),
    ],
)
def test_embeddings_of_rows_that_are_none(rows, error, message):
    user, item = keras.Input((), dtype="int32", name="user"), keras.Input((2,), name="item")
    model = two_tower(keras.Model(user, keras.layers.Embedding(3, 2)(user)), keras.Model(item, item + 0))
    with pytest.raises(error, match=message):
        model.embed_queries(rows)
    with pytest.raises(TypeError, match="`catalog` must hold numbers as 'item'"):
        model.embed_candidates([["a", "b"]])


def test_embeddings_that_are_no_numbers():
    model = two_tower(*make_towers(), similarity="cosine")
    data = make_data()
    data["price"][2, 0] = np.nan
    model.embed_queries(data)
    with pytest.raises(
        ValueError, match=r"`catalog` must give finite embeddings\. Received: NaN or infinity in 1 rows, first 2"
    ):
        model.embed_candidates(data)
