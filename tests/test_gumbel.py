"""Losses of noisy scores: the laws with the noise given, and what their draws do."""

from unittest import mock

import keras
import numpy as np
import pytest
import references
from backend import NAME, central_differences, values_and_gradient
from keras import ops
from laws import checks

from tfrankloss import (
    ApproxNDCGLoss,
    GumbelApproxNDCGLoss,
    GumbelLoss,
    InBatchSoftmaxLoss,
    ListMLELoss,
    PairwiseHingeLoss,
    RankNetLoss,
    SoftmaxLoss,
    YetiLogisticLoss,
    functional,
    losses,
)

pytestmark = pytest.mark.backends

DRAWS = 4
WEIGHT = losses.NDCGLambdaWeight(smooth_fraction=0.5)
# A loss of noisy scores, the reference of what it is taken of, and the settings of that.
CASES = {
    "approx NDCG": (lambda **kw: GumbelApproxNDCGLoss(**kw), "ApproxNDCGLoss", {}),
    "approx NDCG, wrapped": (lambda **kw: GumbelLoss(ApproxNDCGLoss(), **kw), "ApproxNDCGLoss", {}),
    "approx NDCG, warm": (
        lambda **kw: GumbelApproxNDCGLoss(temperature=0.7, **kw),
        "ApproxNDCGLoss",
        {"temperature": 0.7},
    ),
    "Yeti": (lambda **kw: YetiLogisticLoss(**kw), "RankNetLoss", {"lambda_weight": losses.YetiDCGLambdaWeight()}),
    "Yeti, NDCG": (
        lambda **kw: YetiLogisticLoss(WEIGHT, 2.0, **kw),
        "RankNetLoss",
        {"lambda_weight": WEIGHT, "temperature": 2.0},
    ),
    "softmax": (lambda **kw: GumbelLoss(SoftmaxLoss(temperature=0.5), **kw), "SoftmaxLoss", {"temperature": 0.5}),
    "hinge": (lambda **kw: GumbelLoss(PairwiseHingeLoss(margin=2.0), **kw), "PairwiseHingeLoss", {"margin": 2.0}),
    "ListMLE": (lambda **kw: GumbelLoss(ListMLELoss(top_k=2), **kw), "ListMLELoss", {"top_k": 2}),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def batch_of(random, lists=3, length=5):
    labels = random.integers(0, 3, (lists, length)).astype("float32")
    scores = random.normal(size=(lists, length)).astype("float32")
    return labels, scores, random.gumbel(size=(lists, DRAWS, length)).astype("float32")


def make(case, **settings):
    return case[0](reduction=None, sample_size=DRAWS, **settings)


def given(noise):
    """Draws replaced by ``noise`` in all losses that are traced meanwhile."""
    return mock.patch.object(functional, "gumbel_noise", lambda shape, seed, dtype: ops.convert_to_tensor(noise, dtype))


def noisy_values(case, labels, scores, noise, **settings):
    _, name, inner = case
    fixed = settings.pop("held_at", [None] * len(labels))
    rows = zip(labels, scores, noise, fixed, strict=True)
    return np.array([references.noisy_value(name, *row, held_at=by, **inner, **settings) for *row, by in rows])


@every_case
@pytest.mark.parametrize("gumbel_temperature", [1.0, 0.5])
def test_the_mean_over_draws(case, gumbel_temperature, random):
    labels, scores, noise = batch_of(random)
    with given(noise):
        values, gradient = values_and_gradient(make(case, gumbel_temperature=gumbel_temperature), labels, scores)
    expected = noisy_values(case, labels, scores, noise, gumbel_temperature=gumbel_temperature)
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)
    # Scores of a list may all move together: noisy scores are logarithms of probabilities.
    np.testing.assert_allclose(gradient.sum(axis=1), 0, atol=1e-5)


@every_case
def test_the_gradient_is_that_of_the_mean(case, random):
    labels, scores, noise = batch_of(random)
    with given(noise):
        _, gradient = values_and_gradient(make(case), labels, scores)
    fixed = {"held_at": scores} if "lambda_weight" in case[2] else {}
    slopes = central_differences(lambda s: noisy_values(case, labels, s, noise, **fixed).sum(), scores)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-4, atol=2e-5)


@every_case
def test_padding_with_the_noise_moved_along(case, random):
    labels, scores, noise = batch_of(random)
    places = np.sort(random.permutation(8)[:5])
    junk = np.resize(np.float32([0, 1e30, np.inf, np.nan]), (3, 8))
    wide = np.full((3, 8), -1, "float32"), junk, np.full((3, DRAWS, 8), 7, "float32")
    for array, values in zip(wide, (labels, scores, noise), strict=True):
        array[..., places] = values
    with given(noise):
        values, gradient = values_and_gradient(make(case), labels, scores)
    with given(wide[2]):
        padded, padded_gradient = values_and_gradient(make(case), *wide[:2])
    np.testing.assert_allclose(padded, values, **checks.SAME)
    np.testing.assert_allclose(padded_gradient[:, places], gradient, **checks.SAME)
    np.testing.assert_array_equal(np.delete(padded_gradient, places, axis=1), 0)


@every_case
def test_order_with_the_noise_moved_along(case, random):
    labels, scores, noise = batch_of(random)
    order = random.permutation(5)
    with given(noise):
        values, gradient = values_and_gradient(make(case), labels, scores)
    with given(noise[..., order]):
        moved, moved_gradient = values_and_gradient(make(case), labels[:, order], scores[:, order])
    np.testing.assert_allclose(moved, values, **checks.SAME)
    np.testing.assert_allclose(moved_gradient, gradient[:, order], **checks.SAME)


@every_case
def test_item_weights(case, random):
    """Weights multiply the losses of items, as in the loss that it is taken of."""
    labels, scores, noise = batch_of(random)
    weights = random.uniform(0.5, 2, labels.shape).astype("float32")
    _, name, inner = case
    with given(noise):
        values, _ = values_and_gradient(make(case), labels, scores, sample_weight=weights)
    draws = [
        np.mean([references.list_value(name, y, references.log_softmax(s + draw), w, **inner) for draw in of_list])
        for y, s, w, of_list in zip(labels, scores.astype("float64"), weights, noise, strict=True)
    ]
    np.testing.assert_allclose(values, draws, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(NAME != "tensorflow", reason="about TensorFlow alone")
@every_case
def test_xla(case, random):
    """Its own draws are others under XLA, the loss of given ones is the same."""
    import tensorflow as tf

    labels, scores, noise = batch_of(random)
    loss = make(case)
    run = tf.function(loss, jit_compile=True, autograph=False)
    assert np.isfinite(run(labels, scores)).all()
    with given(noise):
        found = tf.function(make(case), jit_compile=True, autograph=False)(labels, scores)
        values, _ = values_and_gradient(make(case), labels, scores)
    np.testing.assert_allclose(found, values, **checks.CLOSE)


def value_of(loss, random):
    labels, scores, _ = batch_of(random)
    return float(loss(labels, scores))


@every_case
def test_draws_are_repeated_by_their_seed(case):
    values = [value_of(case[0](seed=seed), np.random.default_rng(3)) for seed in (1, 1, 2, None, None)]
    assert values[0] == values[1]
    assert len(set(values)) == 4


@every_case
def test_successive_calls_draw_anew(case):
    loss = case[0](seed=1)
    assert len({value_of(loss, np.random.default_rng(3)) for _ in range(5)}) == 5


def test_lists_and_draws_have_noise_of_their_own():
    noise = ops.convert_to_numpy(functional.gumbel_noise((50, 8, 25), seed=4))
    assert len(np.unique(noise)) > 0.99 * noise.size
    # The mean of the Gumbel distribution is Euler's constant, its variance pi squared over six.
    assert noise.mean() == pytest.approx(np.euler_gamma, abs=5 * np.sqrt(np.pi**2 / 6 / noise.size))
    assert noise.var() == pytest.approx(np.pi**2 / 6, rel=0.1)


def test_noise_is_finite_at_the_ends_of_its_range():
    for draw in (0.0, 1 - 2.0**-24):
        with mock.patch.object(keras.random, "uniform", lambda shape, seed, dtype, draw=draw: ops.full(shape, draw)):
            assert np.isfinite(ops.convert_to_numpy(functional.gumbel_noise((1,), seed=1))).all()


def test_the_first_place_is_drawn_by_softmax(random):
    """The order of noisy scores follows the Plackett-Luce model."""
    scores = np.float32([[0.5, -1.0, 1.5]])
    noise = functional.gumbel_noise((1, 20000, 3), seed=9)
    noisy = ops.convert_to_numpy(functional.gumbel_scores(scores, noise=noise))[0]
    shares = np.bincount(noisy.argmax(axis=1), minlength=3) / 20000
    np.testing.assert_allclose(shares, np.exp(references.log_softmax(scores[0])), atol=0.02)
    np.testing.assert_allclose(np.exp(noisy).sum(axis=1), 1, rtol=1e-5)


def test_noise_is_small_beside_far_scores():
    """Noise of order 1 does not move scores a thousand apart: the loss is that of the scores themselves."""
    labels, scores = np.float32([[0, 1, 2]]), np.float32([[3e3, 2e3, 1e3]])
    found = float(GumbelLoss(RankNetLoss(), seed=1)(labels, scores))
    assert found == pytest.approx(float(RankNetLoss()(labels, scores)), rel=1e-2)


@pytest.mark.parametrize("wrong", [InBatchSoftmaxLoss(), keras.losses.MeanSquaredError(), "approx_ndcg", None])
def test_losses_that_are_not_of_lists_raise(wrong):
    with pytest.raises(
        TypeError, match=r"`loss` must be a tfrankloss loss of scores \(batch, list_size\).*Received: loss="
    ):
        GumbelLoss(wrong)


def test_losses_of_several_scores_per_item_raise():
    class Columns(SoftmaxLoss):
        score_columns = 2

    with pytest.raises(TypeError, match=r"`loss` must be .*\(batch, list_size\).*Received: loss=Columns"):
        GumbelLoss(Columns())


def test_losses_of_more_than_differences_raise():
    with pytest.raises(ValueError, match=r"`loss` must depend on differences of scores only\. Received: loss=ListMLE"):
        GumbelLoss(ListMLELoss(score_transform="identity"))


@pytest.mark.parametrize("shape", [(3, 5), (2, 4, 5), (3, 4, 6)])
def test_noise_of_another_shape_raises(shape, random):
    labels, scores, _ = batch_of(random)
    with pytest.raises(ValueError, match=r"`noise`.*Received"):
        functional.gumbel_loss(labels, scores, loss=functional.softmax_loss, noise=np.zeros(shape, "float32"))


def test_what_is_no_function_raises(random):
    labels, scores, noise = batch_of(random)
    with pytest.raises(TypeError, match="`loss` must be a function"):
        functional.gumbel_loss(labels, scores, loss="softmax", noise=noise)


def test_the_loss_of_noisy_scores_is_saved_with_it(random):
    made = GumbelLoss(RankNetLoss(lambda_weight=WEIGHT, temperature=2.0), sample_size=3, seed=6)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(made))
    assert again.get_config() == made.get_config()
    assert repr(again) == repr(made)
    assert value_of(again, np.random.default_rng(3)) == value_of(made, np.random.default_rng(3))


def test_noise_upon_noise(random):
    labels, scores, _ = batch_of(random)
    values, gradient = values_and_gradient(
        GumbelLoss(GumbelApproxNDCGLoss(seed=1), seed=2, reduction=None), labels, scores
    )
    assert np.isfinite(values).all()
    assert np.isfinite(gradient).all()
