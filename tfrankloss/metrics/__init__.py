"""Ranking metrics as Keras classes, for ``model.compile(metrics=[...])``."""

from tfrankloss.metrics.base import RankingMetric
from tfrankloss.metrics.binary import MRR, Hits, MeanAveragePrecision, PrecisionAtK, RecallAtK
from tfrankloss.metrics.graded import ARP, DCG, NDCG
from tfrankloss.metrics.pairs import GAUC, OPA, BPref
from tfrankloss.metrics.subtopics import AlphaDCG, PrecisionIA

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
    "MeanAveragePrecision",
    "PrecisionAtK",
    "PrecisionIA",
    "RankingMetric",
    "RecallAtK",
]
