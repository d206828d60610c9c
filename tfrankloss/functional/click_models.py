"""Click models: losses of several scores per item that explain clicks together, learned by expectation maximization.

The posterior of what is not seen, given the clicks, carries no gradient: it is the E step, and the loss the M step.
Every function takes clicks as ``labels`` (B, L), ``scores`` (B, L, columns) and an optional boolean ``mask`` and
returns the loss of each item, (B, L).
"""

from typing import Any

from keras import ops

from tfrankloss import errors
from tfrankloss.functional import lists
from tfrankloss.functional.pointwise import cross_entropy, softplus_parts

Tensor = Any

# What the columns of ``mixture_em_loss`` are, in messages: there may be any number of them.
MODELS = "models"


def check_click_em(exam_loss_weight: Any, rel_loss_weight: Any) -> None:
    """Raise unless these are settings of ``click_em_loss``."""
    errors.check_not_negative("exam_loss_weight", exam_loss_weight)
    errors.check_not_negative("rel_loss_weight", rel_loss_weight)


def click_em_loss(
    labels: Tensor,
    scores: Tensor,
    mask: Tensor | None = None,
    *,
    exam_loss_weight: float = 1.0,
    rel_loss_weight: float = 1.0,
) -> Tensor:
    r"""Clicks as items that were both examined and relevant, where neither is seen by itself (position bias).

    For click logs: what is clicked less only because it stood lower is not taken for irrelevant. The two scores of an
    item are log-odds: column 0 of its examination e, from what was shown where (its position, the device), column 1
    of its relevance r, from what it is. The sides must not see each other's inputs, or they explain each other away.
    Ties need no rule.

    .. math:: \ell_i = w_e H(p_e, \sigma(e_i)) + w_r H(p_r, \sigma(r_i)), \quad
        H(p, q) = -p \log q - (1 - p) \log (1 - q)

    with p = 1 for clicked items, and the posterior without a click otherwise, which carries no gradient:

    .. math:: p_e = \frac{\sigma(e)(1 - \sigma(r))}{1 - \sigma(e)\sigma(r)}, \quad
        p_r = \frac{\sigma(r)(1 - \sigma(e))}{1 - \sigma(e)\sigma(r)}

    With both weights 1 the gradient is that of the negative log likelihood of the clicks.

    Args:
        labels: (B, L) clicks: 1 or more is a click, less is none; negative marks padding.
        scores: (B, L, 2) log-odds of examination and of relevance.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        exam_loss_weight: Weight of the loss of examination, at least 0.
        rel_loss_weight: Weight of the loss of relevance, at least 0.

    Returns:
        (B, L) loss per item, 0 at padding.

    Raises:
        ValueError: If ``scores`` are not (batch, list_size, 2) or ``labels`` not (batch, list_size), or a weight is
            negative.

    Example:
        >>> from tfrankloss.functional import click_em_loss
        >>> loss = click_em_loss([[1.0, 0.0]], [[[0.6, 0.9], [0.8, 0.2]]])
        >>> print([round(float(item), 4) for item in loss[0]])
        [0.7786, 1.5139]

        A model with such scores, from the place and the features of each item. What is served is its relevance alone:

        >>> import keras
        >>> import numpy as np
        >>> from tfrankloss import ClickEMLoss
        >>> features = keras.Input((None, 3), name="features")
        >>> places = keras.Input((None,), dtype="int32", name="places")
        >>> examination = keras.layers.Embedding(11, 1)(places)
        >>> relevance = keras.layers.Dense(1)(features)
        >>> scores = keras.layers.Concatenate(axis=-1)([examination, relevance])
        >>> click_model = keras.Model({"features": features, "places": places}, scores)
        >>> click_model.compile("adam", loss=ClickEMLoss())
        >>> shown = {"features": np.ones((2, 10, 3)), "places": np.tile(np.arange(1, 11), (2, 1))}
        >>> clicks = np.eye(2, 10)
        >>> history = click_model.fit(shown, clicks, verbose=0)
        >>> print(click_model.output_shape, len(history.history["loss"]))
        (None, None, 2) 1
        >>> ranker = keras.Model(features, keras.layers.Reshape((-1,))(relevance))
        >>> print(ranker.predict(shown["features"], verbose=0).shape)
        (2, 10)

    Source: Wang et al., "Position Bias Estimation for Unbiased Learning to Rank in Personal Search", WSDM 2018.
    """
    check_click_em(exam_loss_weight, rel_loss_weight)
    labels, scores, mask = lists.prepare(labels, scores, mask, columns=2)
    is_positive, rest = softplus_parts(scores)
    # The log-odds of either side given no click: the likelier the other side, the less likely this one.
    log_odds = ops.stop_gradient(scores - ops.flip(scores * is_positive + rest, axis=0))
    clicked = ops.cast(labels >= 1, scores.dtype)
    happened = clicked + (1 - clicked) * ops.sigmoid(log_odds)
    # 1 minus a probability near 1 would lose the digits that a large score then multiplies.
    did_not = (1 - clicked) * ops.sigmoid(-log_odds)
    losses = scores * (did_not * is_positive - happened * (1 - is_positive)) + rest
    # The gradient of a product and a sum takes less time than that of two slices.
    weights = ops.convert_to_tensor([[[exam_loss_weight]], [[rel_loss_weight]]], dtype=losses.dtype)
    return lists.masked(ops.sum(weights * losses, axis=0), mask)


def mixture_em_loss(labels: Tensor, scores: Tensor, mask: Tensor | None = None, *, alpha: float = 1.0) -> Tensor:
    r"""Clicks of each list as the work of one of several models, which one is not seen.

    For click logs of users, or sessions, of different kinds: each column of the scores is one model's log-odds of a
    click, and learns from a list in proportion to how well it already explains its clicks. Models that start equal
    stay equal. Lists without a click have loss 0. Ties need no rule.

    .. math:: \ell = \sum_m p_m \ell_m, \quad \ell_m = \sum_i H(y_i, \sigma(s_{im})), \quad
        p = \mathrm{softmax}(-\alpha \ell_1, ..., -\alpha \ell_M)

    with H(p, q) the cross entropy, where p carries no gradient. With alpha 1 the gradient is that of the negative log
    likelihood of the clicks under a mixture in equal parts. The loss of a list is spread over its items in proportion
    to their labels, so that item weights weigh a list by their mean over clicks, as in TensorFlow Ranking.

    Args:
        labels: (B, L) clicks, from 0 to 1; negative marks padding.
        scores: (B, L, M) log-odds of a click in each of M models.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        alpha: How sharply models are told apart, greater than 0; near 0 every model learns from every list.

    Returns:
        (B, L) loss per item, 0 at padding and where nothing was clicked.

    Raises:
        ValueError: If ``scores`` are not (batch, list_size, models) or ``labels`` not (batch, list_size), or ``alpha``
            is not positive.

    Example:
        >>> from tfrankloss.functional import mixture_em_loss
        >>> loss = mixture_em_loss([[1.0, 0.0]], [[[0.6, 0.9], [0.8, 0.2]]])
        >>> print([round(float(item), 4) for item in loss[0]])
        [1.3199, 0.0]

        A model with such scores, here of two models that share a hidden layer:

        >>> import keras
        >>> features = keras.Input((None, 3))
        >>> scores = keras.layers.Dense(2)(keras.layers.Dense(8, "relu")(features))
        >>> click_model = keras.Model(features, scores)
        >>> print(click_model.output_shape)
        (None, None, 2)

    Source: Yan et al., "Revisiting Two-tower Models for Unbiased Learning to Rank", SIGIR 2022.
    """
    errors.check_positive("alpha", alpha)
    labels, scores, mask = lists.prepare(labels, scores, mask, columns=MODELS)
    of_models = ops.sum(lists.masked(cross_entropy(labels, scores), mask), axis=2)
    posterior = ops.stop_gradient(ops.softmax(-alpha * of_models, axis=0))
    return lists.share_by_label(ops.sum(posterior * of_models, axis=0), labels)
