"""Ranking losses as Keras classes, for ``model.compile(loss=...)``."""

from tfrankloss.losses.base import RankingLoss
from tfrankloss.losses.circle import CircleLoss
from tfrankloss.losses.click_models import ClickEMLoss, MixtureEMLoss
from tfrankloss.losses.gumbel import GumbelApproxNDCGLoss, GumbelLoss, YetiLogisticLoss
from tfrankloss.losses.in_batch import InBatchSoftmaxLoss
from tfrankloss.losses.lambda_loss import (
    NDCGLambdaWeightV2,
    NDCGLoss1LambdaWeight,
    NDCGLoss2LambdaWeight,
    NDCGLoss2PlusPlusLambdaWeight,
    YetiDCGLambdaWeight,
)
from tfrankloss.losses.lambda_weights import (
    DCGLambdaWeight,
    LabelDiffLambdaWeight,
    LambdaWeight,
    ListMLELambdaWeight,
    MRRLambdaWeight,
    NDCGLambdaWeight,
    PrecisionLambdaWeight,
)
from tfrankloss.losses.listwise import KLListwiseLoss, ListMLELoss, ListNetLoss, XENDCGLoss
from tfrankloss.losses.metric_learning import NPairLoss
from tfrankloss.losses.pairwise import (
    PairwiseHingeLoss,
    PairwiseLogisticLoss,
    PairwiseMSELoss,
    PairwiseSoftZeroOneLoss,
    RankNetLoss,
)
from tfrankloss.losses.pointwise import MeanSquaredLoss, OrdinalLoss, SigmoidCrossEntropyLoss
from tfrankloss.losses.rank_distil import CoupledRankDistilLoss
from tfrankloss.losses.registry import get
from tfrankloss.losses.sampled import BPRLoss, SampledSoftmaxLoss, TripletLoss
from tfrankloss.losses.smooth import ApproxMRRLoss, ApproxNDCGLoss, NeuralSortCrossEntropyLoss, NeuralSortNDCGLoss
from tfrankloss.losses.softmax_family import CalibratedSoftmaxLoss, PolyOneSoftmaxLoss, SoftmaxLoss, UniqueSoftmaxLoss
from tfrankloss.losses.weighted_sum import WeightedSumLoss

__all__ = [
    "ApproxMRRLoss",
    "ApproxNDCGLoss",
    "BPRLoss",
    "CalibratedSoftmaxLoss",
    "CircleLoss",
    "ClickEMLoss",
    "CoupledRankDistilLoss",
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
    "MeanSquaredLoss",
    "MixtureEMLoss",
    "NDCGLambdaWeight",
    "NDCGLambdaWeightV2",
    "NDCGLoss1LambdaWeight",
    "NDCGLoss2LambdaWeight",
    "NDCGLoss2PlusPlusLambdaWeight",
    "NPairLoss",
    "NeuralSortCrossEntropyLoss",
    "NeuralSortNDCGLoss",
    "OrdinalLoss",
    "PairwiseHingeLoss",
    "PairwiseLogisticLoss",
    "PairwiseMSELoss",
    "PairwiseSoftZeroOneLoss",
    "PolyOneSoftmaxLoss",
    "PrecisionLambdaWeight",
    "RankNetLoss",
    "RankingLoss",
    "SampledSoftmaxLoss",
    "SigmoidCrossEntropyLoss",
    "SoftmaxLoss",
    "TripletLoss",
    "UniqueSoftmaxLoss",
    "WeightedSumLoss",
    "XENDCGLoss",
    "YetiDCGLambdaWeight",
    "YetiLogisticLoss",
    "get",
]
