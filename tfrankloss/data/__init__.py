"""Data for ranking: judged lists, interactions, sampled negatives, flat rows to padded lists, and a simulated shop."""

from tfrankloss.data.batches import batch_lists
from tfrankloss.data.interactions import Interactions, load_movielens
from tfrankloss.data.letor import load_letor
from tfrankloss.data.lists import RankingLists, to_lists, to_rows
from tfrankloss.data.negatives import HardestSampler, NegativeSampler, with_negatives
from tfrankloss.data.records import (
    from_elwc,
    from_example,
    parse_elwc,
    parse_examples,
    read_lists,
    read_records,
    to_elwc,
    to_example,
    write_lists,
    write_records,
)
from tfrankloss.data.synthetic import ClickLog, simulate_clicks

__all__ = [
    "ClickLog",
    "HardestSampler",
    "Interactions",
    "NegativeSampler",
    "RankingLists",
    "batch_lists",
    "from_elwc",
    "from_example",
    "load_letor",
    "load_movielens",
    "parse_elwc",
    "parse_examples",
    "read_lists",
    "read_records",
    "simulate_clicks",
    "to_elwc",
    "to_example",
    "to_lists",
    "to_rows",
    "write_lists",
    "write_records",
    "with_negatives",
]
