"""Sums over pairs by sorted scores: against float64 sums over all pairs, and without their tensors."""

import keras
import numpy as np
import pytest
from backend import NAME, values_and_gradient

from tfrankloss import (
    ApproxNDCGLoss,
    MRRLambdaWeight,
    NDCGLambdaWeight,
    PairwiseHingeLoss,
    PairwiseMSELoss,
    PairwiseSoftZeroOneLoss,
    RankNetLoss,
    YetiDCGLambdaWeight,
    functional,
)
from tfrankloss.functional import dense_pairs, kernels

pytestmark = pytest.mark.backends

LENGTHS = [1, 32, 33, 700]


def labels_of(kind, random, shape):
    return {
        "grades": lambda: random.choice(5, shape, p=[0.5, 0.2, 0.15, 0.1, 0.05]),
        "31 grades": lambda: random.integers(0, 31, shape),
        "clicks": lambda: random.integers(0, 2, shape),
        "real": lambda: random.random(shape) * 3,
        "one grade": lambda: np.full(shape, 2.0),
    }[kind]().astype("float32")


def scores_of(kind, random, labels):
    return {
        "equal": lambda: np.zeros(labels.shape),
        "near": lambda: random.normal(size=labels.shape) * 0.01,
        "usual": lambda: random.normal(size=labels.shape) * 2,
        "tied": lambda: random.integers(0, 3, labels.shape),
        "wide": lambda: random.normal(size=labels.shape) * 1000,
        "converged": lambda: labels * 20 + random.normal(size=labels.shape) * 0.1,
        # Gaps between grades are whole, or fall short of that by a little that float32 still tells at 900.
        "at the margin": lambda: 900 + labels - random.integers(0, 2, labels.shape) / 2**13,
    }[kind]().astype("float32")


def padded(labels, random):
    """A third of the items is padding, and so is the last list."""
    hidden = random.random(labels.shape) < 1 / 3
    hidden[:, 0], hidden[-1] = False, True
    return np.where(hidden, np.float32(-1), labels)


def exact(labels, scores, value, slope, upstream=None):
    """The losses of all pairs of different labels and their slopes, in float64: (B, L) each."""
    values, slopes = np.zeros(labels.shape), np.zeros(labels.shape)
    for row, (y, s) in enumerate(zip(labels, scores.astype("float64"), strict=True)):
        items = np.flatnonzero(y >= 0)
        better = y[items, None] > y[None, items]
        gaps = s[items, None] - s[None, items]
        values[row, items] = np.where(better, value(gaps), 0).sum(axis=1)
        weights = np.ones(len(items)) if upstream is None else upstream[row, items].astype("float64")
        pulls = np.where(better, slope(gaps), 0) * weights[:, None]
        slopes[row, items] = pulls.sum(axis=1) - pulls.sum(axis=0)
    return values, slopes


def sigmoid(x):
    return np.exp(-np.logaddexp(0, -x))


LOGISTIC = (RankNetLoss, lambda d: np.logaddexp(0, -d), lambda d: -sigmoid(-d))
ZERO_ONE = (PairwiseSoftZeroOneLoss, lambda d: sigmoid(-d), lambda d: -sigmoid(d) * sigmoid(-d))
HINGE = (PairwiseHingeLoss, lambda d: np.maximum(0, 1 - d), lambda d: -(d < 1).astype("float64"))
FORMS = {"logistic": LOGISTIC, "zero-one": ZERO_ONE, "hinge": HINGE}
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
LOSSES = {form[0]: form[0](method="sorted", reduction=None) for form in FORMS.values()}


def check(form, labels, scores, weights=None, of_slopes=1e-6):
    cls, value, slope = form
    values, gradient = values_and_gradient(LOSSES[cls], labels, scores, sample_weight=weights)
    expected, slopes = exact(labels, scores, value, slope, weights)
    if weights is not None:
        expected = expected * weights
    np.testing.assert_allclose(values, expected.sum(axis=1), rtol=1e-6, atol=1e-30)
    largest = np.abs(slopes).max(axis=1, keepdims=True)
    assert (np.abs(gradient - slopes) <= of_slopes * largest + 1e-30).all()


@every_form
@pytest.mark.parametrize("length", LENGTHS)
def test_lengths(form, length, random):
    labels = padded(labels_of("grades", random, (4, length)), random)
    check(form, labels, scores_of("usual", random, labels))


@every_form
@pytest.mark.parametrize("scores", ["equal", "near", "usual", "tied", "wide", "converged"])
@pytest.mark.parametrize("labels", ["grades", "31 grades", "clicks", "real", "one grade"])
def test_labels_and_scores(form, labels, scores, random):
    labels = padded(labels_of(labels, random, (3, 300)), random)
    # Gaps of 20 and more are rounded by 1e-6, and so are their exponentials.
    check(form, labels, scores_of(scores, random, labels), of_slopes=2e-6 if scores == "converged" else 1e-6)


@every_form
@pytest.mark.parametrize("labels", ["grades", "real"])
def test_item_weights(form, labels, random):
    labels = padded(labels_of(labels, random, (3, 200)), random)
    weights = (random.integers(1, 9, labels.shape) / 4).astype("float32")
    check(form, labels, scores_of("usual", random, labels), weights)


@pytest.mark.parametrize("labels", ["grades", "31 grades", "real"])
def test_hinge_of_little_at_large_scores(labels, random):
    labels = padded(labels_of(labels, random, (3, 300)), random)
    check(HINGE, labels, scores_of("at the margin", random, labels))


@pytest.mark.parametrize("labels", ["grades", "31 grades"])
def test_hinge_of_gaps_about_the_margin(labels, random):
    """Whose own rounding would show; which of them are below the margin is what float32 makes of each gap."""
    labels = padded(labels_of(labels, random, (3, 300)), random)
    scores = (labels + random.normal(size=labels.shape) * 1e-4).astype("float32")
    dense = values_and_gradient(PairwiseHingeLoss(method="dense", reduction=None), labels, scores)
    by_sorting = values_and_gradient(LOSSES[PairwiseHingeLoss], labels, scores)
    np.testing.assert_array_equal(by_sorting[1], dense[1])
    expected, _ = exact(labels, scores, *HINGE[1:])
    np.testing.assert_allclose(by_sorting[0], expected.sum(axis=1), rtol=1e-6)


@pytest.mark.parametrize("lower", [0, 30])
def test_light_items_below_heavy_ones(lower, random):
    """Sums of weights are taken from below, not as what the heavy ones above leave of the whole."""
    labels = np.float32([[lower + 1] * 100 + [lower] * 100])
    scores = np.where(np.arange(200) < 99, 10, random.normal(size=200) * 0.1).astype("float32")[None]
    weights = np.where(np.arange(200) < 99, 1e6 * random.random(200), 0.1).astype("float32")[None]
    check(HINGE, labels, scores, weights)


@every_form
def test_lists_of_no_items(form):
    values, _ = values_and_gradient(LOSSES[form[0]], np.zeros((2, 0), "float32"), np.zeros((2, 0), "float32"))
    np.testing.assert_array_equal(values, [0, 0])


@pytest.mark.parametrize("margin", [0.25, 3.0])
def test_margins(margin, random):
    labels = padded(labels_of("grades", random, (3, 100)), random)
    scores = scores_of("usual", random, labels)
    loss = PairwiseHingeLoss(margin=margin, method="sorted", reduction=None)
    values, gradient = values_and_gradient(loss, labels, scores)
    expected, slopes = exact(labels, scores, lambda d: np.maximum(0, margin - d), lambda d: -1.0 * (d < margin))
    np.testing.assert_allclose(values, expected.sum(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(gradient, slopes)


def test_list_weights_are_weights_of_all_items(random):
    labels = padded(labels_of("grades", random, (3, 100)), random)
    scores = scores_of("usual", random, labels)
    values, gradient = values_and_gradient(LOSSES[RankNetLoss], labels, scores)
    weighed = values_and_gradient(RankNetLoss(method="sorted"), labels, scores, sample_weight=np.float32([1, 2, 3]))
    np.testing.assert_allclose(weighed[0], (values * [1, 2, 3]).sum() / 3, rtol=1e-6)
    np.testing.assert_allclose(weighed[1], gradient * np.float32([[1], [2], [3]]) / 3, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("scores", ["equal", "near", "usual", "wide"])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_smooth_ranks(scores, temperature, random):
    mask = random.random((3, 300)) < 2 / 3
    scores = scores_of(scores, random, np.zeros(mask.shape))
    found = keras.ops.convert_to_numpy(functional.smooth_ranks(scores, mask, temperature=temperature, method="sorted"))
    gaps = (scores[:, None, :].astype("float64") - scores[:, :, None]) / temperature
    expected = np.where(mask, 0.5 + np.where(mask[:, None, :], sigmoid(gaps), 0).sum(axis=2), 1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("scores", ["near", "usual"])
def test_slopes_of_smooth_ranks(scores, random):
    labels = padded(labels_of("grades", random, (3, 300)), random)
    scores = scores_of(scores, random, labels)
    dense, by_sorting = (
        values_and_gradient(ApproxNDCGLoss(method=method, reduction=None), labels, scores)
        for method in ("dense", "sorted")
    )
    np.testing.assert_allclose(by_sorting[0], dense[0], rtol=1e-6)
    np.testing.assert_allclose(by_sorting[1], dense[1], atol=2e-6 * np.abs(dense[1]).max())


@pytest.mark.parametrize("settings", [{}, {"pairs": "binary"}], ids=str)
def test_squares_by_moments(settings, random):
    labels = padded(labels_of("grades", random, (3, 100)), random)
    scores = scores_of("usual", random, labels)
    weights = (random.integers(1, 9, labels.shape) / 4).astype("float32")
    dense, by_moments = (
        values_and_gradient(
            PairwiseMSELoss(method=method, reduction=None, **settings), labels, scores, sample_weight=weights
        )
        for method in ("dense", "auto")
    )
    np.testing.assert_allclose(by_moments[0], dense[0], rtol=1e-5)
    np.testing.assert_allclose(by_moments[1], dense[1], rtol=1e-5, atol=1e-5 * np.abs(dense[1]).max())


MAKERS = {
    "logistic": lambda: RankNetLoss(method="dense", reduction=None),
    "half ties": lambda: RankNetLoss(ties="half", pair_reduction="mean", reduction=None),
    "hinge": lambda: PairwiseHingeLoss(pairs="binary", pair_reduction="mean", method="dense", reduction=None),
    "NDCG": lambda: RankNetLoss(lambda_weight=NDCGLambdaWeight(k=10), method="dense", reduction=None),
    "MRR": lambda: PairwiseHingeLoss(
        lambda_weight=MRRLambdaWeight(smooth_fraction=0.5), method="dense", reduction=None
    ),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_blocks_of_rows_are_all_pairs(make, random, monkeypatch):
    labels = padded(labels_of("grades", random, (3, 70)), random)
    scores = scores_of("usual", random, labels)
    weights = (random.integers(1, 9, labels.shape) / 4).astype("float32")
    at_once = values_and_gradient(make(), labels, scores, sample_weight=weights)
    # Blocks of 7 rows and of one.
    for at_a_time in (490, 60):
        monkeypatch.setattr(dense_pairs, "PAIRS_AT_ONCE", at_a_time)
        in_blocks = values_and_gradient(make(), labels, scores, sample_weight=weights)
        np.testing.assert_allclose(in_blocks[0], at_once[0], rtol=1e-5)
        np.testing.assert_allclose(in_blocks[1], at_once[1], rtol=1e-5, atol=1e-5 * np.abs(at_once[1]).max())


@pytest.mark.skipif(NAME != "tensorflow", reason="about TensorFlow's graphs alone")
@pytest.mark.parametrize(
    "loss",
    [
        RankNetLoss(),
        RankNetLoss(lambda_weight=NDCGLambdaWeight()),
        RankNetLoss(ties="half"),
        PairwiseHingeLoss(),
        PairwiseHingeLoss(lambda_weight=NDCGLambdaWeight()),
        PairwiseSoftZeroOneLoss(),
        PairwiseMSELoss(),
        ApproxNDCGLoss(),
    ],
    ids=["logistic", "NDCG", "half ties", "hinge", "hinge, NDCG", "zero-one", "squares", "ApproxNDCG"],
)
def test_no_tensor_holds_all_pairs(loss):
    import tensorflow as tf

    batch, length = 2, 1000

    @tf.function(autograph=False)
    def run(y_true, y_pred):
        with tf.GradientTape() as tape, keras.StatelessScope():
            tape.watch(y_pred)
            value = loss(y_true, y_pred)
        return value, tape.gradient(value, y_pred)

    spec = tf.TensorSpec((batch, length), tf.float32)
    graph = run.get_concrete_function(spec, spec).graph
    shapes = [tensor.shape for operation in graph.get_operations() for tensor in operation.outputs]
    for function in graph._functions.values():
        inner = getattr(function, "graph", None)
        if inner is not None:
            shapes += [tensor.shape for operation in inner.get_operations() for tensor in operation.outputs]
    sizes = [shape.num_elements() for shape in shapes if shape.is_fully_defined()]
    assert len(sizes) > 50
    # Sums over sorted scores hold a few numbers per item and place of its block.
    assert max(sizes) <= batch * max(dense_pairs.PAIRS_AT_ONCE, 5 * kernels.BLOCK * length) < batch * length**2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RankNetLoss(method="fast"), "`method` must be one of 'auto', 'dense', 'sorted'"),
        (lambda: RankNetLoss(method="sorted", ties="half"), '`method` must be "auto" or "dense" where ties count'),
        (lambda: RankNetLoss(method="sorted", lambda_weight=YetiDCGLambdaWeight()), "known of single pairs only"),
        (lambda: PairwiseMSELoss(method="sorted"), "`method` must be one of 'auto', 'dense'"),
        (lambda: ApproxNDCGLoss(method="x"), "`method` must be one of"),
        (lambda: functional.smooth_ranks([[1.0]], method="x"), "`method` must be one of"),
        (lambda: functional.rank_net_loss([[1.0]], [[1.0]], method="sorted", ties="half"), "where ties count"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
