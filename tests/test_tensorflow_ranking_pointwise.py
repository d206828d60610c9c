"""Pointwise losses and click models live against TensorFlow Ranking 0.5.5, the differences pinned."""

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("TensorFlow Ranking runs on TensorFlow", allow_module_level=True)

import tensorflow_ranking_modules
from backend import values_and_gradient
from parity.live import CLOSE, check_parity, their_values

from tfrankloss import ClickEMLoss, MeanSquaredLoss, MixtureEMLoss, OrdinalLoss, SigmoidCrossEntropyLoss

tfr = tensorflow_ranking_modules.load()
if tfr is None:
    pytest.skip("tensorflow-ranking is not installed", allow_module_level=True)

BATCHES = 200
GOLDEN_LABELS, GOLDEN_SCORES = np.float32([[1, 0, 2]]), np.float32([[0.6, 0.8, 0.1]])


def clicks(random, shape):
    return random.integers(0, 2, shape)


def grades(random, shape):
    return np.argsort(random.normal(size=shape), axis=1)


def fractions(random, shape):
    """Grades, some of them between two."""
    return random.integers(0, 9, shape) / 2


# Ours, theirs, settings, scores per item, labels.
PAIRS = {
    "cross entropy": (SigmoidCrossEntropyLoss, "SigmoidCrossEntropyLoss", {}, None, clicks),
    "cross entropy of grades": (SigmoidCrossEntropyLoss, "SigmoidCrossEntropyLoss", {}, None, grades),
    "squares": (MeanSquaredLoss, "MeanSquaredLoss", {}, None, grades),
    "ordinal of one": (OrdinalLoss, "OrdinalLoss", {}, 1, clicks),
    "ordinal": (OrdinalLoss, "OrdinalLoss", {"ordinal_size": 4}, 4, fractions),
    "ordinal of fractions": (
        OrdinalLoss,
        "OrdinalLoss",
        {"ordinal_size": 3, "use_fraction_label": True},
        3,
        fractions,
    ),
    "click": (ClickEMLoss, "ClickEMLoss", {}, 2, fractions),
    "weighed click": (ClickEMLoss, "ClickEMLoss", {"exam_loss_weight": 0.3, "rel_loss_weight": 2.0}, 2, clicks),
    "mixture": (MixtureEMLoss, "MixtureEMLoss", {}, 3, clicks),
    "mixture of one": (MixtureEMLoss, "MixtureEMLoss", {}, 1, clicks),
    "smooth mixture": (MixtureEMLoss, "MixtureEMLoss", {"alpha": 0.2}, 3, clicks),
}
every_pair = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
OF_ITEMS = {name: pair for name, pair in PAIRS.items() if "mixture" not in name}
of_items = pytest.mark.parametrize("pair", OF_ITEMS.values(), ids=OF_ITEMS)


def batch(pair, random, size=6):
    """Labels and moderate scores without padding, with a list of labels 0."""
    labels = pair[4](random, (4, size)).astype("float32")
    labels[0] = 0
    shape = (4, size) if pair[3] is None else (4, size, pair[3])
    return labels, (random.normal(size=shape) * random.choice([0.3, 1.0, 3.0])).astype("float32")


def ours_of(pair, **settings):
    return pair[0](reduction=None, **pair[2], **settings)


def theirs_of(pair, reduction="none", **settings):
    return getattr(tfr.losses, pair[1])(reduction=reduction, **pair[2], **settings)


@every_pair
def test_losses(pair, random):
    check_parity(ours_of(pair), theirs_of(pair), [(*batch(pair, random), None, None) for _ in range(BATCHES)])


@every_pair
def test_losses_with_list_weights(pair, random):
    """Their (B, 1) is our (B,)."""
    weights = [random.uniform(0.5, 2, 4).astype("float32") for _ in range(20)]
    check_parity(ours_of(pair), theirs_of(pair), [(*batch(pair, random), w, w[:, None]) for w in weights])


@every_pair
def test_losses_with_item_weights(pair, random):
    """Weights multiply items; in the mixture, which has one loss per list, their mean over clicks multiplies lists."""
    weights = [random.uniform(0.5, 2, (4, 6)).astype("float32") for _ in range(20)]
    check_parity(ours_of(pair), theirs_of(pair), [(*batch(pair, random), w, w) for w in weights])


@every_pair
def test_losses_with_temperature(pair, random):
    """Their Keras losses take none (see below for the mixture): scores are divided beforehand."""
    theirs = theirs_of(pair)
    ours = ours_of(pair, temperature=0.5)
    batches = [(*batch(pair, random), None, None) for _ in range(10)]
    check_parity(ours, lambda labels, scores, weights: theirs(labels, scores / 0.5, weights), batches)


@of_items
def test_the_mean_of_both(pair, random):
    """Their default scalar is the mean over items; ours is a sum over items, and a mean over lists."""
    labels, scores = batch(pair, random)
    ours = pair[0](**pair[2])
    theirs = theirs_of(pair, reduction="auto")
    assert float(ours(labels, scores)) == pytest.approx(6 * float(theirs(labels, scores)), rel=1e-5)


@pytest.mark.parametrize("name", ["cross entropy", "squares"])
def test_mean_over_items(name, random):
    labels, scores = batch(PAIRS[name], random)
    ours = PAIRS[name][0](item_reduction="mean")
    theirs = theirs_of(PAIRS[name], reduction="auto")
    assert float(ours(labels, scores)) == pytest.approx(float(theirs(labels, scores)), rel=1e-5)


@pytest.mark.parametrize(("loss", "golden"), [(SigmoidCrossEntropyLoss, 0.7176617), (MeanSquaredLoss, 1.47)])
def test_golden_losses(loss, golden):
    assert float(loss()(GOLDEN_LABELS, GOLDEN_SCORES)) == pytest.approx(3 * golden, rel=2e-6)
    assert float(loss(item_reduction="mean")(GOLDEN_LABELS, GOLDEN_SCORES)) == pytest.approx(golden, rel=2e-6)


@pytest.mark.parametrize(
    ("loss", "scores", "golden"),
    [
        (OrdinalLoss(ordinal_size=2), [[[0.6, 0.2], [0.8, 0.3]]], 2 * 1.6305413),
        (ClickEMLoss(), [[[0.6, 0.9], [0.8, 0.2]]], 2 * 1.1462884),
        (MixtureEMLoss(), [[[0.6, 0.9], [0.8, 0.2]]], 1.3198698),
    ],
)
def test_golden_losses_of_columns(loss, scores, golden):
    """The figures that their documentation gives, for lists of two items."""
    assert float(loss([[1.0, 0.0]], scores)) == pytest.approx(golden, rel=2e-6)


# What is different, and meant to be.


def padded(pair, random, junk=0.0):
    """A batch, and the same with two padded items at the end of each list."""
    labels, scores = batch(pair, random)
    beside = [(0, 0)] * (scores.ndim - 2)
    wide = np.pad(scores, [(0, 0), (0, 2), *beside], constant_values=junk)
    return labels, scores, np.pad(labels, [(0, 0), (0, 2)], constant_values=-1), wide


@of_items
def test_difference_mean_over_padding(pair, random):
    """Their default scalar divides by all places of the batch, padded ones too; no denominator of ours counts them."""
    labels, scores, wide_labels, wide_scores = padded(pair, random)
    theirs = theirs_of(pair, reduction="auto")
    alone, beside = float(theirs(labels, scores)), float(theirs(wide_labels, wide_scores))
    assert beside == pytest.approx(alone * 6 / 8, rel=1e-5)
    means = [{"item_reduction": "mean"}] if pair[0] in (SigmoidCrossEntropyLoss, MeanSquaredLoss) else []
    for settings in ({}, *means):
        ours = pair[0](**pair[2], **settings)
        assert float(ours(wide_labels, wide_scores)) == pytest.approx(float(ours(labels, scores)), rel=1e-5)


@every_pair
def test_difference_nan_in_a_padded_score(pair, random):
    """Ours never looks at it. Theirs of the mixture has a gradient of NaN."""
    labels, scores, wide_labels, wide_scores = padded(pair, random, junk=np.nan)
    values, gradient = values_and_gradient(ours_of(pair), wide_labels, wide_scores)
    expected, expected_gradient = values_and_gradient(ours_of(pair), labels, scores)
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient[:, :6], expected_gradient, **CLOSE)
    np.testing.assert_array_equal(gradient[:, 6:], 0)
    _, theirs = their_values(theirs_of(pair), wide_labels, wide_scores)
    assert np.isnan(theirs).any() == (pair[0] is MixtureEMLoss)


@pytest.mark.parametrize("name", ["mixture", "smooth mixture"])
def test_difference_temperature_of_the_mixture(name, random):
    """Their Keras class takes a temperature and does nothing with it."""
    labels, scores = batch(PAIRS[name], random)
    theirs = their_values(theirs_of(PAIRS[name], temperature=0.5), labels, scores)[0]
    np.testing.assert_array_equal(theirs, their_values(theirs_of(PAIRS[name]), labels, scores)[0])
    ours, _ = values_and_gradient(ours_of(PAIRS[name], temperature=0.5), labels, scores)
    assert not np.allclose(ours[1:], theirs[1:])


@every_pair
def test_difference_weights_of_square_batches(pair, random):
    """(B,) weighs lists, also where there are as many lists as items; theirs takes (B, 1) for that."""
    labels, scores = batch(pair, random, size=4)
    weights = np.float32([1, 2, 3, 4])
    values, _ = values_and_gradient(ours_of(pair), labels, scores, sample_weight=weights)
    theirs = theirs_of(pair)
    np.testing.assert_allclose(values, their_values(theirs, labels, scores, weights[:, None])[0], **CLOSE)
    assert not np.allclose(values, their_values(theirs, labels, scores, weights)[0])
