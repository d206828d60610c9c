"""Data for ranking: judged lists, interactions, flat rows to padded lists, and a simulated shop."""

from tfrankloss.data.lists import RankingLists, to_lists, to_rows

__all__ = [
    "RankingLists",
    "to_lists",
    "to_rows",
]
