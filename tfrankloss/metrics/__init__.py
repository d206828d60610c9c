"""Ranking metrics as Keras classes, for ``model.compile(metrics=[...])``."""

from tfrankloss.metrics.base import RankingMetric
from tfrankloss.metrics.binary import MRR, Hits, MeanAveragePrecision, PrecisionAtK, RecallAtK
from tfrankloss.metrics.graded import ARP, DCG, NDCG
from tfrankloss.metrics.pairs import GAUC, OPA, BPref
from tfrankloss.metrics.registry import get
from tfrankloss.metrics.subtopics import AlphaDCG, PrecisionIA
from tfrankloss.metrics.weighted_sum import WeightedSumMetric

__all__ = [
    "ARP",
    "AlphaDCG",
    "BPref",
    "DCG",
    "GAUC",
    "Hits",
    "MRR",
    "MeanAveragePrecision",
    "NDCG",
    "OPA",
    "PrecisionAtK",
    "PrecisionIA",
    "RankingMetric",
    "RecallAtK",
    "WeightedSumMetric",
    "get",
]
