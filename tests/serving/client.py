"""The client in C: compiled once, and asked through files."""

import functools
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

SOURCE = Path(__file__).with_name("client.c")


@functools.cache
def compiled():
    """The path of the binary, or why there is none."""
    compiler = shutil.which("gcc")
    if compiler is None:
        return None, "gcc is not installed"
    library = Path(tf.__file__).parent
    binary = Path(tempfile.mkdtemp(prefix="tfrankloss-client-")) / "client"
    command = [compiler, "-std=gnu11", "-O2", f"-I{library}/include", SOURCE, "-o", binary, f"-L{library}"]
    # A third of the time: these are libraries of a gigabyte.
    command += ["-fuse-ld=gold"] if shutil.which("ld.gold") else []
    command += ["-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2", f"-Wl,-rpath,{library}"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    return (binary, "") if done.returncode == 0 else (None, done.stderr)


def ask(path, requests, folder):
    """Answers to requests (signature, inputs), all by one process: outputs by name, or the message of an error.

    An input of another signature is named by (signature, name).
    """
    binary, fault = compiled()
    assert binary, fault
    model = saved_model_pb2.SavedModel.FromString((Path(path) / "saved_model.pb").read_bytes())
    signatures = model.meta_graphs[0].signature_def
    with open(folder / "requests", "wb") as file:
        file.write(number(len(requests)))
        for name, inputs in requests:
            file.write(number(len(inputs)))
            for key, values in inputs.items():
                owner, argument = key if isinstance(key, tuple) else (name, key)
                file.write(place(signatures[owner].inputs[argument].name) + tensor(values))
            outputs = sorted(signatures[name].outputs)
            file.write(number(len(outputs)) + b"".join(place(signatures[name].outputs[key].name) for key in outputs))
    command = [str(binary), str(path), str(folder / "requests"), str(folder / "answers")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    with open(folder / "answers", "rb") as file:
        answers = [read_answer(file, sorted(signatures[name].outputs)) for name, _ in requests]
        assert not file.read(1)
    return answers


def number(value):
    return struct.pack("q", value)


def text(value):
    value = value.encode() if isinstance(value, str) else value
    return number(len(value)) + value


def place(name):
    operation, _, index = name.partition(":")
    return text(operation) + number(int(index))


def tensor(values):
    values = np.asarray(values)
    kind = tf.string if values.dtype.kind in "OSU" else tf.dtypes.as_dtype(values.dtype)
    head = b"".join(number(one) for one in (kind.as_datatype_enum, values.ndim, *values.shape))
    return head + (b"".join(text(one) for one in values.flat) if kind == tf.string else values.tobytes())


def read_number(file):
    return struct.unpack("q", file.read(8))[0]


def read_text(file):
    return file.read(read_number(file))


def read_tensor(file):
    kind = tf.dtypes.as_dtype(read_number(file))
    shape = [read_number(file) for _ in range(read_number(file))]
    count = int(np.prod(shape))
    if kind == tf.string:
        return np.array([read_text(file) for _ in range(count)], object).reshape(shape)
    return np.frombuffer(file.read(count * kind.size), kind.as_numpy_dtype).reshape(shape)


def read_answer(file, outputs):
    if read_number(file):
        return read_text(file).decode(errors="replace")
    return {name: read_tensor(file) for name in outputs}
