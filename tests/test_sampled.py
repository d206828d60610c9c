"""One positive and its sampled negatives: what column 0 means, what the labels and weights of negatives do not mean."""

import math

import numpy as np
import pytest
from backend import to_numpy, values_and_gradient

from tfrankloss import BPRLoss, PairwiseHingeLoss, RankNetLoss, SampledSoftmaxLoss, SoftmaxLoss, TripletLoss, functional

pytestmark = pytest.mark.backends

LABELS = np.float32([[1, 0, 0, 0], [1, 0, -1, 0], [1, -1, -1, -1]])
SCORES = np.float32([[0.3, 1.0, -0.4, 0.2], [0.1, -0.2, 9.0, 0.5], [0.4, 0.2, 1.0, 2.0]])
SAMPLED = [SampledSoftmaxLoss, BPRLoss, TripletLoss]
every_loss = pytest.mark.parametrize("cls", SAMPLED, ids=lambda cls: cls.__name__)


def both_of(cls, labels, scores, weights=None, **settings):
    return values_and_gradient(cls(reduction=None, **settings), labels, scores, sample_weight=weights)


def assert_same(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@every_loss
def test_by_hand(cls):
    gaps = 0.3 - np.array([1.0, -0.4, 0.2])
    expected = {
        SampledSoftmaxLoss: math.log(1 + np.exp(-gaps).sum()),
        BPRLoss: np.log(1 + np.exp(-gaps)).sum(),
        TripletLoss: np.maximum(0, 1 - gaps).sum(),
    }[cls]
    values, _ = both_of(cls, LABELS, SCORES)
    assert values[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("cls", "settings", "general"),
    [
        (SampledSoftmaxLoss, {"temperature": 0.5}, lambda **settings: SoftmaxLoss(**settings)),
        (BPRLoss, {"pair_reduction": "mean"}, lambda **settings: RankNetLoss(pairs="binary", **settings)),
        (TripletLoss, {"margin": 0.7}, lambda **settings: PairwiseHingeLoss(pairs="binary", **settings)),
    ],
)
def test_with_labels_of_one_and_zero_it_is_the_loss_of_lists(cls, settings, general, weighted):
    """Weights included: that of the positive counts, that of a negative does not unless it is 0."""
    weights = np.float32([[2, 3, 0.5, 1], [0.5, 0, 1, 4], [3, 1, 1, 1]]) if weighted else None
    found = both_of(cls, LABELS, SCORES, weights, **settings)
    expected = values_and_gradient(general(reduction=None, **settings), LABELS, SCORES, sample_weight=weights)
    assert_same(found, expected)
    assert found[0][2] == 0


@every_loss
def test_labels_of_negatives_have_no_meaning(cls):
    other = np.float32([[3, 2, 0, 7], [0.5, 1, -1, 0], [2, -5, -1, -1]])
    assert_same(both_of(cls, other, SCORES), both_of(cls, LABELS, SCORES))


@every_loss
@pytest.mark.parametrize("label", [0, -1])
def test_a_row_without_a_positive_has_nothing_to_learn(cls, label):
    """A label of 0 in column 0 says that there was no feedback, one below 0 that there is no row."""
    labels = LABELS.copy()
    labels[:, 0] = label
    values, gradient = both_of(cls, labels, SCORES)
    np.testing.assert_array_equal(values, 0)
    np.testing.assert_array_equal(gradient, 0)


@every_loss
def test_such_a_row_counts_in_the_mean(cls):
    labels = LABELS[:2].copy()
    labels[1, 0] = 0
    values, _ = both_of(cls, labels, SCORES[:2])
    mean, _ = values_and_gradient(cls(), labels, SCORES[:2])
    assert mean == pytest.approx(values[0] / 2, rel=1e-6)


@pytest.mark.parametrize("cls", [BPRLoss, TripletLoss], ids=lambda cls: cls.__name__)
def test_mean_over_the_negatives_there_are(cls):
    total, _ = both_of(cls, LABELS, SCORES)
    mean, _ = both_of(cls, LABELS, SCORES, pair_reduction="mean")
    np.testing.assert_allclose(mean, total / [3, 2, 1], rtol=1e-6)


@pytest.mark.parametrize("name", ["sampled_softmax_loss", "bpr_loss", "triplet_loss"])
def test_functions_put_the_loss_into_column_0(name):
    function = getattr(functional, name)
    losses = to_numpy(function(LABELS, SCORES))
    assert losses.shape == LABELS.shape
    np.testing.assert_array_equal(losses[:, 1:], 0)
    masked = to_numpy(function(np.abs(LABELS), SCORES, LABELS >= 0))
    np.testing.assert_array_equal(masked, losses)
    with pytest.raises(ValueError, match=r"`labels` and `scores` must have the same shape"):
        function(LABELS[:, :1], SCORES)


@pytest.mark.parametrize("name", ["bpr_loss", "triplet_loss"])
def test_functions_check_their_settings(name):
    with pytest.raises(ValueError, match=r"`pair_reduction` must be one of .*Received: pair_reduction='max'"):
        getattr(functional, name)(LABELS, SCORES, pair_reduction="max")


@pytest.mark.parametrize("margin", [0, -1.0, float("nan")])
def test_margins_are_positive(margin):
    for call in (lambda: TripletLoss(margin=margin), lambda: functional.triplet_loss(LABELS, SCORES, margin=margin)):
        with pytest.raises(ValueError, match=r"`margin` must be .*Received: margin="):
            call()
