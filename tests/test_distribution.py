"""Several replicas train as one device does, and a killed training ends where an undisturbed one does."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from replicas import models, worker

from tfrankloss import InBatchSoftmaxLoss, distribution

PROGRAMS = Path(__file__).parent / "replicas"
# Longer than any of them takes on a busy machine.
PATIENCE = 240


def start(program, *arguments, **environment):
    """A program of the folder, with the package of these tests."""
    package = str(Path(distribution.__file__).parents[2])
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "PYTHONPATH": package, **environment}
    command = [sys.executable, str(PROGRAMS / program), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def output_of(process):
    """What a program printed; it must have ended well."""
    printed, complaints = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, complaints
    return printed


@pytest.mark.parametrize("replicas", [2, 4])
def test_mirrored_replicas_are_one_device(replicas):
    """Losses and gradients of all options, of replicas with unlike numbers of rows, and weights after three steps."""
    found = json.loads(output_of(start("mirrored.py", replicas)).splitlines()[-1])
    assert np.max(found["losses"]) < 2e-6
    assert max(found["trainings"].values()) < 1e-5


def start_workers(folder, kill_at="never"):
    """Two workers that talk through ports which are free now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    started = []
    for index in range(2):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        arguments = folder / "backup", folder / f"{index}.npz", "workers", kill_at
        started.append(start("worker.py", *arguments, TF_CONFIG=json.dumps(config)))
    return started


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What two workers come to that nobody kills, and what the first of them printed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    printed = [output_of(process) for process in start_workers(folder)]
    assert not (folder / "backup").exists()
    return [dict(np.load(folder / f"{index}.npz")) for index in range(2)], printed


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-5, err_msg=name)


def test_two_workers_are_one_device(undisturbed, tmp_path):
    results, printed = undisturbed
    assert_same(results[1], results[0])
    logs, weights = worker.train("workers", tmp_path)
    assert_same(results[0], {**logs, "weights": weights})
    # What the schedule saw changed its rate, and the chief alone has a bar.
    assert logs["learning_rate"][-1] < logs["learning_rate"][0]
    assert "val_loss" in printed[0] and not printed[1]


def test_a_killed_worker_comes_back(undisturbed, tmp_path):
    first, second = start_workers(tmp_path, kill_at=5)
    assert second.wait(PATIENCE) == -signal.SIGKILL
    # It would give up by itself after some seconds without the other.
    first.kill()
    first.communicate()
    assert (tmp_path / "backup" / "backup.npz").exists()
    for process in start_workers(tmp_path):
        output_of(process)
    for index in range(2):
        assert_same(dict(np.load(tmp_path / f"{index}.npz")), undisturbed[0][index])


@pytest.mark.parametrize("how", ["loop", "fit"])
def test_a_killed_process_comes_back(how, tmp_path):
    """By `distribution.fit`, and by Keras' own callback in `fit`."""
    killed = start("worker.py", tmp_path / "backup", tmp_path / "none.npz", how, 8)
    assert killed.wait(PATIENCE) == -signal.SIGKILL
    killed.communicate()
    logs, weights = worker.train(how, tmp_path / "backup")
    expected, expected_weights = worker.train(how, tmp_path / "other")
    np.testing.assert_allclose(weights, expected_weights, rtol=1e-6, atol=1e-7)
    assert logs["loss"][-1] == pytest.approx(expected["loss"][-1], rel=1e-6)


def test_two_devices_of_jax_are_one():
    pytest.importorskip("jax")
    environment = {"KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    found = json.loads(output_of(start("jax_parallel.py", **environment)).splitlines()[-1])
    assert max(found.values()) < 1e-5


def small():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model, tf.data.Dataset.from_tensors((np.ones((4, 1), "float32"), np.ones((4, 1), "float32")))


def test_callbacks_are_called_as_by_fit():
    """In the same order, with the same logs, and a stop is a stop."""
    calls = []
    for train in (distribution.fit, keras.Model.fit):
        keras.utils.set_random_seed(1)
        model, data = small()
        seen = []

        class Listener(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None, seen=seen):
                seen.append(("begin", epoch))

            def on_train_batch_end(self, batch, logs=None, seen=seen):
                seen.append((batch, round(logs["loss"], 5)))
                self.model.stop_training = len(seen) > 8

            def on_epoch_end(self, epoch, logs=None, seen=seen):
                seen.append(("end", {name: round(value, 5) for name, value in logs.items()}))

        history = train(model, data.repeat(3), epochs=9, validation_data=data, callbacks=[Listener()], verbose=0)
        calls.append([*seen, history.epoch])
    assert calls[0] == calls[1]


def test_data_that_does_not_end_or_is_short():
    model, data = small()
    assert distribution.fit(model, data.repeat(), steps_per_epoch=2, epochs=3, verbose=0).epoch == [0, 1, 2]
    assert distribution.fit(model, data, steps_per_epoch=5, verbose=0).epoch == [0]
    assert model.optimizer.iterations == 11


def test_a_backup_is_whole_or_not_there(tmp_path, monkeypatch):
    """A write that fails leaves the backup before as it was."""
    model, data = small()

    class Fails(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                monkeypatch.setattr(os, "replace", None)

    with pytest.raises(TypeError):
        distribution.fit(model, data, epochs=4, backup_dir=tmp_path, callbacks=[Fails()], verbose=0)
    monkeypatch.undo()
    again, _ = small()
    assert distribution.fit(again, data, epochs=4, backup_dir=tmp_path, verbose=0).epoch == [0, 1, 2, 3]
    assert again.optimizer.iterations == 4
    assert not (tmp_path / "backup.npz").exists()


def test_a_training_that_was_stopped_is_at_its_end(tmp_path, monkeypatch):
    """Killed between its last epoch and the removal of the backup, it does not go on."""
    from tfrankloss.distribution import backups

    model, data = small()
    patience = keras.callbacks.EarlyStopping("loss", patience=1, min_delta=100)
    monkeypatch.setattr(backups, "remove", lambda folder: None)
    epochs = distribution.fit(model, data, epochs=9, backup_dir=tmp_path, callbacks=[patience], verbose=0).epoch
    again, _ = small()
    assert epochs == distribution.fit(again, data, epochs=9, backup_dir=tmp_path, verbose=0).epoch == [0, 1]
    assert again.optimizer.iterations == 2


def test_another_backend_is_refused(monkeypatch):
    model, data = small()
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="'tensorflow'"):
        distribution.fit(model, data)


def test_what_the_loop_refuses(tmp_path):
    model, data = small()
    refused = [
        (TypeError, "tf.data.Dataset", {"dataset": np.ones((4, 1))}),
        (TypeError, "validation_data", {"validation_data": (1, 2)}),
        (ValueError, "infinite", {"dataset": data.repeat()}),
        (ValueError, "unknown length", {"dataset": data.filter(lambda x, y: True)}),
        (ValueError, "at least 1", {"epochs": 0}),
        (ValueError, "backup_dir", {"callbacks": [keras.callbacks.BackupAndRestore("x")]}),
        (ValueError, "scope", {"strategy": tf.distribute.OneDeviceStrategy("CPU:0")}),
        (ValueError, "compiled", {"model": keras.Sequential([keras.layers.Dense(1)])}),
    ]
    for kind, message, given in refused:
        with pytest.raises(kind, match=message):
            distribution.fit(**{"model": model, "dataset": data, "verbose": 0, **given})
    model.compile("sgd", "mse", steps_per_execution=2)
    with pytest.raises(ValueError, match="one step"):
        distribution.fit(model, data)


def test_a_backup_of_another_model(tmp_path):
    from tfrankloss.distribution import backups

    model, data = small()
    distribution.fit(model, data, verbose=0)
    backups.save(model, tmp_path, backups.START, write=True)
    other = models.model_of()
    pairs = tf.data.Dataset.from_tensor_slices(models.data_of()).batch(8)
    with pytest.raises(ValueError, match="same model"):
        distribution.fit(other, pairs, backup_dir=tmp_path)


def test_one_device_gathers_nothing():
    from tfrankloss.distribution import replicas

    assert not replicas.on_several_replicas() and not replicas.in_symbolic_build()
    loss = InBatchSoftmaxLoss(chunk_size=2)
    graph = tf.function(loss).get_concrete_function(np.ones(4, "float32"), tf.ones((4, 2, 3))).graph
    assert not any("Collective" in node.type for node in graph.get_operations())
