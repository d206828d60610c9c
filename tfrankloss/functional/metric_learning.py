"""Losses of embeddings with classes: N-pair."""

from typing import Any

from keras import ops

from tfrankloss import errors
from tfrankloss.functional.in_batch import clean_rows, in_batch_scores, in_batch_softmax_loss

Tensor = Any


def n_pair_loss(
    class_ids: Tensor,
    embeddings: Tensor,
    mask: Tensor | None = None,
    *,
    similarity: str = "dot",
    temperature: float = 1.0,
    embedding_penalty: float = 0.0,
) -> Tensor:
    r"""Softmax cross entropy of each row's positive against the positives of other classes.

    For items with a class, such as a product or a person, of which each row shows two: positives of the row's own class
    are no negatives. It is ``in_batch_softmax_loss`` with classes for candidate ids, which leaves duplicates out. A row
    without a row of another class has nothing to learn from and loss 0.

    .. math:: \ell_i = \log\Big(1 + \sum_{j: c_j \ne c_i} e^{s(a_i, p_j) - s(a_i, p_i)}\Big)
              + \frac{\lambda}{2} (|a_i|^2 + |p_i|^2)

    with s the similarity over the temperature.

    Args:
        class_ids: (B,) integer classes c; negative marks padded rows.
        embeddings: (B, 2, D): anchors (or queries) a and positives p.
        mask: (B,) booleans, False at padded rows; None where classes alone tell.
        similarity: "dot", "cosine" or "euclidean" (minus the squared distance).
        temperature: Divides the similarities; greater than 0.
        embedding_penalty: lambda of at least 0, which keeps unnormalised embeddings short: without it, longer ones are
            a way to a smaller loss.

    Returns:
        (B,) loss per row.

    Raises:
        TypeError: If the classes are not integers.
        ValueError: If shapes do not fit or an option has a wrong value.

    Example:
        >>> from tfrankloss.functional import n_pair_loss
        >>> loss = n_pair_loss([7, 8], [[[1.0, 0.0], [1.0, -1.0]], [[0.0, 1.0], [-1.0, 1.0]]])
        >>> print([round(float(row), 6) for row in loss])
        [0.126928, 0.126928]

    Source: Sohn, "Improved Deep Metric Learning with Multi-class N-pair Loss Objective", NIPS 2016.
    """
    errors.check_positive("temperature", temperature)
    errors.check_not_negative("embedding_penalty", embedding_penalty)
    ids, embeddings = ops.convert_to_tensor(class_ids), ops.convert_to_tensor(embeddings)
    check_classes("class_ids", ids)
    check_pairs_of_embeddings("embeddings", embeddings.shape)
    errors.check_rank("class_ids", ids.shape, 1, "(batch,)")
    errors.check_same_shape("class_ids", ids.shape, "embeddings", embeddings.shape[:1])
    embeddings, valid = clean_rows(ids, embeddings, mask)
    scores = in_batch_scores(embeddings, similarity=similarity) / temperature
    losses = in_batch_softmax_loss(ops.ones_like(scores[:, 0]), scores, valid, candidate_ids=ids, duplicates="mask")
    if embedding_penalty == 0:
        return losses
    other = ops.logical_and(ops.not_equal(ids[:, None], ids[None, :]), valid[None, :])
    learning = ops.logical_and(valid, ops.any(other, axis=1))
    lengths = ops.sum(ops.square(embeddings), axis=(1, 2)) / 2
    return losses + ops.where(learning, embedding_penalty * lengths, 0.0)


def check_classes(name: str, ids: Tensor) -> None:
    """Raise unless ``ids`` is a tensor of integers."""
    if "int" not in str(ids.dtype):
        raise TypeError(f"`{name}` must hold integers, the class of each row. Received: {name}.dtype={ids.dtype}")


def check_pairs_of_embeddings(name: str, shape: errors.Shape) -> None:
    """Raise unless ``shape`` is (batch, 2, dimension)."""
    errors.check_rank(name, shape, 3, "(batch, 2, dimension)")
    if shape[1] not in (2, None):
        raise ValueError(f"`{name}` must have shape (batch, 2, dimension). Received: {name}.shape={tuple(shape)}")
