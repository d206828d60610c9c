"""Peak memory of a first step over that of the process before it, each in a process of its own (Linux).

It holds what TensorFlow makes of the graph besides the tensors of the step; a later step would find the memory of the
first.
"""

import argparse
import ctypes
import os
import subprocess
import sys

import peers

NAMES = ["RankNet", "RankNet + NDCG", "hinge", "ApproxNDCG", "ListMLE", "softmax"]


def status(field):
    """A field of the process's memory, in MB."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def peak(library, name, batch, length):
    """Print by how many MB a first step grows the process."""
    import losses

    loss = peers.LIBRARIES[library]()[name]
    # Loads the code of the operations: these lists are long enough to be summed as those that are measured.
    losses.step(loss, *peers.lists(2, 100), jit=False)()
    print(f"{growth(losses.step(loss, *peers.lists(batch, length), jit=False)):.1f}", flush=True)


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
    parser.add_argument("--of", nargs=2, metavar=("LIBRARY", "LOSS"), help="measure one in this process")
    arguments = parser.parse_args()
    if arguments.of:
        peak(*arguments.of, arguments.lists, arguments.length)
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


if __name__ == "__main__":
    main()
