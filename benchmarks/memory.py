"""Peak memory of a first step over that of the process before it, each in a process of its own (Linux).

It holds what TensorFlow makes of the graph besides the tensors of the step; a later step would find the memory of the
first. Steps are those of losses over lists, and of two towers that are trained in the batch: whole batches, and a large
one in micro-batches.
"""

import argparse
import ctypes
import os
import subprocess
import sys

import peers

# Of the towers that are trained.
FEATURES, UNITS = 128, 1024
NAMES = ["RankNet", "RankNet + NDCG", "hinge", "hinge + NDCG", "ApproxNDCG", "NeuralSort NDCG", "softmax", "ListMLE"]
NAMES += [f"ListMLE, {ties}" for ties in ("ties by position", "random ties")]


def status(field):
    """A field of the process's memory, in MB."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def peak(library, name, batch, length):
    """Print by how many MB a first step grows the process."""
    import losses

    loss = peers.LIBRARIES[library]()[name]
    # Loads the code of the operations: these lists are long enough to be summed as those that are measured.
    losses.step(loss, *peers.lists(2, 300), jit=False)()
    print(f"{growth(losses.step(loss, *peers.lists(batch, length), jit=False)):.1f}", flush=True)


def training_step(rows, micro_batch_size):
    """A first training step of two towers, networks of three layers, on a batch of that many rows."""
    import keras
    import numpy as np

    import tfrankloss
    from tfrankloss.models import two_tower

    keras.utils.set_random_seed(0)
    towers = []
    for name in ("query", "candidate"):
        layers = [keras.layers.Dense(UNITS, activation="relu") for _ in range(3)]
        layers = [keras.Input((FEATURES,), name=name), *layers, keras.layers.Dense(64)]
        towers.append(keras.Sequential(layers, name=f"{name}_tower"))
    model = two_tower(*towers, similarity="cosine", micro_batch_size=micro_batch_size)
    loss = tfrankloss.InBatchSoftmaxLoss(temperature=0.1)
    model.compile(keras.optimizers.Adam(), loss)
    model.optimizer.build(model.trainable_variables)
    random = np.random.default_rng(0)
    x = {name: random.normal(size=(rows, FEATURES)).astype("float32") for name in ("query", "candidate")}
    y = np.ones(rows, "float32")
    return lambda: model.train_on_batch(x, y)


def training_peak(rows, micro_batch_size):
    """Print by how many MB a first training step grows the process."""
    # Loads the code of the operations.
    training_step(64, micro_batch_size and 16)()
    print(f"{growth(training_step(rows, micro_batch_size)):.1f}", flush=True)


def training_table(rows, part):
    """Rows of text: whole batches of both sizes, and the large one in micro-batches of the small one."""
    found = []
    for name, size, micro in (
        (f"batch of {part}", part, 0),
        (f"batch of {rows}", rows, 0),
        (f"batch of {rows}, micro-batches of {part}", rows, part),
    ):
        found.append([name, in_fresh_process(__file__, "--step", str(size), str(micro))])
        print(*found[-1], sep="  ", flush=True)
    return found


def growth(run):
    """By how many MB a call grows this process at most."""
    # What is free but was not given back yet would hide what the call takes.
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = status("VmRSS")
    run()
    return status("VmHWM") - before


def in_fresh_process(script, *arguments):
    """What a script prints last in a process of its own, or "-" where it fails."""
    # What one operation frees goes back at once, and the next one takes it anew.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, script, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stdout.split()[-1] if done.returncode == 0 else "-"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lists", type=int, default=4)
    parser.add_argument("--length", type=int, default=4000)
    parser.add_argument("--losses", nargs="*", default=NAMES)
    parser.add_argument("--rows", type=int, default=16384, help="of the large batch that is trained")
    parser.add_argument("--part", type=int, default=512, help="rows of its micro-batches")
    parser.add_argument("--step", nargs=2, type=int, metavar=("ROWS", "SIZE"), help=argparse.SUPPRESS)
    parser.add_argument("--of", nargs=2, metavar=("LIBRARY", "LOSS"), help="measure one in this process")
    arguments = parser.parse_args()
    if arguments.of:
        peak(*arguments.of, arguments.lists, arguments.length)
        return
    if arguments.step:
        rows, size = arguments.step
        training_peak(rows, size or None)
        return
    import timing

    rows = []
    for name in arguments.losses:
        cells = []
        for library in peers.LIBRARIES:
            size = ["--lists", str(arguments.lists), "--length", str(arguments.length)]
            cells.append(in_fresh_process(__file__, *size, "--of", library, name))
        rows.append([name, *cells])
        print(*rows[-1], sep="  ", flush=True)
    shape = f"{arguments.lists}x{arguments.length}"
    print("\n" + timing.table(rows, [f"MB at {shape}", *peers.LIBRARIES]))
    print("\n" + timing.table(training_table(arguments.rows, arguments.part), ["training step", "MB"]))


if __name__ == "__main__":
    main()
