"""Versions after they are published: verified, replayed, rolled back, removed, configured."""

import os
import shutil

import keras
import numpy as np
import pytest

from tfrankloss import serving
from tfrankloss.serving import config, publish, warmup


def scorer(factor=1.0):
    features = keras.Input((2, 1), name="features")
    return keras.Model(features, keras.layers.Rescaling(factor)(keras.ops.squeeze(features, -1)))


def export(base, factor=1.0, **arguments):
    return serving.export(scorer(factor), base, **{"signatures": ["serving_default"], **arguments})


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Versions 1 to 3, each of another factor."""
    base = tmp_path_factory.mktemp("published") / "name"
    for factor in (1.0, 2.0, 3.0):
        export(base, factor)
    return base


@pytest.fixture
def base(published, tmp_path):
    return shutil.copytree(published, tmp_path / "name")


def factor_of(path):
    with serving.load(path) as servable:
        return servable.query(features=np.ones((1, 2, 1)))["scores"][0, 0]


def pb2(module):
    return pytest.importorskip(f"tensorflow_serving.{module}", reason="tensorflow-serving-api is not installed")


def test_warmup_records_are_those_of_tensorflow_serving(retriever, ranker):
    """Parsed with the real messages, encoded again to the same bytes, and answered by the session."""
    log_pb2 = pb2("apis.prediction_log_pb2")
    import tensorflow as tf

    for exported in (retriever, ranker):
        path = exported.result.path / warmup.PATH
        logs = [log_pb2.PredictionLog.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(path))]
        names = {log.predict_log.request.model_spec.signature_name for log in logs}
        assert names == set(exported.result.signatures) and len(logs) == len(names)
        with serving.load(exported.result.path) as servable:
            for log, serialized in zip(logs, tf.data.TFRecordDataset(str(path)), strict=True):
                assert log.WhichOneof("log_type") == "predict_log"
                request, response = log.predict_log.request, log.predict_log.response
                assert request.model_spec.name == exported.result.path.parent.name
                assert log.SerializeToString(deterministic=True) == serialized.numpy()
                name = request.model_spec.signature_name
                inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
                answers = servable.raw(servable.fed(inputs, name), name)
                for key, value in response.outputs.items():
                    np.testing.assert_array_equal(answers[key], tf.make_ndarray(value))


def test_given_warmup(tmp_path):
    rows = np.ones((1, 2, 1), np.float32)
    result = export(tmp_path, warmup=[("serving_default", {"features": rows})] * 3)
    records = warmup.read(result.path)
    assert len(records) == 3 and records[0].inputs["features"].tolist() == rows.tolist()
    assert records[0].outputs["scores"].tolist() == [[1, 1]]
    assert not (export(tmp_path, warmup=[]).path / warmup.PATH).exists()
    assert serving.verify(tmp_path) == {"serving_default": {"requests": 0, "largest_difference": 0.0}}


@pytest.mark.parametrize(
    "records, error, match",
    [
        ([("serving_default", {"features": np.ones((1, 3, 1))})], ValueError, "must have shape"),
        ([("serving_default", {"feature": np.ones((1, 2, 1))})], ValueError, "`inputs` must be the features"),
        ([("predict", {"features": np.ones((1, 2, 1))})], ValueError, "`signature_name` must be one of"),
        ([("serving_default", {"features": [[["a"], ["b"]]]})], TypeError, "must hold values of type float32"),
        ([{"features": np.ones((1, 2, 1))}], TypeError, "must hold pairs"),
        ([("serving_default", {"features": np.ones((1, 2, 1))})] * 1001, ValueError, "at most 1000"),
    ],
)
def test_wrong_warmup_is_never_published(tmp_path, records, error, match):
    with pytest.raises(error, match=match):
        export(tmp_path / "base", warmup=records)
    assert list(tmp_path.iterdir()) == []


def test_verify_without_a_model(base):
    assert serving.verify(base)["serving_default"] == {"requests": 1, "largest_difference": 0.0}
    with pytest.raises(TypeError, match="`model` must be given with"):
        serving.verify(base, k=3)
    with pytest.raises(TypeError, match="ks"):
        serving.verify(base, scorer(), ks=3)


@pytest.mark.parametrize("fault", ["changed", "missing", "added", "manifest"])
def test_a_damaged_copy(base, fault):
    folder = base / "3"
    file = folder / "assets.extra" / "tf_serving_warmup_requests"
    if fault == "changed":
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    elif fault == "missing":
        file.unlink()
    elif fault == "added":
        (folder / "assets" / "more").write_text("")
    else:
        (folder / "assets.extra" / "tfrankloss_manifest.json").write_text("{}")
    wording = {"added": "not in the manifest", "manifest": "whole manifest"}.get(fault, fault)
    with pytest.raises(ValueError, match=wording):
        serving.verify(base)
    with pytest.raises(ValueError, match=wording):
        serving.rollback(base, 3)
    assert publish.versions(base) == {1, 2, 3} and len(list(base.iterdir())) == 3


@pytest.mark.parametrize("fault", ["graph", "weights", "records"])
def test_damage_that_no_manifest_tells(base, fault):
    folder = base / "3"
    (folder / "assets.extra" / "tfrankloss_manifest.json").unlink()
    if fault == "graph":
        (folder / "saved_model.pb").write_bytes(b"\xff\xff\xff")
        with pytest.raises(ValueError, match=r"whole saved_model\.pb"):
            serving.signatures(base)
    elif fault == "weights":
        shutil.rmtree(folder / "variables")
    else:
        shutil.copy(base / "2" / warmup.PATH, folder / warmup.PATH)
    if fault != "weights":  # this model has none
        with pytest.raises(ValueError, match="must load as a SavedModel" if fault == "graph" else "as it did"):
            serving.verify(base)


def test_rollback(base):
    assert serving.rollback(base) == 4 and factor_of(base) == 2
    assert serving.rollback(base, 1) == 5 and factor_of(base) == 1
    assert serving.verify(base)["serving_default"]["requests"] == 1
    assert sorted(path.name for path in base.iterdir()) == list("12345")
    with pytest.raises(ValueError, match="`version` must be one of 1, 2, 3, 4, 5"):
        serving.rollback(base, 9)
    with pytest.raises(NotADirectoryError, match="must be a folder"):
        serving.rollback(base / "none")
    shutil.rmtree(base / "2")
    serving.keep_newest(base, 1)
    with pytest.raises(ValueError, match="two versions or more"):
        serving.rollback(base)


def test_old_versions_are_removed(base):
    (base / "notes").mkdir()
    assert serving.keep_newest(base, 5) == []
    result = export(base, 4.0, keep=2)
    assert result.version == 4 and sorted(path.name for path in base.iterdir()) == ["3", "4", "notes"]
    with pytest.raises(ValueError, match="`keep` must be at least 1"):
        export(base, keep=0)


def test_clean_staging(base):
    left = base / (publish.STAGING_PREFIX + "dead")
    left.mkdir()
    (left / "saved_model.pb").write_text("half")
    with publish.staging(base) as living:
        # Entering swept what was dead.
        assert not left.exists()
        left.mkdir()
        assert serving.clean_staging(base) == [left.name]
        assert living.exists()
    with pytest.raises(NotADirectoryError):
        serving.clean_staging(base / "none")


def test_batching_parameters(tmp_path):
    settings = {"max_batch_size": 32, "batch_timeout_micros": 0, "allowed_batch_sizes": [8, 32]}
    result = export(tmp_path, batching=settings)
    # tensorflow-serving-api does not hold the message: the text is as in TF Serving's guide to batching.
    assert (result.path / "batching_params.pbtxt").read_text().splitlines() == [
        "max_batch_size { value: 32 }",
        "batch_timeout_micros { value: 0 }",
        "allowed_batch_sizes: 8",
        "allowed_batch_sizes: 32",
    ]


@pytest.mark.parametrize(
    "settings, error, match",
    [
        ({"pad_variable_length_inputs": True}, ValueError, "must not pad"),
        ({"batch_size": 3}, ValueError, "`batching` must be one of"),
        ({"max_batch_size": 0}, ValueError, "at least 1"),
        ({"max_batch_size": "8"}, TypeError, "an integer"),
        ({"max_batch_size": 8, "allowed_batch_sizes": [4]}, ValueError, "must ascend to"),
        ({"max_batch_size": 8, "allowed_batch_sizes": [8, 4, 8]}, ValueError, "must ascend to"),
        ([], TypeError, "a dict"),
    ],
)
def test_batching_that_a_server_refuses(tmp_path, settings, error, match):
    with pytest.raises(error, match=match):
        export(tmp_path / "base", batching=settings)
    assert list(tmp_path.iterdir()) == []


def test_model_config(tmp_path):
    path = tmp_path / "models.config"
    models = {"movies": "/models/movies", 'odd "name"': "/models/odd", "c": "/c", "d": "/d"}
    text = serving.write_model_config(
        path,
        models,
        versions={"movies": [3, 4], 'odd "name"': "all", "c": 2},
        labels={"movies": {"stable": 3, "canary": 4}},
    )
    assert path.read_text() == text and path.stat().st_mode & 0o444 == 0o444
    text_format = pytest.importorskip("google.protobuf.text_format")
    message = text_format.Parse(text, pb2("config.model_server_config_pb2").ModelServerConfig())
    found = {one.name: one for one in message.model_config_list.config}
    assert {name: one.base_path for name, one in found.items()} == models
    assert all(one.model_platform == "tensorflow" for one in found.values())
    assert list(found["movies"].model_version_policy.specific.versions) == [3, 4]
    assert dict(found["movies"].version_labels) == {"stable": 3, "canary": 4}
    assert found['odd "name"'].model_version_policy.HasField("all")
    assert found["c"].model_version_policy.latest.num_versions == 2
    assert not found["d"].HasField("model_version_policy")


@pytest.mark.parametrize(
    "models, arguments, error, match",
    [
        ({}, {}, ValueError, "at least one model"),
        (["a"], {}, TypeError, "a dict of base paths"),
        ({"a": "models/a"}, {}, ValueError, "absolute base paths"),
        ({"": "/a"}, {}, ValueError, "must have names"),
        ({"a": "/a"}, {"versions": {"b": 1}}, ValueError, "`versions` must be of the models"),
        ({"a": "/a"}, {"versions": {"a": "newest"}}, ValueError, "must be one of 'latest', 'all'"),
        ({"a": "/a"}, {"versions": {"a": []}}, ValueError, "at least one version"),
        ({"a": "/a"}, {"versions": {"a": [0]}}, ValueError, "at least 1"),
        ({"a": "/a"}, {"versions": {"a": [1]}, "labels": {"a": {"new": 2}}}, ValueError, "that are served"),
    ],
)
def test_model_config_that_a_server_refuses(tmp_path, models, arguments, error, match):
    with pytest.raises(error, match=match):
        serving.write_model_config(tmp_path / "models.config", models, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_model_config_is_replaced_at_once(tmp_path, monkeypatch):
    path = tmp_path / "models.config"
    old = serving.write_model_config(path, {"a": "/a"})

    def fail(*paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(config.os, "replace", fail)
    with pytest.raises(OSError):
        serving.write_model_config(path, {"b": "/b"})
    monkeypatch.undo()
    assert path.read_text() == old and os.listdir(tmp_path) == ["models.config"]
