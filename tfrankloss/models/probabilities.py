"""Probabilities of candidates on their way from a layer that estimates them to an in-batch loss."""

from typing import Any

import keras
from keras import ops

from tfrankloss import errors

Tensor = Any

# What the loss must be told to find them.
READS = {"targets": "candidate_ids", "candidate_probability": "embeddings"}


def check_layer(layer: Any) -> None:
    """Raise unless ``layer`` is a layer."""
    if not isinstance(layer, keras.layers.Layer):
        raise TypeError(
            "`candidate_probability` must be a layer, such as sampling.StreamingProbability; a table belongs to the "
            f"loss. {errors.received('candidate_probability', layer)}"
        )


def check_loss(loss: Any) -> None:
    """Raise unless ``loss`` reads logarithms of probabilities from embeddings, and ids from its targets."""
    settings = getattr(loss, "settings", {})
    given = {name: settings.get(name) for name in READS}
    if any(not isinstance(given[name], str) or given[name] != wanted for name, wanted in READS.items()):
        wanted = ", ".join(f"{name}={value!r}" for name, value in READS.items())
        raise ValueError(
            f"`loss` must be InBatchSoftmaxLoss({wanted}) for a model with `candidate_probability`. "
            f"{errors.received('loss', loss)}"
        )


def with_log_probabilities(layer: keras.layers.Layer, ids: Tensor, embeddings: Tensor, training: bool) -> Tensor:
    """Embeddings whose last coordinate is the logarithm of the probability of their candidate; 0 at queries.

    Args:
        layer: Gives the logarithms of integer ids, 0 at negative ones, which are padding.
        ids: (B,) or (B, 1 + K + P): of the own candidate, of the explicit negatives, and whatever a loss wants to know.
        embeddings: (B, 2 + K, D) query, own candidate, explicit negatives.
        training: Whether the ids are a batch that the layer learns from.

    Returns:
        (B, 2 + K, D + 1), of float32 at least.

    Raises:
        ValueError: If ids of explicit negatives are missing.
    """
    ids = ops.convert_to_tensor(ids)
    ids = ids[:, None] if len(ids.shape) == 1 else ids
    count = embeddings.shape[1] - 1
    if ids.shape[1] is not None and ids.shape[1] < count:
        raise ValueError(
            f"`y` must hold the ids of explicit negatives too, (batch, {count}), with `candidate_probability`. "
            f"Received: y.shape={tuple(ids.shape)}"
        )
    logs = layer(ids[:, :count], training=training)
    column = ops.concatenate([ops.zeros_like(logs[:, :1]), logs], axis=1)
    return ops.concatenate([embeddings, column[:, :, None]], axis=2)
