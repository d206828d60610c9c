"""Metrics on lists small enough to do by hand."""

import math

import numpy as np
import pytest

from tfrankloss import MRR, NDCG, MeanAveragePrecision, PrecisionAtK, RecallAtK, metrics

pytestmark = pytest.mark.backends

LOG3 = math.log2(3)


def value(metric, labels, scores, weight=None):
    metric.update_state(np.float32(labels), np.float32(scores), weight)
    return float(metric.result())


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (NDCG(), (1 / LOG3 + 3 / 2) / (3 + 1 / LOG3)),
        (NDCG(k=2), (1 / LOG3) / (3 + 1 / LOG3)),
        (NDCG(gain="linear"), (1 / LOG3 + 2 / 2) / (2 + 1 / LOG3)),
        (NDCG(discount="reciprocal"), (1 / 2 + 3 / 3) / (3 + 1 / 2)),
        (NDCG(gain=lambda labels: labels * 0 + 1), 1),
        (MRR(), 1 / 2),
        (MRR(k=1), 0),
        (MRR(threshold=2), 1 / 3),
        (MeanAveragePrecision(), (1 / 2 + 2 / 3) / 2),
        (MeanAveragePrecision(k=2), (1 / 2) / 2),
        (PrecisionAtK(), 2 / 3),
        (PrecisionAtK(k=2), 1 / 2),
        (PrecisionAtK(k=10), 2 / 3),
        (PrecisionAtK(threshold=2), 1 / 3),
        (RecallAtK(), 1),
        (RecallAtK(k=2), 1 / 2),
        (RecallAtK(k=2, threshold=2), 0),
    ],
    ids=lambda item: getattr(item, "name", None),
)
def test_three_items(metric, expected):
    """Labels 1, 0, 2 at places 2, 1, 3."""
    assert value(metric, [[1, 0, 2]], [[0.6, 0.8, 0.1]]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (NDCG(), (1 + 1 / LOG3 + 1 / 2) / 3),
        (NDCG(k=1), 1 / 3),
        (MRR(), (1 + 1 / 2 + 1 / 3) / 3),
        (MRR(k=2), (1 + 1 / 2) / 3),
        (MeanAveragePrecision(), (1 + 1 / 2 + 1 / 3) / 3),
        (PrecisionAtK(k=1), 1 / 3),
        (PrecisionAtK(k=2), 1 / 3),
        (RecallAtK(k=2), 2 / 3),
    ],
    ids=lambda item: getattr(item, "name", None),
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_constant_score_is_worth_the_mean_over_all_orders(metric, expected, place):
    metric.reset_state()
    labels = [[float(place == item) for item in range(3)]]
    assert value(metric, labels, [[0.5] * 3]) == pytest.approx(expected, rel=1e-6)


def test_item_weights_multiply_gains():
    weighed = [2 * 3, 1 * 1]
    expected = (weighed[1] + weighed[0] / LOG3) / (weighed[0] + weighed[1] / LOG3)
    found = value(NDCG(), [[2, 1]], [[0, 1]], np.float32([[2, 1]]))
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("empty", "expected"), [("zero", 1 / 2), ("one", 1), ("skip", 1)])
def test_lists_without_a_relevant_item(empty, expected):
    for name in metrics.__all__:
        if name != "RankingMetric":
            found = value(getattr(metrics, name)(k=1, empty=empty), [[1, 0], [0, 0]], [[1, 0], [1, 0]])
            assert found == pytest.approx(expected), name


def test_names_say_the_cutoff():
    assert [NDCG().name, NDCG(k=10).name, MRR(k=5).name] == ["ndcg", "ndcg_at_10", "mrr_at_5"]
    assert NDCG(k=10, name="mine").name == "mine"


def test_reset_forgets():
    metric = NDCG()
    value(metric, [[0, 1]], [[1, 0]])
    metric.reset_state()
    assert value(metric, [[1, 0]], [[1, 0]]) == 1
