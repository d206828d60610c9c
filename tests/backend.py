"""Losses and their gradients on whatever backend Keras runs."""

import functools

import keras
import numpy as np
from keras import ops

# What masking layers call; it has no public name, and an attribute would not do, since JAX's tracers take none.
from keras.src.backend import set_keras_mask

NAME = keras.backend.backend()


def to_numpy(tensor):
    """A tensor of any backend as a NumPy array."""
    return np.asarray(ops.convert_to_numpy(tensor))


def with_mask(tensor, mask):
    """The tensor with a Keras mask on it, as a masking layer would leave it."""
    if mask is not None:
        tensor = ops.multiply(tensor, 1)
        set_keras_mask(tensor, ops.cast(mask, "bool"))
    return tensor


def values_and_gradient(loss, y_true, y_pred, sample_weight=None, mask=None, dtype="float32"):
    """The values of a loss, and the gradient of their sum with respect to ``y_pred``, both as NumPy arrays.

    The loss is compiled once for its shapes, where the backend can. A seeded loss draws the same numbers on every
    call, since what happens to its state is forgotten.
    """
    weights = None if sample_weight is None else ops.convert_to_tensor(sample_weight, dtype=dtype)
    mask = None if mask is None else ops.convert_to_tensor(mask, dtype="bool")
    y_pred = ops.convert_to_tensor(y_pred, dtype=dtype)
    values, gradient = _runner(loss)(ops.convert_to_tensor(y_true), y_pred, weights, mask)
    return to_numpy(values), to_numpy(gradient)


@functools.cache
def _runner(loss):
    def forward(y_true, y_pred, weights, mask):
        with keras.StatelessScope():
            return loss(y_true, with_mask(y_pred, mask), weights)

    return {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[NAME](forward)


def _tensorflow(forward):
    import tensorflow as tf

    # Without autograph, whose rewriting of every function would take most of the time.
    @tf.function(autograph=False)
    def run(y_true, y_pred, weights, mask):
        with tf.GradientTape() as tape:
            tape.watch(y_pred)
            values = forward(y_true, y_pred, weights, mask)
        return values, tape.gradient(values, y_pred, unconnected_gradients="zero")

    return run


def _jax(forward):
    import jax

    @jax.jit
    def run(y_true, y_pred, weights, mask):
        values, pull_back = jax.vjp(lambda scores: forward(y_true, scores, weights, mask), y_pred)
        return values, pull_back(jax.numpy.ones_like(values))[0]

    return run


def _torch(forward):
    import torch

    def run(y_true, y_pred, weights, mask):
        y_pred = y_pred.detach().clone().requires_grad_(True)
        values = forward(y_true, y_pred, weights, mask)
        (gradient,) = torch.autograd.grad(values.sum(), y_pred, allow_unused=True)
        return values.detach(), torch.zeros_like(y_pred) if gradient is None else gradient

    return run


def compiled(function):
    """The function compiled as a whole on JAX, where running it step by step would compile every step."""
    if NAME != "jax":
        return function
    import jax

    return jax.jit(function)


def metric_result(metric, *updates):
    """The result of a metric after updates of ``(y_true, y_pred, sample_weight)``, the last of them optional."""
    variables = [variable.value for variable in metric.variables]
    for y_true, y_pred, *weight in updates:
        weight = ops.convert_to_tensor(weight[0], dtype="float32") if weight and weight[0] is not None else None
        y_pred = ops.convert_to_tensor(y_pred, dtype="float32")
        variables = _updater(metric)(variables, ops.convert_to_tensor(y_true), y_pred, weight)
    return float(metric.stateless_result(variables))


@functools.cache
def _updater(metric):
    return compiled(metric.stateless_update_state)


def central_differences(function, point, step=1e-5):
    """The gradient of a scalar NumPy function, two evaluations per coordinate."""
    point = np.asarray(point, "float64")
    gradient = np.zeros_like(point)
    for index in np.ndindex(point.shape):
        offset = np.zeros_like(point)
        offset[index] = step
        gradient[index] = (function(point + offset) - function(point - offset)) / (2 * offset[index])
    return gradient
