"""The tests of the tests: losses that are wrong in known ways must break the law they break."""

import numpy as np
import pytest
import references
from backend import NAME
from keras import ops
from laws import checks, layouts

pytestmark = pytest.mark.backends

LAYOUT = layouts.Lists(distinct_labels=True)
COLUMNS = layouts.Lists(columns=2)
MINUS_INFINITY = -1e30


def valid(labels):
    return ops.cast(labels >= 0, "float32")


def softmax(labels, scores, sample_weight=None):
    """A right loss, by which the checks are seen to pass."""
    real = labels >= 0
    labels, scores = ops.where(real, labels, 0.0), ops.where(real, scores, 0.0)
    highest = ops.stop_gradient(ops.max(ops.where(real, scores, MINUS_INFINITY), axis=1, keepdims=True))
    powers = ops.exp(ops.where(real, scores - highest, MINUS_INFINITY))
    total = ops.sum(powers, axis=1, keepdims=True)
    losses = highest + ops.log(ops.where(total > 0, total, 1.0)) - scores
    values = ops.sum(ops.where(real, labels * losses, 0.0), axis=1)
    return values if sample_weight is None else values * ops.reshape(sample_weight, (-1,))


def softmax_with_junk(labels, scores, sample_weight=None):
    """Multiplies by the mask where it should choose: 0 times NaN is NaN."""
    powers = ops.exp(scores) * valid(labels)
    log_sum = ops.log(ops.sum(powers, axis=1, keepdims=True))
    return ops.sum(labels * valid(labels) * (log_sum - scores), axis=1)


def softmax_mean_over_places(labels, scores, sample_weight=None):
    """Counts padding in the mean."""
    return softmax(labels, scores, sample_weight) / ops.cast(ops.shape(scores)[1], "float32")


def softmax_that_pads_with_log_epsilon(labels, scores, sample_weight=None):
    """Fills padding with log(1e-10), as TensorFlow Ranking does: harmless only while scores are far above -23."""
    scores = ops.where(labels >= 0, scores, float(np.log(1e-10)))
    return ops.sum(ops.where(labels >= 0, labels, 0.0) * -ops.log_softmax(scores, axis=1), axis=1)


def sign_error(labels, scores, sample_weight=None):
    return softmax(labels, -scores, sample_weight)


def gradient_error(labels, scores, sample_weight=None):
    """The right value, half the gradient."""
    values = softmax(labels, scores, sample_weight)
    return (values + ops.stop_gradient(values)) / 2


def item_weights_of_lists(labels, scores, sample_weight=None):
    """Lets (B,) broadcast over the items of a square batch."""
    losses = -labels * ops.log_softmax(scores, axis=1)
    return ops.sum(losses if sample_weight is None else losses * sample_weight, axis=1)


def order_of_input(labels, scores, sample_weight=None):
    """Weighs items by their place in the input."""
    places = 1.0 + ops.cast(ops.arange(ops.shape(scores)[1]), "float32")
    return ops.sum(-labels * ops.log_softmax(scores, axis=1) / places, axis=1)


def sorted_by_label(labels, scores):
    return ops.take_along_axis(scores, ops.argsort(-labels, axis=1), axis=1)


def list_mle_with_padding_term(labels, scores, sample_weight=None):
    """TensorFlow Ranking's: padding ranks last with a score of log(1e-10), and adds log(k!)."""
    scores = sorted_by_label(labels, ops.where(labels >= 0, scores, float(np.log(1e-10))))
    sums = ops.flip(ops.cumsum(ops.flip(ops.exp(scores), axis=1), axis=1), axis=1)
    return ops.sum(ops.log(sums) - scores, axis=1)


def list_mle_with_epsilon(labels, scores, sample_weight=None):
    """keras-rs's: 1e-10 inside the logarithm, which counts once scores are 20 apart."""
    scores = sorted_by_label(labels, scores)
    scores = scores - ops.max(scores, axis=1, keepdims=True)
    sums = ops.flip(ops.cumsum(ops.flip(ops.exp(scores), axis=1), axis=1), axis=1)
    return ops.sum(ops.log(sums + 1e-10) - scores, axis=1)


def unstable_rank_net(labels, scores, sample_weight=None):
    """The document's log(sigmoid(x))."""
    better = labels[:, :, None] > labels[:, None, :]
    gaps = scores[:, :, None] - scores[:, None, :]
    return ops.sum(ops.where(better, -ops.log(ops.sigmoid(gaps)), 0.0), axis=(1, 2))


def click_em(labels, scores, sample_weight=None, hold=ops.stop_gradient):
    """A right loss of two scores per item."""
    real = labels[:, :, None] >= 0
    scores = ops.where(real, scores, 0.0)
    posterior = hold(ops.sigmoid(scores - ops.softplus(ops.flip(scores, axis=2))))
    posterior = ops.where(labels[:, :, None] >= 1, 1.0, posterior)
    losses = posterior * ops.softplus(-scores) + (1 - posterior) * ops.softplus(scores)
    return ops.sum(ops.where(real, losses, 0.0), axis=(1, 2))


def click_em_through_the_posterior(labels, scores, sample_weight=None):
    """Lets the gradient flow through the E step."""
    return click_em(labels, scores, hold=lambda posterior: posterior)


def click_em_with_junk(labels, scores, sample_weight=None):
    """Forgets the mask in one of the columns; XLA turns a product with the mask into a choice."""
    return click_em(labels, scores) + 1e-30 * ops.sum(scores[:, :, 1], axis=1)


def reference(name, batch):
    return lambda scores: np.array(
        [
            references.list_value(name, y, s, held_at=held)
            for y, s, held in zip(batch.y_true, scores, batch.y_pred, strict=True)
        ]
    )


def padding(loss, random, junk, low=0.0):
    batch = LAYOUT.sample(random, offset=low)
    checks.check_rearranged(loss, batch, LAYOUT.pad(batch, random, junk))


def padding_of_columns(loss, random):
    batch = COLUMNS.sample(random)
    checks.check_rearranged(loss, batch, COLUMNS.pad(batch, random, float("nan")))


def order_of_columns(loss, random):
    batch = COLUMNS.sample(random)
    checks.check_rearranged(loss, batch, COLUMNS.permute(batch, random))


def slopes_of_columns(loss, random):
    batch = COLUMNS.sample(random)
    checks.check_value(loss, batch, reference("ClickEMLoss", batch))
    checks.check_reference_gradient(loss, batch, reference("ClickEMLoss", batch))


def order(loss, random):
    batch = LAYOUT.sample(random)
    checks.check_rearranged(loss, batch, LAYOUT.permute(batch, random))


def values(loss, random, name="SoftmaxLoss", scale=1.0):
    batch = LAYOUT.sample(random, scale=scale)
    checks.check_value(loss, batch, reference(name, batch))


def slopes(loss, random):
    batch = LAYOUT.sample(random)
    checks.check_reference_gradient(loss, batch, reference("SoftmaxLoss", batch))


def central(loss, random):
    checks.check_central_differences(loss, LAYOUT.sample(random))


def square_weights(loss, random):
    labels, scores = LAYOUT.sample(random)
    square = layouts.Batch(labels[:, :3], scores[:, :3])
    checks.check_list_weights(loss, square, np.float32([1, 2, 3]))


def weight_zero(loss, random):
    checks.check_zero_list_weight(loss, LAYOUT.sample(random), np.float32([1, 2, 3]), 1, float("nan"))


def finite(loss, random):
    checks.check_finite(loss, LAYOUT.sample(random, scale=1e4))


def nothing_to_learn(loss, random):
    checks.check_nothing_to_learn(loss, LAYOUT.uninformative(one_grade=True, one_item=True))


RIGHT = [
    lambda loss, random: padding(loss, random, float("nan")),
    lambda loss, random: padding(loss, random, 1e30, low=-50),
    order,
    values,
    slopes,
    square_weights,
    finite,
    nothing_to_learn,
]
WRONG = [
    ("NaN in padding", softmax_with_junk, lambda loss, random: padding(loss, random, float("nan"))),
    ("padding in the mean", softmax_mean_over_places, lambda loss, random: padding(loss, random, 0.0)),
    ("padding by log(1e-10)", softmax_that_pads_with_log_epsilon, lambda loss, random: padding(loss, random, 0.0, -30)),
    ("log(k!) of padding", list_mle_with_padding_term, lambda loss, random: padding(loss, random, 0.0)),
    ("log(k!) of empty lists", list_mle_with_padding_term, nothing_to_learn),
    ("sign", sign_error, values),
    ("sign of the slope", sign_error, slopes),
    ("half the gradient", gradient_error, slopes),
    ("weights over items", item_weights_of_lists, square_weights),
    ("NaN times weight 0", softmax, weight_zero),
    ("order of the input", order_of_input, order),
    ("epsilon in the log", list_mle_with_epsilon, lambda loss, r: values(loss, r, "ListMLELoss", scale=30.0)),
    ("log(sigmoid(x))", unstable_rank_net, finite),
    ("NaN in padding of a column", click_em_with_junk, padding_of_columns),
    ("gradient of the posterior", click_em_through_the_posterior, slopes_of_columns),
]


@pytest.mark.parametrize("check", RIGHT)
def test_a_right_loss_passes(check, random):
    check(softmax, random)


@pytest.mark.parametrize("check", [padding_of_columns, order_of_columns, slopes_of_columns])
def test_a_right_loss_of_columns_passes(check, random):
    check(click_em, random)


@pytest.mark.parametrize(("name", "loss", "check"), WRONG, ids=[name for name, _, _ in WRONG])
def test_a_wrong_loss_is_caught(name, loss, check, random):
    with pytest.raises(AssertionError):
        check(loss, random)


@pytest.mark.skipif(NAME == "jax", reason="JAX has no float64 unless the whole process is switched to it")
def test_a_wrong_gradient_is_caught_in_float64(random):
    def half_gradient(labels, scores, sample_weight=None):
        values = ops.sum(ops.cast(labels, scores.dtype) * ops.logsumexp(scores, axis=1, keepdims=True), axis=1)
        return (values + ops.stop_gradient(values)) / 2

    with pytest.raises(AssertionError):
        central(half_gradient, random)


def test_what_is_wrong_is_right_elsewhere(random):
    """The mutants are near misses: without padding, at small scores, they agree with the references."""
    values(softmax_with_junk, random)
    values(list_mle_with_padding_term, random, "ListMLELoss")
    values(list_mle_with_epsilon, random, "ListMLELoss")
    values(unstable_rank_net, random, "RankNetLoss")
    order_of_columns(click_em_with_junk, random)
