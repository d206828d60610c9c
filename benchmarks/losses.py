"""Time of value and gradient of ranking losses, ours beside those of other libraries, in one process and in turn.

Every loss runs in a plain TensorFlow graph, as Keras compiles for a CPU, and under XLA. The ratios say how much longer
the peer takes: its plain graph to ours, and its better mode to our better one.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import peers
import tensorflow as tf
import timing


def step(loss, labels, scores, jit):
    """A function that computes value and gradient and waits for them."""
    labels, scores = tf.constant(labels), tf.constant(scores)

    @tf.function(autograph=False, jit_compile=jit)
    def value_and_gradient(labels, scores):
        with tf.GradientTape() as tape:
            tape.watch(scores)
            value = loss(labels, scores)
        return value, tape.gradient(value, scores)

    # Traced here, so that a first step is a step.
    traced = value_and_gradient.get_concrete_function(labels, scores)
    return lambda: traced(labels, scores)[1].numpy()


def measure(name, libraries, shape, seconds):
    """Seconds of every library in both modes, sorted, by (library, mode)."""
    labels, scores = peers.lists(*shape, distinct="distinct" in name)
    steps = {
        (library, mode): step(losses[name], labels, scores, mode == "xla")
        for library, losses in libraries.items()
        for mode in ("plain", "xla")
    }
    return timing.interleaved(steps, seconds)


def row(name, shape, times):
    """A row of the table: least times in ms, and how many times longer the peer takes, with the middle half."""

    def cell(library, mode):
        values = times.get((library, mode))
        return f"{1e3 * values[0]:.2f}" if values else "-"

    def better(library):
        return min((times[library, mode] for mode in ("plain", "xla")), key=lambda values: values[0])

    cells = [cell(library, mode) for library in peers.LIBRARIES for mode in ("plain", "xla")]
    ratios = ["-", "-"]
    if ("TF-Ranking", "plain") in times:
        ratios = [
            timing.ratio(times["TF-Ranking", "plain"], times["ours", "plain"]),
            timing.ratio(better("TF-Ranking"), better("ours")),
        ]
    return [name, f"{shape[0]}x{shape[1]}", *cells, *ratios]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--losses", nargs="*", help="names, as in the table; all by default")
    parser.add_argument("--seconds", type=float, default=4.0, help="to measure for each row")
    parser.add_argument("--longest", type=int, default=4000, help="longest lists")
    arguments = parser.parse_args()
    libraries = {}
    for library, make in peers.LIBRARIES.items():
        libraries[library] = make()
        if not libraries[library]:
            print(f"{library} is not installed: left out")
    modes = [f"{library} {mode}, ms" for library in peers.LIBRARIES for mode in ("plain", "xla")]
    rows = []
    for name in arguments.losses or libraries["ours"]:
        having = {library: losses for library, losses in libraries.items() if name in losses}
        for shape in peers.SHAPES:
            if shape[1] <= arguments.longest:
                rows.append(row(name, shape, measure(name, having, shape, arguments.seconds)))
                print(*rows[-1], sep="  ", flush=True)
    header = ["loss", "lists", *modes, "TF-Ranking plain / ours plain", "TF-Ranking best / ours best"]
    print("\n" + timing.table(rows, header))


if __name__ == "__main__":
    main()
