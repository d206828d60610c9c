"""Functions with a gradient of their own, and what happens to those who differentiate it again."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

Tensor = Any


def custom_gradient(function: Callable[..., Any], *, how_twice: str | None = None) -> Callable[..., Any]:
    """``keras.ops.custom_gradient`` whose second derivatives are right or refused.

    On TensorFlow and JAX the gradient is differentiated as any other function. PyTorch keeps no record of what the
    gradient was computed from, and would give part of the second derivative.

    Args:
        function: A function of tensors that returns its value and its gradient: a function of ``*args, upstream=None``
            that returns what each tensor gets.
        how_twice: What to do instead, where the gradient cannot be differentiated on any backend; None where it can.

    Raises:
        NotImplementedError: When the gradient is differentiated and that is not possible.
    """
    if how_twice is None:
        if keras.backend.backend() != "torch":
            return ops.custom_gradient(function)
        how_twice = "Use the TensorFlow or JAX backend for them."

    def once(*inputs):
        value, gradient = function(*inputs)

        def first(*args, upstream=None):
            slopes = gradient(*args, upstream=upstream)
            if isinstance(slopes, (list, tuple)):
                return tuple(_final(slope, inputs, how_twice) for slope in slopes)
            return _final(slopes, inputs, how_twice)

        return value, first

    return ops.custom_gradient(once)


def quicker_gradient(function: Callable[..., Any]) -> Callable[..., Tensor]:
    """``custom_gradient`` of a function whose own gradient is right, but slower on TensorFlow.

    It takes no part elsewhere: PyTorch could not differentiate it again, JAX has no need of it.

    Args:
        function: A function of a tensor and of the indices that its gradient, with respect to the former, needs.
    """
    if keras.backend.backend() != "tensorflow":
        return lambda *inputs: function(*inputs)[0]

    def of_all(values, *indices):
        # A gradient in a branch of a branch finds only what was made inside it.
        value, gradient = function(values, *map(ops.copy, indices))
        return value, lambda *args, upstream=None: (gradient(*args, upstream=upstream), *([None] * len(indices)))

    return ops.custom_gradient(of_all)


def _final(slopes: Tensor, inputs: tuple[Tensor, ...], how_twice: str) -> Tensor:
    """``slopes`` as they are, with a gradient that only raises."""

    @ops.custom_gradient
    def final(slopes, *inputs):
        def gradient(*args, upstream=None):
            raise NotImplementedError(f"This loss has no second derivatives here. {how_twice}")

        return ops.copy(slopes), gradient

    return final(slopes, *inputs)
