"""Live against TensorFlow Ranking 0.5.5: the losses of smooth ranks, smooth sorting and Gumbel noise."""

from unittest import mock

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("TensorFlow Ranking runs on TensorFlow", allow_module_level=True)

import tensorflow as tf
import tensorflow_ranking_modules
from backend import values_and_gradient
from parity.live import CLOSE, check_parity, their_values

from tfrankloss import (
    NDCG,
    ApproxMRRLoss,
    ApproxNDCGLoss,
    GumbelApproxNDCGLoss,
    NeuralSortCrossEntropyLoss,
    NeuralSortNDCGLoss,
    YetiLogisticLoss,
    functional,
)

tfr = tensorflow_ranking_modules.load()
if tfr is None:
    pytest.skip("tensorflow-ranking is not installed", allow_module_level=True)

losses_impl = tfr.losses.losses_impl

BATCHES, DRAWS = 200, 8
GOLDEN_LABELS, GOLDEN_SCORES = np.float32([[1, 0, 2]]), np.float32([[0.6, 0.8, 0.1]])
PADDED_LABELS = np.float32([[2, -1, 1, 0, -1], [1, 2, -1, 0, 3]])
PADDED_SCORES = np.float32([[0.3, 0.0, 0.2, -0.4, 0.0], [0.1, 0.5, 0.0, 0.3, -0.7]])


def of_lists(name):
    """A loss of theirs that has no Keras class: of labels, scores and weights, one value per list."""

    def make(temperature=1.0):
        loss = getattr(losses_impl, name)(name=None, temperature=temperature)

        def values(labels, scores, weights=None):
            values, present = loss.compute_unreduced_loss(labels, loss.get_logits(scores))
            return values * present * loss.normalize_weights(labels, weights)

        return values

    return make


def of_keras(name):
    return lambda **settings: getattr(tfr.losses, name)(reduction="none", **settings)


PAIRS = {
    "ApproxNDCG": (ApproxNDCGLoss, of_keras("ApproxNDCGLoss")),
    "ApproxMRR": (ApproxMRRLoss, of_keras("ApproxMRRLoss")),
    "NeuralSortNDCG": (NeuralSortNDCGLoss, of_lists("NeuralSortNDCGLoss")),
    "NeuralSortCrossEntropy": (NeuralSortCrossEntropyLoss, of_lists("NeuralSortCrossEntropyLoss")),
}
NOISY_PAIRS = {
    "GumbelApproxNDCG": (GumbelApproxNDCGLoss, of_keras("GumbelApproxNDCGLoss")),
    "YetiLogistic": (YetiLogisticLoss, of_keras("YetiLogisticLoss")),
}
every_pair = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
every_noisy_pair = pytest.mark.parametrize("pair", NOISY_PAIRS.values(), ids=NOISY_PAIRS)


def random_batch(random, size=6):
    """Distinct labels, moderate scores, no padding: where both mean the same."""
    labels = np.argsort(random.normal(size=(4, size)), axis=1).astype("float32")
    return labels, (random.normal(size=(4, size)) * random.choice([0.1, 0.3, 1.0])).astype("float32")


def check_pair(pair, batches, **settings):
    """``batches`` holds (labels, scores, our weights, their weights)."""
    check_parity(pair[0](reduction=None, **settings), pair[1](**settings), batches)


@every_pair
def test_losses(pair, random):
    check_pair(pair, [(*random_batch(random), None, None) for _ in range(BATCHES)])


@every_pair
def test_losses_with_temperature(pair, random):
    batches = [random_batch(random) for _ in range(20)]
    check_pair(pair, [(labels, scores / 2, None, None) for labels, scores in batches], temperature=0.5)


@every_pair
def test_losses_with_list_weights(pair, random):
    """Their (B, 1) is our (B,)."""
    weights = [random.uniform(0.5, 2, 4).astype("float32") for _ in range(20)]
    check_pair(pair, [(*random_batch(random), w, w[:, None]) for w in weights])


@every_pair
def test_losses_with_item_weights(pair, random):
    """A list weighs the mean of its items' weights, taken by label."""
    weights = [random.uniform(0.5, 2, (4, 6)).astype("float32") for _ in range(20)]
    check_pair(pair, [(*random_batch(random), w, w) for w in weights])


@every_pair
def test_losses_of_graded_labels(pair, random):
    """Ties among labels, lists without a relevant item, and lists of one item."""
    batches = []
    for size in [6] * 30 + [1] * 5:
        labels, scores = random_batch(random, size)
        labels = (random.integers(0, 3, labels.shape) * (random.random((4, 1)) < 0.8)).astype("float32")
        batches.append((labels, scores, None, None))
    check_pair(pair, batches)


@pytest.mark.parametrize(("loss", "golden"), [(ApproxNDCGLoss, -0.5937144), (ApproxMRRLoss, -0.3993883)])
def test_golden_losses(loss, golden):
    assert float(loss()(GOLDEN_LABELS, GOLDEN_SCORES)) == pytest.approx(golden, rel=1e-6)


@pytest.mark.parametrize("name", ["ApproxNDCG", "NeuralSortNDCG"])
def test_labels_in_the_hundreds(name):
    """Gains scaled by the largest label of the list, on both sides."""
    labels = np.float32([[300, 0, 299], [128, 127, 1]])
    scores = np.float32([[0.6, 0.8, 0.1]] * 2)
    check_pair(PAIRS[name], [(labels, scores, None, None)])


def test_difference_ndcg_of_labels_in_the_hundreds():
    """The metric of theirs overflows; ours is the same whatever is added to the labels of relevant items."""
    theirs = tfr.metrics.NDCGMetric()
    theirs.update_state(np.float32([[300, 0, 299]]), GOLDEN_SCORES)
    assert np.isnan(float(theirs.result()))
    for weights in (None, np.float32([[1, 2, 3]])):
        ours = NDCG()
        ours.update_state(np.float32([[300, 0, 299]]), GOLDEN_SCORES, weights)
        by_hand = NDCG(gain="linear")
        by_hand.update_state(np.float32([[2, 0, 1]]), GOLDEN_SCORES, weights)
        assert float(ours.result()) == pytest.approx(float(by_hand.result()), rel=1e-6)


@every_pair
def test_losses_beside_padding(pair):
    """Theirs treats moderate padding as ours does: it has no effect."""
    check_pair(pair, [(PADDED_LABELS, PADDED_SCORES, None, None)])
    ours = pair[0](reduction=None)
    items = [0, 2, 3]
    alone = values_and_gradient(ours, PADDED_LABELS[:1, items], PADDED_SCORES[:1, items])
    beside = values_and_gradient(ours, PADDED_LABELS[:1], PADDED_SCORES[:1])
    np.testing.assert_allclose(beside[0], alone[0], rtol=1e-6)
    np.testing.assert_allclose(beside[1][:, items], alone[1], rtol=1e-5, atol=1e-7)


def test_neural_sort(random):
    scores = random.normal(size=(4, 6)).astype("float32")
    mask = random.random((4, 6)) < 0.7
    expected = losses_impl.neural_sort(tf.constant(scores), mask=tf.constant(mask)).numpy()
    places = np.arange(6)[None, :] < mask.sum(axis=1, keepdims=True)
    expected = np.where(places[:, :, None] & mask[:, None, :], expected, 0)
    np.testing.assert_allclose(functional.neural_sort(scores, mask), expected, **CLOSE)


@every_noisy_pair
@pytest.mark.parametrize("settings", [{}, {"temperature": 0.5, "gumbel_temperature": 2.0}], ids=str)
@pytest.mark.parametrize("weights", [None, "lists", "items"])
def test_losses_of_noisy_scores(pair, settings, weights, random):
    for _ in range(BATCHES // 4 if weights is None else 5):
        labels, scores = random_batch(random)
        noise = random.gumbel(size=(4, DRAWS, 6)).astype("float32")
        given = {None: None, "lists": random.uniform(0.5, 2, (4, 1)), "items": random.uniform(0.5, 2, (4, 6))}[weights]
        given = None if given is None else given.astype("float32")
        theirs = pair[1](sample_size=DRAWS, **settings)
        with mock.patch.object(losses_impl, "_sample_gumbel", lambda *args, noise=noise, **kwargs: tf.constant(noise)):
            expected, expected_gradient = their_values(theirs, labels, scores, given, DRAWS)
        ours = pair[0](sample_size=DRAWS, reduction=None, **settings)
        with mock.patch.object(functional, "gumbel_noise", lambda *args, noise=noise: tf.constant(noise)):
            x = tf.constant(scores)
            with tf.GradientTape() as tape:
                tape.watch(x)
                values = ours(labels, x, given)
        np.testing.assert_allclose(values, expected, **CLOSE)
        np.testing.assert_allclose(tape.gradient(values, x), expected_gradient, **CLOSE)


# What is different, and meant to be.


@every_pair
def test_difference_nan_in_a_padded_score(pair):
    ours = pair[0](reduction=None)
    scores = np.where(PADDED_LABELS < 0, np.nan, PADDED_SCORES).astype("float32")
    values, gradient = values_and_gradient(ours, PADDED_LABELS, scores)
    np.testing.assert_allclose(values, values_and_gradient(ours, PADDED_LABELS, PADDED_SCORES)[0], rtol=1e-6)
    assert np.isfinite(gradient).all()


def test_difference_cross_entropy_of_far_scores():
    """Theirs stops at -log(1e-20) for each place, with a gradient of 0; ours goes on."""
    labels, scores = np.float32([[1, 0]]), np.float32([[-100, 100]])
    ours, theirs = (
        make(**kw) for make, kw in zip(PAIRS["NeuralSortCrossEntropy"], ({"reduction": None}, {}), strict=True)
    )
    expected, expected_gradient = their_values(theirs, labels, scores)
    assert expected[0] < -np.log(1e-20)
    np.testing.assert_array_equal(expected_gradient, 0)
    values, gradient = values_and_gradient(ours, labels, scores)
    p = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(values, [p * 200], rtol=1e-5)
    np.testing.assert_allclose(gradient, [[-p, p]], rtol=1e-5)
