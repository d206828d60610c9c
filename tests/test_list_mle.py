"""ListMLE: exact ties against enumeration, cut groups, huge scores and groups, and the other rules."""

import functools
import itertools
import math

import keras
import numpy as np
import pytest
import references
from backend import NAME, central_differences, values_and_gradient
from keras import ops

from tfrankloss import ListMLELoss
from tfrankloss.functional import list_mle_loss
from tfrankloss.functional.plackett_luce import list_mle_sums

pytestmark = pytest.mark.backends

float64_only = pytest.mark.skipif(NAME == "jax", reason="JAX has no float64 unless the whole process is switched to it")

# Nine items each, the lowest label last: how many items tie at each label.
GROUPS = [(7, 2), (5, 3, 1), (1, 6, 2), (3, 3, 3), (2, 2, 2, 2, 1), (1, 1, 7), (4, 5)]


@functools.cache
def list_mle(**settings):
    """The same object for the same settings, so that it is compiled once."""
    return ListMLELoss(reduction=None, **settings)


def labels_of(groups):
    return np.float32([label for label, size in enumerate(reversed(groups)) for _ in range(size)])[::-1].copy()


def enumerated(labels, scores, **settings):
    return references.list_value("ListMLELoss", labels, scores, **settings)


def batch_of(random, groups, deviation, lists=3):
    labels = np.stack([labels_of(groups)] * lists)
    return labels, random.normal(size=labels.shape) * deviation


@float64_only
@pytest.mark.parametrize("groups", GROUPS, ids=str)
@pytest.mark.parametrize("deviation", [0.1, 1.0, 3.0, 6.0])
def test_exact_against_enumeration(groups, deviation, random):
    labels, scores = batch_of(random, groups, deviation)
    values, gradient = values_and_gradient(list_mle(dtype="float64"), labels, scores, dtype="float64")
    expected = [enumerated(y, s) for y, s in zip(labels, scores, strict=True)]
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-12)
    slopes = central_differences(lambda s: enumerated(labels[0], s), scores[0])
    np.testing.assert_allclose(gradient[0], slopes, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("groups", GROUPS, ids=str)
@pytest.mark.parametrize("deviation", [1.0, 6.0])
def test_exact_in_float32(groups, deviation, random):
    labels, scores = batch_of(random, groups, deviation)
    scores = scores.astype("float32")
    values, gradient = values_and_gradient(list_mle(), labels, scores)
    expected = [enumerated(y, s) for y, s in zip(labels, scores, strict=True)]
    np.testing.assert_allclose(values, expected, rtol=3e-6)
    slopes = central_differences(lambda s: enumerated(labels[0], s), scores[0])
    np.testing.assert_allclose(gradient[0], slopes, rtol=1e-5, atol=3e-6)


@pytest.mark.parametrize("top_k", [1, 2, 4, 7, 20])
@pytest.mark.parametrize("groups", [(5, 3, 1), (1, 5, 3), (3, 3, 3)], ids=str)
def test_top_k_with_exact_ties(top_k, groups, random):
    """The probability that the first places hold what they should, over all orders of the ties."""
    loss = list_mle(top_k=top_k)
    labels, scores = batch_of(random, groups, 2.0)
    scores = scores.astype("float32")
    values, gradient = values_and_gradient(loss, labels, scores)
    expected = [enumerated(y, s, top_k=top_k) for y, s in zip(labels, scores, strict=True)]
    np.testing.assert_allclose(values, expected, rtol=2e-5, atol=1e-6)
    slopes = central_differences(lambda s: enumerated(labels[0], s, top_k=top_k), scores[0])
    np.testing.assert_allclose(gradient[0], slopes, rtol=1e-4, atol=2e-5)


def test_top_k_beyond_the_list_changes_nothing(random):
    labels, scores = batch_of(random, (3, 2, 4), 1.0)
    whole, _ = values_and_gradient(list_mle(), labels, scores)
    cut, _ = values_and_gradient(list_mle(top_k=20), labels, scores)
    np.testing.assert_allclose(cut, whole, rtol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 10, 100, 1000])
@pytest.mark.parametrize("log_rest", [-8.0, -1.0, 0.0, 5.0, 50.0])
def test_groups_of_equal_scores_have_a_closed_form(size, log_rest):
    """n tied items of equal score before a rest of 1/r times their weight each: P = prod over j of j r / (j r + 1)."""
    labels = np.float32([[1] * size + [0]])
    scores = np.float32([[0.0] * size + [log_rest]])
    values, gradient = values_and_gradient(list_mle(), labels, scores)
    j_r = np.arange(1, size + 1) * math.exp(-log_rest)
    np.testing.assert_allclose(values[0], np.log1p(1 / j_r).sum(), rtol=1e-5)
    slope = (1 / (1 + j_r)).sum()
    np.testing.assert_allclose(gradient[0, -1], slope, rtol=1e-4)
    np.testing.assert_allclose(gradient[0, :-1], -slope / size, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("size", "rounding"), [(1, 1), (4, 1), (19, 1), (31, 1), (63, 1), (249, 1), (1000, 5), (4000, 8)]
)
def test_groups_of_equal_scores_about_as_likely_to_win_as_not(size, rounding):
    """The closed form to the last digits of float32, where an integrand is steep on one side and long on the other.

    In long lists the rounding of their sums is left.
    """
    log_rest = np.linspace(-4.0, 1.0, 101, dtype="float32")
    labels = np.repeat(np.float32([[1] * size + [0]]), len(log_rest), axis=0)
    scores = np.where(labels > 0, 0, log_rest[:, None])
    values, gradient = values_and_gradient(list_mle(), labels, scores)
    j_r = np.arange(1, size + 1) * np.exp(-log_rest[:, None].astype("float64"))
    np.testing.assert_allclose(values, np.log1p(1 / j_r).sum(axis=1), rtol=3e-6 * rounding)
    np.testing.assert_allclose(gradient[:, -1], (1 / (1 + j_r)).sum(axis=1), rtol=4e-6 * rounding)


@pytest.mark.parametrize("top_k", [None, 10])
@pytest.mark.parametrize("scale", [1e2, 1e4])
def test_large_groups_of_huge_scores_are_finite(scale, top_k, random):
    labels = np.repeat(np.float32([[2, 1, 0]]), [1000, 20, 30], axis=1)
    scores = (random.normal(size=labels.shape) * scale).astype("float32")
    values, gradient = values_and_gradient(list_mle(top_k=top_k), labels, scores)
    assert np.isfinite(values).all()
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(gradient.sum(), 0, atol=1e-5 * np.abs(gradient).sum())


def integrated(labels, scores):
    """Loss and gradient of long lists in float64: the integrals of all groups on 400 nodes, item by item."""
    loss, gradient = 0.0, np.zeros(len(scores))
    for label in sorted(set(labels))[1:]:
        group, rest = labels == label, labels < label
        log_rest = references.logsumexp(scores[rest])
        value, slopes = integrated_group(scores[group] - log_rest)
        loss -= value
        gradient[group] -= slopes
        gradient[rest] += slopes.sum() * np.exp(scores[rest] - log_rest)
    return loss, gradient


def integrated_group(log_rates):
    """log P that all of these arrive before what arrives at rate 1, and its derivative by each."""

    def of_items(x):
        z = np.exp(np.minimum(log_rates[:, None] + x, 500.0))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            arrived = np.where(z < 1e-8, log_rates[:, None] + x, np.log(-np.expm1(-z))).sum(axis=0)
            return arrived, np.where(z < 1e-8, 1.0, z / np.expm1(z))

    def both(x):
        """Logarithms of what integrates to P, and of what does to 1 - P."""
        arrived, late = of_items(x)
        x = np.minimum(x, 500.0)
        with np.errstate(divide="ignore"):
            before = np.where(x < -18.0, x, np.log(-np.expm1(-np.exp(np.maximum(x, -40.0)))))
            return arrived + x - np.exp(x), arrived + before + np.log(late.sum(axis=0))

    def nodes(part):
        x = np.linspace(min(-60.0, -log_rates.max() - 60), max(12.0, 8 - log_rates.min()), 400)
        for _ in range(6):
            log_values = both(x)[part]
            there = x[log_values > log_values.max() - 40]
            x = np.linspace(there[0] - (x[1] - x[0]), there[-1] + (x[1] - x[0]), 400)
        return x, both(x)[part] + math.log(x[1] - x[0])

    x, log_winning = nodes(0)
    value = references.logsumexp(log_winning)
    if value > -0.3:
        x, log_losing = nodes(1)
        value = math.log1p(-math.exp(references.logsumexp(log_losing)))
        log_winning = both(x)[0] + math.log(x[1] - x[0])
    return value, (of_items(x)[1] * np.exp(log_winning - value)).sum(axis=1)


@pytest.mark.parametrize("size", [9, 20, 60, 300, 1000])
@pytest.mark.parametrize("ahead", [4.0, 6.0, 7.0])
def test_an_item_far_behind_its_group(ahead, size):
    """All items arrive early but one: an integrand is as steep as that of a large group, and as long as that of one."""
    log_rates = np.repeat(np.linspace(-1.0, 2.0, 13, dtype="float32")[:, None], size, axis=1)
    log_rates[:, 1:] += np.float32(ahead)
    labels = np.repeat(np.float32([[1] * size + [0]]), len(log_rates), axis=0)
    values, gradient = values_and_gradient(list_mle(), labels, np.pad(log_rates, ((0, 0), (0, 1))))
    for row, value, slopes in zip(log_rates.astype("float64"), values, gradient, strict=True):
        log_probability, expected = integrated_group(row)
        np.testing.assert_allclose(value, -log_probability, rtol=8e-6)
        np.testing.assert_allclose(slopes[:-1], -expected, rtol=0, atol=8e-6 * expected.max())


@functools.cache
def long_lists():
    """Lists of 200 items with what their loss and gradient should be: all ranges of scores, won and lost."""
    random = np.random.default_rng(3)
    grades = random.choice(5, 200, p=[0.5, 0.2, 0.15, 0.1, 0.05]).astype("float32")
    most = (np.arange(200) < 199).astype("float32")
    few = np.float32([3, 2, 2, 1] + [0] * 196)
    noise = random.normal(size=200)
    lists = [
        (labels, noise * deviation) for labels in (grades, most, few) for deviation in (0.0, 0.3, 3.0, 30.0, 300.0)
    ]
    slopes = (-30.0, -3.0, 3.0, 6.0, 16.0)
    lists += [(labels, labels * slope + noise / 5) for labels in (grades, few) for slope in slopes]
    labels, scores = (np.stack(parts).astype("float32") for parts in zip(*lists, strict=True))
    values, gradients = zip(
        *(integrated(y, s) for y, s in zip(labels, scores.astype("float64"), strict=True)), strict=True
    )
    return labels, scores, np.array(values), np.stack(gradients)


@pytest.mark.parametrize("grade", [1.0, 0.7], ids=["grades", "other labels"])
def test_long_lists_in_float32(grade):
    labels, scores, expected, slopes = long_lists()
    values, gradient = values_and_gradient(list_mle(), labels * np.float32(grade), scores)
    np.testing.assert_allclose(values, expected, rtol=2e-6)
    largest = np.abs(slopes).max(axis=1, keepdims=True)
    np.testing.assert_allclose(gradient / largest, slopes / largest, atol=3e-6)


@pytest.mark.parametrize("ties", ["exact", "breslow", "efron", "position"])
def test_grades_and_other_labels_of_long_lists_agree(ties, random):
    """The same discount, padding and lists without ties, with and without sorting."""
    loss = list_mle(ties=ties, discount="log2")
    labels = random.choice([-1.0, 0.0, 1.0, 2.0, 3.0, 4.0], (4, 70)).astype("float32")
    labels[2] = -1
    labels[3, 5:] = -1
    labels[3, :5] = [4, 0, 2, 1, 3]
    scores = random.normal(size=labels.shape).astype("float32")
    graded = values_and_gradient(loss, labels, scores)
    sorted_labels = np.where(labels >= 0, labels * np.float32(1.5), labels)
    for found, expected in zip(graded, values_and_gradient(loss, sorted_labels, scores), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("ties", ["breslow", "efron", "position"])
@pytest.mark.parametrize("settings", [{}, {"top_k": 9, "discount": "log2"}], ids=str)
def test_other_rules_for_grades_in_float32(ties, settings, random):
    """Usual lists, sorted the wrong way and converged ones: no tiny loss beside large scores is lost."""
    labels = random.choice([-1.0, 0.0, 1.0, 2.0, 3.0, 4.0], (5, 40)).astype("float32")
    labels[:, :2] = [4, 0]
    slope = np.array([[0.0], [1.0], [-6.0], [3.0], [7.0]])
    # One of each of the last: only ties would lose much there.
    labels[4, 5:], labels[4, :5] = -1, [3, 1, 4, 0, 2]
    scores = (labels * slope + random.normal(size=labels.shape) / 5).astype("float32")
    values, gradient = values_and_gradient(list_mle(ties=ties, **settings), labels, scores)
    for one in range(5):
        y, s = labels[one][labels[one] >= 0], scores[one][labels[one] >= 0].astype("float64")

        def loss(s, y=y):
            return references.list_value("ListMLELoss", y, s, ties=ties, **settings)

        np.testing.assert_allclose(values[one], loss(s), rtol=2e-6)
        # Differences of a converged loss of 1e-3 have fewer digits than it.
        slopes = central_differences(loss, s)
        atol = 2e-6 * np.abs(slopes).max()
        np.testing.assert_allclose(gradient[one][labels[one] >= 0], slopes, atol=atol)


def test_smooth_in_the_score_of_one_item():
    """No jump where the way to integrate changes: the slope of values along a line is the gradient."""
    labels = np.tile(np.float32([2, 2, 1, 1, 1, 0, 0]), (401, 1))
    scores = np.tile(np.float32([0.3, -1.0, 0.5, 0.0, 0.2, 0.4, -0.6]), (401, 1))
    line = np.linspace(-20, 20, 401, dtype="float32")
    scores[:, 3] = line
    values, gradient = values_and_gradient(list_mle(), labels, scores)
    rises = np.diff(values)
    # The trapezoid rule is a bound within the curvature of a logistic function.
    np.testing.assert_allclose(rises, 0.1 * (gradient[1:, 3] + gradient[:-1, 3]) / 2, atol=3e-4)
    assert np.abs(np.diff(gradient[:, 3])).max() < 0.1


@pytest.mark.parametrize("ties", ["breslow", "efron", "random", "position"])
@pytest.mark.parametrize("settings", [{}, {"top_k": 3}, {"discount": "log2"}, {"score_transform": "identity"}], ids=str)
def test_all_rules_agree_without_ties(ties, settings, random):
    labels = np.float32([random.permutation(6) for _ in range(3)])
    scores = np.exp(random.normal(size=labels.shape)).astype("float32")
    exact = values_and_gradient(list_mle(**settings), labels, scores)
    other = values_and_gradient(list_mle(ties=ties, **settings), labels, scores)
    np.testing.assert_allclose(other[0], exact[0], rtol=1e-5)
    np.testing.assert_allclose(other[1], exact[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ties", ["exact", "breslow", "efron", "position"])
@pytest.mark.parametrize("length", [20, 200, 300])
def test_a_score_that_is_no_number_spoils_its_own_list_alone(ties, length, random):
    labels = random.integers(0, 5, (2, length)).astype("float32")
    scores = random.normal(size=(2, length)).astype("float32")
    expected, _ = values_and_gradient(list_mle(ties=ties), labels, scores)
    scores[0, 5] = np.nan
    values, gradient = values_and_gradient(list_mle(ties=ties), labels, scores)
    assert np.isnan(values[0])
    np.testing.assert_allclose(values[1], expected[1], rtol=1e-6)
    assert np.isfinite(gradient[1]).all()


@pytest.mark.skipif(NAME != "tensorflow", reason="about TensorFlow's graphs alone")
@pytest.mark.parametrize("ties", ["exact", "breslow", "efron", "position"])
def test_a_batch_of_no_lists_in_a_graph_of_unknown_shapes(ties):
    import tensorflow as tf

    shapes = [tf.TensorSpec((None, None))] * 2
    run = tf.function(lambda y_true, y_pred: list_mle(ties=ties)(y_true, y_pred), input_signature=shapes)
    assert run(tf.zeros((2, 10)), tf.zeros((2, 10))).shape == (2,)
    assert run(tf.zeros((0, 10)), tf.zeros((0, 10))).shape == (0,)


@pytest.mark.parametrize("ties", ["exact", "breslow", "efron"])
def test_the_order_within_the_lowest_group_is_free(ties, random):
    labels, scores = np.float32([[1, 0, 0, 0]]), np.float32([random.normal(size=4)])
    found, _ = values_and_gradient(list_mle(ties=ties), labels, scores)
    np.testing.assert_allclose(found[0], references.logsumexp(scores[0]) - scores[0, 0], rtol=1e-5)


def test_position_takes_ties_in_the_order_of_the_input():
    loss = ListMLELoss(ties="position")
    scores = np.float32([[1.0, 0.0, 3.0]])
    expected = sum(math.log(sum(math.exp(s) for s in scores[0, k:])) - scores[0, k] for k in range(3))
    assert float(loss(np.ones((1, 3), "float32"), scores)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("ties", "labels", "length", "weighed"),
    [
        ("breslow", "others", 20, True),
        ("random", "grades", 20, True),
        ("random", "grades", 40, True),
        ("random", "others", 40, False),
    ],
)
def test_sums_of_lists_are_those_of_their_items(ties, labels, length, weighed, random):
    relevance = {
        "grades": random.integers(-1, 5, (5, length)),
        "others": random.integers(-2, 5, (5, length)) / 2,
    }[labels].astype("float32")
    scores = random.normal(size=relevance.shape).astype("float32")
    weights = np.where(relevance >= 0, random.uniform(0.5, 2, relevance.shape), 0) if weighed else None
    seed = 3 if ties == "random" else None
    settings = {"ties": ties, "top_k": None, "discount": "log2", "score_transform": "exp", "seed": seed}

    def by_list(labels, scores, weights):
        return list_mle_sums(labels, scores, labels >= 0, weights, **settings)

    def by_item(labels, scores, weights):
        losses = list_mle_loss(labels, scores, **settings)
        return ops.sum(losses if weights is None else losses * weights, axis=1)

    for found, expected in zip(
        values_and_gradient(by_list, relevance, scores, weights),
        values_and_gradient(by_item, relevance, scores, weights),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_random_is_repeated_by_its_seed():
    labels, scores = np.ones((4, 8), "float32"), np.float32([np.linspace(-2, 2, 8)] * 4)
    draws = [float(ListMLELoss(ties="random", seed=seed)(labels, scores)) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    loss = ListMLELoss(ties="random", seed=1)
    assert float(loss(labels, scores)) != float(loss(labels, scores))


def test_random_is_on_average_the_mean_over_all_orders():
    scores = np.array([0.5, -1.0, 1.5])
    orders = list(itertools.permutations(scores))
    expected = np.mean([sum(references.logsumexp(order[k:]) - order[k] for k in range(3)) for order in orders])
    loss = ListMLELoss(ties="random", seed=7, reduction=None)
    values = keras.ops.convert_to_numpy(loss(np.ones((4000, 3), "float32"), np.float32([scores] * 4000)))
    assert values.mean() == pytest.approx(expected, abs=float(5 * values.std() / math.sqrt(4000)))
    assert len(np.unique(values.round(4))) == len(orders)


def test_what_tensorflow_ranking_cannot_do_is_finite():
    values, gradient = values_and_gradient(list_mle(), np.float32([[0, 1]]), np.float32([[100, 0]]))
    np.testing.assert_allclose(values, [100], rtol=1e-6)
    np.testing.assert_allclose(gradient, [[1, -1]], rtol=1e-6)
