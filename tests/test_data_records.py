"""Serialized features against the protocol buffers of TensorFlow and of TensorFlow Serving."""

import importlib
import types

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_ranking_modules

from tfrankloss import data

ITEMS = [{"price": 1.5, "tags": ["a", "b"]}, {"price": 2.0, "tags": ["c"]}, {"price": 4.0, "tags": []}]
SPEC = {"price": tf.io.FixedLenFeature([], tf.float32), "tags": tf.io.RaggedFeature(tf.string)}


def input_pb2():
    return pytest.importorskip("tensorflow_serving.apis.input_pb2", reason="tensorflow-serving-api is not installed")


def test_example_is_that_of_tensorflow():
    serialized = data.to_example({"age": 7, "tags": ["a", b"b"], "scores": np.eye(2), "on": True})
    message = tf.train.Example.FromString(serialized)
    features = message.features.feature
    assert list(features["age"].int64_list.value) == [7] and list(features["on"].int64_list.value) == [1]
    assert list(features["tags"].bytes_list.value) == [b"a", b"b"]
    assert list(features["scores"].float_list.value) == [1, 0, 0, 1]
    back = data.from_example(serialized)
    assert {name: values.tolist() for name, values in back.items()} == {
        "age": [7],
        "on": [1],
        "scores": [1, 0, 0, 1],
        "tags": [b"a", b"b"],
    }
    with pytest.raises(TypeError, match="`x` must hold numbers or strings"):
        data.to_example({"x": [None]})
    with pytest.raises(ValueError, match=r"must be a tf\.Example"):
        data.from_example(b"\xff\xff")


def test_lists_are_those_of_tensorflow_serving():
    elwc = input_pb2().ExampleListWithContext()
    elwc.context.ParseFromString(data.to_example({"query": "shoes"}))
    for item in ITEMS:
        elwc.examples.add().ParseFromString(data.to_example(item))
    assert data.to_elwc({"query": "shoes"}, ITEMS) == elwc.SerializeToString(deterministic=True)
    context, items = data.from_elwc(elwc.SerializeToString())
    assert context["query"].tolist() == [b"shoes"]
    assert [item["price"].tolist() for item in items] == [[1.5], [2], [4]]
    assert [item.get("tags", np.array([])).tolist() for item in items] == [[b"a", b"b"], [b"c"], []]


@pytest.mark.parametrize("serialized", [b"\x0a\x05ab", b"\x08\x01", b"\x0a", b"\x80", b"\x0a\x02\xff\xff"])
def test_damaged_lists(serialized):
    with pytest.raises(ValueError, match="must be a"):
        data.from_elwc(serialized)


@pytest.mark.parametrize("list_size", [None, 2, 5])
def test_parsed_lists(list_size):
    lists = [data.to_elwc({"age": 3}, ITEMS), data.to_elwc({"age": 4}, ITEMS[:1]), data.to_elwc({"age": 5}, [])]
    context, items, mask = data.parse_elwc(lists, {"age": tf.io.FixedLenFeature([], tf.int64)}, SPEC, list_size)
    size = list_size or 3
    assert context["age"].numpy().tolist() == [3, 4, 5]
    wanted = np.zeros((3, size))
    wanted[0, : min(3, size)] = [1.5, 2, 4][:size]
    wanted[1, 0] = 1.5
    assert items["price"].numpy().tolist() == wanted.tolist()
    assert mask.numpy().tolist() == (wanted > 0).tolist()
    assert items["tags"].shape == (3, size, 2)
    assert items["tags"][0, :2].numpy().tolist() == [[b"a", b"b"], [b"c", b""]]


def test_parsed_lists_without_rows_context_or_features():
    context, items, mask = data.parse_elwc(np.zeros(0, object), {}, SPEC)
    assert context == {} and items["price"].shape == (0, 0) and mask.shape == (0, 0)
    context, _, mask = data.parse_elwc(
        [data.to_elwc({}, [{}, {}])], {"age": tf.io.FixedLenFeature([], tf.int64, 9)}, {}
    )
    assert context["age"].numpy().tolist() == [9] and mask.numpy().tolist() == [[True, True]]
    # A message without the field of the context at all.
    context, *_ = data.parse_elwc([b""], {"age": tf.io.FixedLenFeature([], tf.int64, 9)}, {})
    assert context["age"].numpy().tolist() == [9]
    with pytest.raises(tf.errors.InvalidArgumentError, match="price"):
        data.parse_elwc([data.to_elwc({}, [{"tags": "a"}])], {}, SPEC)


def test_as_tensorflow_ranking_parses(monkeypatch):
    input_pb2()
    if tensorflow_ranking_modules.load() is None:
        pytest.skip("TensorFlow Ranking is not installed")
    # Its module of data wants this of TensorFlow, for what is not asked of it here.
    monkeypatch.setattr(tf, "estimator", types.SimpleNamespace(ModeKeys=None), raising=False)
    theirs = importlib.import_module("tensorflow_ranking.python.data")
    lists = [data.to_elwc({"age": 3}, ITEMS), data.to_elwc({"age": 4}, ITEMS[:1])]
    spec = {"price": tf.io.FixedLenFeature([1], tf.float32, default_value=[0.0])}
    context_spec = {"age": tf.io.FixedLenFeature([1], tf.int64)}
    parsed = theirs.parse_from_example_list(
        lists, context_feature_spec=context_spec, example_feature_spec=spec, mask_feature_name="mask"
    )
    context, items, mask = data.parse_elwc(lists, context_spec, spec)
    for name, ours in (("age", context["age"]), ("price", items["price"]), ("mask", mask)):
        np.testing.assert_array_equal(ours, parsed[name])


def test_files_of_lists(tmp_path):
    rows = {"price": [3.0, 1.0, 2.0], "color": ["red", "blue", "red"], "vector": np.eye(3)}
    lists = data.to_lists(["a", "b", "a"], [0, 1, 2], rows)
    assert data.write_lists(tmp_path / "lists.tfrecord", lists) == 2
    back = data.read_lists(tmp_path / "lists.tfrecord")
    assert back.query_ids.tolist() == ["a", "b"]
    np.testing.assert_array_equal(back.labels, lists.labels)
    for name, column in lists.features.items():
        np.testing.assert_array_equal(back.features[name], column)
    # An array has one name, and numbers for ids.
    plain = data.to_lists([7, 9], [0, 1], np.eye(2))
    data.write_lists(tmp_path / "plain.tfrecord", plain, label="grade")
    back = data.read_lists(tmp_path / "plain.tfrecord", label="grade")
    assert back.query_ids.tolist() == [7, 9]
    np.testing.assert_array_equal(back.features["features"], plain.features)
    with pytest.raises(ValueError, match="must hold 'relevance'"):
        data.read_lists(tmp_path / "plain.tfrecord")


def test_files_that_cannot_be_read(tmp_path):
    path = tmp_path / "x.tfrecord"
    with pytest.raises(FileNotFoundError, match="`path` must be an existing file"):
        list(data.read_records(path))
    assert data.write_records(path, []) == 0 and list(data.read_records(path)) == []
    with pytest.raises(ValueError, match="must hold lists with items"):
        data.read_lists(path)
    data.write_records(path, [b"a" * 100])
    assert list(data.read_records(path)) == [b"a" * 100]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="whole TFRecord file"):
        list(data.read_records(path))
    data.write_records(path, [data.to_elwc({}, [{"relevance": -1}])])
    with pytest.raises(ValueError, match="labels of at least 0"):
        data.read_lists(path)
