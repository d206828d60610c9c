"""The three similarities of embeddings that losses, layers and models share."""

from typing import Any

import keras
from keras import ops

Tensor = Any

SIMILARITIES = ("dot", "cosine", "euclidean")

# A vector with no entry above this counts as zero: its direction is rounding noise and its gradient would overflow.
_NO_LENGTH = 1e-12


def l2_normalize(vectors: Tensor) -> Tensor:
    """Vectors (..., D) divided by their Euclidean length; zero vectors stay zero.

    A zero vector passes its gradient on unchanged, float16 and bfloat16 are computed in float32, and squares neither
    overflow nor underflow.

    Args:
        vectors: (..., D) numbers; integers become floats.

    Returns:
        Vectors of the same shape and dtype.

    Example:
        >>> from tfrankloss.functional import l2_normalize
        >>> print([[round(float(x), 3) for x in row] for row in l2_normalize(ops.array([[3.0, 4.0], [0.0, 0.0]]))])
        [[0.6, 0.8], [0.0, 0.0]]

    Source: documents, recall modes, section 2.2.
    """
    vectors = ops.convert_to_tensor(vectors)
    if "float" not in keras.backend.standardize_dtype(vectors.dtype):
        vectors = ops.cast(vectors, keras.config.floatx())
    half = keras.backend.standardize_dtype(vectors.dtype) in ("float16", "bfloat16")
    wide = ops.cast(vectors, "float32") if half else vectors
    # Dividing by the greatest entry first keeps the squares of huge and tiny entries within the range of floats.
    greatest = ops.stop_gradient(ops.max(ops.abs(wide), axis=-1, keepdims=True))
    wide = wide / ops.where(greatest > _NO_LENGTH, greatest, ops.ones_like(greatest))
    squares = ops.sum(ops.square(wide), axis=-1, keepdims=True)
    # A scaled vector has an entry of 1, up to rounding; only zeros fall below 0.5, and rsqrt has no gradient there.
    wide = wide * ops.rsqrt(ops.where(squares > 0.5, squares, ops.ones_like(squares)))
    return ops.cast(wide, vectors.dtype)
