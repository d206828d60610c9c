"""Ranking losses as Keras classes, for ``model.compile(loss=...)``."""

from tfrankloss.losses.base import RankingLoss
from tfrankloss.losses.in_batch import InBatchSoftmaxLoss
from tfrankloss.losses.listwise import KLListwiseLoss, ListMLELoss, ListNetLoss, SoftmaxLoss
from tfrankloss.losses.pairwise import RankNetLoss

__all__ = [
    "InBatchSoftmaxLoss",
    "KLListwiseLoss",
    "ListMLELoss",
    "ListNetLoss",
    "RankNetLoss",
    "RankingLoss",
    "SoftmaxLoss",
]
