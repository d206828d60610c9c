"""The same losses in other libraries, those that are installed: functions of labels and scores."""

import functools
import importlib.util
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
SHAPES = [(1024, 20), (128, 200), (32, 1000), (4, 4000)]


def lists(batch, length, seed=0, distinct=False):
    """Labels of five grades, or all different, and scores of deviation 2, a third of the items padding."""
    random = np.random.default_rng(seed)
    labels = random.choice(5, (batch, length), p=[0.5, 0.2, 0.15, 0.1, 0.05]).astype("float32")
    labels[:, 0] = np.maximum(labels[:, 0], 1)
    if distinct:
        labels = random.permuted(np.tile(np.arange(1, length + 1, dtype="float32"), (batch, 1)), axis=1)
    hidden = random.random((batch, length)) < 1 / 3
    hidden[:, 0] = False
    scores = (2 * random.normal(size=(batch, length))).astype("float32")
    return np.where(hidden, np.float32(-1), labels), scores


def ours():
    """Our losses at their defaults, by a common name."""
    import tfrankloss

    return {
        "RankNet": tfrankloss.RankNetLoss(),
        "RankNet + NDCG": tfrankloss.RankNetLoss(lambda_weight=tfrankloss.NDCGLambdaWeight()),
        "hinge": tfrankloss.PairwiseHingeLoss(),
        "hinge + NDCG": tfrankloss.PairwiseHingeLoss(lambda_weight=tfrankloss.NDCGLambdaWeight()),
        "soft zero-one": tfrankloss.PairwiseSoftZeroOneLoss(),
        "pairwise MSE": tfrankloss.PairwiseMSELoss(),
        "ApproxNDCG": tfrankloss.ApproxNDCGLoss(),
        "ApproxMRR": tfrankloss.ApproxMRRLoss(),
        "ListMLE": tfrankloss.ListMLELoss(),
        "ListMLE, Breslow's ties": tfrankloss.ListMLELoss("breslow"),
        "ListMLE, Efron's ties": tfrankloss.ListMLELoss("efron"),
        "ListMLE, ties by position": tfrankloss.ListMLELoss("position"),
        "ListMLE, random ties": tfrankloss.ListMLELoss("random", seed=0),
        "ListMLE, distinct labels": tfrankloss.ListMLELoss(),
        "softmax": tfrankloss.SoftmaxLoss(),
        "softmax + NDCG": tfrankloss.SoftmaxLoss(lambda_weight=tfrankloss.NDCGLambdaWeight()),
        "calibrated softmax": tfrankloss.CalibratedSoftmaxLoss(),
        "unique softmax": tfrankloss.UniqueSoftmaxLoss(),
        "circle": tfrankloss.CircleLoss(),
        "NeuralSort NDCG": tfrankloss.NeuralSortNDCGLoss(),
        "ListNet": tfrankloss.ListNetLoss(),
        "ListNet, targets by both": tfrankloss.ListNetLoss(),
        "KL": tfrankloss.KLListwiseLoss(),
        "sigmoid cross entropy": tfrankloss.SigmoidCrossEntropyLoss(),
    }


@functools.cache
def _tensorflow_ranking():
    sys.path.append(str(ROOT / "tests"))
    import tensorflow_ranking_modules

    return tensorflow_ranking_modules.load()


def _computed_by(name):
    """A loss of TensorFlow Ranking that it has no Keras class for."""
    import tensorflow as tf

    loss = getattr(importlib.import_module("tensorflow_ranking.python.losses_impl"), name)(name=name)
    mean = tf.compat.v1.losses.Reduction.SUM_BY_NONZERO_WEIGHTS
    return lambda labels, scores: loss.compute(labels, scores, None, mean)


def _list_net(softmax):
    """ListNet as users of TensorFlow Ranking make it: the softmax loss of the softmax of labels."""
    import tensorflow as tf

    def loss(labels, scores):
        items = labels >= 0
        targets = tf.nn.softmax(tf.where(items, labels, labels.dtype.min))
        return softmax(tf.where(items, targets, -1.0), scores)

    return loss


def tensorflow_ranking():
    """TensorFlow Ranking's losses by the names of ours; none where it is not installed."""
    tfr = _tensorflow_ranking()
    if tfr is None:
        return {}
    list_mle, softmax, ndcg = tfr.losses.ListMLELoss(), tfr.losses.SoftmaxLoss(), tfr.losses.NDCGLambdaWeight()
    return {
        "RankNet": tfr.losses.PairwiseLogisticLoss(),
        "RankNet + NDCG": tfr.losses.PairwiseLogisticLoss(lambda_weight=ndcg),
        "hinge": tfr.losses.PairwiseHingeLoss(),
        "hinge + NDCG": tfr.losses.PairwiseHingeLoss(lambda_weight=ndcg),
        "soft zero-one": tfr.losses.PairwiseSoftZeroOneLoss(),
        "pairwise MSE": tfr.losses.PairwiseMSELoss(),
        "ApproxNDCG": tfr.losses.ApproxNDCGLoss(),
        "ApproxMRR": tfr.losses.ApproxMRRLoss(),
        **dict.fromkeys((name for name in ours() if name.startswith("ListMLE")), list_mle),
        **dict.fromkeys(("softmax", "ListNet", "KL"), softmax),
        "ListNet, targets by both": _list_net(softmax),
        "softmax + NDCG": tfr.losses.SoftmaxLoss(lambda_weight=ndcg),
        "calibrated softmax": tfr.losses.CalibratedSoftmaxLoss(),
        "unique softmax": tfr.losses.UniqueSoftmaxLoss(),
        "circle": _computed_by("CircleLoss"),
        "NeuralSort NDCG": _computed_by("NeuralSortNDCGLoss"),
        "sigmoid cross entropy": tfr.losses.SigmoidCrossEntropyLoss(),
    }


def keras_rs():
    """keras-rs' losses by the names of ours; none where it is not installed."""
    if importlib.util.find_spec("keras_rs") is None:
        return {}
    import keras_rs

    return {
        "RankNet": keras_rs.losses.PairwiseLogisticLoss(),
        "hinge": keras_rs.losses.PairwiseHingeLoss(),
        "soft zero-one": keras_rs.losses.PairwiseSoftZeroOneLoss(),
        **dict.fromkeys(("ListMLE", "ListMLE, distinct labels"), keras_rs.losses.ListMLELoss()),
    }


LIBRARIES = {"ours": ours, "TF-Ranking": tensorflow_ranking, "keras-rs": keras_rs}
