"""Time and memory of the in-batch softmax, value and gradients, beside the form that TensorFlow Recommenders has.

That form is written out here, as the library does not import beside Keras 3: the product of all embeddings, and a
softmax cross entropy against an identity matrix.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import memory
import numpy as np
import tensorflow as tf
import timing

import tfrankloss

SHAPES = [(1024, 64), (4096, 64), (4096, 128), (16384, 64)]
FORMS = ("ours", "TFRS form")
# Candidates are as probable as 1 / rank.
PLAIN, FULL = "", " symmetric with log Q"


def loss_of(form, rows):
    """A function of queries and candidates (B, D)."""
    probabilities = 1 / np.arange(1.0, rows + 1)
    if form.startswith("ours"):
        full = form.endswith(FULL)
        settings = {"targets": "candidate_ids", "duplicates": "negative", "candidate_probability": probabilities}
        loss = tfrankloss.InBatchSoftmaxLoss(symmetric=full, **(settings if full else {}))

        def ours(queries, candidates):
            targets = tf.range(rows) if full else tf.ones(rows)
            return loss(targets, tf.stack([queries, candidates], axis=1))

        return ours

    def recommenders(queries, candidates):
        scores = tf.matmul(queries, candidates, transpose_b=True)
        targets = tf.eye(tf.shape(scores)[0])
        if not form.endswith(FULL):
            return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(targets, scores))
        corrected = scores - tf.constant(np.log(probabilities), "float32")
        both = [tf.nn.softmax_cross_entropy_with_logits(targets, way) for way in (corrected, tf.transpose(scores))]
        return tf.reduce_mean(both)

    return recommenders


def step(form, shape):
    """A function that computes value and gradients and waits for them."""
    loss, random = loss_of(form, shape[0]), np.random.default_rng(0)
    queries, candidates = (
        tf.constant((random.normal(size=shape) / shape[1] ** 0.25).astype("float32")) for _ in range(2)
    )

    @tf.function(autograph=False)
    def value_and_gradients(queries, candidates):
        with tf.GradientTape() as tape:
            tape.watch([queries, candidates])
            value = loss(queries, candidates)
        return value, tape.gradient(value, [queries, candidates])

    traced = value_and_gradients.get_concrete_function(queries, candidates)
    return lambda: traced(queries, candidates)[1][1].numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8.0, help="to measure for each row")
    parser.add_argument("--largest", type=int, default=16384, help="largest batch")
    parser.add_argument("--child", nargs=2, metavar=("FORM", "SHAPE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        form, shape = arguments.child
        step(form, (1100, 8))()
        print(f"{memory.growth(step(form, tuple(map(int, shape.split('x'))))):.1f}")
        return
    rows = []
    shapes = [shape for shape in SHAPES if shape[0] <= arguments.largest]
    for shape, kind in [(shape, kind) for kind in (PLAIN, FULL) for shape in shapes]:
        name, forms = f"{shape[0]}x{shape[1]}", [form + kind for form in FORMS]
        times = timing.interleaved({form: step(form, shape) for form in forms}, arguments.seconds, least=3)
        ours, theirs = (times[form] for form in forms)
        sizes = [memory.in_fresh_process(__file__, "--child", form, name) for form in forms]
        ratio = timing.ratio(theirs, ours)
        rows.append([name + kind, f"{1e3 * ours[0]:.0f}", f"{1e3 * theirs[0]:.0f}", ratio, *sizes])
        print(*rows[-1], sep="  ", flush=True)
    print(
        "\n"
        + timing.table(rows, ["batch", "ours, ms", "TFRS form, ms", "TFRS form / ours", "ours, MB", "TFRS form, MB"])
    )


if __name__ == "__main__":
    main()
