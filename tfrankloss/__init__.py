"""Learning to rank for Keras 3: losses, metrics, two-tower models and their export.

``data`` and ``serving`` are imported on their own, since they load TensorFlow.
"""

from tfrankloss import functional, layers, losses, metrics, models, retrieval
from tfrankloss.losses import (
    ApproxMRRLoss,
    ApproxNDCGLoss,
    GumbelApproxNDCGLoss,
    GumbelLoss,
    InBatchSoftmaxLoss,
    KLListwiseLoss,
    ListMLELoss,
    ListNetLoss,
    NeuralSortCrossEntropyLoss,
    NeuralSortNDCGLoss,
    PairwiseHingeLoss,
    PairwiseLogisticLoss,
    PairwiseMSELoss,
    PairwiseSoftZeroOneLoss,
    RankNetLoss,
    SoftmaxLoss,
    YetiLogisticLoss,
)
from tfrankloss.metrics import MRR, NDCG, MeanAveragePrecision, PrecisionAtK, RecallAtK
from tfrankloss.version import __version__

__all__ = [
    "MRR",
    "NDCG",
    "ApproxMRRLoss",
    "ApproxNDCGLoss",
    "GumbelApproxNDCGLoss",
    "GumbelLoss",
    "InBatchSoftmaxLoss",
    "KLListwiseLoss",
    "ListMLELoss",
    "ListNetLoss",
    "MeanAveragePrecision",
    "NeuralSortCrossEntropyLoss",
    "NeuralSortNDCGLoss",
    "PairwiseHingeLoss",
    "PairwiseLogisticLoss",
    "PairwiseMSELoss",
    "PairwiseSoftZeroOneLoss",
    "PrecisionAtK",
    "RankNetLoss",
    "RecallAtK",
    "SoftmaxLoss",
    "YetiLogisticLoss",
    "__version__",
    "functional",
    "layers",
    "losses",
    "metrics",
    "models",
    "retrieval",
]
