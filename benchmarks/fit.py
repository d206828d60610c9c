"""Time of a training step of ``fit``, compiled by default and with XLA: one small scorer, RankNet of each library."""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
import peers
import tensorflow as tf
import timing

# Enough steps that the start of an epoch does not count among them.
STEPS, FEATURES = 10, 16
# What `jit_compile` is: by default Keras takes XLA on GPUs only.
MODES = {"default": "auto", "XLA": True}


def epoch_of(loss, batch, length, jit_compile):
    """A function that runs one epoch of ``STEPS`` steps."""
    labels, _ = peers.lists(STEPS * batch, length)
    features = np.random.default_rng(1).normal(size=(STEPS * batch, length, FEATURES)).astype("float32")
    inputs = keras.Input((length, FEATURES))
    hidden = keras.layers.Dense(16, "relu")(inputs)
    model = keras.Model(inputs, keras.layers.Reshape((length,))(keras.layers.Dense(1)(hidden)))
    # A function, since losses of TensorFlow Ranking are not of this Keras.
    model.compile("adam", loss=lambda y_true, y_pred: loss(y_true, y_pred), jit_compile=jit_compile)
    data = tf.data.Dataset.from_tensor_slices((features, labels)).batch(batch).cache()
    # An iterator that tunes itself is only gone some 300 ms after it began, which would round up short epochs.
    options = tf.data.Options()
    options.autotune.enabled = False
    data = data.with_options(options)
    return lambda: model.fit(data, epochs=1, verbose=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loss", default="RankNet", help="a name, as in losses.py")
    parser.add_argument("--seconds", type=float, default=10.0, help="to measure for each shape")
    parser.add_argument("--longest", type=int, default=4000, help="longest lists")
    arguments = parser.parse_args()
    libraries = {name: make().get(arguments.loss) for name, make in peers.LIBRARIES.items()}
    libraries = {name: loss for name, loss in libraries.items() if loss is not None}
    rows = []
    for shape in peers.SHAPES:
        for mode, jit_compile in MODES.items():
            if shape[1] > arguments.longest:
                continue
            epochs = {name: epoch_of(loss, *shape, jit_compile) for name, loss in libraries.items()}
            times = timing.interleaved(epochs, arguments.seconds, least=3)
            least = {name: 1e3 * values[0] / STEPS for name, values in times.items()}
            ratios = [f"{value / least['ours']:.2g}" for name, value in least.items() if name != "ours"]
            rows.append([f"{shape[0]}x{shape[1]}, {mode}", *(f"{value:.2f}" for value in least.values()), *ratios])
            print(*rows[-1], sep="  ", flush=True)
    header = [f"ms per step, {arguments.loss}", *libraries, *(f"{name} / ours" for name in libraries if name != "ours")]
    print("\n" + timing.table(rows, header))


if __name__ == "__main__":
    main()
