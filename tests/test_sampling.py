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


BY_STREAM = {"targets": "candidate_ids", "candidate_probability": "embeddings"}


def towers_of(**options):
    """Two towers that are tables."""
    keras.utils.set_random_seed(1)
    user, item = (keras.Input((), dtype="int32", name=name) for name in ("user", "item"))
    of_user, of_item = (keras.layers.Embedding(9, 4)(x) for x in (user, item))
    return two_tower(keras.Model(user, of_user, name="users"), keras.Model(item, of_item, name="items"), **options)


@pytest.mark.parametrize("options", [{}, {"micro_batch_size": 4, "queue_size": 8}], ids=str)
def test_stream_behind_two_towers(options, random, tmp_path):
    """Learns a batch a step, and what the loss makes of it is that of a table of the same probabilities."""
    model = towers_of(candidate_probability=StreamingProbability(size=11), **options)
    model.compile(keras.optimizers.SGD(1.0), InBatchSoftmaxLoss(**BY_STREAM))
    reference = Reference([11, 7], 0.05)
    for _ in range(4):
        places = random.integers(0, 9, 6).astype("int32")
        inputs = {"user": places, "item": places}
        model.train_on_batch(inputs, places)
        reference.see(places)
    stream, ids = model.candidate_probability, np.arange(9, dtype="int32")
    np.testing.assert_allclose(np.exp(to_numpy(stream(ids))), [reference.probability(i) for i in ids], rtol=1e-5)
    by_table = InBatchSoftmaxLoss(
        targets="candidate_ids", candidate_probability=np.exp(to_numpy(stream(ids)).astype("float64")).clip(max=1)
    )
    expected = float(by_table(places, model.predict(inputs, verbose=0)))
    assert model.evaluate(inputs, places, verbose=0) == pytest.approx(expected, rel=1e-5)
    assert int(stream.step) == 4
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.evaluate(inputs, places, verbose=0) == pytest.approx(expected, rel=1e-5)


def test_stream_of_explicit_negatives(random):
    """Their ids are in the targets and are seen too; without them there is an error."""
    model = towers_of(candidate_probability=StreamingProbability(size=11), num_negatives=1)
    model.compile("sgd", InBatchSoftmaxLoss(**BY_STREAM))
    inputs = {"user": np.arange(4), "item": np.int32([[0, 4], [1, 5], [2, 6], [3, -1]]) % 9}
    model.train_on_batch(inputs, np.int32([[0, 4], [1, 5], [2, 6], [3, -1]]))
    logs = to_numpy(model.candidate_probability(np.int32([0, 4, 6])))
    np.testing.assert_array_equal(logs, 0)
    assert int(model.candidate_probability.step) == 1
    with pytest.raises(ValueError, match="explicit negatives too"):
        model.compute_loss(y=np.arange(4, dtype="int32"), y_pred=np.zeros((4, 3, 4), "float32"))


def test_what_a_stream_must_stand_between():
    with pytest.raises(TypeError, match="must be a layer"):
        towers_of(candidate_probability=[0.5])
    with pytest.raises(ValueError, match="`candidate_probability` must be None unless mode is 'in_batch'"):
        towers_of(candidate_probability=StreamingProbability(), mode="pointwise")
    for loss in (InBatchSoftmaxLoss(), InBatchSoftmaxLoss(**{**BY_STREAM, "candidate_probability": [0.5]})):
        with pytest.raises(ValueError, match="`loss` must be InBatchSoftmaxLoss"):
            towers_of(candidate_probability=StreamingProbability()).compile("sgd", loss)


@pytest.mark.parametrize(
    ("settings", "match"), [({"size": 1}, "primes"), ({"learning_rate": 1.0}, "strictly"), ({"arrays": 0}, "at least")]
)
def test_settings_that_cannot_be(settings, match):
    with pytest.raises(ValueError, match=match):
        StreamingProbability(**settings)


def test_ids_are_integers():
    with pytest.raises(TypeError, match="integers"):
        StreamingProbability(size=11)(np.float32([1.0]))
