"""Sampling probabilities: counted in one pass, and estimated from a stream of batches."""

import keras
import numpy as np
import pytest
from backend import to_numpy

from tfrankloss import InBatchSoftmaxLoss
from tfrankloss.models import two_tower
from tfrankloss.sampling import StreamingProbability, probability_table

pytestmark = pytest.mark.backends


def test_table_of_batches():
    ids = [np.int64([0, 0, 2]), np.int64([0])]
    np.testing.assert_allclose(probability_table(iter(ids), 4), [0.75, 0.25, 0.25, 0.25])
    np.testing.assert_allclose(probability_table(np.concatenate(ids), 4), [0.75, 0.25, 0.25, 0.25])


@pytest.mark.parametrize(("ids", "match"), [([0, 4], "from 0 to 3"), ([-1], "from 0 to 3"), ([0.5], "integers")])
def test_ids_that_are_none(ids, match):
    with pytest.raises((TypeError, ValueError), match=match):
        probability_table(ids, 4)
    with pytest.raises(ValueError, match="at least one"):
        probability_table(np.zeros(0, "int32"), 4)


class Reference:
    """The estimator with a dictionary for each array, without a bound on the number of ids."""

    def __init__(self, primes, learning_rate):
        self.primes, self.rate, self.step = primes, learning_rate, 0
        self.arrays = [{} for _ in primes]

    def see(self, ids):
        self.step += 1
        for array, prime in zip(self.arrays, self.primes, strict=True):
            for place in {int(i) % prime for i in ids if i >= 0}:
                last, distance = array.get(place, (0, None))
                passed = self.step - last
                distance = passed if distance is None else (1 - self.rate) * distance + self.rate * passed
                array[place] = (self.step, distance)

    def probability(self, identity):
        places = [(array, int(identity) % prime) for array, prime in zip(self.arrays, self.primes, strict=True)]
        return 1 / max(array[place][1] if place in array else self.step for array, place in places)


def test_stream_agrees_with_the_reference(random):
    """Ids collide in single arrays of this size; large ones and padding are among them."""
    layer, reference = StreamingProbability(size=31, learning_rate=0.2), Reference([31, 29], 0.2)
    for _ in range(30):
        ids = random.zipf(1.5, (4, 3)).clip(max=2**30).astype("int32")
        ids[0, 0] = -1
        reference.see(ids.ravel())
        found = to_numpy(layer(ids, training=True))
        expected = [0 if i < 0 else np.log(reference.probability(i)) for i in ids.ravel()]
        np.testing.assert_allclose(found.ravel(), expected, rtol=1e-5, atol=1e-6)
    asked = np.int32([1, 2, 2**30 - 5])
    np.testing.assert_allclose(np.exp(to_numpy(layer(asked))), [reference.probability(i) for i in asked], rtol=1e-5)
    assert int(layer.step) == 30


def test_stream_finds_the_frequencies(random):
    """Three times twenty ids that are in a batch with known chances: the mean distance is one over the chance."""
    chances = np.repeat([0.9, 0.5, 0.1], 20)
    layer = StreamingProbability(size=97, learning_rate=0.02)
    ids = np.arange(60, dtype="int32")
    for _ in range(250):
        layer(np.where(random.random(60) < chances, ids, -1).astype("int32"), training=True)
    distances = np.exp(-to_numpy(layer(ids))).reshape(3, 20).mean(axis=1)
    np.testing.assert_allclose(distances, [1 / 0.9, 2, 10], rtol=0.1)


def test_stream_in_a_model(random, tmp_path):
    """State moves in fit only, and is saved."""
    ids = keras.Input((), dtype="int32", name="ids")
    model = keras.Model(ids, keras.layers.Reshape((1,))(StreamingProbability(size=11, name="stream")(ids)))
    model.compile(loss="mse")
    data = np.int32([1, 2, 1, 3] * 4)
    model.fit(data, np.zeros(16), batch_size=4, epochs=1, verbose=0)
    layer = model.get_layer("stream")
    assert int(layer.step) == 4
    before = model.predict(data, verbose=0)
    assert int(layer.step) == 4
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras").predict(data, verbose=0), before)


def test_stream_behind_two_towers(random):
    """The loss of the recipe is that of a table of the same probabilities, and the towers know nothing of it."""
    user, item = (keras.Input((), dtype="int32", name=name) for name in ("user", "item"))
    of_user, of_item = (keras.layers.Embedding(9, 4)(x) for x in (user, item))
    model = two_tower(keras.Model(user, of_user, name="users"), keras.Model(item, of_item, name="items"))
    stream = StreamingProbability(size=11, name="log_q")
    column = keras.layers.RepeatVector(2)(stream(model.input["item"])[:, None])
    trained = keras.Model(model.input, keras.layers.concatenate([model.output, column]))
    by_stream = InBatchSoftmaxLoss(targets="candidate_ids", candidate_probability="embeddings")
    trained.compile(keras.optimizers.SGD(1.0), by_stream)
    before = model.embed_candidates(np.arange(9))
    for _ in range(4):
        places = random.integers(0, 9, 6).astype("int32")
        trained.train_on_batch({"user": places, "item": places}, places)
    assert int(stream.step) == 4
    assert np.abs(model.embed_candidates(np.arange(9)) - before).max() > 1e-3
    table = np.exp(to_numpy(stream(np.arange(9, dtype="int32"))))
    inputs = {"user": places, "item": places}
    by_table = InBatchSoftmaxLoss(targets="candidate_ids", candidate_probability=table.astype("float64").clip(max=1))
    expected = by_table(places, model.predict(inputs, verbose=0))
    assert float(by_stream(places, trained.predict(inputs, verbose=0))) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "match"), [({"size": 1}, "primes"), ({"learning_rate": 1.0}, "strictly"), ({"arrays": 0}, "at least")]
)
def test_settings_that_cannot_be(settings, match):
    with pytest.raises(ValueError, match=match):
        StreamingProbability(**settings)


def test_ids_are_integers():
    with pytest.raises(TypeError, match="integers"):
        StreamingProbability(size=11)(np.float32([1.0]))
