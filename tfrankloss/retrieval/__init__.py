"""Full-catalog retrieval: the exact best k of all candidates, metrics over them, and both during training."""

from tfrankloss.retrieval.approximate import FaissIndex
from tfrankloss.retrieval.callback import RetrievalEvaluation, two_tower_scores
from tfrankloss.retrieval.evaluation import evaluate
from tfrankloss.retrieval.exact import Scores, embedding_scores, popularity_scores, random_scores, top_k

__all__ = [
    "FaissIndex",
    "RetrievalEvaluation",
    "Scores",
    "embedding_scores",
    "evaluate",
    "popularity_scores",
    "random_scores",
    "top_k",
    "two_tower_scores",
]
