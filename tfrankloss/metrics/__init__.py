"""Ranking metrics as Keras classes, for ``model.compile(metrics=[...])``."""

from tfrankloss.metrics.base import RankingMetric
from tfrankloss.metrics.ranking import MRR, NDCG, MeanAveragePrecision, PrecisionAtK, RecallAtK

__all__ = ["MRR", "NDCG", "MeanAveragePrecision", "PrecisionAtK", "RankingMetric", "RecallAtK"]
