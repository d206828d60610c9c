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
import resource
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


def cramped(base, longest_file=None):
    """Export where there is no room, or files may not grow; returns what was said, and what is left."""
    import tfrankloss.serving  # noqa: F401  what the fork shares

    context = multiprocessing.get_context("fork")
    said = context.SimpleQueue()

    def attempt():
        if longest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (longest_file, longest_file))
        try:
            export(base)
            said.put("published")
        except OSError as fault:
            said.put(f"{type(fault).__name__}: {fault}")

    process = context.Process(target=attempt)
    process.start()
    process.join()
    # The folder above the base is made by an export, and goes with it.
    return said.get(), sorted(path.name for path in base.parent.rglob("*"))


def write_and_wait(base, written):
    """Export until all files are written aside, and no further; runs in a process of its own."""
    import keras

    archive = type(keras.export.ExportArchive())
    write_out = archive.write_out

    def write_out_and_wait(*arguments, **keywords):
        write_out(*arguments, **keywords)
        written.set()
        time.sleep(600)

    archive.write_out = write_out_and_wait
    export(base)


def interrupted(base):
    """Kill an exporter that has written all files; returns what was there before, after it and after the next ones."""
    import tfrankloss.serving  # noqa: F401  what the forks share

    context = multiprocessing.get_context("fork")
    written, found = context.Event(), []

    def look():
        # The folders of those that write, as one name.
        found.append([name if name.isdecimal() else "aside" for name in sorted(os.listdir(base))])

    def export_whole():
        process = context.Process(target=export, args=(base,))
        process.start()
        process.join()

    writer = context.Process(target=write_and_wait, args=(base, written))
    writer.start()
    assert written.wait(120)
    look()
    # Its folder is locked, and stays.
    export_whole()
    look()
    writer.kill()
    writer.join()
    look()
    export_whole()
    look()
    return found


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
    """Print what became of exporters without room; True if anything was wrong."""
    tried = {"short files": cramped(folder / "short" / "name", 256 * kilobytes)}
    disk = folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(disk)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"full disk: not tried, a disk cannot be mounted here: {done.stderr.strip()}")
    else:
        tried["full disk"] = cramped(disk / "models" / "name")
        # It stops root too, whom no mode of a folder does.
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        tried["read-only disk"] = cramped(disk / "models" / "name")
        subprocess.run(["umount", str(disk)], check=True)
    for name, (said, left) in tried.items():
        print(f"{name}: {said}; left: {left}")
    wording = "must be writable and have room for the export"
    return any(left or wording not in said for said, left in tried.values())


def sweep_of_interruptions(folder):
    """Print what an exporter leaves that is killed with all written; True if anything was wrong."""
    found = interrupted(folder / "interrupted")
    print(f"killed with all written: {found}")
    return found != [["aside"], ["aside", "1"], ["aside", "1"], ["1", "2"]]


def main(num_kills):
    """Run all sweeps and print their results; exit code 1 if anything was wrong."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        wrong = [sweep_of_small_disks(Path(folder), 64), sweep_of_interruptions(Path(folder))]
        wrong += [sweep_of_crowds(Path(folder), 4)]
        wrong += [sweep_of_kills(Path(folder), num_kills)]
    print(f"{sum(wrong)} of {len(wrong)} sweeps went wrong; {time.perf_counter() - begin:.0f} s")
    return int(any(wrong))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
