"""Data for ranking: judged lists, interactions, flat rows to padded lists, and a simulated shop."""

from tfrankloss.data.letor import load_letor
from tfrankloss.data.lists import RankingLists, to_lists, to_rows

__all__ = [
    "RankingLists",
    "load_letor",
    "to_lists",
    "to_rows",
]
