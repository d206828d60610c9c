"""How the time of a step grows with the length of one list, from 100 to 100,000 items, with the fitted exponent."""

import argparse
import math
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import losses
import numpy as np
import peers
import timing

LENGTHS = [100, 300, 1000, 3000, 10000, 30000, 100000]
NAMES = ["RankNet", "RankNet + NDCG", "hinge", "hinge + NDCG", "ApproxNDCG", "ListMLE", "softmax"]


def seconds_of(loss, length):
    """The least of three steps, after one that compiles."""
    run = losses.step(loss, *peers.lists(1, length), jit=False)
    run()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def exponent(lengths, seconds):
    """The slope of log seconds over log length, from 1,000 items on."""
    points = [(math.log(n), math.log(t)) for n, t in zip(lengths, seconds, strict=True) if n >= 1000]
    return float(np.polyfit(*zip(*points, strict=True), 1)[0]) if len(points) > 1 else float("nan")


def plot(measured, path):
    """Seconds over length of each loss, both logarithmic, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for name, seconds in measured.items():
        axes.loglog(LENGTHS[: len(seconds)], seconds, marker="o", label=name)
    axes.set(xlabel="items in the list", ylabel="seconds per step (value and gradient)", title="One list, one step")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--longest", type=int, default=100000)
    parser.add_argument("--losses", nargs="*", default=NAMES)
    parser.add_argument(
        "--limit", type=float, default=30.0, help="seconds of a step after which a loss goes no further"
    )
    parser.add_argument("--plot", help="path of a PNG")
    arguments = parser.parse_args()
    available, measured = peers.ours(), {}
    for name in arguments.losses:
        measured[name] = []
        for length in LENGTHS:
            if length > arguments.longest or (measured[name] and measured[name][-1] * 10 > arguments.limit):
                break
            measured[name].append(seconds_of(available[name], length))
    rows = [
        [
            name,
            *(f"{1e3 * t:.1f}" for t in seconds),
            *["-"] * (len(LENGTHS) - len(seconds)),
            f"{exponent(LENGTHS[: len(seconds)], seconds):.2f}",
        ]
        for name, seconds in measured.items()
    ]
    print(timing.table(rows, ["ms per step of one list", *map(str, LENGTHS), "exponent from 1,000 on"]))
    if arguments.plot:
        plot(measured, arguments.plot)


if __name__ == "__main__":
    main()
