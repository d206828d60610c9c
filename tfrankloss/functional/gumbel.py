"""Gumbel noise on scores: rankings drawn in proportion to their Plackett-Luce probability, and losses over them."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfrankloss import errors
from tfrankloss.functional import list_softmax, lists

Tensor = Any
ItemLoss = Callable[[Tensor, Tensor, Tensor], Tensor]

# Keeps the logarithms finite where a uniform draw is 0.
SMALLEST_DRAW = 1e-20


def gumbel_noise(shape: Any, seed: Any, dtype: str = "float32") -> Tensor:
    """Draws from the standard Gumbel distribution, the noise of ``gumbel_scores``.

    Args:
        shape: Shape of the result, such as (batch, sample_size, list_size).
        seed: An integer, for the same draws every time, or a ``keras.random.SeedGenerator``.
        dtype: Its dtype.

    Returns:
        A tensor of draws, all finite.

    Example:
        >>> from tfrankloss.functional import gumbel_noise
        >>> print(tuple(gumbel_noise((2, 8, 3), seed=1).shape))
        (2, 8, 3)

    Source: Gumbel 1954; -log(-log(u)) of a uniform u.
    """
    uniform = keras.random.uniform(shape, seed=seed, dtype=dtype)
    return -ops.log(-ops.log(uniform + SMALLEST_DRAW) + SMALLEST_DRAW)


def gumbel_scores(
    scores: Tensor, mask: Tensor | None = None, *, noise: Tensor, gumbel_temperature: float = 1.0
) -> Tensor:
    r"""Scores with noise, as logarithms of probabilities that sum to 1 over each list.

    The order of noisy scores is a draw from the Plackett-Luce model of the scores: the higher a score, the likelier it
    comes first. So a loss of them sees other rankings near the present one.

    .. math:: z_i = \log \mathrm{softmax}((s + \gamma) / \tau)_i

    Args:
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where there is none.
        noise: (B, S, L) draws, as from ``gumbel_noise``: S for each list.
        gumbel_temperature: tau > 0; above 1 brings noisy scores nearer to each other.

    Returns:
        (B, S, L) noisy scores, 0 at padding.

    Raises:
        ValueError: If a shape does not fit, or tau is not positive.

    Example:
        >>> from tfrankloss.functional import gumbel_scores
        >>> noisy = gumbel_scores([[0.6, 0.8, 0.1]], noise=[[[0.0, 0.5, -0.5]]])
        >>> print([round(float(score), 4) for score in noisy[0, 0]])
        [-1.2184, -0.5184, -2.2184]

    Source: Bruch et al., "A Stochastic Treatment of Learning to Rank Scoring Functions", WSDM 2020; Yellott 1977.
    """
    errors.check_positive("gumbel_temperature", gumbel_temperature)
    _, scores, mask = lists.prepare(ops.zeros_like(scores), scores, mask)
    noise = as_noise(noise, scores)
    # Near the top of a list, where the order is decided, centered scores take up noise without losing digits.
    noisy = (lists.centered(scores, mask)[:, None, :] + noise) / gumbel_temperature
    log_probabilities = list_softmax.masked_log_softmax(flat(noisy), per_draw(mask, noise))
    return ops.reshape(log_probabilities, ops.shape(noise))


def gumbel_loss(
    labels: Tensor,
    scores: Tensor,
    mask: Tensor | None = None,
    *,
    loss: ItemLoss,
    noise: Tensor,
    gumbel_temperature: float = 1.0,
) -> Tensor:
    r"""The mean of a loss over draws of noisy scores.

    It smooths a loss that is flat or jumps between rankings, and keeps training from settling on one ranking too
    early. A loss that depends on differences of scores only suits it, since noisy scores tell no more.

    .. math:: \ell_i = \frac1S \sum_{d=1}^S \ell_i(y, z^{(d)})

    with the noisy scores z of ``gumbel_scores``.

    Args:
        labels: (B, L) relevance of at least 0; negative marks padding.
        scores: (B, L) scores.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        loss: A function of labels, scores and mask that gives the loss (N, L) of each item, such as ``softmax_loss``.
        noise: (B, S, L) draws, as from ``gumbel_noise``: S for each list.
        gumbel_temperature: tau > 0, divides scores and noise.

    Returns:
        (B, L) loss per item.

    Raises:
        ValueError: If a shape does not fit, or tau is not positive.
        TypeError: If ``loss`` is not a function.

    Example:
        >>> from tfrankloss.functional import gumbel_loss, softmax_loss
        >>> noise = [[[0.0, 0.5, -0.5], [0.0, 0.0, 0.0]]]
        >>> loss = gumbel_loss([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]], loss=softmax_loss, noise=noise)
        >>> print([round(float(item), 4) for item in loss[0]])
        [1.129, 0.0, 3.7579]

    Source: Bruch et al., WSDM 2020; TensorFlow Ranking's ``GumbelApproxNDCGLoss``.
    """
    errors.check_callable("loss", loss)
    labels, scores, mask = lists.prepare(labels, scores, mask)
    noise = as_noise(noise, scores)
    noisy = gumbel_scores(scores, mask, noise=noise, gumbel_temperature=gumbel_temperature)
    losses = loss(per_draw(labels, noise), flat(noisy), per_draw(mask, noise))
    # A sum, since the mean of Keras on torch goes through float32.
    return ops.sum(ops.reshape(losses, ops.shape(noise)), axis=1) / ops.cast(ops.shape(noise)[1], losses.dtype)


def as_noise(noise: Tensor, scores: Tensor) -> Tensor:
    """The noise (B, S, L) in the dtype of the scores (B, L).

    Raises:
        ValueError: If the shapes do not fit.
    """
    noise = ops.convert_to_tensor(noise, dtype=scores.dtype)
    if errors.shapes_differ(noise.shape, (scores.shape[0], None, scores.shape[1])):
        raise ValueError(
            "`noise` must have shape (batch, sample_size, list_size) for the (batch, list_size) of `scores`. "
            f"Received: noise.shape={tuple(noise.shape)}, scores.shape={tuple(scores.shape)}"
        )
    return noise


def per_draw(values: Tensor, noise: Tensor) -> Tensor:
    """Values (B, L) once for each draw of the noise (B, S, L), as lists (B * S, L)."""
    return flat(ops.broadcast_to(values[:, None, :], ops.shape(noise)))


def flat(values: Tensor) -> Tensor:
    """(B, S, L) as lists (B * S, L)."""
    batch, samples, length = ops.shape(values)
    return ops.reshape(values, (batch * samples, length))
