"""Training by micro-batches is training: the same weights, seeds and averages."""

import keras
import numpy as np
import pytest
from backend import to_numpy

from tfrankloss import InBatchSoftmaxLoss
from tfrankloss.models import two_tower

pytestmark = pytest.mark.backends


def model_of(micro_batch_size, dropout=0.0, negatives=1):
    keras.utils.set_random_seed(3)
    user = keras.Input((), dtype="int32", name="user")
    item = keras.Input((3,), name="item")
    layers = keras.layers
    query = layers.Embedding(7, 4, embeddings_regularizer="l2")(user)
    query = layers.Dense(4, activation="tanh")(layers.Dropout(dropout, seed=5)(query))
    candidate = layers.Dense(4)(item)
    towers = keras.Model(user, query, name="users"), keras.Model(item, candidate, name="items")
    model = two_tower(*towers, similarity="cosine", num_negatives=negatives, micro_batch_size=micro_batch_size)
    loss = InBatchSoftmaxLoss(targets="candidate_ids", temperature=0.2, symmetric=True, chunk_size=4)
    model.compile(keras.optimizers.Adam(0.01), loss)
    return model


def data_of(random, rows=20):
    x = {
        "user": random.integers(0, 7, rows).astype("int32"),
        "item": random.normal(size=(rows, 2, 3)).astype("float32"),
    }
    return x, random.integers(0, 9, (rows, 2)).astype("int32"), random.uniform(0.5, 2, rows).astype("float32")


@pytest.mark.parametrize("size", [3, 32])
def test_weights_after_three_steps(size, random):
    """Of batches of 10, of which 3 is no divisor and 32 is more than there is."""
    data = data_of(random, rows=30)
    models = [model_of(which) for which in (None, size)]
    losses = [model.fit(*data[:2], 10, 1, 0, sample_weight=data[2], shuffle=False).history["loss"] for model in models]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    for whole, parts in zip(models[0].weights, models[1].weights, strict=True):
        np.testing.assert_allclose(to_numpy(parts), to_numpy(whole), rtol=1e-5, atol=1e-5)


def test_dropout_drops_the_same_in_both_passes(random):
    """With one micro-batch both ways draw the same numbers; a second pass that drew anew would end elsewhere."""
    x, y, _ = data_of(random)
    models = [model_of(size, dropout=0.5) for size in (None, 20)]
    for model in models:
        model.fit(x, y, batch_size=20, epochs=3, verbose=0, shuffle=False)
    for whole, parts in zip(models[0].weights, models[1].weights, strict=True):
        np.testing.assert_allclose(to_numpy(parts), to_numpy(whole), rtol=1e-5, atol=1e-5)


def test_the_size_is_saved(tmp_path, random):
    model = model_of(4)
    x, y, _ = data_of(random)
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.micro_batch_size == 4
    again.fit(x, y, verbose=0)


def test_what_has_no_micro_batches():
    with pytest.raises(ValueError, match="at least 1"):
        model_of(0)
    dense = keras.layers.Dense(2, activity_regularizer="l2")
    with pytest.raises(ValueError, match=rf"losses of activations.*layers=.*{dense.name}"):
        two_tower(*towers_with(keras.Sequential([keras.Sequential([dense])])), micro_batch_size=2)
    with pytest.raises(ValueError, match="in_batch"):
        two_tower(*towers_with(keras.layers.Dense(2)), mode="pointwise", micro_batch_size=2)


def towers_with(layer):
    first, second = keras.Input((2,), name="a"), keras.Input((2,), name="b")
    query = keras.layers.Dense(2, kernel_regularizer="l2")(layer(first))
    return keras.Model(first, query), keras.Model(second, keras.layers.Dense(2)(second))


class OfItsOwn(keras.layers.Layer):
    """A layer that holds another, or adds a loss itself."""

    def __init__(self, inner=None):
        super().__init__()
        self.inner = inner

    def call(self, values):
        if self.inner is not None:
            return self.inner(values)
        self.add_loss(keras.ops.mean(values))
        return values


@pytest.mark.parametrize("inside", [True, False])
def test_losses_of_activations_are_refused_wherever_they_are(inside):
    inner = keras.layers.Dense(2, activity_regularizer="l2") if inside else None
    model = two_tower(*towers_with(OfItsOwn(inner)), micro_batch_size=2)
    model.compile("sgd", InBatchSoftmaxLoss())
    with pytest.raises(ValueError, match=r"losses of activations.*1 losses added in a call"):
        model.train_on_batch({name: np.ones((3, 2), "float32") for name in "ab"}, np.ones(3, "float32"))
