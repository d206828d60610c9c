"""XLA and lists of unknown length together, as on a GPU: losses that choose between branches compile all the same."""

import numpy as np
import pytest
import tensorflow as tf
from backend import values_and_gradient

import tfrankloss

RULES = ("exact", "breslow", "efron", "position")
LOSSES = {
    **{f"ListMLE, {ties}": tfrankloss.ListMLELoss(ties, reduction=None) for ties in RULES},
    "ListMLE, first 3": tfrankloss.ListMLELoss(top_k=3, reduction=None),
    "unique softmax": tfrankloss.UniqueSoftmaxLoss(reduction=None),
    "circle": tfrankloss.CircleLoss(reduction=None),
    "RankNet": tfrankloss.RankNetLoss(reduction=None),
    "ApproxNDCG": tfrankloss.ApproxNDCGLoss(reduction=None),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("graded", [True, False], ids=["grades", "other labels"])
def test_value_and_gradient(name, graded, random):
    labels = random.integers(-1, 5, (3, 70)).astype("float32")
    labels = labels if graded else labels * 1.5
    scores = random.normal(size=labels.shape).astype("float32")
    weights = random.uniform(0.5, 2.0, labels.shape).astype("float32")
    expected = values_and_gradient(LOSSES[name], labels, scores, weights)
    for found, wanted in zip(_runner(name)(labels, scores, weights), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)


_RUNNERS: dict = {}


def _runner(name):
    """Compiled once for all tests of a loss."""
    if name not in _RUNNERS:
        _RUNNERS[name] = _graph(name, (None, None), jit_compile=True)
    return _RUNNERS[name]


def _graph(name, shape, **options):
    @tf.function(input_signature=[tf.TensorSpec(shape, "float32")] * 3, autograph=False, **options)
    def run(labels, scores, weights):
        with tf.GradientTape() as tape:
            tape.watch(scores)
            values = LOSSES[name](labels, scores, weights)
        return values, tape.gradient(values, scores)

    return run


@pytest.mark.parametrize("name", LOSSES)
def test_unknown_number_of_lists(name, random):
    """As in ``fit``: the length is known, but not to all that is made of it."""
    labels, scores, weights = (values.astype("float32") for values in random.uniform(0.5, 2.0, (3, 4, 20)))
    labels[:, ::3] = 1.5
    expected = values_and_gradient(LOSSES[name], labels, scores, weights)
    for found, wanted in zip(_graph(name, (None, 20))(labels, scores, weights), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)
