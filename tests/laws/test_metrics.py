"""The laws that every metric keeps, in every setting, on every backend."""

import keras
import numpy as np
import pytest
import references
from backend import NAME, metric_result, with_mask
from hypothesis import given
from hypothesis import strategies as st

from laws import cases, layouts

pytestmark = pytest.mark.backends

every_metric = pytest.mark.parametrize("case", cases.METRICS, ids=str)
generators = st.integers(0, 2**31).map(np.random.default_rng)
junk = st.sampled_from(layouts.JUNK)


def reference(case, batch, item_weights=None, list_weights=None):
    """The float64 result of a metric over the lists of a batch."""
    count = len(batch.y_true)
    items = [None] * count if item_weights is None else item_weights.tolist()
    weights = [1.0] * count if list_weights is None else list_weights.tolist()
    lists = zip(batch.y_true.tolist(), batch.y_pred.tolist(), items, weights, strict=True)
    return references.metric_result(case.name, lists, **case.settings)


def like(of_items, labels):
    """An array (B, L) that broadcasts with labels (B, L) or (B, L, S)."""
    return of_items.reshape(*of_items.shape, *[1] * (labels.ndim - 2))


def test_every_metric_has_a_reference():
    assert {cls.__name__ for cls in cases.METRIC_CLASSES} <= set(references.METRICS)


@every_metric
@given(data=st.data())
def test_agrees_with_the_mean_over_all_orders_of_ties(case, data):
    batch = data.draw(case.layout.batches())
    assert metric_result(case.metric, batch) == pytest.approx(reference(case, batch), rel=1e-5, abs=1e-6)


@every_metric
@given(data=st.data())
def test_padding(case, data):
    batch = data.draw(case.layout.batches())
    padded = case.layout.pad(batch, data.draw(generators), data.draw(junk))
    expected = metric_result(case.metric, batch)
    assert metric_result(case.metric, (padded.y_true, padded.y_pred)) == pytest.approx(expected, rel=1e-6)


@every_metric
def test_padding_by_keras_mask(case, random):
    batch = case.layout.sample(random)
    padded = case.layout.pad(batch, random, float("nan"))
    mask = padded.source >= 0
    metric = case.make()
    scores = with_mask(keras.ops.convert_to_tensor(padded.y_pred), mask)
    metric.update_state(np.where(like(mask, padded.y_true), padded.y_true, 9.0), scores)
    assert float(metric.result()) == pytest.approx(metric_result(case.metric, batch), rel=1e-6)


@pytest.mark.skipif(NAME != "tensorflow", reason="about TensorFlow alone")
@every_metric
def test_padding_by_ragged_rows(case, random):
    import tensorflow as tf

    batch = case.layout.sample(random)
    lengths = np.array([5, 2, 1])
    metric = case.make()
    metric.update_state(*(tf.RaggedTensor.from_tensor(values, lengths) for values in batch))
    there = like(np.arange(5) < lengths[:, None], batch.y_true)
    labels = np.where(there, batch.y_true, -1).astype("float32")
    assert float(metric.result()) == pytest.approx(metric_result(case.metric, (labels, batch.y_pred)), rel=1e-6)


@every_metric
@given(data=st.data())
def test_order(case, data):
    batch = data.draw(case.layout.batches())
    moved = case.layout.permute(batch, data.draw(generators))
    expected = metric_result(case.metric, batch)
    assert metric_result(case.metric, (moved.y_true, moved.y_pred)) == pytest.approx(expected, rel=1e-5, abs=1e-7)


@every_metric
@given(data=st.data())
def test_list_weights(case, data):
    batch = data.draw(case.layout.batches())
    weights = cases.list_weights(data.draw(generators), len(batch.y_true))
    found = metric_result(case.metric, (*batch, weights))
    assert found == pytest.approx(reference(case, batch, list_weights=weights), rel=1e-5, abs=1e-6)
    column = metric_result(case.metric, (*batch, weights[:, None]))
    assert column == pytest.approx(found, rel=1e-6)


@every_metric
@given(data=st.data())
def test_item_weights(case, data):
    batch = data.draw(case.layout.batches())
    generator = data.draw(generators)
    weights = cases.item_weights(generator, batch.y_pred.shape)
    weights[generator.random(weights.shape) < 0.3] = 0
    expected = reference(case, batch, item_weights=weights)
    assert metric_result(case.metric, (*batch, weights)) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    removed = np.where(weights == 0, data.draw(junk), batch.y_pred)
    found = metric_result(case.metric, (batch.y_true, removed, weights))
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)


@every_metric
def test_item_weights_that_are_constant_are_list_weights(case, random):
    batch = case.layout.sample(random)
    weights = cases.list_weights(random, len(batch.y_true))
    wide = np.broadcast_to(weights[:, None], batch.y_pred.shape)
    assert metric_result(case.metric, (*batch, wide)) == pytest.approx(metric_result(case.metric, (*batch, weights)))


@every_metric
@given(generator=generators)
def test_cutting_into_batches_changes_nothing(case, generator):
    parts = [case.layout.sample(generator) for _ in range(2)]
    weights = cases.list_weights(generator, 6)
    whole = [np.concatenate(values) for values in zip(*parts, strict=True)]
    cut = metric_result(case.metric, (*parts[0], weights[:3]), (*parts[1], weights[3:]))
    assert metric_result(case.metric, (*whole, weights)) == pytest.approx(cut, rel=1e-5)


@every_metric
def test_lists_of_padding(case):
    """What ``empty`` says is what a list without a relevant item is worth, padding included."""
    scores = np.zeros((2, 5), "float32")
    padding = np.full((2, *case.layout.sample(np.random.default_rng()).y_true.shape[1:]), -1, "float32")
    expected = 1.0 if case.settings.get("empty") == "one" else 0.0
    assert metric_result(case.metric, (padding, scores)) == expected
    assert metric_result(case.metric, (np.zeros_like(padding), scores)) == expected


@every_metric
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision(case, dtype, random):
    """Scores of a short float type are ranked as float32: ties are those of the short type."""
    labels, scores = case.layout.sample(random)
    short = keras.ops.convert_to_tensor(scores, dtype=dtype)
    metric = case.make()
    metric.update_state(labels, short)
    as_float = keras.ops.convert_to_numpy(keras.ops.cast(short, "float32"))
    assert float(metric.result()) == pytest.approx(metric_result(case.metric, (labels, as_float)), rel=1e-6)


@pytest.mark.skipif(NAME != "tensorflow", reason="about TensorFlow alone")
@every_metric
@pytest.mark.parametrize("jit_compile", [False, True])
def test_graphs(case, jit_compile, random):
    """In a graph of unknown shapes, and under XLA."""
    import tensorflow as tf

    batch = case.layout.sample(random)
    metric = case.make()
    known = [tf.TensorSpec(array.shape if jit_compile else [None] * array.ndim, array.dtype) for array in batch]
    update = tf.function(metric.update_state, input_signature=known, jit_compile=jit_compile, autograph=False)
    update(*map(tf.constant, batch))
    assert float(metric.result()) == pytest.approx(metric_result(case.metric, batch), rel=1e-5)
