"""A tower over a history of items in their order: a small transformer of Keras layers."""

from typing import Any

import keras
from keras import layers, ops

from tfrankloss import errors
from tfrankloss.layers import SafeMeanPooling


def sequence_tower(
    items: Any,
    dimension: int = 32,
    *,
    length: int = 50,
    blocks: int = 1,
    heads: int = 2,
    dropout: float = 0.1,
    input_name: str = "history",
    name: str = "sequence_tower",
) -> keras.Model:
    """A tower over the user's history of item ids: a transformer, then the mean over the items.

    Use it where users are known by what they did, and its order tells something; a new user is served from the first
    item on. The oldest item comes first, and 0 is padding, which changes no result wherever it stands: positions are
    counted from the latest item back, and nothing attends to padding. An empty history gives the embedding of no
    history. In training take the target out of the history, and whatever came after it.

    Any Keras model with named inputs and one output (B, D) can stand in its place in `two_tower`, such as a pretrained
    encoder of the user's words: ``keras.Model(encoder.inputs, keras.layers.Dense(D)(encoder.output), name="users")``,
    with ``encoder.trainable = False`` to train the last layer alone.

    Args:
        items: The number of ids, 0 included; or a `keras.layers.Embedding` of the candidate tower, which both towers
            then share. It may have any size that ``heads`` divides.
        dimension: Size D of what comes out, and of the items' embeddings where ``items`` is a number.
        length: Positions that are told apart; items further back all have the last one.
        blocks: How many blocks of attention and network there are; 0 for a mean of embeddings alone.
        heads: Attention heads of a block.
        dropout: Fraction dropped in training of the embeddings, the attention and each block's output.
        input_name: Name of the input.
        name: Name of the model.

    Returns:
        A functional Keras model from histories (B, H) of integers, of any H, to embeddings (B, D).

    Raises:
        TypeError: If ``items`` is neither a number nor an `Embedding`, or a size is not an integer.
        ValueError: If a size is below 1 (``blocks``: below 0), ``dropout`` lies outside of [0, 1), or ``heads`` does
            not divide the size of the items' embeddings.

    Example:
        >>> import numpy as np
        >>> tower = sequence_tower(items=100, dimension=8)
        >>> short, padded = tower.predict(np.array([[7, 3, 0, 0], [0, 7, 0, 3]]), verbose=0)
        >>> bool(np.allclose(short, padded, atol=1e-6))
        True

    Source: Kang and McAuley, "Self-Attentive Sequential Recommendation" (2018), arXiv:1808.09781; attention to both
    sides and the mean in the place of its last item, as in Sun et al., "BERT4Rec" (2019), arXiv:1904.06690.
    """
    items = _checked_items(items, dimension)
    size = items.output_dim
    for setting, value in (("dimension", dimension), ("length", length), ("heads", heads)):
        errors.check_positive_integer(setting, value)
    if blocks != 0:
        errors.check_positive_integer("blocks", blocks)
    if size % heads:
        raise ValueError(f"`heads` must divide the size of the embeddings, {size}. {errors.received('heads', heads)}")
    errors.check_number("dropout", dropout)
    if not 0 <= dropout < 1:
        raise ValueError(f"`dropout` must be at least 0 and less than 1. {errors.received('dropout', dropout)}")
    history = keras.Input((None,), dtype="int32", name=input_name)
    valid = ops.not_equal(history, 0)
    places = layers.Embedding(length + 1, size, mask_zero=True, name="positions")(_positions(valid, length))
    x = layers.Dropout(dropout)(layers.add([items(history), places]))
    for _ in range(blocks):
        x = _block(x, valid, heads, dropout)
    pooled = SafeMeanPooling()(layers.LayerNormalization()(x) if blocks else x, mask=valid)
    return keras.Model(history, layers.Dense(dimension)(pooled), name=name)


def _checked_items(items: Any, dimension: int) -> layers.Embedding:
    if isinstance(items, layers.Embedding):
        return items
    errors.check_positive_integer("items", items)
    errors.check_positive_integer("dimension", dimension)
    return layers.Embedding(items, dimension, mask_zero=True, name="items")


def _positions(valid: Any, length: int) -> Any:
    """Positions (B, H): 1 for the latest item, 2 for the one before it, at most ``length``; 0 for padding."""
    counted = ops.cast(valid, "int32")
    back = ops.flip(ops.cumsum(ops.flip(counted, axis=1), axis=1), axis=1)
    return ops.minimum(back, length) * counted


def _block(x: Any, valid: Any, heads: int, dropout: float) -> Any:
    """Attention and a network of each item, both added to what came in (pre-normalised)."""
    size = x.shape[-1]
    normal = layers.LayerNormalization()(x)
    # Said outright as well: the mask that Keras carries is lost where a shared table was built without one.
    attended = layers.MultiHeadAttention(heads, size // heads, dropout=dropout)(
        normal, normal, attention_mask=ops.expand_dims(valid, axis=1)
    )
    x = layers.add([x, layers.Dropout(dropout)(attended)])
    inner = layers.Dense(4 * size, activation="gelu")(layers.LayerNormalization()(x))
    return layers.add([x, layers.Dropout(dropout)(layers.Dense(size)(inner))])
