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
from tfrankloss.metrics import (
    ARP,
    DCG,
    GAUC,
    MRR,
    NDCG,
    OPA,
    AlphaDCG,
    BPref,
    Hits,
    MeanAveragePrecision,
    PrecisionAtK,
    PrecisionIA,
    RecallAtK,
)
from tfrankloss.version import __version__

__all__ = [
    "ARP",
    "DCG",
    "GAUC",
    "MRR",
    "NDCG",
    "OPA",
    "AlphaDCG",
    "BPref",
    "Hits",
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
    "PrecisionIA",
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
