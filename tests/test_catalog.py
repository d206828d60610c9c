"""The scorer of whole catalogs: its formulas by a slow float64 loop, leaving one out, saving, bad input."""

import keras
import numpy as np
import pytest
from backend import central_differences, to_numpy

from tfrankloss import SoftmaxLoss
from tfrankloss.models import CatalogScores, catalog_scorer

pytestmark = pytest.mark.backends

N, D = 5, 3
HISTORY = np.array([[1, 1, 0, 0, 1], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], "float32")


def slow_scores(history, weights, similarity, temperature, leave):
    table, items, bias = (np.asarray(weight, "float64") for weight in weights)
    scores = np.zeros(history.shape)
    for row, x in enumerate(history):
        mine = [j for j in range(N) if x[j]]
        user = sum((table[j] for j in mine), np.zeros(D)) / max(len(mine), 1)
        for i in range(N):
            left = user - table[i] / len(mine) if leave and i in mine else user
            dot = sum(a * b for a, b in zip(left, items[i], strict=True))
            if similarity == "cosine":
                lengths = np.sqrt(sum(a * a for a in user) * sum(b * b for b in items[i]))
                dot = dot / lengths if lengths else 0.0
            scores[row, i] = dot / temperature + bias[i]
    return scores


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("leave", [True, False])
def test_scores_by_the_slow_loop(similarity, leave, random):
    layer = CatalogScores(D, 0.0, similarity, 0.5, leave)
    layer.build((None, N))
    layer.set_weights([random.normal(size=(N, D)), random.normal(size=(N, D)), random.normal(size=N)])
    for training in (False, True):
        expected = slow_scores(HISTORY, layer.get_weights(), similarity, 0.5, leave and training)
        np.testing.assert_allclose(to_numpy(layer(HISTORY, training=training)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_gradients_by_central_differences(similarity, random):
    model = catalog_scorer(N, D, dropout=0, similarity=similarity, temperature=0.5)
    before = [random.normal(size=weight.shape) for weight in model.get_weights()]
    model.set_weights(before)
    # A step of size 1 down the gradient: what the weights lose is the gradient, on every backend.
    model.compile(keras.optimizers.SGD(1.0), SoftmaxLoss())
    # A user without items has no direction, and the slow loop no derivative there.
    history = HISTORY[[0, 1, 3]]
    value = model.train_on_batch(history, history)

    def slow(weights):
        scores = slow_scores(history, weights, similarity, 0.5, True)
        return -(history * (scores - np.log(np.exp(scores).sum(axis=1, keepdims=True)))).sum(axis=1).mean()

    assert value == pytest.approx(slow(before), rel=1e-5)
    for place, after in enumerate(model.get_weights()):
        expected = central_differences(lambda w, at=place: slow([*before[:at], w, *before[at + 1 :]]), before[place])
        np.testing.assert_allclose(before[place] - after, expected, rtol=1e-3, atol=1e-4)


def test_dropout_keeps_the_mean(random):
    layer = CatalogScores(D, 0.8, leave_one_out=False)
    history = np.ones((4000, N), "float32")
    mean = to_numpy(layer(history, training=True)).mean(axis=0)
    np.testing.assert_allclose(mean, to_numpy(layer(history[:1]))[0], atol=5e-4)


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_learns_what_goes_together_and_not_to_copy(similarity, tmp_path):
    # Items come in pairs; a user who has one item is to be offered the other one of its pair.
    history = np.repeat(np.eye(3), 2, axis=1)[np.arange(60) % 3].astype("float32")
    model = catalog_scorer(6, 8, dropout=0.5, similarity=similarity, temperature=0.2 if similarity == "cosine" else 1.0)
    model.compile(keras.optimizers.Adam(0.05), SoftmaxLoss())
    model.fit(history, history, batch_size=20, epochs=20, verbose=0)
    scores = model.predict(np.eye(6), verbose=0)
    scores[np.arange(6), np.arange(6)] = -np.inf
    assert scores.argmax(axis=1).tolist() == [1, 0, 3, 2, 5, 4]
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(restored.predict(history, verbose=0), model.predict(history, verbose=0))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: catalog_scorer(0), ValueError, "`num_items` must be at least 1"),
        (lambda: catalog_scorer(3, 0), ValueError, "`dimension` must be at least 1"),
        (lambda: catalog_scorer(3, dropout=1), ValueError, "`dropout` must be at least 0 and less than 1"),
        (lambda: catalog_scorer(3, similarity="euclidean"), ValueError, "`similarity` must be one of"),
        (lambda: catalog_scorer(3, temperature=0), ValueError, "`temperature` must be greater than 0"),
        (lambda: catalog_scorer(3, leave_one_out=1), TypeError, "`leave_one_out` must be True or False"),
        (lambda: CatalogScores()(np.ones(3)), ValueError, "`history` must have shape"),
        (lambda: CatalogScores()(keras.Input((None,))), ValueError, "known number of items"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
