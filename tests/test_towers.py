"""Ready-made towers: over raw features, and over histories, whose padding changes nothing."""

import keras
import numpy as np
import pytest
from backend import NAME, to_numpy
from keras import layers

from tfrankloss import InBatchSoftmaxLoss, retrieval
from tfrankloss.models import mlp_tower, sequence_tower, two_tower
from tfrankloss.models.sequence_tower import _positions

pytestmark = pytest.mark.backends

needs_strings = pytest.mark.skipif(NAME != "tensorflow", reason="lookups of strings run on TensorFlow")


def item_tower(table, name="candidates"):
    item = keras.Input((), dtype="int32", name="item")
    return keras.Model(item, layers.Dense(8)(table(item)), name=name)


def test_positions_count_from_the_latest_item_back():
    valid = keras.ops.convert_to_tensor([[True, True, False, True], [False, True, False, False], [False] * 4])
    assert to_numpy(_positions(valid, 2)).tolist() == [[2, 2, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("mask_zero", [True, False])
def test_padding_never_changes_a_history(mask_zero, random):
    table = layers.Embedding(30, 8, mask_zero=mask_zero)
    tower = sequence_tower(table, dimension=5, length=4, blocks=2)
    for weight in tower.weights:
        weight.assign(random.normal(size=weight.shape))
    table.embeddings.assign(np.concatenate([[np.full(8, 1e3)], to_numpy(table.embeddings.value)[1:]]))
    # Rows alone, at the end, at the start, between and with more of it.
    histories = [[7, 3, 9, 7, 2, 0], [0, 7, 3, 9, 7, 2], [7, 0, 3, 9, 0, 0, 7, 2, 0, 0], [0, 0, 0, 0, 0, 7, 3, 9, 7, 2]]
    first = to_numpy(tower(np.int32([[7, 3, 9, 7, 2]])))[0]
    others = [vector for pair in (histories[:2], histories[2:]) for vector in to_numpy(tower(np.int32(pair)))]
    assert first.shape == (5,) and np.abs(first).max() > 0.1
    for other in others:
        np.testing.assert_allclose(other, first, rtol=1e-4, atol=1e-5)
    # Order counts up to the last position; further back it does not.
    swapped, far = to_numpy(tower(np.int32([[7, 3, 9, 2, 7], [3, 7, 9, 7, 2]])))
    assert np.abs(swapped - first).max() > 0.01
    np.testing.assert_allclose(far, first, rtol=1e-4, atol=1e-5)
    empty = to_numpy(tower(np.zeros((2, 5), "int32")))
    assert np.isfinite(empty).all()
    np.testing.assert_allclose(empty[0], empty[1])


def test_histories_beat_popularity_and_the_order_is_what_tells(tmp_path):
    """Whoever took an item takes a fixed other one next, most of the time; the table of items is shared and saved."""
    rng = np.random.default_rng(0)
    following = rng.permutation(40) + 1
    walks = np.zeros((500, 6), "int32")
    walks[:, 0] = rng.integers(1, 41, 500)
    for step in range(1, 6):
        walks[:, step] = np.where(rng.random(500) < 0.8, following[walks[:, step - 1] - 1], rng.integers(1, 41, 500))
    train, test = walks[:400], walks[400:]
    table = layers.Embedding(41, 16, name="items")
    model = two_tower(sequence_tower(table, dimension=8, dropout=0.0), item_tower(table))
    assert len({id(weight) for weight in model.weights}) == len(model.weights)
    model.compile(keras.optimizers.Adam(0.01), InBatchSoftmaxLoss(targets="candidate_ids"))
    model.fit({"history": train[:, :5], "item": train[:, 5]}, train[:, 5], batch_size=100, epochs=20, verbose=0)

    def recall(scores):
        pairs = np.stack([np.arange(100), test[:, 5] - 1], axis=1)
        return retrieval.evaluate(scores, pairs, k=3, verbose=False)["recall@3"]

    def found(of, histories):
        queries = of.embed_queries({"history": histories})
        return recall(retrieval.embedding_scores(queries, of.embed_candidates({"item": np.arange(1, 41)})))

    popular = recall(retrieval.popularity_scores(np.bincount(train[:, 5], minlength=41)[1:]))
    shuffled = test[:, :5][:, [4, 3, 2, 1, 0]]
    assert found(model, test[:, :5]) > 0.5 > 2 * popular
    assert found(model, test[:, :5]) > 1.3 * found(model, shuffled)
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    assert restored.query_tower.get_layer("items") is restored.candidate_tower.get_layer("items")
    np.testing.assert_array_equal(restored.embed_queries({"history": test[:, :5]}), model.embed_queries(test[:, :5]))


def features():
    """A number, a category, and several categories of which 0 is padding."""
    return [
        (keras.Input((), name="price"), layers.Normalization(axis=None, mean=20.0, variance=25.0)),
        (keras.Input((), dtype="int32", name="year"), layers.IntegerLookup(vocabulary=[1995, 1996])),
        (keras.Input((3,), dtype="int32", name="genres"), layers.Embedding(10, 4, mask_zero=True)),
        (keras.Input((2,), name="sizes"), None),
    ]


RAW = {
    "price": np.float32([25, 20]),
    "year": np.int32([1996, 7]),
    "genres": np.int32([[4, 7, 0], [0, 0, 0]]),
    "sizes": np.float32([[1, 2], [3, 4]]),
}


def test_a_linear_tower_by_hand(tmp_path):
    tower = mlp_tower(features(), dimension=2, hidden=(), embedding=3, name="items")
    kernel, bias = tower.layers[-1].get_weights()
    years = tower.get_layer("year_embedding").get_weights()[0]
    genres = next(x for x in tower.layers if isinstance(x, layers.Embedding) and x.output_dim == 4).get_weights()[0]
    assert years.shape == (3, 3)  # with one place for the unknown
    first = [[1.0], years[2], (genres[4] + genres[7]) / 2, [1, 2]]
    second = [[0.0], years[0], np.zeros(4), [3, 4]]
    expected = np.stack([np.concatenate(first), np.concatenate(second)]) @ kernel + bias
    np.testing.assert_allclose(tower.predict(RAW, verbose=0), expected, rtol=1e-5, atol=1e-6)
    tower.save(tmp_path / "tower.keras")
    restored = keras.models.load_model(tmp_path / "tower.keras")
    np.testing.assert_array_equal(restored.predict(RAW, verbose=0), tower.predict(RAW, verbose=0))


def test_dropout_and_hidden_layers():
    tower = mlp_tower(features(), dimension=2, hidden=(64,), dropout=0.5)
    inputs = {name: keras.ops.convert_to_tensor(values) for name, values in RAW.items()}
    still = [to_numpy(tower(inputs, training=False)) for _ in range(2)]
    np.testing.assert_array_equal(*still)
    assert not np.allclose(still[0], to_numpy(tower(inputs, training=True)))


@needs_strings
def test_words_beat_popularity_and_are_asked_for_when_served(tmp_path):
    """Users of a job take items of two genres; raw words go into the towers and into the export."""
    from tfrankloss import serving

    rng = np.random.default_rng(0)
    jobs, names = np.array(["artist", "doctor", "lawyer"], object), np.array(["a", "b", "c", ""], object)
    genres = names[rng.integers(0, 3, 60)]
    catalog = {"item": np.arange(60).astype("int32"), "genres": np.stack([genres, names[np.full(60, 3)]], axis=1)}
    job, age = rng.integers(0, 3, 500), rng.normal(40, 10, 500).astype("float32")
    taken = np.array([rng.choice(np.flatnonzero(genres == names[j])) for j in job])
    users = {"job": jobs[job], "age": age}
    space = keras.utils.FeatureSpace(
        {"job": "string_categorical", "age": keras.utils.FeatureSpace.float_normalized()}, output_mode="concat"
    )
    import tensorflow as tf

    columns = {name: tf.constant(values) for name, values in users.items()}
    space.adapt(tf.data.Dataset.from_tensor_slices(columns))
    words = layers.StringLookup(vocabulary=["a", "b", "c"], mask_token="")
    model = two_tower(
        mlp_tower(space, dimension=8, hidden=(16,), name="users"),
        mlp_tower([(keras.Input((2,), dtype="string", name="genres"), words)], 8, (16,), name="items"),
    )
    model.compile(keras.optimizers.Adam(0.02), InBatchSoftmaxLoss())
    inputs = {**columns, "genres": tf.constant(catalog["genres"][taken])}
    model.fit(tf.data.Dataset.from_tensor_slices((inputs, np.ones(500))).batch(100), epochs=8, verbose=0)
    asked = {"job": jobs, "age": np.float32([30, 40, 50])}
    pairs = np.array([(j, i) for j in range(3) for i in np.flatnonzero(genres == names[j])])
    best = retrieval.embedding_scores(model.embed_queries(asked), model.embed_candidates(catalog))
    popular = retrieval.popularity_scores(np.bincount(taken, minlength=60))
    found, baseline = (retrieval.evaluate(s, pairs, k=10, verbose=False)["hit_rate@10"] for s in (best, popular))
    precision = retrieval.evaluate(best, pairs, k=10, verbose=False)["ndcg@10"]
    assert precision > 0.99 and found == 1 >= baseline
    assert retrieval.evaluate(popular, pairs, k=10, verbose=False)["ndcg@10"] < 0.7
    index = serving.CandidateIndex.from_model(model, catalog, catalog["item"], verbose=False)
    serving.export(model, tmp_path / "export", candidates=index, k=10)
    with serving.load(tmp_path / "export") as servable:
        ids = servable.query(job=["doctor"], age=[31.0])["ids"][0]
    assert set(genres[ids]) == {"b"}
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(restored.embed_queries(asked), model.embed_queries(asked))


def _number():
    return keras.Input((), name="number")


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: mlp_tower([]), ValueError, "`features` must hold at least one feature"),
        (lambda: mlp_tower({"a": 1}), TypeError, "`features` must be a keras.utils.FeatureSpace or a list of pairs"),
        (lambda: mlp_tower(["a"]), TypeError, "`features` must hold pairs of a keras.Input"),
        (lambda: mlp_tower([(_number(), None)] * 2), ValueError, "names that all differ.*'number' twice"),
        (lambda: mlp_tower([(_number(), "x")]), TypeError, "`features` must be a function"),
        (
            lambda: mlp_tower([(keras.Input((), dtype="int32", name="a"), None)]),
            ValueError,
            "must say how many integers there are.*Received: 'a' with None",
        ),
        (lambda: mlp_tower([(_number(), None)], hidden=(0,)), ValueError, "`hidden` must be at least 1"),
        (lambda: mlp_tower([(_number(), None)], dropout=1.0), ValueError, "`dropout` must be at least 0"),
        (lambda: sequence_tower("many"), TypeError, "`items` must be an integer"),
        (lambda: sequence_tower(9, 0), ValueError, "`dimension` must be at least 1"),
        (lambda: sequence_tower(9, 8, heads=3), ValueError, "`heads` must divide the size of the embeddings, 8"),
        (lambda: sequence_tower(9, 8, blocks=-1), ValueError, "`blocks` must be at least 1"),
        (lambda: sequence_tower(9, 8, dropout=1), ValueError, "`dropout` must be at least 0 and less than 1"),
    ],
)
def test_errors(build, error, message):
    with pytest.raises(error, match=message):
        build()
