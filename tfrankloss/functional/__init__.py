"""Losses and metrics as pure functions of tensors, on any Keras backend.

A function takes ``labels`` (B, L), ``scores`` (B, L) and a boolean ``mask`` (B, L), in that order; losses return one
value per item, metrics one per list. The classes of ``tfrankloss.losses`` and ``tfrankloss.metrics`` add weights,
reduction and state.
"""

from tfrankloss.functional.circle import circle_loss
from tfrankloss.functional.click_models import click_em_loss, mixture_em_loss
from tfrankloss.functional.gumbel import gumbel_loss, gumbel_noise, gumbel_scores
from tfrankloss.functional.in_batch import in_batch_embedding_loss, in_batch_scores, in_batch_softmax_loss
from tfrankloss.functional.listwise import kl_listwise_loss, list_net_loss, teacher_probabilities, xe_ndcg_loss
from tfrankloss.functional.metric_learning import n_pair_loss
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
from tfrankloss.functional.neural_sort import neural_sort, neural_sort_cross_entropy_loss, neural_sort_ndcg_loss
from tfrankloss.functional.pairwise import (
    pairwise_hinge_loss,
    pairwise_mse_loss,
    pairwise_soft_zero_one_loss,
    rank_net_lambdas,
    rank_net_loss,
)
from tfrankloss.functional.plackett_luce import list_mle_loss
from tfrankloss.functional.pointwise import mean_squared_loss, ordinal_loss, sigmoid_cross_entropy_loss
from tfrankloss.functional.rank_distil import coupled_rank_distil_loss
from tfrankloss.functional.sampled import bpr_loss, sampled_softmax_loss, triplet_loss
from tfrankloss.functional.similarity import l2_normalize
from tfrankloss.functional.smooth import approx_mrr_loss, approx_ndcg_loss, smooth_ranks
from tfrankloss.functional.softmax_family import (
    calibrated_softmax_loss,
    poly_one_softmax_loss,
    softmax_loss,
    unique_softmax_loss,
)

__all__ = [
    "alpha_dcg",
    "approx_mrr_loss",
    "approx_ndcg_loss",
    "auc",
    "average_precision",
    "average_relevance_position",
    "bpr_loss",
    "bpref",
    "calibrated_softmax_loss",
    "circle_loss",
    "click_em_loss",
    "coupled_rank_distil_loss",
    "dcg",
    "gumbel_loss",
    "gumbel_noise",
    "gumbel_scores",
    "hits_at_k",
    "in_batch_embedding_loss",
    "in_batch_scores",
    "in_batch_softmax_loss",
    "kl_listwise_loss",
    "teacher_probabilities",
    "l2_normalize",
    "list_mle_loss",
    "list_net_loss",
    "mean_squared_loss",
    "mixture_em_loss",
    "n_pair_loss",
    "ndcg",
    "neural_sort",
    "neural_sort_cross_entropy_loss",
    "neural_sort_ndcg_loss",
    "ordered_pair_accuracy",
    "ordinal_loss",
    "pairwise_hinge_loss",
    "pairwise_mse_loss",
    "pairwise_soft_zero_one_loss",
    "poly_one_softmax_loss",
    "precision_at_k",
    "precision_ia",
    "rank_net_lambdas",
    "rank_net_loss",
    "recall_at_k",
    "reciprocal_rank",
    "sampled_softmax_loss",
    "sigmoid_cross_entropy_loss",
    "smooth_ranks",
    "softmax_loss",
    "triplet_loss",
    "unique_softmax_loss",
    "xe_ndcg_loss",
]
