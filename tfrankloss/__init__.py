"""Learning to rank for Keras 3: losses, metrics, two-tower models and their export.

``data`` and ``serving`` are imported on their own, since they load TensorFlow.
"""

from tfrankloss import functional, layers, losses, metrics, models, retrieval
from tfrankloss.losses import (
    InBatchSoftmaxLoss,
    KLListwiseLoss,
    ListMLELoss,
    ListNetLoss,
    PairwiseHingeLoss,
    PairwiseLogisticLoss,
    PairwiseMSELoss,
    PairwiseSoftZeroOneLoss,
    RankNetLoss,
    SoftmaxLoss,
)
from tfrankloss.metrics import MRR, NDCG, MeanAveragePrecision, PrecisionAtK, RecallAtK
from tfrankloss.version import __version__

__all__ = [
    "MRR",
    "NDCG",
    "InBatchSoftmaxLoss",
    "KLListwiseLoss",
    "ListMLELoss",
    "ListNetLoss",
    "MeanAveragePrecision",
    "PairwiseHingeLoss",
    "PairwiseLogisticLoss",
    "PairwiseMSELoss",
    "PairwiseSoftZeroOneLoss",
    "PrecisionAtK",
    "RankNetLoss",
    "RecallAtK",
    "SoftmaxLoss",
    "__version__",
    "functional",
    "layers",
    "losses",
    "metrics",
    "models",
    "retrieval",
]
