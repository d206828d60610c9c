"""Keras models for ranking: two towers for retrieval, scorers for lists."""

from tfrankloss.models.scorers import linear_scorer, list_scorer, mlp_scorer
from tfrankloss.models.two_tower import TwoTower, two_tower

__all__ = ["TwoTower", "linear_scorer", "list_scorer", "mlp_scorer", "two_tower"]
