"""A training that may be killed: of one of several workers where TF_CONFIG says so, else of a process by itself.

Arguments: a folder for the backup, a file for the result, how to train, and the step that kills the last worker.
"""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

# Before anything else runs on a device.
STRATEGY = tf.distribute.MultiWorkerMirroredStrategy() if "TF_CONFIG" in os.environ else tf.distribute.get_strategy()

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import keras  # noqa: E402

from replicas.models import data_of, model_of, weights_of  # noqa: E402
from tfrankloss import distribution  # noqa: E402

EPOCHS = 3


class KilledAt(keras.callbacks.Callback):
    """Kills its process without warning at the end of a step, the first one being 1."""

    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def train(how, folder, kill_at=None, strategy=None):
    """Train three epochs of three steps; returns the logs by epoch and the weights.

    With dropout where its seeds are to come back: several replicas do not drop what one does, and Keras' own callback
    leaves the seeds out.
    """
    strategy = strategy or tf.distribute.get_strategy()
    with strategy.scope():
        model = model_of(dropout=0.3 * (how == "loop"))
    # Decides by what it remembers: the loss never falls by that much.
    callbacks = [keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=10.0)]
    if kill_at is not None:
        callbacks.append(KilledAt(kill_at))
    data = tf.data.Dataset.from_tensor_slices(data_of(22))
    if how == "fit":
        callbacks[0] = keras.callbacks.BackupAndRestore(folder)
        history = model.fit(data.batch(8), epochs=EPOCHS, verbose=0, callbacks=callbacks)
    else:
        # The weights of the last epoch come from an order that is known by its seed alone.
        data, validation = data.shuffle(22, seed=1).batch(8), data.batch(8)
        history = distribution.fit(
            model,
            data,
            epochs=EPOCHS,
            validation_data=validation,
            strategy=strategy,
            callbacks=callbacks,
            backup_dir=folder,
            backup_every=2,
        )
    return history.history, weights_of(model)


if __name__ == "__main__":
    folder, result, how, kill_at = sys.argv[1:]
    last = json.loads(os.environ.get("TF_CONFIG", "{}")).get("task", {}).get("index", 1) == 1
    logs, weights = train(how, folder, int(kill_at) if last and kill_at != "never" else None, STRATEGY)
    np.savez(result, weights=weights, **logs)
