"""Learning to rank for Keras 3: losses, metrics, two-tower models and their export.

``data`` and ``serving`` are imported on their own, since they load TensorFlow.
"""

from tfrankloss import functional, layers, losses, metrics, models, retrieval
from tfrankloss.losses import (
    ClickEMLoss,
    InBatchSoftmaxLoss,
    KLListwiseLoss,
    ListMLELoss,
    ListNetLoss,
    MeanSquaredLoss,
    MixtureEMLoss,
    OrdinalLoss,
    PairwiseHingeLoss,
    PairwiseLogisticLoss,
    PairwiseMSELoss,
    PairwiseSoftZeroOneLoss,
    RankNetLoss,
    SigmoidCrossEntropyLoss,
    SoftmaxLoss,
)
from tfrankloss.metrics import MRR, NDCG, MeanAveragePrecision, PrecisionAtK, RecallAtK
from tfrankloss.version import __version__

__all__ = [
    "MRR",
    "NDCG",
    "ClickEMLoss",
    "InBatchSoftmaxLoss",
    "KLListwiseLoss",
    "ListMLELoss",
    "ListNetLoss",
    "MeanAveragePrecision",
    "MeanSquaredLoss",
    "MixtureEMLoss",
    "OrdinalLoss",
    "PairwiseHingeLoss",
    "PairwiseLogisticLoss",
    "PairwiseMSELoss",
    "PairwiseSoftZeroOneLoss",
    "PrecisionAtK",
    "RankNetLoss",
    "RecallAtK",
    "SigmoidCrossEntropyLoss",
    "SoftmaxLoss",
    "__version__",
    "functional",
    "layers",
    "losses",
    "metrics",
    "models",
    "retrieval",
]
