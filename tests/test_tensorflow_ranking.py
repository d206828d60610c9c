"""Live against TensorFlow Ranking 0.5.5: the same values and gradients where they should be, the differences pinned."""

import math

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("TensorFlow Ranking runs on TensorFlow", allow_module_level=True)

import tensorflow as tf
import tensorflow_ranking_modules
from backend import values_and_gradient
from parity.live import CLOSE, check_parity, their_values

from tfrankloss import KLListwiseLoss, ListMLELoss, ListNetLoss, RankNetLoss, SoftmaxLoss

tfr = tensorflow_ranking_modules.load()
if tfr is None:
    pytest.skip("tensorflow-ranking is not installed", allow_module_level=True)

BATCHES = 200
GOLDEN_LABELS, GOLDEN_SCORES = np.float32([[1, 0, 2]]), np.float32([[0.6, 0.8, 0.1]])


def softmaxed(labels):
    powers = np.exp(labels - labels.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype("float32")


def entropy(labels):
    p = softmaxed(labels).astype("float64")
    return -(p * np.log(p)).sum(axis=1)


# Ours, theirs, what theirs is given for labels, and what ours lacks of theirs.
PAIRS = {
    "ListMLE": (ListMLELoss, "ListMLELoss", None, None),
    "ListMLE breslow": (lambda **kw: ListMLELoss(ties="breslow", **kw), "ListMLELoss", None, None),
    "ListMLE position": (lambda **kw: ListMLELoss(ties="position", **kw), "ListMLELoss", None, None),
    "Softmax": (SoftmaxLoss, "SoftmaxLoss", None, None),
    "RankNet": (RankNetLoss, "PairwiseLogisticLoss", None, None),
    "ListNet": (ListNetLoss, "SoftmaxLoss", softmaxed, None),
    "KL": (KLListwiseLoss, "SoftmaxLoss", softmaxed, entropy),
}
every_pair = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)


def random_batch(random, size=6):
    """Distinct labels, moderate scores, no padding: where both mean the same."""
    labels = np.argsort(random.normal(size=(4, size)), axis=1).astype("float32")
    return labels, (random.normal(size=(4, size)) * random.choice([0.3, 1.0, 3.0])).astype("float32")


def make_pair(pair, **settings):
    ours, theirs, to_labels, surplus = pair
    theirs = getattr(tfr.losses, theirs)(reduction="none", **settings)
    return ours(reduction=None, **settings), theirs, to_labels or (lambda y: y), surplus or (lambda y: 0.0)


def check_pair(pair, batches, **settings):
    """``batches`` holds (labels, scores, our weights, their weights)."""
    ours, theirs, to_labels, surplus = make_pair(pair, **settings)

    def theirs_as_ours(labels, scores, weights):
        given = 1.0 if weights is None else weights.numpy().mean(axis=-1) if weights.ndim == 2 else weights
        values = theirs(to_labels(labels.numpy()), scores, weights)
        return tf.reduce_sum(tf.reshape(values, (len(labels), -1)), axis=1) - given * surplus(labels.numpy())

    check_parity(ours, theirs_as_ours, batches)


@every_pair
def test_losses(pair, random):
    check_pair(pair, [(*random_batch(random), None, None) for _ in range(BATCHES)])


@every_pair
def test_losses_with_temperature(pair, random):
    check_pair(pair, [(*random_batch(random), None, None) for _ in range(10)], temperature=0.5)


@every_pair
def test_losses_with_list_weights(pair, random):
    """Their (B, 1) is our (B,)."""
    weights = [random.uniform(0.5, 2, 4).astype("float32") for _ in range(20)]
    check_pair(pair, [(*random_batch(random), w, w[:, None]) for w in weights])


@pytest.mark.parametrize("name", ["Softmax", "RankNet", "ListNet"])
def test_losses_with_item_weights(name, random):
    """Weights multiply labels in the softmax, and pairs by their better item. ListMLE: see below."""
    weights = [random.uniform(0.5, 2, (4, 6)).astype("float32") for _ in range(20)]
    check_pair(PAIRS[name], [(*random_batch(random), w, w) for w in weights])


@pytest.mark.parametrize(
    ("loss", "golden"),
    [
        (lambda: RankNetLoss(), 3 * 0.9584672),
        (lambda: SoftmaxLoss(), 4.1186390),
        (lambda: ListMLELoss(), 2.3376851),
    ],
)
def test_golden_losses(loss, golden):
    assert float(loss()(GOLDEN_LABELS, GOLDEN_SCORES)) == pytest.approx(golden, rel=2e-6)


def test_golden_softmax_with_item_weights():
    loss = SoftmaxLoss()(GOLDEN_LABELS, GOLDEN_SCORES, np.float32([[1, 2, 3]]))
    assert float(loss) == pytest.approx(10.276824, rel=1e-6)


# What is different, and meant to be.

PADDED_LABELS = np.float32([[2, 1, 0, -1, -1]])
PADDED_SCORES = np.float32([[0.3, 0.2, 0.1, 0.0, 0.0]])


def test_difference_list_mle_beside_padding():
    """Theirs adds log(k!) for k padded items; ours is the loss of the items."""
    ours, theirs, _, _ = make_pair(PAIRS["ListMLE"])
    alone = their_values(theirs, PADDED_LABELS[:, :3], PADDED_SCORES[:, :3])[0]
    np.testing.assert_allclose(ours(PADDED_LABELS, PADDED_SCORES), alone, rtol=1e-6)
    beside = their_values(theirs, PADDED_LABELS, PADDED_SCORES)[0]
    np.testing.assert_allclose(beside - alone, math.log(math.factorial(2)), rtol=1e-5)


def test_difference_pairwise_mean_over_padding():
    """Their default reduction divides by all places of the batch, padded ones too."""
    theirs = tfr.losses.PairwiseLogisticLoss()
    alone = float(theirs(PADDED_LABELS[:, :3], PADDED_SCORES[:, :3]))
    assert float(theirs(PADDED_LABELS, PADDED_SCORES)) == pytest.approx(alone * 3 / 5, rel=1e-6)
    ours = RankNetLoss()
    assert float(ours(PADDED_LABELS, PADDED_SCORES)) == pytest.approx(
        float(ours(PADDED_LABELS[:, :3], PADDED_SCORES[:, :3])), rel=1e-6
    )


def test_difference_list_mle_of_far_scores():
    """Scores a hundred apart: theirs is minus infinity with a gradient of NaN, ours log(1 + exp(-100)), about 0."""
    ours, theirs, _, _ = make_pair(PAIRS["ListMLE"])
    labels, scores = np.float32([[1, 0]]), np.float32([[100, 0]])
    values, gradient = their_values(theirs, labels, scores)
    assert values[0] == -np.inf
    assert np.isnan(gradient).any()
    values, gradient = values_and_gradient(ours, labels, scores)
    np.testing.assert_allclose(values, [0], atol=1e-30)
    np.testing.assert_allclose(gradient, [[0, 0]], atol=1e-30)


@every_pair
def test_difference_nan_in_a_padded_score(pair):
    ours, _, _, _ = make_pair(pair)
    scores = PADDED_SCORES.copy()
    scores[:, 3:] = np.nan
    values, gradient = values_and_gradient(ours, PADDED_LABELS, scores)
    np.testing.assert_allclose(values, values_and_gradient(ours, PADDED_LABELS, PADDED_SCORES)[0], rtol=1e-6)
    assert np.isfinite(gradient).all()


def test_difference_weights_of_square_batches(random):
    """(B,) weighs lists, also where there are as many lists as items; theirs takes (B, 1) for that."""
    labels, scores = random_batch(random, size=4)
    weights = np.float32([1, 2, 3, 4])
    ours, theirs, _, _ = make_pair(PAIRS["Softmax"])
    values, _ = values_and_gradient(ours, labels, scores, sample_weight=weights)
    np.testing.assert_allclose(values, their_values(theirs, labels, scores, weights[:, None])[0], **CLOSE)
    assert not np.allclose(values, their_values(theirs, labels, scores, weights)[0])


def test_difference_item_weights_of_list_mle(random):
    """Theirs makes one list weight of them, by labels; ours weighs each item's own factor of the likelihood."""
    labels, scores = random_batch(random)
    weights = random.uniform(0.5, 2, labels.shape).astype("float32")
    ours, theirs, _, _ = make_pair(PAIRS["ListMLE"])
    plain, _ = values_and_gradient(ours, labels, scores)
    by_labels = (weights * labels).sum(axis=1) / labels.sum(axis=1)
    np.testing.assert_allclose(their_values(theirs, labels, scores, weights)[0], by_labels * plain, rtol=1e-5)
    assert not np.allclose(values_and_gradient(ours, labels, scores, sample_weight=weights)[0], by_labels * plain)


def test_difference_ties_of_list_mle():
    """Theirs draws an order; ours sums the likelihood of all of them."""
    scores = np.float32([[1.0, -1.0, 0.0]])
    ours, _, _, _ = make_pair(PAIRS["ListMLE"])
    values, _ = values_and_gradient(ours, np.float32([[1, 1, 0]]), scores)
    a, b, c = np.exp(scores[0].astype("float64"))
    likelihood = a / (a + b + c) * b / (b + c) + b / (a + b + c) * a / (a + c)
    np.testing.assert_allclose(values, [-math.log(likelihood)], rtol=1e-5)
