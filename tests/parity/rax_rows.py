"""The rows for google/rax: every loss and metric that both have, on lists with padding, which rax masks exactly."""

import functools
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


def loss_row(name, ours, our_settings, *, labels="distinct", padded=True, theirs=None, **settings):
    """A row for a loss of rax, or for ``theirs``, one made of its parts."""
    import rax

    mine = getattr(tfrankloss, ours)(reduction=None, **our_settings)
    function = functools.partial(theirs or getattr(rax, name), **settings)

    def measure(labels, scores):
        return values_and_gradient(mine, labels, scores), _their_losses(function, labels, scores)

    arguments = ", ".join(f"{key}={value!r}" for key, value in our_settings.items())
    return Row(name, f"{ours}({arguments})", measure, labels, padded=padded)


def _approx_ndcg_loss(scores, labels, temperature, **settings):
    """What rax.approx_t12n makes, which itself does not run with new versions of JAX."""
    import jax
    import rax
    from rax._src.utils import approx_ranks

    ranks = functools.partial(approx_ranks, step_fn=lambda gaps: jax.nn.sigmoid(gaps / temperature))
    return -rax.ndcg_metric(scores, labels, rank_fn=ranks, **settings)


def weight_row(name, weight, *, padded=True, **settings):
    """A row for a lambda weight of rax in the logistic loss."""
    import rax

    theirs = functools.partial(getattr(rax, name), **settings)
    return loss_row(
        f"{name} in pairwise_logistic_loss",
        "RankNetLoss",
        {"lambda_weight": weight},
        padded=padded,
        theirs=rax.pairwise_logistic_loss,
        lambdaweight_fn=theirs,
    )


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
        weight_row("labeldiff_lambdaweight", losses.LabelDiffLambdaWeight()),
        # Theirs multiplies by the length of the list, ours by the number of its items: compared without padding.
        weight_row("dcg_lambdaweight", losses.NDCGLambdaWeight(smooth_fraction=1.0), padded=False, normalize=True),
        weight_row("dcg2_lambdaweight", losses.NDCGLambdaWeightV2(k=3), padded=False, normalize=True, topn=3),
        loss_row(
            "ndcg_metric with approx_ranks",
            "ApproxNDCGLoss",
            {"temperature": 0.5},
            theirs=_approx_ndcg_loss,
            temperature=0.5,
        ),
        # Theirs does not divide by the sum of the labels, as TensorFlow Ranking and ours do: compared where that is 1.
        loss_row("poly1_softmax_loss", "PolyOneSoftmaxLoss", {}, labels="one click"),
        loss_row("unique_softmax_loss", "UniqueSoftmaxLoss", {}, labels="graded"),
        loss_row("pointwise_sigmoid_loss", "SigmoidCrossEntropyLoss", {}, labels="clicks"),
        loss_row("pointwise_mse_loss", "MeanSquaredLoss", {}, labels="graded"),
        metric_row("ndcg_metric", "NDCG"),
        metric_row("ndcg_metric", "NDCG", k=3),
        metric_row("mrr_metric", "MRR"),
        metric_row("precision_metric", "PrecisionAtK", k=3),
        metric_row("recall_metric", "RecallAtK", k=3),
        metric_row("ap_metric", "MeanAveragePrecision"),
        metric_row("dcg_metric", "DCG", k=3),
        metric_row("opa_metric", "OPA"),
    ]
