"""Learning to rank for Keras 3: losses, metrics, two-tower models and their export.

``data`` and ``serving`` are imported on their own, since they load TensorFlow.
"""

from tfrankloss import functional, layers, losses, metrics, models, retrieval
from tfrankloss.losses import (
    CalibratedSoftmaxLoss,
    CircleLoss,
    CoupledRankDistilLoss,
    InBatchSoftmaxLoss,
    KLListwiseLoss,
    ListMLELoss,
    ListNetLoss,
    PairwiseHingeLoss,
    PairwiseLogisticLoss,
    PairwiseMSELoss,
    PairwiseSoftZeroOneLoss,
    PolyOneSoftmaxLoss,
    RankNetLoss,
    SoftmaxLoss,
    UniqueSoftmaxLoss,
)
from tfrankloss.metrics import MRR, NDCG, MeanAveragePrecision, PrecisionAtK, RecallAtK
from tfrankloss.version import __version__

__all__ = [
    "MRR",
    "NDCG",
    "CalibratedSoftmaxLoss",
    "CircleLoss",
    "CoupledRankDistilLoss",
    "InBatchSoftmaxLoss",
    "KLListwiseLoss",
    "ListMLELoss",
    "ListNetLoss",
    "MeanAveragePrecision",
    "PairwiseHingeLoss",
    "PairwiseLogisticLoss",
    "PairwiseMSELoss",
    "PairwiseSoftZeroOneLoss",
    "PolyOneSoftmaxLoss",
    "PrecisionAtK",
    "RankNetLoss",
    "RecallAtK",
    "SoftmaxLoss",
    "UniqueSoftmaxLoss",
    "__version__",
    "functional",
    "layers",
    "losses",
    "metrics",
    "models",
    "retrieval",
]
