"""The rows for google/rax: every loss and metric that both have, on lists with padding, which rax masks exactly."""

import importlib.util

import keras
import numpy as np
from backend import values_and_gradient

import tfrankloss
from parity.measure import Row
from tfrankloss import losses

INSTALLED = importlib.util.find_spec("rax") is not None


def _their_losses(loss, labels, scores):
    import jax

    # rax divides by the number of items or pairs where it reduces; the sum is ours.
    def value(scores, labels):
        return loss(scores, labels, where=labels >= 0, reduce_fn=jax.numpy.sum)

    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(value)))(scores, labels)
    return np.asarray(values), np.asarray(gradients)


def loss_row(name, ours, our_settings, *, labels="distinct", lambda_weight=None, **settings):
    """A row for a loss of rax, or with ``lambda_weight`` for one of its weights in that loss."""
    import rax

    mine = getattr(tfrankloss, ours)(reduction=None, **our_settings)
    if lambda_weight is not None:
        settings["lambdaweight_fn"] = getattr(rax, lambda_weight)

    def measure(labels, scores):
        def theirs(*arguments, **keywords):
            return getattr(rax, name)(*arguments, **settings, **keywords)

        return values_and_gradient(mine, labels, scores), _their_losses(theirs, labels, scores)

    shown = f"{name} with {lambda_weight}" if lambda_weight else name
    arguments = ", ".join(f"{key}={value!r}" for key, value in our_settings.items())
    return Row(shown, f"{ours}({arguments})", measure, labels, padded=True)


def metric_row(name, ours, *, k=None):
    """A row for a metric of rax: the value of every list by itself."""
    import jax
    import rax

    mine = getattr(tfrankloss, ours)(**({} if k is None else {"k": k}))
    settings = {} if k is None else {"topn": k}

    def measure(labels, scores):
        # As Keras metrics do, rax takes any label above 0 for relevant; ours 1 and more.
        def value(scores, labels):
            return getattr(rax, name)(scores, labels, where=labels >= 0, **settings)

        theirs = jax.jit(jax.vmap(value))(scores, labels)
        found = []
        for y, s in zip(labels, scores, strict=True):
            mine.reset_state()
            mine.update_state(y[None], keras.ops.convert_to_tensor(s[None]))
            found.append(float(mine.result()))
        return (np.array(found), None), (np.asarray(theirs), None)

    return Row(name, f"{ours}({'' if k is None else f'k={k}'})", measure, "graded", padded=True)


def rows():
    """All rows; none where rax is not installed."""
    if not INSTALLED:
        return []
    return [
        loss_row("softmax_loss", "SoftmaxLoss", {}),
        loss_row("listmle_loss", "ListMLELoss", {}),
        loss_row("pairwise_hinge_loss", "PairwiseHingeLoss", {}, labels="graded"),
        loss_row("pairwise_logistic_loss", "RankNetLoss", {}, labels="graded"),
        loss_row("pairwise_soft_zero_one_loss", "PairwiseSoftZeroOneLoss", {}, labels="graded"),
        loss_row("pairwise_mse_loss", "PairwiseMSELoss", {}, labels="graded"),
        loss_row(
            "pairwise_logistic_loss",
            "RankNetLoss",
            {"lambda_weight": losses.LabelDiffLambdaWeight()},
            lambda_weight="labeldiff_lambdaweight",
        ),
        metric_row("ndcg_metric", "NDCG"),
        metric_row("ndcg_metric", "NDCG", k=3),
        metric_row("mrr_metric", "MRR"),
        metric_row("precision_metric", "PrecisionAtK", k=3),
        metric_row("recall_metric", "RecallAtK", k=3),
        metric_row("ap_metric", "MeanAveragePrecision"),
    ]
