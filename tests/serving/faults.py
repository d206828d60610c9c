"""Exporters that are killed, crowded and cramped, beside a poller that looks at the base folder all the time.

    python -m serving.faults 200

One process imports TensorFlow and forks an exporter for each trial, before any operation has run: that is what makes
hundreds of kills take minutes.
"""

import hashlib
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Short enough to be seen, long enough not to keep a processor busy.
POLL_SECONDS = 0.001


def export(base, seed=0, started=None):
    """Export a small two-tower model with assets and variables; runs in a process of its own."""
    import keras

    from tfrankloss import serving

    keras.utils.set_random_seed(seed)
    user, item = keras.Input((), name="user", dtype="string"), keras.Input((2,), name="item")
    words = [f"u{number}" for number in range(50)]
    vectors = keras.layers.Embedding(51, 2)(keras.layers.StringLookup(vocabulary=words)(user))

    class Model:
        query_tower, candidate_tower = keras.Model(user, vectors), keras.Model(item, item * 1.0)
        similarity = "dot"

    if started is not None:
        started.set()
    index = serving.CandidateIndex([f"i{number}" for number in range(500)], keras.random.normal((500, 2)))
    serving.export(Model(), base, candidates=index, k=5, signatures=["serving_default", "query_embedding"])


def files_of(folder):
    """Digests of all files under a folder, the manifest apart."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
        if path.name != "tfrankloss_manifest.json"
    }


def poll(base, stop, faults, seen):
    """Look at the base as a server does; every version must be whole in the moment it is first seen."""
    known = set()
    while True:
        last = stop.is_set()
        for name in os.listdir(base) if base.is_dir() else []:
            if name.isdecimal() and name not in known:
                known.add(name)
                try:
                    manifest = json.loads((base / name / "assets.extra" / "tfrankloss_manifest.json").read_text())
                    written = {path: entry["sha256"] for path, entry in manifest["files"].items()}
                    if files_of(base / name) != written:
                        faults.put(f"version {name} was seen with other files than in its manifest")
                except OSError as fault:
                    faults.put(f"version {name} was seen without all of its files: {fault}")
        if last:
            seen.value = len(known)
            return
        time.sleep(POLL_SECONDS)


class Poller:
    """The poller in a process of its own."""

    def __init__(self, base):
        context = multiprocessing.get_context("fork")
        self.stop, self.faults, self.seen = context.Event(), context.SimpleQueue(), context.Value("i", 0)
        self.process = context.Process(target=poll, args=(base, self.stop, self.faults, self.seen))

    def __enter__(self):
        self.process.start()
        return self

    def __exit__(self, *details):
        self.stop.set()
        self.process.join()

    def found(self):
        """What was wrong."""
        out = []
        while not self.faults.empty():
            out.append(self.faults.get())
        return out


def kills(base, count, seed=0):
    """Kill ``count`` exporters at random moments; returns how many of them had published, and what was wrong."""
    import tfrankloss.serving  # noqa: F401  what the forks share

    context = multiprocessing.get_context("fork")
    generator = random.Random(seed)
    # How long one takes that is left alone, from the moment it has its model.
    started = context.Event()
    process = context.Process(target=export, args=(base, 0, started))
    process.start()
    started.wait()
    begin = time.perf_counter()
    process.join()
    whole = time.perf_counter() - begin
    assert process.exitcode == 0
    with Poller(base) as poller:
        for trial in range(count):
            if trial % 20 == 19:
                print(f"{trial + 1} of {count} kills", flush=True)
            started = context.Event()
            process = context.Process(target=export, args=(base, trial, started))
            process.start()
            started.wait()
            process.join(generator.random() * whole)
            # However busy the machine is, about one in five gets to the end: some are killed just before and after it.
            whole *= 1.05 if process.is_alive() else 1.05**-4
            if process.is_alive():
                os.kill(process.pid, signal.SIGKILL)
            process.join()
    return poller.seen.value, poller.found()


def crowd(base, count):
    """``count`` exporters at once; returns their exit codes and what the poller found wrong."""
    import tfrankloss.serving  # noqa: F401  what the forks share

    context = multiprocessing.get_context("fork")
    with Poller(base) as poller:
        processes = [context.Process(target=export, args=(base, seed)) for seed in range(count)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    return [process.exitcode for process in processes], poller.found()


def verify_all(folders):
    """Fail unless every version loads and answers as it did when it was exported."""
    from tfrankloss import serving

    for folder in folders:
        serving.verify(folder)


def answering(base):
    """The versions, each of which loads and answers as it did when it was exported."""
    from tfrankloss.serving import publish

    found = publish.version_folders(base)
    # In a process of its own: once operations have run, TensorFlow bears no fork.
    process = multiprocessing.get_context("fork").Process(target=verify_all, args=(list(found.values()),))
    process.start()
    process.join()
    assert process.exitcode == 0, f"a version in {base} does not answer"
    return sorted(found)


def cramped(base):
    """Export where there is no room; returns what was said, and what is left."""
    import tfrankloss.serving  # noqa: F401  what the fork shares

    context = multiprocessing.get_context("fork")
    said = context.SimpleQueue()

    def attempt():
        try:
            export(base)
            said.put("published")
        except OSError as fault:
            said.put(f"{type(fault).__name__}: {fault}")

    process = context.Process(target=attempt)
    process.start()
    process.join()
    return said.get(), sorted(path.name for path in base.parent.rglob("*"))


def sweep_of_kills(folder, count):
    """Print what became of killed exporters; True if anything was wrong."""
    base = folder / "killed"
    seen, faults = kills(base, count)
    exporter = multiprocessing.get_context("fork").Process(target=export, args=(base,))
    exporter.start()
    exporter.join()
    versions = answering(base)
    left = [path.name for path in base.iterdir() if not path.name.isdecimal()]
    print(f"{count} kills: {seen} versions seen, all {len(versions)} load and answer; left: {left}; faults: {faults}")
    return bool(faults or left or len(versions) != seen + 1)


def sweep_of_crowds(folder, count):
    """Print what became of exporters that ran at once; True if anything was wrong."""
    base = folder / "crowded"
    codes, faults = crowd(base, count)
    versions = answering(base)
    print(f"{count} exporters at once: exit codes {codes}, versions {versions}; faults: {faults}")
    return bool(faults or any(codes) or versions != list(range(1, count + 1)))


def sweep_of_small_disks(folder, kilobytes):
    """Print what became of an exporter on a small disk of its own; True if anything was wrong."""
    disk = folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(disk)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"full disk: not tried, a disk cannot be mounted here: {done.stderr.strip()}")
        return False
    said, left = cramped(disk / "models" / "name")
    print(f"full disk: {said}; left: {left}")
    # It stops root too, whom no mode of a folder does.
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    said_again, left_again = cramped(disk / "models" / "name")
    print(f"read-only disk: {said_again}; left: {left_again}")
    subprocess.run(["umount", str(disk)], check=True)
    wording = "must be writable and have room for the export"
    return bool(left or left_again) or wording not in said or wording not in said_again


def main(num_kills):
    """Run all sweeps and print their results; exit code 1 if anything was wrong."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        wrong = [sweep_of_small_disks(Path(folder), 64)]
        wrong += [sweep_of_crowds(Path(folder), 4)]
        wrong += [sweep_of_kills(Path(folder), num_kills)]
    print(f"{sum(wrong)} of 3 sweeps went wrong; {time.perf_counter() - begin:.0f} s")
    return int(any(wrong))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
