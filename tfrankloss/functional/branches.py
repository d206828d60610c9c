"""Branches that are rarely taken, and cost little until they are."""

from collections.abc import Callable
from typing import Any

import keras


def lazily(branch: Callable[[], Any]) -> Callable[[], Any]:
    """A branch of ``ops.cond`` that a TensorFlow graph compiles only when it is first taken.

    Otherwise TensorFlow sets up every operation of all branches before a first step: for a way that most labels never
    go that may be half of the time until then, and of the memory.
    """
    if keras.backend.backend() != "tensorflow":
        return branch
    import tensorflow as tf

    def lazy():
        if not tf.inside_function():
            return branch()
        return tf.function(branch, autograph=False, experimental_attributes={"_noinline": True})()

    return lazy
