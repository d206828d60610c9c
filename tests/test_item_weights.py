"""The losses of items, weighed by whoever takes them, have the gradient that a class has for item weights."""

import pytest
from backend import values_and_gradient
from keras import ops
from numpy.testing import assert_allclose

import tfrankloss
from tfrankloss import functional

pytestmark = pytest.mark.backends

LOSSES = {
    **{
        f"ListMLE, {ties}": (
            tfrankloss.ListMLELoss(ties, reduction=None),
            lambda *lists, ties=ties: functional.list_mle_loss(*lists, ties=ties),
        )
        for ties in ("exact", "breslow", "efron", "position")
    },
    "RankNet": (tfrankloss.RankNetLoss(reduction=None), functional.rank_net_loss),
    "hinge": (tfrankloss.PairwiseHingeLoss(reduction=None), functional.pairwise_hinge_loss),
    "unique softmax": (tfrankloss.UniqueSoftmaxLoss(reduction=None), functional.unique_softmax_loss),
}


@pytest.mark.parametrize("length", [9, 70])
@pytest.mark.parametrize("name", LOSSES)
def test_weighed_afterwards(name, length, random):
    loss, of_items = LOSSES[name]
    labels = random.integers(-1, 5, (3, length)).astype("float32")
    scores = random.normal(size=labels.shape).astype("float32")
    weights = random.uniform(0.5, 2.0, labels.shape).astype("float32")
    found = values_and_gradient(
        lambda y_true, y_pred, weights: ops.sum(of_items(y_true, y_pred) * weights, axis=1), labels, scores, weights
    )
    for one, other in zip(found, values_and_gradient(loss, labels, scores, weights), strict=True):
        assert_allclose(one, other, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_equal_weights_are_none(name, random):
    labels = random.integers(-1, 5, (3, 70)).astype("float32")
    scores = random.normal(size=labels.shape).astype("float32")
    found = values_and_gradient(LOSSES[name][0], labels, scores)
    weighed = values_and_gradient(LOSSES[name][0], labels, scores, 2 * (labels >= 0).astype("float32"))
    for one, other in zip(found, weighed, strict=True):
        assert_allclose(2 * one, other, rtol=2e-5, atol=2e-5)
