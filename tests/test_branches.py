"""Branches that a TensorFlow graph compiles when they are first taken: values and derivatives are the same."""

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import tfrankloss
from tfrankloss.functional import branches

RANDOM = np.random.default_rng(5)
# No grades: every loss below but for that of smooth ranks has a branch for such labels.
LABELS = RANDOM.permutation(280).reshape(4, 70).astype("float32") / 7
SCORES = RANDOM.normal(size=LABELS.shape).astype("float32")


def cube_or_sine(is_usual, values):
    return ops.cond(is_usual, lambda: ops.sin(values), branches.lazily(lambda: values**3))


def derivatives(function, *values):
    """The value of a function of the last tensor, its gradient, and a second derivative along that gradient."""
    *given, last = values
    with tf.GradientTape() as outer:
        outer.watch(last)
        with tf.GradientTape() as inner:
            inner.watch(last)
            value = function(*given, last)
        slopes = inner.gradient(value, last)
        along = tf.reduce_sum(slopes * tf.stop_gradient(slopes))
    return value, slopes, outer.gradient(along, last)


def compiled(function, jit_compile=False):
    return tf.function(function, autograph=False, jit_compile=jit_compile)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("is_usual", [False, True])
def test_a_compiled_branch_has_all_derivatives(is_usual, jit_compile):
    def all_of(is_usual, values):
        return derivatives(cube_or_sine, is_usual, values)

    values = tf.constant([0.5, -1.0, 2.0])
    value, slopes, second = compiled(all_of, jit_compile)(tf.constant(is_usual), values)
    expected = [np.sin(values), np.cos(values), -np.sin(values)] if is_usual else [values**3, 3 * values**2, 6 * values]
    np.testing.assert_allclose(value, expected[0], rtol=1e-5)
    np.testing.assert_allclose(slopes, expected[1], rtol=1e-5)
    np.testing.assert_allclose(second, expected[2] * slopes, rtol=1e-5)


def test_the_branch_is_a_function_that_is_not_inlined():
    graph = compiled(cube_or_sine).get_concrete_function(tf.TensorSpec((), "bool"), tf.TensorSpec((3,))).graph
    library = graph.as_graph_def().library
    lazy = [function for function in library.function if function.attr["_noinline"].b]
    assert len(lazy) == 1
    assert "Pow" in {node.op for node in lazy[0].node_def}
    assert not any(
        "Pow" == node.op for function in library.function if function != lazy[0] for node in function.node_def
    )


def test_nothing_is_traced_without_a_graph(monkeypatch):
    monkeypatch.setattr(tf, "function", None)
    assert float(cube_or_sine(False, tf.constant([2.0]))[0]) == 8


@pytest.mark.parametrize(
    "loss",
    [
        tfrankloss.RankNetLoss(),
        tfrankloss.PairwiseHingeLoss(),
        tfrankloss.ListMLELoss(),
        tfrankloss.ListMLELoss("efron"),
        tfrankloss.ListMLELoss("position", top_k=9),
        tfrankloss.UniqueSoftmaxLoss(),
        tfrankloss.CircleLoss(),
        tfrankloss.ApproxNDCGLoss(),
        tfrankloss.RankNetLoss(lambda_weight=tfrankloss.NDCGLambdaWeight()),
    ],
    ids=lambda loss: loss.name,
)
def test_losses_of_other_labels_are_the_same_in_a_graph(loss):
    def value_and_slopes(labels, scores):
        with tf.GradientTape() as tape:
            tape.watch(scores)
            value = loss(labels, scores)
        return value, tape.gradient(value, scores)

    labels, scores = tf.constant(LABELS), tf.constant(SCORES)
    for got, expected in zip(compiled(value_and_slopes)(labels, scores), value_and_slopes(labels, scores), strict=True):
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-6 * float(tf.reduce_max(abs(expected))))


def test_second_derivatives_of_other_labels_are_the_same_in_a_graph():
    loss, labels, scores = tfrankloss.ListMLELoss("position"), tf.constant(LABELS[:, :6]), tf.constant(SCORES[:, :6])

    def second(labels, scores):
        # Around branches in a graph, TensorFlow takes minutes to trace what two tapes may ask for.
        slopes = tf.gradients(loss(labels, scores), scores)[0]
        return tf.gradients(tf.reduce_sum(slopes * tf.stop_gradient(slopes)), scores)[0]

    expected = derivatives(loss, labels, scores)[2]
    np.testing.assert_allclose(compiled(second)(labels, scores), expected, rtol=1e-4, atol=1e-6)
