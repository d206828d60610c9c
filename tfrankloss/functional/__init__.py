"""Losses and metrics as pure functions of tensors, on any Keras backend.

A function takes ``labels`` (B, L), ``scores`` (B, L) and a boolean ``mask`` (B, L), in that order; losses return one
value per item, metrics one per list. The classes of ``tfrankloss.losses`` and ``tfrankloss.metrics`` add weights,
reduction and state.
"""

from tfrankloss.functional.in_batch import in_batch_scores, in_batch_softmax_loss
from tfrankloss.functional.listwise import kl_listwise_loss, list_net_loss, softmax_loss
from tfrankloss.functional.metrics.binary import (
    average_precision,
    hits_at_k,
    precision_at_k,
    recall_at_k,
    reciprocal_rank,
)
from tfrankloss.functional.metrics.graded import average_relevance_position, dcg, ndcg
from tfrankloss.functional.metrics.pairs import auc, bpref, ordered_pair_accuracy
from tfrankloss.functional.metrics.subtopics import alpha_dcg, precision_ia
from tfrankloss.functional.pairwise import (
    pairwise_hinge_loss,
    pairwise_mse_loss,
    pairwise_soft_zero_one_loss,
    rank_net_lambdas,
    rank_net_loss,
)
from tfrankloss.functional.plackett_luce import list_mle_loss
from tfrankloss.functional.similarity import l2_normalize

__all__ = [
    "alpha_dcg",
    "auc",
    "average_precision",
    "average_relevance_position",
    "bpref",
    "dcg",
    "hits_at_k",
    "in_batch_scores",
    "in_batch_softmax_loss",
    "kl_listwise_loss",
    "l2_normalize",
    "list_mle_loss",
    "list_net_loss",
    "ndcg",
    "ordered_pair_accuracy",
    "pairwise_hinge_loss",
    "pairwise_mse_loss",
    "pairwise_soft_zero_one_loss",
    "precision_at_k",
    "precision_ia",
    "rank_net_lambdas",
    "rank_net_loss",
    "recall_at_k",
    "reciprocal_rank",
    "softmax_loss",
]
