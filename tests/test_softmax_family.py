"""Softmax family and circle loss beyond the laws: minima, weights that do not fit, sums of lower labels, long lists."""

import numpy as np
import pytest
import references
from backend import NAME, central_differences, to_numpy, values_and_gradient
from keras import ops

from tfrankloss import (
    CalibratedSoftmaxLoss,
    CircleLoss,
    KLListwiseLoss,
    ListNetLoss,
    PolyOneSoftmaxLoss,
    SoftmaxLoss,
    UniqueSoftmaxLoss,
    XENDCGLoss,
    functional,
)
from tfrankloss.functional import lists, log_sums
from tfrankloss.losses import LabelDiffLambdaWeight, ListMLELambdaWeight, PrecisionLambdaWeight

pytestmark = pytest.mark.backends

float64_only = pytest.mark.skipif(NAME == "jax", reason="JAX has no float64 unless the whole process is switched to it")


@pytest.mark.parametrize("scale", [1.0, 100.0, 1e4, 1e29])
def test_lower_logsumexp(scale, random):
    labels = random.integers(-1, 3, (5, 70))
    values = (random.normal(size=labels.shape) * scale).astype("float32")
    largest, excess = map(to_numpy, log_sums.lower_logsumexp(*lists.prepare(np.float32(labels), values)))
    for row, item in zip(*np.nonzero(labels >= 0), strict=True):
        lower = (labels[row] >= 0) & (labels[row] < labels[row, item])
        if not lower.any():
            assert (largest[row, item], excess[row, item]) == (np.float32(lists.LOWEST), 0)
        else:
            highest = values[row, lower].max()
            assert largest[row, item] == highest
            expected = references.logsumexp(values[row, lower].astype("float64") - highest)
            assert excess[row, item] == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("loss", [SoftmaxLoss, PolyOneSoftmaxLoss, CalibratedSoftmaxLoss])
@pytest.mark.parametrize(
    "weight", [LabelDiffLambdaWeight(), PrecisionLambdaWeight(), ListMLELambdaWeight("log2"), "ndcg"], ids=repr
)
def test_weights_without_discounted_gains_raise(loss, weight):
    with pytest.raises(TypeError, match=r"`lambda_weight` must be None or a weight of discounted gains.*Received: "):
        loss(lambda_weight=weight)
    function = getattr(functional, loss().name)
    with pytest.raises(TypeError, match=r"`lambda_weight` must be None or a weight of discounted gains.*Received: "):
        function([[1.0, 0.0]], [[0.5, 0.6]], lambda_weight=weight)


@pytest.mark.parametrize(
    ("weighed", "of"),
    [(False, "labels"), (False, "scores"), (True, "labels"), (True, "scores"), (True, "weights")],
)
@pytest.mark.parametrize(
    "loss",
    [SoftmaxLoss(), ListNetLoss(), KLListwiseLoss(), KLListwiseLoss(labels_are_probabilities=True), XENDCGLoss()],
)
def test_sums_of_lists_have_the_gradients_of_their_items(loss, weighed, of, random):
    labels = random.uniform(0.1, 3, (6, 9)).astype("float32")
    mask = random.random(labels.shape) < 0.7
    # Lists of nothing to learn: no relevant item, one item, none.
    labels[0] = 0
    mask[1:3] = False
    mask[1, 4] = True
    given = {
        "labels": labels,
        "scores": random.normal(size=labels.shape).astype("float32"),
        "weights": np.where(mask, random.uniform(0.5, 2, labels.shape), 0).astype("float32"),
    }
    mask, tensors = ops.convert_to_tensor(mask), {name: ops.convert_to_tensor(part) for name, part in given.items()}

    def by_list(_, values, __):
        parts = {**tensors, of: values}
        weights = parts["weights"] if weighed else None
        return loss.sums(parts["labels"], parts["scores"], mask, weights) * (1 + ops.arange(6, dtype="float32"))

    def by_item(_, values, __):
        parts = {**tensors, of: values}
        losses = loss.item_losses(parts["labels"], parts["scores"], mask)
        losses = losses * parts["weights"] if weighed else losses
        return ops.sum(losses, axis=1) * (1 + ops.arange(6, dtype="float32"))

    for found, expected in zip(
        values_and_gradient(by_list, labels, given[of]), values_and_gradient(by_item, labels, given[of]), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_poly_one_of_epsilon_zero_is_softmax(random):
    labels, scores = np.float32([[2, 0, 1, -1]]), random.normal(size=(1, 4)).astype("float32")
    for found, expected in zip(
        values_and_gradient(PolyOneSoftmaxLoss(epsilon=0), labels, scores),
        values_and_gradient(SoftmaxLoss(), labels, scores),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("virtual_label", [0.1, 1.0, 3.0])
def test_calibrated_scores_are_logarithms_of_label_ratios(virtual_label):
    """At the minimum, which is a likelihood's, exp(score) is the label in units of the virtual one."""
    labels = np.float32([[3, 1, 0.5, -1]])
    scores = np.log(np.where(labels > 0, labels, 1) / virtual_label).astype("float32")
    loss = CalibratedSoftmaxLoss(virtual_label=virtual_label)
    value, gradient = values_and_gradient(loss, labels, scores)
    np.testing.assert_allclose(gradient, np.zeros((1, 4)), atol=1e-6)
    assert value < values_and_gradient(loss, labels, scores + 0.1)[0]


def test_calibrated_softmax_of_no_relevance_lowers_scores():
    labels, scores = np.float32([[0, 0, -1], [-1, -1, -1]]), np.float32([[1, 2, 3], [1, 2, 3]])
    values, gradient = values_and_gradient(CalibratedSoftmaxLoss(virtual_label=2.0, reduction=None), labels, scores)
    np.testing.assert_allclose(values, [2 * references.logsumexp([0, 1, 2]), 0], rtol=1e-6)
    assert (gradient[0, :2] > 0).all()
    np.testing.assert_array_equal(gradient[1], 0)


@pytest.mark.parametrize("name", ["SoftmaxLoss", "ListNetLoss", "KLListwiseLoss"])
def test_labels_have_a_gradient_too(name, random):
    """For teachers that are trained along with their students."""
    loss = {
        "SoftmaxLoss": functional.softmax_loss,
        "ListNetLoss": functional.list_net_loss,
        "KLListwiseLoss": functional.kl_listwise_loss,
    }[name]
    labels, scores = random.uniform(1, 2, (2, 4)).astype("float32"), random.normal(size=(2, 4)).astype("float32")
    _, gradient = values_and_gradient(
        lambda given, taught, weights: ops.sum(loss(taught, given), axis=1), scores, labels
    )

    def total(moved):
        return sum(references.list_value(name, y, s) for y, s in zip(moved, scores, strict=True))

    np.testing.assert_allclose(gradient, central_differences(total, labels), rtol=1e-4, atol=1e-5)


def test_unique_softmax_of_one_grade_is_zero():
    values, gradient = values_and_gradient(
        UniqueSoftmaxLoss(), np.full((1, 4), 2, "float32"), np.float32([[3, 1, 2, 9]])
    )
    assert values == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("name", ["UniqueSoftmaxLoss", "CircleLoss"])
def test_long_lists(name, random):
    labels = random.integers(0, 5, (1, 300)).astype("float32")
    scores = random.normal(size=labels.shape).astype("float32")
    loss = {"UniqueSoftmaxLoss": UniqueSoftmaxLoss, "CircleLoss": CircleLoss}[name](reduction=None)
    expected = references.list_value(name, labels[0], scores[0])
    np.testing.assert_allclose(values_and_gradient(loss, labels, scores)[0], [expected], rtol=1e-5)


@pytest.mark.skipif(NAME != "tensorflow", reason="only TensorFlow compiles for lengths that it does not know")
@pytest.mark.parametrize("loss", [SoftmaxLoss, ListNetLoss, KLListwiseLoss, XENDCGLoss, CalibratedSoftmaxLoss])
def test_no_items_where_the_length_is_unknown(loss):
    import tensorflow as tf

    matrix = tf.TensorSpec([None, None], "float32")
    compiled = tf.function(loss(reduction=None), input_signature=[matrix, matrix], autograph=False)
    empty = np.zeros((2, 0), "float32")
    np.testing.assert_array_equal(compiled(empty, empty), [0, 0])


@float64_only
@pytest.mark.parametrize("settings", [{}, {"gamma": 5.0, "margin": 0.1}, {"gamma": 300.0}], ids=str)
def test_circle_gradient_is_that_of_fixed_factors(settings, random):
    """The slope of the loss with the factors alpha and beta held where they are."""
    labels = random.integers(0, 3, (3, 6)).astype("float64")
    scores = random.uniform(-0.2, 1.2, labels.shape)
    _, gradient = values_and_gradient(CircleLoss(dtype="float64", **settings), labels, scores, dtype="float64")

    def mean(moved):
        rows = zip(labels, moved, scores, strict=True)
        return np.mean([references.list_value("CircleLoss", y, s, held_at=fixed, **settings) for y, s, fixed in rows])

    np.testing.assert_allclose(gradient, central_differences(mean, scores), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(gradient[(scores < 0) | (scores > 1)], 0)


def test_circle_of_one_pair_is_a_softplus():
    s, gamma, m = np.array([0.7, 0.4]), 8.0, 0.25
    exponent = gamma * ((1 + m - s[0]) * (1 - m - s[0]) + (s[1] + m) * (s[1] - m))
    found = ops.sum(functional.circle_loss([[1.0, 0.0]], np.float32([s]), gamma=gamma, margin=m))
    assert float(found) == pytest.approx(references.softplus(exponent), rel=1e-5)


@pytest.mark.parametrize("settings", [{"gamma": 0.0}, {"gamma": -1}, {"margin": -0.1}])
def test_circle_refuses_settings_out_of_range(settings):
    with pytest.raises(ValueError, match=r"must be .*Received: "):
        CircleLoss(**settings)
    with pytest.raises(ValueError, match=r"must be .*Received: "):
        functional.circle_loss([[1.0, 0.0]], [[0.5, 0.6]], **settings)


def test_negative_virtual_labels_are_refused():
    with pytest.raises(ValueError, match=r"`virtual_label` must be at least 0. Received: virtual_label=-1"):
        CalibratedSoftmaxLoss(virtual_label=-1)
    with pytest.raises(ValueError, match=r"`virtual_label` must be at least 0. Received: virtual_label=-1"):
        functional.calibrated_softmax_loss([[1.0, 0.0]], [[0.5, 0.6]], virtual_label=-1)
