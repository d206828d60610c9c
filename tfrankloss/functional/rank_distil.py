"""RankDistil: a student's likelihood of orders that a teacher draws."""

from typing import Any

from keras import ops

from tfrankloss import errors
from tfrankloss.functional import closed_form, gains, lists, sorted_places
from tfrankloss.functional.gumbel import as_noise, flat, per_draw

Tensor = Any


def coupled_rank_distil_loss(
    labels: Tensor, scores: Tensor, mask: Tensor | None = None, *, noise: Tensor, top_k: int | None = None
) -> Tensor:
    r"""Mean negative log likelihood of orders drawn from a teacher's scores, the labels (Coupled-RankDistil).

    For distillation: scores learn not only the teacher's order but how sure it is of each part. Labels plus Gumbel
    noise, sorted, are a draw from the Plackett-Luce model of the labels, so the mean over the draws is an estimate of
    the cross entropy of the two models. Only differences of labels count; a teacher that goes below 0 must be moved up,
    as negative labels mark padding. A list whose labels are all 0 has no teacher and loss 0. Ties need no rule: tied
    items come in any order equally often.

    .. math:: \ell = -\frac{1}{S} \sum_{n=1}^S \sum_{k=1}^K
        \log\frac{e^{s_{\pi_n(k)}}}{\sum_{m \ge k} e^{s_{\pi_n(m)}}},
        \quad \pi_n = \mathrm{argsort}_{\mathrm{descending}}(y + g_n)

    Args:
        labels: (B, L) scores of the teacher, at least 0; negative marks padding.
        scores: (B, L) scores of the student.
        mask: (B, L) booleans, False at padding; None where labels alone tell.
        noise: (B, S, L) g, standard Gumbel noise of S draws, as ``gumbel_noise`` makes it.
        top_k: K, how many places of an order count; None for all.

    Returns:
        (B, L) the loss of the list, shared among its items in proportion to their labels; 0 at padding.

    Raises:
        ValueError: If the shapes differ or are not (batch, list_size), that of ``noise`` does not fit, or ``top_k`` is
            less than 1.
        TypeError: If ``top_k`` is not an integer.

    Example:
        >>> from tfrankloss.functional import coupled_rank_distil_loss
        >>> in_order = [[[0.0, 0.0, 0.0]]]
        >>> loss = coupled_rank_distil_loss([[1.0, 0.0, 2.0]], [[0.6, 0.8, 0.1]], noise=in_order)
        >>> print([round(float(item), 4) for item in loss[0]])
        [0.7792, 0.0, 1.5585]

    Source: Reddi et al., "RankDistil: Knowledge Distillation for Ranking", AISTATS 2021.
    """
    errors.check_positive_integer("top_k", top_k, optional=True)
    labels, scores, mask = lists.prepare(labels, scores, mask)
    noise = as_noise(noise, scores)
    counted = per_draw(mask, noise)
    order = lists.descending_order(flat(labels[:, None, :] + noise), counted)
    sorted_scores = lists.put_back(per_draw(scores, noise), lists.inverse(order), back=order)
    sorted_mask = sorted_places.mask_in_order(counted, sorted_scores)
    weights = ops.cast(sorted_mask, sorted_scores.dtype) * gains.cutoff(lists.places(sorted_scores), top_k)

    def of_scores(scores, upstream=None):
        return sorted_places.losses_in_order(scores, sorted_mask, weights, upstream)

    losses = closed_form.losses_with_slopes(sorted_scores, sorted_mask, of_scores, lambda *given: of_scores(*given)[1])
    losses = ops.sum(losses, axis=1)
    total = ops.sum(ops.reshape(losses, ops.shape(noise)[:2]), axis=1)
    return lists.share_by_label(total / ops.cast(ops.shape(noise)[1], total.dtype), labels)
