"""Smooth ranks and smooth sorting: their limits, ties, padding and digits; gains of large labels."""

import importlib

import numpy as np
import pytest
import references
from backend import to_numpy, values_and_gradient

from tfrankloss import (
    NDCG,
    ApproxMRRLoss,
    ApproxNDCGLoss,
    NeuralSortCrossEntropyLoss,
    NeuralSortNDCGLoss,
    RankNetLoss,
    functional,
    losses,
)

pytestmark = pytest.mark.backends

SCORES = np.float32([[0.5, 2.0, 0.5, -1.0]])
CLASSES = [ApproxMRRLoss, ApproxNDCGLoss, NeuralSortCrossEntropyLoss, NeuralSortNDCGLoss]
every_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)


def test_smooth_ranks_of_far_scores_are_ranks():
    ranks = to_numpy(functional.smooth_ranks(SCORES, temperature=0.01))
    np.testing.assert_allclose(ranks, [[2.5, 1, 2.5, 4]], rtol=1e-6)


def test_smooth_ranks_of_equal_scores_are_their_mean():
    np.testing.assert_allclose(to_numpy(functional.smooth_ranks(np.ones((1, 5), "float32"))), [[3] * 5], rtol=1e-6)


def test_smooth_ranks_sum_to_those_of_the_places(random):
    scores = random.normal(size=(3, 7)).astype("float32")
    np.testing.assert_allclose(to_numpy(functional.smooth_ranks(scores)).sum(axis=1), [28] * 3, rtol=1e-6)


def test_smooth_ranks_beside_padding():
    scores, mask = np.float32([[0.5, np.nan, -1.0, np.inf]]), np.array([[True, False, True, False]])
    alone = to_numpy(functional.smooth_ranks(scores[:, ::2]))
    np.testing.assert_allclose(to_numpy(functional.smooth_ranks(scores, mask)), [[alone[0, 0], 1, alone[0, 1], 1]])


def test_neural_sort_of_far_scores_is_the_permutation():
    matrix = to_numpy(functional.neural_sort(np.float32([[0.5, 2.0, -1.0]]), temperature=0.01))
    np.testing.assert_allclose(matrix, [[[0, 1, 0], [1, 0, 0], [0, 0, 1]]], atol=1e-6)


def test_neural_sort_shares_places_among_ties():
    matrix = to_numpy(functional.neural_sort(SCORES))
    np.testing.assert_array_equal(matrix[:, :, 0], matrix[:, :, 2])
    np.testing.assert_allclose(to_numpy(functional.neural_sort(np.ones((1, 4), "float32"))), np.full((1, 4, 4), 0.25))


@pytest.mark.parametrize("scale", [1.0, 1e2, 1e4])
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_neural_sort_agrees_with_the_formula(scale, temperature, random):
    scores = (random.normal(size=(5, 8)) * scale).astype("float32")
    scores[:, 1] = scores[:, 0] + np.float32(0.5)
    found = to_numpy(functional.neural_sort(scores, temperature=temperature))
    expected = [np.exp(references.log_neural_sort(row.astype("float64") / temperature)) for row in scores]
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-7)


def test_neural_sort_beside_padding():
    scores, mask = np.float32([[np.nan, 0.5, np.inf, -1.0]]), np.array([[False, True, False, True]])
    found = to_numpy(functional.neural_sort(scores, mask))[0]
    alone = to_numpy(functional.neural_sort(scores[:, 1::2]))[0]
    np.testing.assert_allclose(found[:2, 1::2], alone, rtol=1e-6)
    np.testing.assert_array_equal(found[2:], 0)
    np.testing.assert_array_equal(found[:, ::2], 0)


@pytest.mark.parametrize("cls", [NeuralSortCrossEntropyLoss, NeuralSortNDCGLoss], ids=lambda cls: cls.__name__)
def test_neural_sort_of_several_blocks_of_places(cls, random):
    length, step = 130, 1e-4
    # The package has a function of that name.
    at_once = importlib.import_module("tfrankloss.functional.neural_sort").PLACES_AND_ITEMS
    assert 1 < length**2 / at_once < 3, "two full blocks, and one that is not"
    labels = random.integers(0, 4, (1, length)).astype("float32")
    scores = (0.3 * random.normal(size=(1, length))).astype("float32")
    direction = random.normal(size=length)
    labels[0, 100:] = -1
    values, gradient = values_and_gradient(cls(reduction=None), labels, scores)

    def expected(moved):
        exact = scores[0].astype("float64") + moved * direction
        return references.list_value(cls.__name__, labels[0, :100], exact[:100])

    np.testing.assert_allclose(values, [expected(0)], rtol=1e-5)
    slope = (expected(step) - expected(-step)) / (2 * step)
    assert gradient[0] @ direction == pytest.approx(slope, rel=1e-4)


@every_class
def test_near_scores_far_below_the_top(cls):
    """Differences of scores are divided by the temperature, so that those of near ones keep their digits."""
    labels, scores = np.float32([[0, 2, 1, 1]]), np.float32([[9e3, -1e3, -1e3 + 0.125, -1e3 - 0.0625]])
    temperature = 0.3
    values, gradient = values_and_gradient(cls(temperature=temperature, reduction=None), labels, scores)
    expected = references.list_value(cls.__name__, labels[0], scores[0], temperature=temperature)
    np.testing.assert_allclose(values, [expected], rtol=1e-5)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient[0, 1:]).max() > 1e-3


@pytest.mark.parametrize("cls", [ApproxNDCGLoss, NeuralSortNDCGLoss], ids=lambda cls: cls.__name__)
def test_losses_of_labels_in_the_hundreds(cls):
    """Only what is above the largest label minus a few matters to exponential gains: 2^-1 and 1 here."""
    small = values_and_gradient(cls(gain="linear", reduction=None), np.float32([[2, 0, 1]]), SCORES[:, :3])
    large = values_and_gradient(cls(reduction=None), np.float32([[500, 0, 499]]), SCORES[:, :3])
    np.testing.assert_allclose(large[0], small[0], rtol=1e-5)
    np.testing.assert_allclose(large[1], small[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("weights", [None, [[1.0, 2.0, 3.0]]])
def test_ndcg_of_labels_in_the_hundreds(weights):
    weights = None if weights is None else np.float32(weights)
    large, small = NDCG(), NDCG(gain="linear")
    large.update_state(np.float32([[500, 0, 499]]), SCORES[:, :3], weights)
    small.update_state(np.float32([[2, 0, 1]]), SCORES[:, :3], weights)
    assert float(large.result()) == pytest.approx(float(small.result()), rel=1e-6)


@pytest.mark.parametrize(
    "weight",
    [
        losses.NDCGLambdaWeight,
        losses.NDCGLambdaWeightV2,
        losses.NDCGLoss1LambdaWeight,
        lambda **kw: losses.DCGLambdaWeight(normalized=True, discount="log2", **kw),
    ],
)
def test_normalized_lambda_weights_of_labels_in_the_hundreds(weight):
    large = RankNetLoss(lambda_weight=weight(gain="exponential"))(np.float32([[500, 0, 499]]), SCORES[:, :3])
    small = RankNetLoss(lambda_weight=weight(gain="linear"))(np.float32([[2, 0, 1]]), SCORES[:, :3])
    assert float(large) == pytest.approx(float(small), rel=1e-5)
