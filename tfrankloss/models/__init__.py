"""Keras models for ranking: two towers for retrieval, scorers for lists and for whole catalogs."""

from tfrankloss.models.catalog import CatalogScores, catalog_scorer
from tfrankloss.models.feature_tower import mlp_tower
from tfrankloss.models.joint import JointRankingCTRModel, joint_ranking_ctr
from tfrankloss.models.scorers import deep_fm_scorer, linear_scorer, list_scorer, mlp_scorer
from tfrankloss.models.sequence_tower import sequence_tower
from tfrankloss.models.two_tower import TwoTower, two_tower

__all__ = [
    "CatalogScores",
    "JointRankingCTRModel",
    "TwoTower",
    "catalog_scorer",
    "deep_fm_scorer",
    "joint_ranking_ctr",
    "linear_scorer",
    "list_scorer",
    "mlp_scorer",
    "mlp_tower",
    "sequence_tower",
    "two_tower",
]
