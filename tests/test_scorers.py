"""The scorers: scores by hand, any list length, saving, training."""

import keras
import numpy as np
import pytest
from keras import ops

from tfrankloss.models import linear_scorer, list_scorer, mlp_scorer

pytestmark = pytest.mark.backends

FEATURES = np.random.default_rng(0).normal(size=(3, 5, 4)).astype("float32")


def test_linear_scores_by_hand():
    model = linear_scorer(4)
    assert model.output_shape == (None, None)
    assert [x.name for x in model.inputs] == ["features"]
    weights = np.array([[1.0], [-2.0], [0.5], [0.0]])
    model.set_weights([weights])
    expected = np.einsum("blf,f->bl", FEATURES, weights[:, 0])
    np.testing.assert_allclose(model.predict(FEATURES, verbose=0), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.predict(FEATURES[:, :2], verbose=0), expected[:, :2], rtol=1e-5, atol=1e-6)


def test_mlp_scores_by_hand():
    model = mlp_scorer(4, hidden=(3,), list_size=5)
    assert model.output_shape == (None, 5)
    kernel, bias, last = (ops.convert_to_numpy(weight) for weight in model.weights)
    expected = np.maximum(FEATURES @ kernel + bias, 0) @ last
    np.testing.assert_allclose(model.predict(FEATURES, verbose=0), expected[..., 0], rtol=1e-5, atol=1e-6)


def test_dropout_acts_in_training_only():
    model = mlp_scorer(4, hidden=(64,), dropout=0.5)
    still = [ops.convert_to_numpy(model(FEATURES, training=False)) for _ in range(2)]
    moving = [ops.convert_to_numpy(model(FEATURES, training=True)) for _ in range(2)]
    np.testing.assert_array_equal(*still)
    assert not np.allclose(*moving)


@pytest.mark.parametrize("list_size", [None, 5])
def test_saved_scorer_trains_on(list_size, tmp_path):
    model = mlp_scorer(4, hidden=(16, 8), dropout=0.1, list_size=list_size)
    model.compile(keras.optimizers.Adam(0.003), "mse")
    labels = FEATURES[..., 0] - FEATURES[..., 1]
    before = model.evaluate(FEATURES, labels, verbose=0)
    model.fit(FEATURES, labels, epochs=20, verbose=0)
    model.save(tmp_path / "scorer.keras")
    restored = keras.models.load_model(tmp_path / "scorer.keras")
    np.testing.assert_array_equal(restored.predict(FEATURES, verbose=0), model.predict(FEATURES, verbose=0))
    restored.fit(FEATURES, labels, epochs=20, verbose=0)
    assert restored.evaluate(FEATURES, labels, verbose=0) < model.evaluate(FEATURES, labels, verbose=0) < before


def test_any_item_model_scores_lists():
    price, kind = keras.Input((), name="price"), keras.Input((2,), name="kind")
    item = keras.Model([price, kind], keras.layers.Reshape((1,))(2 * price) + kind[:, :1])
    model = list_scorer(item, list_size=2, name="shop")
    assert model.name == "shop"
    data = {"price": np.array([[1.0, 2.0]]), "kind": np.array([[[5.0, 0.0], [7.0, 0.0]]])}
    assert model.predict(data, verbose=0).tolist() == [[7.0, 11.0]]


def test_scorers_take_what_their_item_model_takes(recwarn):
    price = keras.Input((), name="price")
    values = np.array([[1.0, 2.0]])
    assert list_scorer(keras.Model(price, -price)).predict(values, verbose=0).tolist() == [[-1.0, -2.0]]
    named = list_scorer(keras.Model({"price": price}, -price))
    assert named.predict({"price": values}, verbose=0).tolist() == [[-1.0, -2.0]]
    linear_scorer(4).predict(FEATURES, verbose=0)
    assert not [str(warning.message) for warning in recwarn if "structure" in str(warning.message)]


def _item(outputs=1, name="x"):
    return keras.Sequential([keras.Input((2,), name=name), keras.layers.Dense(outputs)])


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: list_scorer(len), TypeError, "`item_model` must be a functional or Sequential"),
        (lambda: list_scorer(_item(2)), ValueError, "`item_model` must give one score per item"),
        (lambda: list_scorer(_item(name=None)), ValueError, "`item_model` must have named inputs"),
        (lambda: list_scorer(_item(), list_size=0), ValueError, "`list_size` must be at least 1"),
        (lambda: linear_scorer(0), ValueError, "`num_features` must be at least 1"),
        (lambda: mlp_scorer(4, hidden=(3, 0)), ValueError, "`hidden` must be at least 1"),
        (lambda: mlp_scorer(4, hidden=8), TypeError, "`hidden` must be a sequence of integers.*Received: hidden=8"),
        (lambda: mlp_scorer(4, dropout=1.0), ValueError, "`dropout` must be at least 0 and less than 1"),
        (lambda: mlp_scorer(4, dropout=-0.1), ValueError, "`dropout` must be at least 0 and less than 1"),
    ],
)
def test_errors(build, error, message):
    with pytest.raises(error, match=message):
        build()
