"""TensorFlow Ranking's losses as they run, and ours beside them."""

import numpy as np
import tensorflow as tf
from backend import values_and_gradient

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def their_values(loss, labels, scores, weights=None, draws=1):
    """The loss of each list and its gradient; what is given for each item is summed, for each draw averaged."""
    x = tf.constant(scores)
    with tf.GradientTape() as tape:
        tape.watch(x)
        values = loss(tf.constant(labels), x, None if weights is None else tf.constant(weights))
        values = tf.reduce_sum(tf.reshape(values, (len(labels), -1)), axis=1) / draws
    return values.numpy(), tape.gradient(values, x).numpy()


def check_parity(ours, theirs, batches, size_of_gradient=False):
    """Both losses give the same values and gradients.

    ``batches`` holds (labels, scores, our weights, their weights). With ``size_of_gradient`` an entry of the gradient
    may differ by 1e-5 of the largest, to which float32 knows a sum of many terms.
    """
    for labels, scores, our_weights, their_weights in batches:
        expected, expected_gradient = their_values(theirs, labels, scores, their_weights)
        values, gradient = values_and_gradient(ours, labels, scores, sample_weight=our_weights)
        np.testing.assert_allclose(values, expected, **CLOSE)
        largest = np.abs(expected_gradient).max() if size_of_gradient else 1.0
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-5 * max(1.0, largest))
