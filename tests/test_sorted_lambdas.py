"""Lambda weights over sorted scores: against all pairs one by one, and the exponentials that they are made of."""

import keras
import numpy as np
import pytest
from backend import NAME, values_and_gradient
from test_sorted_pairs import labels_of, padded, scores_of

import tfrankloss
from tfrankloss.functional import decays, gap_kernels

pytestmark = pytest.mark.backends

WEIGHTS = [
    tfrankloss.LabelDiffLambdaWeight(),
    tfrankloss.NDCGLambdaWeight(),
    tfrankloss.NDCGLambdaWeight(k=10, gain="linear", smooth_fraction=0.25),
    tfrankloss.MRRLambdaWeight(threshold=2.0),
    tfrankloss.PrecisionLambdaWeight(k=20),
    tfrankloss.NDCGLambdaWeightV2(k=7),
    tfrankloss.NDCGLoss2PlusPlusLambdaWeight(),
]
NDCG = WEIGHTS[1]
LENGTH = 150
LOSSES = {
    "logistic": tfrankloss.RankNetLoss,
    "zero-one": tfrankloss.PairwiseSoftZeroOneLoss,
    "hinge": tfrankloss.PairwiseHingeLoss,
}
_made = {}


def losses(cls, weight, method):
    """One object each, so that it is compiled once."""
    return _made.setdefault((cls, weight, method), cls(lambda_weight=weight, method=method, reduction=None))


def by_each(methods, weight, labels, scores, cls=tfrankloss.RankNetLoss, sample_weight=None):
    """Values and gradients by each of the methods."""
    return [
        values_and_gradient(losses(cls, weight, method), labels, scores, sample_weight=sample_weight)
        for method in methods
    ]


def check(cls, weight, labels, scores, sample_weight=None, of_values=1e-4, of_slopes=1e-4):
    """Sums over sorted scores are those over all pairs, one by one."""
    (values, slopes), (expected, expected_slopes) = by_each(
        ("sorted", "dense"), weight, labels, scores, cls, sample_weight
    )
    np.testing.assert_allclose(values, expected, rtol=of_values, atol=1e-6 * np.abs(expected).max() + 1e-30)
    largest = np.abs(expected_slopes).max(axis=1, keepdims=True)
    assert (np.abs(slopes - expected_slopes) <= of_slopes * largest + 1e-30).all()
    np.testing.assert_array_equal(slopes[labels < 0], 0)


# Compiling takes the time; the parts of a rank factor are the same on every backend.
@pytest.mark.parametrize("weight", WEIGHTS if NAME == "tensorflow" else WEIGHTS[2:4], ids=str)
def test_every_weight(weight, random):
    labels = padded(labels_of("grades", random, (3, LENGTH)), random)
    for scores in ("usual", "tied"):
        check(tfrankloss.RankNetLoss, weight, labels, scores_of(scores, random, labels))


# One of several parts, one of labels cut in two, one with a factor of the lower rank.
@pytest.mark.parametrize("weight", WEIGHTS[2:4] + WEIGHTS[5:6] if NAME == "tensorflow" else WEIGHTS[2:3], ids=str)
def test_weights_of_a_hinge(weight, random):
    labels = padded(labels_of("grades", random, (3, LENGTH)), random)
    check(tfrankloss.PairwiseHingeLoss, weight, labels, scores_of("usual", random, labels))


@pytest.mark.parametrize("form", ["logistic", "hinge"])
@pytest.mark.parametrize("scores", ["equal", "near", "usual", "tied", "wide", "converged"])
@pytest.mark.parametrize("labels", ["grades", "31 grades", "clicks", "real", "one grade"])
def test_labels_and_scores(form, labels, scores, random):
    labels = padded(labels_of(labels, random, (3, LENGTH)), random)
    check(LOSSES[form], NDCG, labels, scores_of(scores, random, labels))


def hinges_of_label_gaps(labels, scores, margin):
    """The sum (B,) of the losses of all pairs, each weighed by its gap of labels, and the slopes (B, L), in float64."""
    values, slopes = np.zeros(len(labels)), np.zeros(labels.shape)
    for row, (y, s) in enumerate(zip(labels.astype("float64"), scores.astype("float64"), strict=True)):
        items = np.flatnonzero(y >= 0)
        weights = np.maximum(0, y[items, None] - y[None, items])
        missing = margin - (s[items, None] - s[None, items])
        values[row] = (weights * np.maximum(0, missing)).sum()
        pulls = weights * (missing > 0)
        slopes[row, items] = pulls.sum(axis=0) - pulls.sum(axis=1)
    return values, slopes


def hinge_by_label_gaps(margin):
    """One object each, so that it is compiled once."""
    weight = tfrankloss.LabelDiffLambdaWeight()
    loss = tfrankloss.PairwiseHingeLoss(margin=margin, lambda_weight=weight, method="sorted", reduction=None)
    return _made.setdefault(margin, loss)


def test_weighed_hinge_of_gaps_about_the_margin(random):
    """Whose own rounding would show."""
    labels = padded(labels_of("grades", random, (3, 700)), random)
    scores = (labels + random.normal(size=labels.shape) * 1e-4).astype("float32")
    values, _ = values_and_gradient(hinge_by_label_gaps(1.0), labels, scores)
    np.testing.assert_allclose(values, hinges_of_label_gaps(labels, scores, 1.0)[0], rtol=2e-6)


# From a reach of many blocks to none.
@pytest.mark.parametrize("margin", [0.01, 1.0, 25.0] if NAME == "tensorflow" else [1.0])
@pytest.mark.parametrize("scores", ["usual", "wide", "converged", "at the margin"])
@pytest.mark.parametrize("labels", ["grades", "31 grades"])
def test_hinge_is_as_exact_as_float64(margin, scores, labels, random):
    labels = padded(labels_of(labels, random, (3, 700)), random)
    scores = scores_of(scores, random, labels)
    values, gradient = values_and_gradient(hinge_by_label_gaps(margin), labels, scores)
    expected, slopes = hinges_of_label_gaps(labels, scores, np.float64(np.float32(margin)))
    np.testing.assert_allclose(values, expected, rtol=2e-6)
    assert (np.abs(gradient - slopes) <= 2e-6 * np.abs(slopes).max(axis=1, keepdims=True)).all()


@pytest.mark.parametrize("form", LOSSES)
@pytest.mark.parametrize("labels", ["grades", "real"])
def test_item_weights(form, labels, random):
    labels = padded(labels_of(labels, random, (3, LENGTH)), random)
    weights = (random.integers(1, 9, labels.shape) / 4).astype("float32")
    check(LOSSES[form], NDCG, labels, scores_of("usual", random, labels), weights)


def test_binary_pairs_of_graded_gains(random):
    """Items that are only told to be relevant have gains of their own."""
    labels = padded(labels_of("grades", random, (3, LENGTH)), random)
    scores = scores_of("usual", random, labels)
    found, expected = (
        values_and_gradient(
            tfrankloss.RankNetLoss(pairs="binary", lambda_weight=NDCG, method=method, reduction=None), labels, scores
        )
        for method in ("sorted", "dense")
    )
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-4)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-4 * np.abs(expected[1]).max())


def test_few_rates_of_equal_scores(random):
    """Where the kernels of the soft zero-one loss are furthest off."""
    labels = padded(labels_of("grades", random, (2, LENGTH)), random)
    scores = scores_of("equal", random, labels)
    check(LOSSES["zero-one"], NDCG, labels, scores, of_values=2e-4, of_slopes=3e-4)


@pytest.mark.parametrize(
    "weight", [tfrankloss.MRRLambdaWeight(threshold=1.0), tfrankloss.PrecisionLambdaWeight(k=5)], ids=repr
)
def test_pairs_of_one_gain_leave_nothing(weight, random):
    """Not even the rounding of what is added up and taken off again."""
    labels = np.tile(np.arange(1, 31, dtype="float32"), 3)[None]
    scores = scores_of("wide", random, labels)
    values, slopes = by_each(("sorted",), weight, labels, scores)[0]
    np.testing.assert_array_equal(values, 0)
    np.testing.assert_array_equal(slopes, 0)
    labels[0, ::3] = 0
    check(tfrankloss.RankNetLoss, weight, labels, scores)


@pytest.mark.parametrize("length", [1, 33, 500])
def test_lengths(length, random):
    labels = padded(labels_of("grades", random, (4, length)), random)
    check(tfrankloss.RankNetLoss, NDCG, labels, scores_of("usual", random, labels))


def test_long_lists_are_sorted_by_default(random):
    labels = padded(labels_of("grades", random, (2, LENGTH)), random)
    scores = scores_of("usual", random, labels)
    by_default, by_sorting = by_each(("auto", "sorted"), NDCG, labels, scores)
    np.testing.assert_array_equal(by_default[1], by_sorting[1])


@pytest.mark.skipif(NAME != "tensorflow", reason="about TensorFlow's graphs alone")
# One block, one group of blocks, several of them, and groups of groups; a hinge knows no groups of its own.
@pytest.mark.parametrize("form, lengths", [("logistic", (1, 20, 700, 20000)), ("hinge", (1, 700))])
def test_lists_of_unknown_length_are_sorted_too(form, lengths, random):
    import tensorflow as tf

    loss = losses(LOSSES[form], NDCG, "auto")

    @tf.function(input_signature=[tf.TensorSpec((None, None))] * 2, autograph=False)
    def run(y_true, y_pred):
        with tf.GradientTape() as tape, keras.StatelessScope():
            tape.watch(y_pred)
            value = loss(y_true, y_pred)
        return value, tape.gradient(value, y_pred)

    for length in lengths:
        labels = padded(labels_of("grades", random, (2, length)), random)
        scores = scores_of("usual", random, labels)
        values, slopes = (result.numpy() for result in run(labels, scores))
        expected, expected_slopes = by_each(("sorted",), NDCG, labels, scores, LOSSES[form])[0]
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-30)
        np.testing.assert_allclose(slopes, expected_slopes, atol=1e-4 * np.abs(expected_slopes).max())


@pytest.mark.parametrize(
    "weight",
    [
        tfrankloss.YetiDCGLambdaWeight(),
        tfrankloss.NDCGLoss1LambdaWeight(),
        tfrankloss.NDCGLambdaWeight(gain=lambda labels: -labels),
        tfrankloss.NDCGLambdaWeight(discount=lambda ranks: 1 / (1 + ranks)),
    ],
    ids=["neighbors", "NDCG-Loss1", "falling gain", "unnamed discount"],
)
def test_weights_known_of_single_pairs_only(weight, random):
    with pytest.raises(ValueError, match="or weights are known of single pairs only"):
        tfrankloss.RankNetLoss(lambda_weight=weight, method="sorted")
    labels = padded(labels_of("grades", random, (2, LENGTH)), random)
    scores = scores_of("usual", random, labels)
    by_default, dense = by_each(("auto", "dense"), weight, labels, scores)
    np.testing.assert_array_equal(by_default[1], dense[1])


@pytest.mark.skipif(NAME != "tensorflow", reason="NumPy alone")
@pytest.mark.parametrize("length", [1, 100, 1000, 4000, 100_000, 1_000_000])
@pytest.mark.parametrize("discount", decays.DISCOUNTS)
def test_decays(discount, length):
    distances = np.concatenate([np.arange(2, 400) / 2, np.geomspace(1, length, 5000)])
    distances = distances[distances <= length]
    lost = decays.DISCOUNTS[discount](distances) - decays.DISCOUNTS[discount](distances + 1)
    found = decays.decay(discount, length)
    assert (found.weights > 0).all() and (found.rates > 0).all()
    np.testing.assert_allclose(found.at(distances), lost, rtol=1e-4)


@pytest.mark.skipif(NAME != "tensorflow", reason="NumPy alone")
@pytest.mark.parametrize("form, bound", [(gap_kernels.LOGISTIC, 4e-5), (gap_kernels.SOFT_ZERO_ONE, 2.4e-4)])
def test_few_rates_make_the_kernels(form, bound):
    """Relative to the kernels, so that far gaps are as exact as near ones."""
    t = np.linspace(1e-6, 1, 2001)
    for kernel in (form.value, form.slope):
        found = t[:, None] ** np.array(form.rates) @ kernel.coefficients(form.rates)
        np.testing.assert_allclose(found, kernel.of_array(t), rtol=bound)
