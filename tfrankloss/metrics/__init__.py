"""Ranking metrics as Keras classes, for ``model.compile(metrics=[...])``."""

from tfrankloss.metrics.base import RankingMetric
from tfrankloss.metrics.ranking import MRR, NDCG, MeanAveragePrecision, PrecisionAtK, RecallAtK
from tfrankloss.metrics.registry import get
from tfrankloss.metrics.weighted_sum import WeightedSumMetric

__all__ = [
    "MRR",
    "NDCG",
    "MeanAveragePrecision",
    "PrecisionAtK",
    "RankingMetric",
    "RecallAtK",
    "WeightedSumMetric",
    "get",
]
