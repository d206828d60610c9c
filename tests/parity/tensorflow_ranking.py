"""The rows for TensorFlow Ranking 0.5.5: one for every public loss, lambda weight and metric of its Keras modules."""

import contextlib
import inspect
import sys
from unittest import mock

import numpy as np
import tensorflow as tf
import tensorflow_ranking_modules
from backend import values_and_gradient

import tfrankloss
from parity.live import their_values
from parity.measure import Row
from tfrankloss import functional, losses

tfr = tensorflow_ranking_modules.load()


def expression(made, **settings):
    return f"{made}({', '.join(f'{name}={value!r}' for name, value in settings.items())})"


@contextlib.contextmanager
def same_noise():
    """Gumbel noise that is told by its shape, the same on both sides."""

    def noise(shape, *_, **__):
        shape = [int(size) for size in shape]
        return tf.constant(np.random.default_rng(shape).gumbel(size=shape).astype("float32"))

    impl = sys.modules["tensorflow_ranking.python.losses_impl"]
    with mock.patch.object(impl, "_sample_gumbel", noise), mock.patch.object(functional, "gumbel_noise", noise):
        yield


def loss_row(name, ours=None, ours_settings=None, **settings):
    """A row for a loss; ours has the same name unless told."""
    row_settings = {key: settings.pop(key) for key in ("labels", "columns", "scales") if key in settings}
    ours, ours_settings = ours or name, settings if ours_settings is None else ours_settings
    mine = getattr(tfrankloss, ours)(reduction=None, **ours_settings)
    theirs = getattr(tfr.losses, name)(reduction="none", **settings)
    samples = theirs._sample_size if hasattr(theirs, "_gumbel_sampler") else 1

    def measure(labels, scores):
        with same_noise():
            return values_and_gradient(mine, labels, scores), their_values(theirs, labels, scores, draws=samples)

    return Row(name, expression(ours, **ours_settings), measure, **row_settings)


def weight_row(name, ours=None, *, loss="PairwiseLogisticLoss", labels="distinct", **settings):
    """A row for a lambda weight, in a loss that takes it; settings of theirs are named as ours here."""
    their_names = {"k": "topn", "discount": "rank_discount_fn"}
    functions = {"log2": lambda rank: tf.math.log(2.0) / tf.math.log1p(rank)}
    theirs = getattr(tfr.losses, name)(
        **{their_names.get(key, key): functions.get(value, value) for key, value in settings.items()}
    )
    mine = getattr(losses, ours or name)(**settings)
    our_loss = getattr(tfrankloss, loss)(reduction=None, lambda_weight=mine)
    their_loss = getattr(tfr.losses, loss)(reduction="none", lambda_weight=theirs)

    def measure(labels, scores):
        return values_and_gradient(our_loss, labels, scores), their_values(their_loss, labels, scores)

    return Row(f"{name} in {loss}", expression(ours or name, **settings), measure, labels)


def metric_row(name, ours, *, labels="graded", subtopics=None, **settings):
    """A row for a metric: the value of every list by itself."""
    mine = getattr(tfrankloss, ours)(**settings)
    theirs = getattr(tfr.metrics, name)(**{{"k": "topn"}.get(key, key): value for key, value in settings.items()})

    def measure(labels, scores):
        theirs_found, _ = theirs._metric.compute(tf.constant(labels), tf.constant(scores), None)
        found = []
        for y, s in zip(labels, scores, strict=True):
            mine.reset_state()
            mine.update_state(y[None], s[None])
            found.append(float(mine.result()))
        return (np.array(found), None), (np.asarray(theirs_found).reshape(-1), None)

    return Row(name, expression(ours, **settings), measure, labels, subtopics=subtopics)


def rows():
    """All rows."""
    return [*_loss_rows(), *_weight_rows(), *_metric_rows()]


def _loss_rows():
    return [
        loss_row("PairwiseHingeLoss"),
        loss_row("PairwiseLogisticLoss"),
        loss_row("PairwiseSoftZeroOneLoss"),
        loss_row("PairwiseMSELoss"),
        loss_row("YetiLogisticLoss", sample_size=4),
        loss_row("SoftmaxLoss", temperature=0.5),
        loss_row("CalibratedSoftmaxLoss", virtual_label=0.5),
        loss_row("UniqueSoftmaxLoss"),
        loss_row("ListMLELoss"),
        loss_row("ApproxMRRLoss"),
        loss_row("ApproxNDCGLoss"),
        loss_row("GumbelApproxNDCGLoss", sample_size=4, gumbel_temperature=2.0),
        loss_row("ClickEMLoss", labels="clicks", columns=2, exam_loss_weight=0.5),
        loss_row("MixtureEMLoss", labels="clicks", columns=3, alpha=0.5),
        loss_row("SigmoidCrossEntropyLoss", labels="clicks"),
        loss_row("MeanSquaredLoss", labels="graded"),
        loss_row("OrdinalLoss", labels="graded", columns=4, ordinal_size=4),
        loss_row(
            "CoupledRankDistilLoss",
            ours_settings={"sample_size": 4, "top_k": 2},
            # Theirs fills with log(1e-10) what was drawn before, which scores of -10 are not far enough above.
            scales=(0.3, 1.0),
            sample_size=4,
            topk=2,
        ),
    ]


def _weight_rows():
    return [
        weight_row("LabelDiffLambdaWeight"),
        weight_row("DCGLambdaWeight", k=4, smooth_fraction=0.3),
        weight_row("NDCGLambdaWeight"),
        weight_row("NDCGLambdaWeight", k=3, smooth_fraction=0.25),
        weight_row("NDCGLambdaWeightV2", k=3),
        weight_row("YetiDCGLambdaWeight", k=3),
        weight_row("PrecisionLambdaWeight", k=2),
        weight_row("ListMLELambdaWeight", loss="ListMLELoss", discount="log2"),
        weight_row("NDCGLambdaWeight", loss="SoftmaxLoss"),
    ]


def _metric_rows():
    return [
        metric_row("NDCGMetric", "NDCG", k=5),
        metric_row("DCGMetric", "DCG", k=5),
        metric_row("MRRMetric", "MRR"),
        metric_row("HitsMetric", "Hits", k=2),
        metric_row("ARPMetric", "ARP"),
        metric_row("OPAMetric", "OPA"),
        metric_row("PrecisionMetric", "PrecisionAtK", k=3),
        metric_row("RecallMetric", "RecallAtK", k=3),
        metric_row("MeanAveragePrecisionMetric", "MeanAveragePrecision", k=3),
        metric_row("PrecisionIAMetric", "PrecisionIA", subtopics=3, k=3),
        metric_row("AlphaDCGMetric", "AlphaDCG", subtopics=3, k=3, alpha=0.25),
    ]


def public_names():
    """The losses, lambda weights and metrics of TensorFlow Ranking's Keras modules."""
    found = []
    for module in (tfr.losses, tfr.metrics):
        for name, thing in vars(module).items():
            own = inspect.isclass(thing) and thing.__module__ == module.__name__ and not name.startswith("_")
            if own and not name.endswith("Key"):
                found.append(name)
    return found
