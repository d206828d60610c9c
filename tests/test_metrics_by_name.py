"""Metrics by name, and weighted sums of them."""

import keras
import numpy as np
import pytest

from tfrankloss import MRR, NDCG, PrecisionAtK, metrics
from tfrankloss.metrics import registry

pytestmark = pytest.mark.backends

Y, S = np.float32([[2, 0, 1, -1], [0, 1, 3, 3]]), np.float32([[0.3, 1.0, -0.4, 9.0], [1.0, 0.2, 0.1, -1.0]])


@pytest.mark.parametrize("name", registry.names())
def test_every_name_gives_its_metric(name):
    metric = metrics.get(name)
    assert metric.name == registry.OTHER_NAMES.get(name, name)
    again = metrics.get(keras.saving.serialize_keras_object(metric))
    assert again.get_config() == metric.get_config()
    assert metrics.get(metric) is metric


def test_cutoffs_and_settings():
    metric = metrics.get("precision_at_3", threshold=2.0)
    assert (type(metric), metric.get_config()["k"], metric.get_config()["threshold"]) == (PrecisionAtK, 3, 2.0)


def test_weighted_sum():
    both = metrics.get("ndcg_at_2:0.25, mrr:2")
    parts = [NDCG(k=2), MRR()]
    for metric in (both, *parts):
        metric.update_state(Y[:1], S[:1])
        metric.update_state(Y[1:], S[1:], np.float32([3]))
    expected = 0.25 * float(parts[0].result()) + 2 * float(parts[1].result())
    assert float(both.result()) == pytest.approx(expected, rel=1e-6)
    both.reset_state()
    assert float(both.result()) == 0
    assert metrics.WeightedSumMetric.from_config(both.get_config()).get_config() == both.get_config()


def test_weighted_sum_is_saved_with_its_model(tmp_path):
    inputs = keras.Input((4, 2))
    model = keras.Model(inputs, keras.layers.Reshape((4,))(keras.layers.Dense(1)(inputs)))
    model.compile("sgd", loss="mse", metrics=[metrics.get("ndcg_at_2,mrr"), metrics.get("map")])
    features = np.random.default_rng(0).normal(size=(2, 4, 2)).astype("float32")
    model.fit(features, Y, verbose=0)
    found = model.evaluate(features, Y, return_dict=True, verbose=0)
    assert set(found) == {"loss", "weighted_sum", "map"}
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    assert restored.evaluate(features, Y, return_dict=True, verbose=0) == pytest.approx(found)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: metrics.get("ndgc"), ValueError, "`identifier` must be one of .*Received: identifier='ndgc'"),
        (lambda: metrics.get("ndcg_at_0"), ValueError, "`k` must be at least 1"),
        (lambda: metrics.get("ndcg:x"), ValueError, "numbers as weights. Received: weight='x'"),
        (lambda: metrics.get("ndcg,mrr", k=3), ValueError, "`settings` must be given with a single name"),
        (lambda: metrics.get(None), TypeError, "`identifier` must be a name, a config or a metric"),
        (lambda: metrics.WeightedSumMetric([], []), ValueError, "`metrics` must hold at least one"),
        (lambda: metrics.WeightedSumMetric([MRR()], [0]), ValueError, "`weights` must be greater than 0"),
        (lambda: metrics.WeightedSumMetric([3], [1]), TypeError, "`metrics` must be a list of Keras metrics"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
