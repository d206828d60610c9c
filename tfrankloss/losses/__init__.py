"""Ranking losses as Keras classes, for ``model.compile(loss=...)``."""

from tfrankloss.losses.base import RankingLoss
from tfrankloss.losses.gumbel import GumbelApproxNDCGLoss, GumbelLoss, YetiLogisticLoss
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
from tfrankloss.losses.listwise import KLListwiseLoss, ListMLELoss, ListNetLoss, SoftmaxLoss
from tfrankloss.losses.pairwise import (
    PairwiseHingeLoss,
    PairwiseLogisticLoss,
    PairwiseMSELoss,
    PairwiseSoftZeroOneLoss,
    RankNetLoss,
)
from tfrankloss.losses.smooth import ApproxMRRLoss, ApproxNDCGLoss, NeuralSortCrossEntropyLoss, NeuralSortNDCGLoss

__all__ = [
    "ApproxMRRLoss",
    "ApproxNDCGLoss",
    "DCGLambdaWeight",
    "GumbelApproxNDCGLoss",
    "GumbelLoss",
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
    "NeuralSortCrossEntropyLoss",
    "NeuralSortNDCGLoss",
    "PairwiseHingeLoss",
    "PairwiseLogisticLoss",
    "PairwiseMSELoss",
    "PairwiseSoftZeroOneLoss",
    "PrecisionLambdaWeight",
    "RankNetLoss",
    "RankingLoss",
    "SoftmaxLoss",
    "YetiDCGLambdaWeight",
    "YetiLogisticLoss",
]
