import keras
import numpy as np
import pytest

import tfrankloss
from tfrankloss.data import batch_lists, to_lists

tf = pytest.importorskip("tensorflow")


def lists_of(lengths, random):
    ids = np.repeat(np.arange(len(lengths)), lengths)
    rows = len(ids)
    columns = {"feature": random.normal(size=(rows, 3)).astype("float32"), "row": np.arange(rows)}
    return to_lists(ids, random.integers(0, 3, rows), columns)


def test_every_item_comes_once_in_an_epoch(random):
    lists = lists_of(random.integers(1, 40, 50), random)
    dataset = batch_lists(lists, 8)
    assert int(dataset.cardinality()) == 7
    orders = []
    for _ in range(2):
        rows = [features["row"].numpy()[labels.numpy() >= 0] for features, labels in dataset]
        orders.append(np.concatenate(rows))
        assert sorted(orders[-1]) == list(range(lists.mask.sum()))
    assert not np.array_equal(*orders)
    again = np.concatenate([x["row"].numpy()[y.numpy() >= 0] for x, y in batch_lists(lists, 8)])
    np.testing.assert_array_equal(again, orders[0])


def test_batches_are_as_long_as_powers_of_two(random):
    lists = lists_of([1, 2, 3, 5, 8, 9, 30, 33, 33], random)
    lengths = [labels.shape[1] for _, labels in batch_lists(lists, 1, shuffle=False)]
    assert lengths == [1, 2, 4, 8, 8, 16, 32, 33, 33]
    assert [labels.shape for _, labels in batch_lists(lists, 4, shuffle=False)] == [(4, 8), (4, 33), (1, 33)]


def test_text_and_arrays_pass(random):
    del random
    lists = to_lists([1, 1, 2], [1, 0, 2], {"name": np.array(["a", "é", "c"])})
    ((features, labels),) = batch_lists(lists, 2, shuffle=False)
    assert sorted(features["name"].numpy()[labels.numpy() >= 0]) == [b"a", b"c", "é".encode()]
    plain = to_lists([1, 1, 2], [1, 0, 2], np.ones((3, 2)))
    ((features, _),) = batch_lists(plain, 2)
    assert features.shape == (2, 2, 2)


def test_lists_of_any_length_are_traced_once_per_power_of_two(random):
    lists = lists_of(random.integers(1, 130, 60), random)
    traced = []

    class Counting(tfrankloss.RankNetLoss):
        def call(self, y_true, y_pred):
            traced.append(tuple(y_pred.shape))
            return super().call(y_true, y_pred)

    inputs = keras.Input((None, 3), name="feature")
    scores = keras.layers.Dense(1)(inputs)
    model = keras.Model(inputs, keras.ops.squeeze(scores, axis=-1))
    model.compile("sgd", loss=Counting())
    data = batch_lists(lists, 4).map(lambda features, labels: (features["feature"], labels))
    model.fit(data, epochs=3, verbose=0)
    # Keras builds a model's losses on symbols first.
    assert len(traced) <= 2 + len({2, 4, 8, 16, 32, 64, 128, 129})


def test_wrong_settings(random):
    lists = lists_of([1, 2], random)
    with pytest.raises(ValueError, match="batch_size"):
        batch_lists(lists, 0)
    with pytest.raises(TypeError, match="shuffle"):
        batch_lists(lists, 1, shuffle="yes")
