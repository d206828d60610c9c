"""Second derivatives of losses: right, or refused by an error."""

import keras
import numpy as np
import pytest
from backend import NAME, to_numpy
from keras import ops

import tfrankloss

pytestmark = pytest.mark.backends

LISTS = {
    "softmax": (tfrankloss.SoftmaxLoss(), 5),
    "sigmoid": (tfrankloss.SigmoidCrossEntropyLoss(), 5),
    "RankNet": (tfrankloss.RankNetLoss(), 5),
    "RankNet, all pairs of long lists": (tfrankloss.RankNetLoss(method="dense", pair_reduction="mean"), 300),
    "ListMLE": (tfrankloss.ListMLELoss(), 5),
    "ListMLE of long lists": (tfrankloss.ListMLELoss(), 70),
    "ListMLE by position": (tfrankloss.ListMLELoss("position"), 5),
    "ListMLE, Breslow": (tfrankloss.ListMLELoss("breslow"), 5),
    "ListMLE, Efron": (tfrankloss.ListMLELoss("efron"), 5),
    "ApproxNDCG": (tfrankloss.ApproxNDCGLoss(temperature=1.0), 5),
}
# Sums that can be differentiated once only, wherever.
ONCE = {
    "NDCG by sorting": (tfrankloss.RankNetLoss(lambda_weight=tfrankloss.NDCGLambdaWeight(), method="sorted"), (5,)),
    "in chunks": (tfrankloss.InBatchSoftmaxLoss(chunk_size=2), (2, 3)),
}


def slopes_of(loss, y_true):
    """The gradient of a loss as a function of the scores that can be differentiated."""
    if NAME == "tensorflow":
        import tensorflow as tf

        def slopes(scores):
            with tf.GradientTape() as tape:
                tape.watch(scores)
                value = loss(y_true, scores)
            return tape.gradient(value, scores)

        def again(scores, direction):
            with tf.GradientTape() as tape:
                tape.watch(scores)
                along = tf.reduce_sum(slopes(scores) * direction)
            return tape.gradient(along, scores)
    elif NAME == "jax":
        import jax

        slopes = jax.jit(jax.grad(lambda scores: loss(y_true, scores)))

        @jax.jit
        def again(scores, direction):
            return jax.grad(lambda scores: ops.sum(slopes(scores) * direction))(scores)
    else:
        import torch

        def slopes(scores):
            scores = scores if scores.requires_grad else scores.clone().requires_grad_()
            return torch.autograd.grad(loss(y_true, scores), scores, create_graph=True)[0]

        def again(scores, direction):
            scores = scores.clone().requires_grad_()
            return torch.autograd.grad((slopes(scores) * direction).sum(), scores)[0]

    return slopes, again


def draw(random, shape):
    return ops.convert_to_tensor(random.normal(size=shape).astype("float32"))


@pytest.mark.parametrize("name", LISTS)
def test_right_or_refused(name, random):
    loss, length = LISTS[name]
    labels = np.tile(np.float32([[0, 2, 1, 0, 2], [1, 0, 0, 2, 1]]), 60)[:, :length]
    scores, direction = draw(random, labels.shape), draw(random, labels.shape)
    slopes, again = slopes_of(loss, labels)
    with keras.StatelessScope():
        if NAME == "torch":
            with pytest.raises(NotImplementedError, match="TensorFlow or JAX backend"):
                again(scores, direction)
            return
        found = to_numpy(again(scores, direction))
        step = 1e-2
        ahead, back = (to_numpy(slopes(scores + sign * step * direction)) for sign in (1, -1))
    np.testing.assert_allclose(found, (ahead - back) / (2 * step), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("name", ONCE)
def test_refused(name, random):
    loss, shape = ONCE[name]
    y_true = (
        np.float32([[0, 2, 1, 0, 2], [1, 0, 0, 2, 1], [1, 1, 0, 2, 1]]) if len(shape) == 1 else np.ones(3, "float32")
    )
    scores, direction = draw(random, (3, *shape)), draw(random, (3, *shape))
    _, again = slopes_of(loss, y_true)
    with keras.StatelessScope(), pytest.raises(NotImplementedError, match="no second derivatives here"):
        again(scores, direction)
