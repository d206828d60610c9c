"""Ranking losses as Keras classes, for ``model.compile(loss=...)``."""

from tfrankloss.losses.base import RankingLoss
from tfrankloss.losses.circle import CircleLoss
from tfrankloss.losses.in_batch import InBatchSoftmaxLoss
from tfrankloss.losses.lambda_weights import (
    DCGLambdaWeight,
    LabelDiffLambdaWeight,
    LambdaWeight,
    ListMLELambdaWeight,
    MRRLambdaWeight,
    NDCGLambdaWeight,
    NDCGLambdaWeightV2,
    NDCGLoss1LambdaWeight,
    NDCGLoss2LambdaWeight,
    NDCGLoss2PlusPlusLambdaWeight,
    PrecisionLambdaWeight,
    YetiDCGLambdaWeight,
)
from tfrankloss.losses.listwise import KLListwiseLoss, ListMLELoss, ListNetLoss
from tfrankloss.losses.pairwise import (
    PairwiseHingeLoss,
    PairwiseLogisticLoss,
    PairwiseMSELoss,
    PairwiseSoftZeroOneLoss,
    RankNetLoss,
)
from tfrankloss.losses.rank_distil import CoupledRankDistilLoss
from tfrankloss.losses.softmax_family import (
    CalibratedSoftmaxLoss,
    PolyOneSoftmaxLoss,
    SoftmaxLoss,
    UniqueSoftmaxLoss,
)

__all__ = [
    "CalibratedSoftmaxLoss",
    "CircleLoss",
    "CoupledRankDistilLoss",
    "DCGLambdaWeight",
    "InBatchSoftmaxLoss",
    "KLListwiseLoss",
    "LabelDiffLambdaWeight",
    "LambdaWeight",
    "ListMLELambdaWeight",
    "ListMLELoss",
    "ListNetLoss",
    "MRRLambdaWeight",
    "NDCGLambdaWeight",
    "NDCGLambdaWeightV2",
    "NDCGLoss1LambdaWeight",
    "NDCGLoss2LambdaWeight",
    "NDCGLoss2PlusPlusLambdaWeight",
    "PairwiseHingeLoss",
    "PairwiseLogisticLoss",
    "PairwiseMSELoss",
    "PairwiseSoftZeroOneLoss",
    "PolyOneSoftmaxLoss",
    "PrecisionLambdaWeight",
    "RankNetLoss",
    "RankingLoss",
    "SoftmaxLoss",
    "UniqueSoftmaxLoss",
    "YetiDCGLambdaWeight",
]
