"""Learning to rank for Keras 3: losses, metrics, two-tower models and their export.

``data`` and ``serving`` are imported on their own, since they load TensorFlow.
"""

from tfrankloss import functional, layers, losses, metrics, models, retrieval
from tfrankloss.losses import (
    BPRLoss,
    ClickEMLoss,
    InBatchSoftmaxLoss,
    KLListwiseLoss,
    ListMLELoss,
    ListNetLoss,
    MeanSquaredLoss,
    MixtureEMLoss,
    NPairLoss,
    OrdinalLoss,
    PairwiseHingeLoss,
    PairwiseLogisticLoss,
    PairwiseMSELoss,
    PairwiseSoftZeroOneLoss,
    RankNetLoss,
    SampledSoftmaxLoss,
    SigmoidCrossEntropyLoss,
    SoftmaxLoss,
    TripletLoss,
)
from tfrankloss.metrics import MRR, NDCG, MeanAveragePrecision, PrecisionAtK, RecallAtK
from tfrankloss.version import __version__

__all__ = [
    "BPRLoss",
    "ClickEMLoss",
    "InBatchSoftmaxLoss",
    "KLListwiseLoss",
    "ListMLELoss",
    "ListNetLoss",
    "MRR",
    "MeanAveragePrecision",
    "MeanSquaredLoss",
    "MixtureEMLoss",
    "NDCG",
    "NPairLoss",
    "OrdinalLoss",
    "PairwiseHingeLoss",
    "PairwiseLogisticLoss",
    "PairwiseMSELoss",
    "PairwiseSoftZeroOneLoss",
    "PrecisionAtK",
    "RankNetLoss",
    "RecallAtK",
    "SampledSoftmaxLoss",
    "SigmoidCrossEntropyLoss",
    "SoftmaxLoss",
    "TripletLoss",
    "__version__",
    "functional",
    "layers",
    "losses",
    "metrics",
    "models",
    "retrieval",
]
