"""What an export refuses: each fault exports without a word from TensorFlow and Keras alone."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrankloss import serving


def ranker(layer=None, **inputs):
    """A ranker of lists (B, 3, 4) with ``layer`` inside."""
    features = keras.Input(**{"shape": (3, 4), "name": "features", **inputs})
    return keras.Model({"features": features}, keras.ops.sum(layer(features) if layer else features, -1))


def towers(**changes):
    """Two towers of vectors (B, 2)."""
    query, item = keras.Input((2,), name="query"), keras.Input((2,), name="item")
    parts = {
        "query_tower": keras.Model(query, query * 1.0),
        "candidate_tower": keras.Model(item, item * 1.0),
        "similarity": "dot",
    }
    return SimpleNamespace(**{**parts, **changes})


def index(size=3):
    return serving.CandidateIndex(np.arange(size), np.ones((size, 2)))


def refused(tmp_path, model, error, match, **arguments):
    """Export to a base that does not exist yet: afterwards it does not exist either."""
    with pytest.raises(error, match=match):
        serving.export(model, tmp_path / "base", **arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def no_tracing(monkeypatch):
    """Fail if anything is traced: what can be refused before is."""

    def trace(*arguments, **keywords):
        raise AssertionError("traced")

    monkeypatch.setattr(keras.export, "ExportArchive", trace)


class Draws(keras.layers.Layer):
    def call(self, inputs):
        return inputs + tf.random.uniform(tf.shape(inputs))


class DrawsWithKeras(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.seeds = keras.random.SeedGenerator(0)

    def call(self, inputs):
        return inputs + keras.random.uniform((3, 4), seed=self.seeds)


class TellsTime(keras.layers.Layer):
    def call(self, inputs):
        return inputs + tf.cast(tf.timestamp() % 1.0, tf.float32)


class CallsPython(keras.layers.Layer):
    def call(self, inputs):
        return tf.ensure_shape(tf.py_function(lambda values: values * 2, [inputs], tf.float32), inputs.shape)

    def compute_output_shape(self, shape):
        return shape


class ForcesXla(keras.layers.Layer):
    def call(self, inputs):
        return tf.function(lambda values: values * 2, jit_compile=True)(inputs)


class BuildsLate(keras.layers.Layer):
    """Its inner layer is called for tensors of the graph only, so the functional model never builds it."""

    def __init__(self):
        super().__init__()
        self.inner = keras.layers.Dense(4)

    def build(self, shape):
        pass

    def call(self, inputs):
        return self.inner(inputs) if hasattr(inputs, "graph") else inputs

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape, inputs.dtype)


@pytest.mark.parametrize(
    "layer, match",
    [
        (Draws, "must not draw random numbers"),
        (DrawsWithKeras, "must not change its state"),
        (TellsTime, "same way each time"),
        (CallsPython, "must not call Python"),
        (ForcesXla, "must not force XLA"),
        (BuildsLate, "must be built"),
    ],
)
def test_layers_that_a_server_cannot_run(tmp_path, layer, match):
    refused(tmp_path, ranker(layer()), ValueError, match)


@pytest.mark.parametrize("name", ["1st", "user-id", "user id", "self", "é", "_private"])
def test_names_that_are_no_arguments(tmp_path, no_tracing, name):
    refused(tmp_path, named(name), ValueError, r"`Input\(name=\)` must be a letter")


def named(name):
    features = keras.Input((3, 4), name=name)
    return keras.Model({name: features}, keras.ops.sum(features, -1))


def test_unnamed_and_crossed_inputs(tmp_path, no_tracing):
    features = keras.Input((3, 4))
    refused(tmp_path, keras.Model(features, keras.ops.sum(features, -1)), ValueError, r"`Input\(name=\)` must be given")
    left, right = keras.Input((3,), name="left"), keras.Input((3,), name="right")
    crossed = keras.Model({"left": right, "right": left}, left - right)
    refused(tmp_path, crossed, ValueError, "must equal its key")


@pytest.mark.parametrize(
    "inputs, match",
    [
        ({"sparse": True}, "dense input"),
        ({"ragged": True}, "dense input"),
        ({"shape": None, "batch_shape": (2, 3, 4)}, "batch axis of any size"),
        ({"shape": (3, None)}, "fixed shape"),
    ],
)
def test_inputs_that_a_signature_cannot_hold(tmp_path, no_tracing, inputs, match):
    features = keras.Input(**{"shape": (3, 4), "name": "features", **inputs})
    model = keras.Model({"features": features}, keras.layers.Lambda(lambda x: x, output_shape=(3,))(features))
    refused(tmp_path, model, ValueError, match)


def test_open_history_of_a_tower(tmp_path, no_tracing):
    history = keras.Input((None,), name="history", dtype="int32")
    tower = keras.Model(history, keras.ops.max(keras.layers.Embedding(5, 2)(history), 1))
    refused(tmp_path, towers(query_tower=tower), ValueError, "fixed shape", candidates=index(), k=1)


def test_kinds_of_models(tmp_path, no_tracing):
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    refused(tmp_path, "model", TypeError, "`model` must be a two-tower model")
    refused(tmp_path, Subclassed(), ValueError, "must be built from named keras.Input")
    refused(tmp_path, towers(query_tower=Subclassed()), ValueError, "`model.query_tower` must be built")
    refused(tmp_path, towers(similarity="manhattan"), ValueError, "`model.similarity` must be one of")
    refused(tmp_path, SimpleNamespace(query_tower=None), TypeError, "must have the attribute candidate_tower")
    item = keras.Input((2,), name="query")
    refused(tmp_path, towers(candidate_tower=keras.Model(item, item * 1.0)), ValueError, "different input names")
    wide = keras.Input((3,), name="item")
    refused(tmp_path, towers(candidate_tower=keras.Model(wide, wide * 1.0)), ValueError, "must have the same shape")
    flat = keras.Input((3, 4), name="features")
    refused(tmp_path, keras.Model(flat, flat * 1.0), ValueError, r"must have shape \(batch, list_size\)")
    refused(tmp_path, keras.Model(flat, [flat, flat]), ValueError, "must have one output")


def test_arguments_that_do_not_fit(tmp_path, no_tracing):
    refused(tmp_path, towers(), ValueError, "`k` must be at most the 3 candidates", candidates=index(), k=4)
    refused(tmp_path, towers(), TypeError, "`candidates` must be a CandidateIndex", candidates=[1], k=1)
    wide = serving.CandidateIndex([1], [[1.0, 2.0, 3.0]])
    refused(tmp_path, towers(), ValueError, "must have the same shape", candidates=wide, k=1)
    refused(tmp_path, ranker(), ValueError, "`candidates` must be without embeddings", candidates=index())
    alone = serving.CandidateIndex(np.arange(4))
    refused(tmp_path, towers(), ValueError, "`candidates` must have embeddings", candidates=alone)
    refused(tmp_path, ranker(), ValueError, r"candidates.*must have the same shape.*\(None, 4\)", candidates=alone)
    refused(tmp_path, ranker(), ValueError, "`context` must be None", candidates=alone, context=["features"])
    refused(tmp_path, ranker(), ValueError, "`preprocessing` must have keys among", preprocessing={"query": ranker()})
    other = keras.Input((3, 4), name="raw")
    wrong = {"inputs": keras.Model(other, {"numbers": other * 1.0})}
    refused(tmp_path, ranker(), ValueError, r"must output a dict with the keys \['features'\]", preprocessing=wrong)
    refused(tmp_path, ranker(), ValueError, "`version` must be at least 1", version=0)


@pytest.mark.parametrize(
    "ids, embeddings, error, match",
    [
        ([], np.zeros((0, 2)), ValueError, "at least one candidate"),
        ([1, 2], np.ones((3, 2)), ValueError, "must have the same length"),
        ([1, 2], np.ones(2), ValueError, "must have shape"),
        (["a", "b"], [[1, 2], [np.nan, 1]], ValueError, "must be finite.*1 such rows, the first for id 'b'"),
        (["a", "b"], [[1, 2], [1e39, 1]], ValueError, "must be finite"),
        (["a", "b", "a"], np.ones((3, 2)), ValueError, "unique. Received: 'a'"),
        ([1.0, 2.0], np.ones((2, 2)), TypeError, "types float"),
        ([True, False], np.ones((2, 2)), TypeError, "types bool"),
        (["a", 1], np.ones((2, 2)), TypeError, "types int, str"),
        ([1, 2**63], np.ones((2, 2)), ValueError, "fit into int64, or be strings. Received: 9223372036854775808"),
        (None, np.ones((2, 2)), TypeError, "`ids` must be a sequence of strings or integers"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_index_faults(ids, embeddings, error, match):
    with pytest.raises(error, match=match):
        serving.CandidateIndex(ids, embeddings)


def test_catalogue_faults():
    for catalog, ids, match in (
        ({"item": np.zeros((0, 2))}, [], "at least one candidate"),
        ({"item": np.zeros((3, 2))}, [1, 2], "must have the same length"),
        ({"thing": np.zeros((2, 2))}, [1, 2], "`catalog` must hold the features"),
        ({"item": np.array([[1, 2], [np.nan, 0]])}, [1, 2], "must be finite"),
    ):
        with pytest.raises(ValueError, match=match):
            serving.CandidateIndex.from_model(towers(), catalog, ids)
    with pytest.raises(TypeError, match="`model` must have a candidate_tower"):
        serving.CandidateIndex.from_model(ranker(), {"features": np.zeros((2, 3, 4))}, [1, 2])


def test_features_are_never_cut_to_fit(tmp_path):
    query, item = keras.Input((), dtype="int32", name="user"), keras.Input((), dtype="int32", name="item")
    table = keras.layers.Embedding(3, 2)
    model = towers(query_tower=keras.Model(query, table(query)), candidate_tower=keras.Model(item, table(item) * 2))
    with pytest.raises(TypeError, match=r"`item` must hold values of type int32\. Received: item.dtype=float64"):
        serving.CandidateIndex.from_model(model, {"item": [0.0, 1.7]}, [1, 2])
    found = serving.CandidateIndex.from_model(model, {"item": [0, 1], "title": ["a", "b"]}, [1, 2])
    arguments = {"candidates": found, "signatures": ["serving_default", "score"]}
    with pytest.raises(TypeError, match="`user` must hold values of type int32"):
        serving.export(model, tmp_path, probe={"user": [0.5], "item": [1]}, **arguments)
    assert serving.export(model, tmp_path, **arguments).report
    with serving.load(tmp_path) as servable:
        assert servable.query(user=[0])["ids"].shape == (1, 2)
        for wrong, error, match in (
            ([1.5], TypeError, "Received: user.dtype=float64"),
            (["1"], TypeError, "Received: user.dtype=<U1"),
            ([2**31], ValueError, "`user` must fit into int32. Received: values from 2147483648"),
        ):
            with pytest.raises(error, match=match):
                servable.query(user=wrong)
        for size in (1, 3):
            with pytest.raises(tf.errors.InvalidArgumentError):
                servable.query("score", user=[0] * size, item=[[0, 1], [1, 2]])
        assert servable.query("score", user=[], item=np.zeros((0, 2), int))["scores"].shape == (0, 2)
    with pytest.raises(ValueError, match="must be open"):
        servable.query(user=[0])


def test_words_outside_a_vocabulary(tmp_path):
    word = keras.Input((), dtype="string", name="word")
    known = keras.layers.StringLookup(vocabulary=["a", "b"], num_oov_indices=0)
    vectors = keras.layers.Embedding(3, 2)(known(word))
    model = towers(query_tower=keras.Model(word, vectors))
    arguments = {"candidates": index(), "k": 1, "signatures": ["serving_default"]}
    refused(tmp_path, model, ValueError, "`probe` must hold rows that the model takes", **arguments)
    serving.export(model, tmp_path / "base", probe={"word": ["a"], "item": [[1.0, 2.0]]}, **arguments)


@pytest.mark.parametrize("probe", [None, {"history": [[1, 2, 3]], "item": [[1, 2]]}], ids=["made", "given"])
def test_empty_history(tmp_path, probe):
    history = keras.Input((3,), name="history", dtype="int32")
    vectors = keras.layers.Embedding(5, 2)(history)
    known = keras.ops.expand_dims(keras.ops.cast(history > 0, "float32"), -1)
    mean = keras.ops.sum(vectors * known, 1) / keras.ops.sum(known, 1)
    model = towers(query_tower=keras.Model(history, mean))
    arguments = {"candidates": index(), "k": 1, "probe": probe, "signatures": ["serving_default"]}
    refused(tmp_path, model, ValueError, "safe pooling.*'history': .0, 0, 0", **arguments)


def test_answers_that_differ_from_the_live_model(tmp_path):
    class Differs(keras.layers.Layer):
        def call(self, inputs):
            return inputs * (1.0 if tf.executing_eagerly() else 1.001)

    refused(tmp_path, ranker(Differs()), ValueError, "must answer as the live model does")


def test_another_backend(tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    refused(tmp_path, ranker(), RuntimeError, "KERAS_BACKEND=tensorflow. Received: backend='jax'")
