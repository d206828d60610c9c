"""What expectation maximization promises: the gradients of likelihoods, and models that tell what they were shown."""

import keras
import numpy as np
import pytest
from backend import central_differences, values_and_gradient
from references import list_value, logsumexp

from tfrankloss import ClickEMLoss, MixtureEMLoss, OrdinalLoss, SigmoidCrossEntropyLoss

pytestmark = pytest.mark.backends


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def click_likelihood(labels, scores):
    """-log P(clicks), where an item is clicked if it is examined and relevant."""
    chances = sigmoid(scores[..., 0]) * sigmoid(scores[..., 1])
    return -np.log(np.where(labels >= 1, chances, 1 - chances)).sum()


def mixture_likelihood(labels, scores):
    """-log P(clicks) under models in equal parts."""
    chances = sigmoid(scores)
    logs = np.log(np.where(labels[..., None] == 1, chances, 1 - chances)).sum(axis=1)
    return -sum(logsumexp(of_models) for of_models in logs)


@pytest.mark.parametrize(("loss", "likelihood"), [(ClickEMLoss, click_likelihood), (MixtureEMLoss, mixture_likelihood)])
def test_gradient_is_that_of_the_likelihood(loss, likelihood, random):
    labels = random.integers(0, 2, (4, 6)).astype("float32")
    labels[:, 0] = 1
    scores = random.normal(size=(4, 6, 2)).astype("float32")
    _, gradient = values_and_gradient(loss(reduction=None), labels, scores)
    slopes = central_differences(lambda s: likelihood(labels, s), scores)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("weights", "column"), [({"exam_loss_weight": 0.0}, 0), ({"rel_loss_weight": 0.0}, 1)])
def test_a_side_of_weight_zero_stays_as_it_is(weights, column, random):
    labels, scores = random.integers(0, 2, (3, 4)).astype("float32"), random.normal(size=(3, 4, 2)).astype("float32")
    _, gradient = values_and_gradient(ClickEMLoss(reduction=None, **weights), labels, scores)
    np.testing.assert_array_equal(gradient[..., column], 0)
    assert (gradient[..., 1 - column] != 0).all()


def test_relevance_is_told_from_position(random):
    """Clicks alone put what stood first on top; the click model finds the relevance behind them."""
    lists, items = 3000, 4
    relevance, examination = np.array([0.2, 0.4, 0.6, 0.8]), np.array([0.95, 0.5, 0.25, 0.1])
    # The worst items stand first most of the time, so that their clicks lead.
    order = np.argsort(np.arange(items) + random.normal(size=(lists, items)) * 1.5, axis=1)
    clicks = random.random((lists, items)) < relevance[order] * examination
    by_clicks = [clicks[order == item].mean() for item in range(items)]
    assert list(np.argsort(by_clicks)) != [0, 1, 2, 3]
    shown, places = keras.Input((items,), dtype="int32"), keras.Input((items,), dtype="int32")
    sides = [keras.layers.Embedding(items, 1, embeddings_initializer="zeros")(side) for side in (places, shown)]
    model = keras.Model([places, shown], keras.layers.Concatenate()(sides))
    model.compile(keras.optimizers.Adam(0.1), loss=ClickEMLoss())
    inputs = [np.tile(np.arange(items), (lists, 1)), order]
    model.fit(inputs, clicks.astype("float32"), batch_size=300, epochs=15, verbose=0)
    scores = model.predict([inputs[0][:1], np.arange(items)[None]], verbose=0)[0]
    assert list(np.argsort(scores[:, 1])) == [0, 1, 2, 3]
    assert list(np.argsort(-scores[:, 0])) == [0, 1, 2, 3]


def test_a_mixture_learns_from_the_lists_it_explains():
    """Of two models, only the one that fits a list moves, unless alpha makes them share it."""
    labels = np.float32([[1, 0, 0], [0, 0, 1]])
    fits_first, fits_second = np.float32([9, -9, -9]), np.float32([-9, -9, 9])
    scores = np.stack([np.stack([fits_first, fits_second], axis=-1)] * 2)
    _, gradient = values_and_gradient(MixtureEMLoss(reduction=None), labels, scores)
    sizes = np.abs(gradient).sum(axis=1)
    assert (sizes < 1e-3).all()
    _, gradient = values_and_gradient(MixtureEMLoss(reduction=None, alpha=1e-3), labels, scores)
    sizes = np.abs(gradient).sum(axis=1)
    assert sizes[0, 1] > 0.5 > sizes[0, 0] and sizes[1, 0] > 0.5 > sizes[1, 1]


@pytest.mark.parametrize("use_fraction_label", [False, True])
def test_fractions_of_grades(use_fraction_label, random):
    """The laws draw whole grades."""
    labels = (random.integers(0, 13, (3, 5)) / 4).astype("float32")
    scores = random.normal(size=(3, 5, 2)).astype("float32")
    settings = {"ordinal_size": 2, "use_fraction_label": use_fraction_label}
    values, _ = values_and_gradient(OrdinalLoss(reduction=None, **settings), labels, scores)
    expected = [list_value("OrdinalLoss", y, s, **settings) for y, s in zip(labels, scores, strict=True)]
    np.testing.assert_allclose(values, expected, rtol=1e-5)


@pytest.mark.parametrize("loss", [SigmoidCrossEntropyLoss, MixtureEMLoss])
def test_labels_that_are_probabilities(loss, random):
    labels = random.uniform(0, 1, (3, 5)).astype("float32")
    scores = random.normal(size=(3, 5) if loss is SigmoidCrossEntropyLoss else (3, 5, 2)).astype("float32")
    values, _ = values_and_gradient(loss(reduction=None), labels, scores)
    expected = [list_value(loss.__name__, y, s) for y, s in zip(labels, scores, strict=True)]
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_one_column_of_grades_is_cross_entropy(random):
    labels, scores = random.integers(0, 2, (3, 5)).astype("float32"), random.normal(size=(3, 5)).astype("float32")
    values, _ = values_and_gradient(OrdinalLoss(reduction=None), labels, scores[..., None])
    expected, _ = values_and_gradient(SigmoidCrossEntropyLoss(reduction=None), labels, scores)
    np.testing.assert_allclose(values, expected, rtol=1e-6)
