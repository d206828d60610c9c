"""The softmax family, circle loss and RankDistil live against TensorFlow Ranking 0.5.5; the differences pinned."""

import importlib
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
    CalibratedSoftmaxLoss,
    CircleLoss,
    CoupledRankDistilLoss,
    PolyOneSoftmaxLoss,
    SoftmaxLoss,
    UniqueSoftmaxLoss,
    functional,
)
from tfrankloss.losses import DCGLambdaWeight, NDCGLambdaWeight, NDCGLambdaWeightV2

tfr = tensorflow_ranking_modules.load()
if tfr is None:
    pytest.skip("tensorflow-ranking is not installed", allow_module_level=True)
tfr_impl = importlib.import_module("tensorflow_ranking.python.losses_impl")

BATCHES = 200
GOLDEN_LABELS, GOLDEN_SCORES = np.float32([[1, 0, 2]]), np.float32([[0.6, 0.8, 0.1]])


def without_keras(cls, **settings):
    """A loss that TensorFlow Ranking has no Keras class for, called as if there were one."""
    loss = cls("loss", **settings)

    def call(labels, scores, weights):
        scores = scores if isinstance(loss, tfr_impl.SoftmaxLoss) else loss.get_logits(scores)
        losses, list_weights = loss.compute_per_list(labels, scores, weights)
        return losses * list_weights

    return call


def of_keras(name, **settings):
    return getattr(tfr.losses, name)(reduction="none", **settings)


def softmax(weight=None, **settings):
    ours, theirs = weight or (None, None)
    return SoftmaxLoss(reduction=None, lambda_weight=ours, **settings), of_keras(
        "SoftmaxLoss", lambda_weight=theirs, **settings
    )


def poly_one(weight=None, **settings):
    ours, theirs = weight or (None, None)
    return PolyOneSoftmaxLoss(reduction=None, lambda_weight=ours, **settings), without_keras(
        tfr_impl.PolyOneSoftmaxLoss, lambda_weight=theirs, **settings
    )


def calibrated(weight=None, **settings):
    ours, theirs = weight or (None, None)
    return CalibratedSoftmaxLoss(reduction=None, lambda_weight=ours, **settings), of_keras(
        "CalibratedSoftmaxLoss", lambda_weight=theirs, **settings
    )


def unique(**settings):
    return UniqueSoftmaxLoss(reduction=None, **settings), of_keras("UniqueSoftmaxLoss", **settings)


def circle(**settings):
    return CircleLoss(reduction=None, **settings), without_keras(tfr_impl.CircleLoss, **settings)


def ndcg(k=None):
    return NDCGLambdaWeight(k=k), tfr.losses.NDCGLambdaWeight(topn=k)


def dcg(k=None, normalized=False):
    return DCGLambdaWeight(k=k, normalized=normalized), tfr.losses.DCGLambdaWeight(topn=k, normalized=normalized)


SOFTMAX = {
    "softmax, NDCG": lambda **kw: softmax(ndcg(), **kw),
    "softmax, NDCG@3": lambda **kw: softmax(ndcg(3), **kw),
    "softmax, DCG": lambda **kw: softmax(dcg(), **kw),
    "softmax, DCG@2 normalized": lambda **kw: softmax(dcg(2, True), **kw),
    "poly one": poly_one,
    "poly one, -0.5": lambda **kw: poly_one(epsilon=-0.5, **kw),
    "poly one, 3, NDCG@3": lambda **kw: poly_one(ndcg(3), epsilon=3.0, **kw),
    "calibrated": calibrated,
    "calibrated, 0.3": lambda **kw: calibrated(virtual_label=0.3, **kw),
    "calibrated, 1.5, NDCG@3": lambda **kw: calibrated(ndcg(3), virtual_label=1.5, **kw),
    "unique": unique,
}
# TensorFlow Ranking's circle loss overflows at its own defaults: see below.
CIRCLE = {
    "circle, 30": lambda **kw: circle(gamma=30.0, **kw),
    "circle, 8, 0.4": lambda **kw: circle(gamma=8.0, margin=0.4, **kw),
}
every_softmax = pytest.mark.parametrize("make", SOFTMAX.values(), ids=SOFTMAX)
every_loss = pytest.mark.parametrize("make", [*SOFTMAX.values(), *CIRCLE.values()], ids=[*SOFTMAX, *CIRCLE])


def random_batch(random, lists=4, deviations=(0.3, 1.0, 3.0)):
    """Distinct labels, moderate scores of which many lie in [0, 1], no padding: where both mean the same."""
    labels = np.argsort(random.normal(size=(lists, 6)), axis=1).astype("float32")
    return labels, (0.5 + random.normal(size=(lists, 6)) * random.choice(deviations)).astype("float32")


def check_pair(pair, batches):
    """``batches`` holds (labels, scores, our weights, their weights)."""
    check_parity(*pair, batches, size_of_gradient=True)


@every_loss
def test_losses(make, random):
    check_pair(make(), [(*random_batch(random), None, None) for _ in range(BATCHES)])


@every_softmax
def test_losses_with_temperature(make, random):
    check_pair(make(temperature=0.5), [(*random_batch(random), None, None) for _ in range(10)])


@every_loss
def test_losses_with_list_weights(make, random):
    """Their (B, 1) is our (B,)."""
    weights = [random.uniform(0.5, 2, 4).astype("float32") for _ in range(20)]
    check_pair(make(), [(*random_batch(random), w, w[:, None]) for w in weights])


@pytest.mark.parametrize("name", [name for name in [*SOFTMAX, *CIRCLE] if "calibrated" not in name])
def test_losses_with_item_weights(name, random):
    """Weights multiply labels in the softmax, and weigh lists by labels in the rest. Calibrated: see below."""
    weights = [random.uniform(0.5, 2, (4, 6)).astype("float32") for _ in range(20)]
    check_pair({**SOFTMAX, **CIRCLE}[name](), [(*random_batch(random), w, w) for w in weights])


def test_circle_of_similarities_at_the_defaults(random):
    batches = [random_batch(random) for _ in range(BATCHES)]
    check_pair(circle(), [(y, np.float32(0.15 + 0.6 / (1 + np.exp(-s))), None, None) for y, s in batches])


@pytest.mark.parametrize(
    ("loss", "golden"),
    [
        (lambda: SoftmaxLoss(lambda_weight=NDCGLambdaWeight()), 0.8166503),
        (lambda: UniqueSoftmaxLoss(), 5.4167781),
    ],
)
def test_golden_losses(loss, golden):
    assert float(loss()(GOLDEN_LABELS, GOLDEN_SCORES)) == pytest.approx(golden, rel=2e-6)


def test_golden_calibrated_softmax():
    """The value in the documentation of TensorFlow Ranking."""
    loss = CalibratedSoftmaxLoss(virtual_label=0.1)
    assert float(loss(np.float32([[1, 0]]), np.float32([[0.6, 0.8]]))) == pytest.approx(1.1808171, rel=1e-6)


# RankDistil draws: both are given the same noise.


class WithNoise:
    """Ours with given noise, in place of ``gumbel_noise``."""

    def __init__(self, noise, **settings):
        self.noise = noise
        self.loss = CoupledRankDistilLoss(reduction=None, sample_size=noise.shape[1], **settings)

    def __call__(self, *arguments):
        with mock.patch("tfrankloss.functional.gumbel_noise", lambda *_: tf.constant(self.noise)):
            return self.loss(*arguments)


def rank_distil_pair(noise, top_k=None, **settings):
    theirs = of_keras("CoupledRankDistilLoss", sample_size=noise.shape[1], topk=top_k, **settings)

    def with_noise(*arguments):
        with mock.patch.object(tfr_impl, "_sample_gumbel", lambda *_, **__: tf.constant(noise)):
            return theirs(*arguments)

    return WithNoise(noise, top_k=top_k, **settings), with_noise


@pytest.mark.parametrize("settings", [{}, {"top_k": 1}, {"top_k": 3}, {"temperature": 0.5}], ids=str)
@pytest.mark.parametrize("weighing", [None, "list", "item"])
def test_rank_distil(settings, weighing, random):
    # One batch of many lists, as other noise is another function to compile.
    labels, scores = random_batch(random, BATCHES, [1.0])
    noise = random.gumbel(size=(BATCHES, 8, 6)).astype("float32")
    items = random.uniform(0.5, 2, labels.shape).astype("float32")
    weights = {None: (None, None), "list": (items[:, 0], items[:, :1]), "item": (items, items)}[weighing]
    check_pair(rank_distil_pair(noise, **settings), [(labels, scores, *weights)])


def test_rank_distil_of_lists_without_relevant_items(random):
    """Both take labels that are all 0 for no teacher at all."""
    labels, scores = random_batch(random)
    labels[1] = 0
    ours, theirs = rank_distil_pair(random.gumbel(size=(4, 8, 6)).astype("float32"))
    values = their_values(theirs, labels, scores)[0]
    assert values[1] == 0
    np.testing.assert_allclose(values_and_gradient(ours, labels, scores)[0], values, **CLOSE)


# What is different, and meant to be.

PADDED_LABELS = np.float32([[2, 1, 0, -1, -1]])
LOW_SCORES = np.float32([[-30.3, -30.2, -30.1, 0.0, 0.0]])


@pytest.mark.parametrize(
    "make", [poly_one, lambda: calibrated(virtual_label=0.3), lambda: softmax(ndcg()), unique, circle]
)
def test_difference_nan_in_a_padded_score(make):
    ours, theirs = make()
    scores = np.where(PADDED_LABELS < 0, np.float32("nan"), np.float32([[0.3, 0.2, 0.1, 0, 0]]))
    values, gradient = values_and_gradient(ours, PADDED_LABELS, scores)
    alone = their_values(theirs, PADDED_LABELS[:, :3], scores[:, :3])[0]
    np.testing.assert_allclose(values, alone, rtol=1e-5)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("make", [poly_one, lambda: softmax(ndcg())])
def test_difference_low_scores_beside_padding(make):
    """Theirs gives padding the score log(1e-10), about -23, which counts where the items score lower."""
    ours, theirs = make()
    alone = their_values(theirs, PADDED_LABELS[:, :3], LOW_SCORES[:, :3])[0]
    np.testing.assert_allclose(values_and_gradient(ours, PADDED_LABELS, LOW_SCORES)[0], alone, rtol=1e-5)
    assert their_values(theirs, PADDED_LABELS, LOW_SCORES)[0] > 2 * alone


def test_difference_lambda_weights_that_theirs_ignores(random):
    """Theirs uses plain labels with a weight of its second kind, without a word."""
    labels, scores = random_batch(random)
    theirs = of_keras("SoftmaxLoss", lambda_weight=tfr.losses.NDCGLambdaWeightV2())
    values = their_values(theirs, labels, scores)[0]
    np.testing.assert_allclose(values, values_and_gradient(SoftmaxLoss(reduction=None), labels, scores)[0], **CLOSE)
    ours, first_kind = SoftmaxLoss(reduction=None, lambda_weight=NDCGLambdaWeightV2()), softmax(ndcg())[1]
    expected = their_values(first_kind, labels, scores)[0]
    np.testing.assert_allclose(values_and_gradient(ours, labels, scores)[0], expected, **CLOSE)


def test_difference_item_weights_of_calibrated_softmax(random):
    """Theirs gives the virtual item weight 1; ours the mean weight of the items: equal weights weigh the list."""
    labels, scores = random_batch(random)
    weights = random.uniform(0.5, 2, labels.shape).astype("float32")
    ours, theirs = calibrated(virtual_label=0.3)
    of_virtual = 0.3 * np.log(1 + np.exp(scores.astype("float64")).sum(axis=1))
    expected = their_values(theirs, labels, scores, weights)[0] + (weights.mean(axis=1) - 1) * of_virtual
    np.testing.assert_allclose(values_and_gradient(ours, labels, scores, sample_weight=weights)[0], expected, rtol=1e-5)
    twos = np.full_like(weights, 2)
    plain = their_values(theirs, labels, scores)[0]
    np.testing.assert_allclose(values_and_gradient(ours, labels, scores, sample_weight=twos)[0], 2 * plain, rtol=1e-5)
    np.testing.assert_allclose(their_values(theirs, labels, scores, twos)[0], 2 * plain - of_virtual, rtol=1e-4)


def test_difference_circle_of_lists_without_pairs():
    """Theirs divides the number of pairs by itself, 0 by 0."""
    ours, theirs = circle()
    labels, scores = np.float32([[1, 1, 1]]), np.float32([[0.1, 0.5, 0.9]])
    assert np.isnan(their_values(theirs, labels, scores)[0]).all()
    values, gradient = values_and_gradient(ours, labels, scores)
    assert values[0] == 0
    np.testing.assert_array_equal(gradient, 0)


def test_difference_circle_of_wrong_orders():
    """Similarities in the wrong order: theirs is infinite, ours the exponent of the one pair."""
    ours, theirs = circle()
    labels, scores = np.float32([[1, 0]]), np.float32([[0, 1]])
    assert np.isinf(their_values(theirs, labels, scores)[0]).all()
    exponent = 64 * (1.25 * 0.75 + 1.25 * 0.75)
    values, gradient = values_and_gradient(ours, labels, scores)
    np.testing.assert_allclose(values, [exponent], rtol=1e-6)
    np.testing.assert_allclose(gradient, [[-64 * 1.25, 64 * 1.25]], rtol=1e-6)


def test_difference_rank_distil_beside_padding(random):
    """Theirs counts the places of padding as well, and the items before them at the score of padding."""
    noise = random.gumbel(size=(1, 8, 5)).astype("float32")
    scores = np.float32([[0.3, 0.2, 0.1, 0.0, 0.0]])
    alone = their_values(rank_distil_pair(noise[:, :, :3])[1], PADDED_LABELS[:, :3], scores[:, :3])[0]
    ours, theirs = rank_distil_pair(noise)
    np.testing.assert_allclose(values_and_gradient(ours, PADDED_LABELS, scores)[0], alone, rtol=1e-5)
    np.testing.assert_allclose(their_values(theirs, PADDED_LABELS, scores)[0] - alone, 2 * np.log(5), rtol=1e-4)


def test_difference_rank_distil_of_far_labels():
    """Teachers that are sure: theirs adds 1e-10 to their probabilities, and shuffles what is below.

    One shuffle in six leaves these three items in their order.
    """
    labels, scores = np.float32([[90, 60, 30, 0]]), np.float32([[0.0, 1.0, 2.0, 3.0]])
    noise = np.zeros((1, 8, 4), "float32")
    expected = np.sum(functional.list_mle_loss(labels, scores))
    ours, theirs = rank_distil_pair(noise)
    np.testing.assert_allclose(values_and_gradient(ours, labels, scores)[0], [expected], rtol=1e-5)
    shuffled = [their_values(theirs, labels, scores)[0][0] for _ in range(20)]
    assert np.max(np.abs(shuffled - expected)) > 0.01
