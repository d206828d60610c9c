"""The laws as plain functions, which raise AssertionError where a loss breaks one.

A loss is anything called as ``loss(y_true, y_pred, sample_weight)`` that gives one value per list, so that wrong losses
can be put through the same checks.
"""

import hypothesis
import keras
import numpy as np
from backend import central_differences, compiled, to_numpy, values_and_gradient
from keras import ops

CLOSE = {"rtol": 1e-5, "atol": 2e-6}
# Padding changes the shape of sums, so the last digits may differ.
SAME = {"rtol": 2e-6, "atol": 2e-6}


REDUCTIONS = {
    "none": lambda values, weights: weights * values,
    "sum": lambda values, weights: (weights * values).sum(),
    "sum_over_batch_size": lambda values, weights: (weights * values).mean(),
    "mean": lambda values, weights: (weights * values).mean(),
    "mean_with_sample_weight": lambda values, weights: (weights * values).sum() / weights.sum(),
}


def from_source(values, source):
    """The values of a first batch at the places of a rearranged one, 0 at padding."""
    return np.where(source >= 0, np.reshape(values, (-1,))[source], 0)


def spread(values, like):
    """``values`` of lists or items with as many axes as ``like``, to go with all that belongs to them there."""
    return values.reshape(values.shape + (1,) * (like.ndim - values.ndim))


def check_rearranged(loss, batch, rearranged, mask=None):
    """Padding and order change neither value nor gradient; the gradient of padding is exactly 0."""
    values, gradient = values_and_gradient(loss, *batch)
    new_values, new_gradient = values_and_gradient(loss, rearranged.y_true, rearranged.y_pred, mask=mask)
    np.testing.assert_allclose(new_values, from_source(values, rearranged.list_source), **SAME)
    np.testing.assert_allclose(new_gradient, from_source(gradient, rearranged.source), **SAME)
    np.testing.assert_array_equal(new_gradient[rearranged.source < 0], 0)


def check_nothing_to_learn(loss, batch):
    """Lists with nothing to learn have loss 0 and gradient 0, but for a rounding of the probability 1."""
    values, gradient = values_and_gradient(loss, *batch)
    rounding = 4 * np.finfo("float32").eps
    np.testing.assert_allclose(values, np.zeros(len(batch.y_true)), atol=rounding)
    np.testing.assert_allclose(gradient, np.zeros_like(batch.y_pred), atol=rounding)


def check_reduction(make, batch, weights):
    """Keras' reduction is applied to one value per list."""
    losses = {name: make(reduction=name) for name in REDUCTIONS}

    def reduced(*arguments):
        with keras.StatelessScope():
            return {name: loss(*arguments) for name, loss in losses.items()}

    values, _ = values_and_gradient(make(reduction=None), *batch)
    for sample_weight in (None, weights):
        w = np.ones_like(values) if sample_weight is None else sample_weight
        found = compiled(reduced)(*batch, sample_weight)
        for name, reduction in REDUCTIONS.items():
            np.testing.assert_allclose(to_numpy(found[name]), reduction(values, w), **CLOSE, err_msg=name)


def check_list_weights(loss, batch, weights):
    """Weights (B,) multiply the values of lists, also where there are as many lists as items."""
    values, gradient = values_and_gradient(loss, *batch)
    found, found_gradient = values_and_gradient(loss, *batch, sample_weight=weights)
    np.testing.assert_allclose(found, weights * values, **CLOSE)
    # In a batch of rows of embeddings every row's loss moves the candidates of the others.
    if batch.y_true.shape == batch.y_pred.shape[:2]:
        np.testing.assert_allclose(found_gradient, spread(weights, gradient) * gradient, **CLOSE)


def check_weight_shapes(loss, batch, weights):
    """A column of list weights acts like a row of them, and one number like itself for every list."""
    values, _ = values_and_gradient(loss, *batch)
    column, _ = values_and_gradient(loss, *batch, sample_weight=weights[:, None])
    np.testing.assert_allclose(column, weights * values, **CLOSE)
    scalar, _ = values_and_gradient(loss, *batch, sample_weight=np.float32(0.5))
    np.testing.assert_allclose(scalar, 0.5 * values, **CLOSE)


def check_item_weights(loss, batch, weights):
    """Item weights that are the same throughout a list act like its list weight."""
    values, gradient = values_and_gradient(loss, *batch)
    wide = np.broadcast_to(weights[:, None], batch.y_true.shape)
    found, found_gradient = values_and_gradient(loss, *batch, sample_weight=wide)
    np.testing.assert_allclose(found, weights * values, **CLOSE)
    expected = spread(weights, gradient) * gradient
    # What is left of large pulls up and down is rounded by their size.
    tolerance = {**CLOSE, "atol": CLOSE["atol"] * max(1.0, np.abs(expected).max())}
    np.testing.assert_allclose(found_gradient, expected, **tolerance)


def check_zero_item_weight(loss, batch, weights, removed, junk):
    """An item of weight 0 is padding, whatever its score."""
    kept = np.where(removed, 0, weights).astype("float32")
    padded = np.where(removed, -1, batch.y_true).astype("float32")
    expected, expected_gradient = values_and_gradient(loss, padded, batch.y_pred, sample_weight=weights)
    scores = np.where(spread(removed, batch.y_pred), junk, batch.y_pred).astype("float32")
    values, gradient = values_and_gradient(loss, batch.y_true, scores, sample_weight=kept)
    np.testing.assert_allclose(values, expected, **SAME)
    np.testing.assert_allclose(gradient, expected_gradient, **SAME)
    np.testing.assert_array_equal(gradient[removed], 0)


def check_zero_list_weight(loss, batch, weights, row, junk):
    """A list of weight 0 has loss 0 and gradient 0, whatever its scores, and changes no other list's weight."""
    weights = weights.copy()
    weights[row] = 0
    scores = batch.y_pred.copy()
    scores[row] = junk
    values, gradient = values_and_gradient(loss, batch.y_true, scores, sample_weight=weights)
    padded = batch.y_true.copy()
    padded[row] = -1
    expected, expected_gradient = values_and_gradient(loss, padded, batch.y_pred, sample_weight=weights)
    np.testing.assert_allclose(values, expected, **SAME)
    np.testing.assert_allclose(gradient, expected_gradient, **SAME)
    assert values[row] == 0
    np.testing.assert_array_equal(gradient[row], 0)


def check_value(loss, batch, reference, sample_weight=None, rtol=1e-5, atol=2e-6):
    """Values agree with the float64 reference, a function of the scores that gives the value of each list."""
    values, _ = values_and_gradient(loss, *batch, sample_weight=sample_weight)
    np.testing.assert_allclose(values, reference(batch.y_pred.astype("float64")), rtol=rtol, atol=atol)


def check_reference_gradient(loss, batch, reference, list_weights=None, rtol=1e-4, atol=2e-5, of_largest=0.0):
    """The gradient agrees with central differences of the float64 reference, to ``of_largest`` of its largest entry."""
    _, gradient = values_and_gradient(loss, *batch, sample_weight=list_weights)
    weights = 1.0 if list_weights is None else list_weights
    expected = central_differences(lambda scores: np.sum(weights * reference(scores)), batch.y_pred)
    np.testing.assert_allclose(gradient, expected, rtol=rtol, atol=atol + of_largest * np.abs(expected).max())


def check_central_differences(loss, batch, values=None, step=1e-5):
    """In float64 the gradient of a loss is the slope of its own values, or of ``values``, a function of the scores."""
    scores = batch.y_pred.astype("float64")
    _, gradient = values_and_gradient(loss, batch.y_true, scores, dtype="float64")

    def value(scores):
        own = values is None
        return np.sum(values_and_gradient(loss, batch.y_true, scores, dtype="float64")[0] if own else values(scores))

    # A difference of values is rounded by their size, which grows with that of the gradient.
    atol = 1e-8 * max(1.0, np.abs(gradient).max())
    expected = central_differences(value, scores, step)
    if not np.allclose(gradient, expected, rtol=1e-6, atol=atol):
        # The order by which pairs are weighed may change within a step: the shorter the step, the steeper that looks.
        shorter = central_differences(value, scores, step / 4)
        hypothesis.assume(np.allclose(expected, shorter, rtol=1e-2, atol=1e3 * atol))
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=atol)


def check_finite(loss, batch):
    """Value and gradient are finite, whatever finite scores there are."""
    values, gradient = values_and_gradient(loss, *batch)
    assert np.isfinite(values).all(), values
    assert np.isfinite(gradient).all(), gradient


def check_low_precision(loss, batch, dtype):
    """Scores of a short float type are computed in float32: both give the same, as float32."""
    short = ops.convert_to_tensor(batch.y_pred, dtype=dtype)
    found, _ = values_and_gradient(loss, batch.y_true, short, dtype=dtype)
    expected, _ = values_and_gradient(loss, batch.y_true, ops.cast(short, "float32"))
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, expected, rtol=1e-6)
