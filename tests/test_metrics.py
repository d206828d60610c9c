"""Metrics on lists small enough to do by hand."""

import inspect
import math

import keras
import numpy as np
import pytest
from laws.cases import METRIC_CLASSES

from tfrankloss import (
    ARP,
    DCG,
    GAUC,
    MRR,
    NDCG,
    OPA,
    AlphaDCG,
    BPref,
    Hits,
    MeanAveragePrecision,
    PrecisionAtK,
    PrecisionIA,
    RecallAtK,
    functional,
)

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
        (DCG(), 1 / LOG3 + 3 / 2),
        (DCG(k=2), 1 / LOG3),
        (DCG(gain="linear", discount="reciprocal"), 1 / 2 + 2 / 3),
        (Hits(k=1), 0),
        (Hits(k=2), 1),
        (Hits(k=2, threshold=2), 0),
        (ARP(), (1 * 2 + 2 * 3) / 3),
        (OPA(), 0),
        (GAUC(), 0),
        (GAUC(threshold=2), 0),
        (BPref(), 0),
        (BPref(use_trec_version=False), 1 / 2),
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
        (DCG(k=2), (1 + 1 / LOG3) / 3),
        (Hits(k=2), 2 / 3),
        (ARP(), 2),
        (OPA(), 1 / 2),
        (GAUC(), 1 / 2),
        (BPref(), 1 / 3),
        (BPref(k=2), 1 / 3),
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


def test_item_weights_divide_what_they_multiply_in_dcg():
    """So that lists are averaged as with list weights: here one list of DCG 3 / log2(3) + 1 and mean weight 7 / 4."""
    weighed = 2 * 3 / LOG3 + 1 * 1
    found = value(DCG(), [[2, 1]], [[0, 1]], np.float32([[2, 1]]))
    assert found == pytest.approx(weighed / ((2 * 3 + 1 * 1) / (3 + 1)), rel=1e-6)


# Items of a list cover subtopics 2; 1; 1 and 2; they stand at places 1, 3, 2.
SUBTOPICS, ORDER = [[[0, 1], [1, 0], [1, 1]]], [[3, 1, 2]]


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (AlphaDCG(), 1 + (1 + 1 / 2) / LOG3 + (1 / 2) / 2),
        (AlphaDCG(k=2), 1 + (1 + 1 / 2) / LOG3),
        (AlphaDCG(alpha=0.0), 1 + 2 / LOG3 + 1 / 2),
        (AlphaDCG(alpha=1.0), 1 + 1 / LOG3),
        (AlphaDCG(alpha=0.25, discount="reciprocal"), 1 + (1 + 3 / 4) / 2 + (3 / 4) / 3),
        (PrecisionIA(), 2 / 3),
        (PrecisionIA(k=2), (1 / 2 + 2 / 2) / 2),
        (PrecisionIA(k=1), (0 + 1) / 2),
        (PrecisionIA(threshold=2), 0),
    ],
    ids=lambda item: getattr(item, "name", None),
)
def test_subtopics(metric, expected):
    assert value(metric, SUBTOPICS, ORDER) == pytest.approx(expected, rel=1e-6)


def test_graded_labels_of_tied_items_in_alpha_dcg():
    """Of labels 2 and 1, whichever comes second loses by the other: the mean over both orders."""
    orders = [2 + 1 * 0.5**2 / LOG3, 1 + 2 * 0.5 / LOG3]
    assert value(AlphaDCG(), [[[2], [1]]], [[5, 5]]) == pytest.approx(sum(orders) / 2, rel=1e-6)


def test_long_runs_of_ties_in_alpha_dcg():
    """All of n items tied on one subtopic: n gains 1, 1/2, 1/4, ... at the places 1, 2, ..."""
    expected = sum(0.5**place / math.log2(place + 2) for place in range(300))
    found = functional.alpha_dcg(np.ones((2, 300, 1), "float32"), np.zeros((2, 300), "float32"))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), [expected] * 2, rtol=1e-5)


@pytest.mark.parametrize("use_trec_version", [True, False])
def test_bpref_with_every_place_is_that_without_a_cutoff(random, use_trec_version):
    """The closed form of whole runs of ties agrees with the walk from place to place."""
    labels, scores = random.integers(0, 2, (50, 40)), random.integers(0, 6, (50, 40)).astype("float32")
    closed, walked = (functional.bpref(labels, scores, k=k, use_trec_version=use_trec_version) for k in (None, 40))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(walked), keras.ops.convert_to_numpy(closed), rtol=1e-5)


def test_arp_and_opa_are_means_over_labels_and_pairs():
    """Lists of 1 and 3 labels at places 1 and 2; lists of 1 and 2 pairs, of which the first list's is right."""
    assert value(ARP(), [[1, 0, -1], [0, 1, 2]], [[2, 1, 0], [3, 2, 2]]) == pytest.approx((1 * 1 + 3 * 2.5) / 4)
    assert value(OPA(), [[1, 0, -1], [0, 1, 1]], [[2, 1, 0], [3, 2, 2]]) == pytest.approx(1 / 3)


def test_list_weights_of_arp_and_opa_weigh_their_labels_and_pairs():
    labels, scores, weights = [[1, 0, -1], [0, 1, 1]], [[2, 1, 0], [3, 2, 2]], np.float32([3, 1])
    assert value(ARP(), labels, scores, weights) == pytest.approx((3 * 1 * 1 + 1 * 2 * 2.5) / (3 * 1 + 1 * 2))
    assert value(OPA(), labels, scores, weights) == pytest.approx(3 * 1 / (3 * 1 + 1 * 2))


def share_of_ordered_pairs(labels, scores, weights):
    """Over all pairs of a list, item by item, in float64."""
    items = np.flatnonzero(labels >= 0)
    labels, scores, weights = labels[items], scores[items], weights[items].astype("float64")
    right, pairs = 0.0, 0.0
    for label, score, weight in zip(labels, scores, weights, strict=True):
        worse = scores[labels < label]
        right += weight * (np.sum(worse < score) + np.sum(worse == score) / 2)
        pairs += weight * len(worse)
    return right / pairs if pairs else 0.0


@pytest.mark.parametrize("grades", [2, 5, 31, None], ids=str)
@pytest.mark.parametrize("scores", ["distinct", "tied"])
def test_ordered_pairs_of_long_lists(grades, scores, random):
    labels = random.random((4, 200)) if grades is None else random.integers(0, grades, (4, 200))
    labels = np.where(random.random(labels.shape) < 1 / 3, -1, labels).astype("float32")
    labels[2], labels[3] = 1, -1
    scores = (
        random.normal(size=labels.shape) if scores == "distinct" else random.integers(0, 9, labels.shape)
    ) + labels
    scores, weights = scores.astype("float32"), random.random(labels.shape).astype("float32")
    for given in (None, weights):
        found = keras.ops.convert_to_numpy(functional.ordered_pair_accuracy(labels, scores, weights=given))
        used = np.ones_like(weights) if given is None else given
        expected = [share_of_ordered_pairs(*row) for row in zip(labels, scores, used, strict=True)]
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_ordered_pairs_beyond_the_whole_numbers_of_float32(random):
    """50 million pairs."""
    labels, scores = random.permutation(10000).astype("float32"), random.normal(size=10000).astype("float32")
    scores += labels / 2e4
    found = functional.ordered_pair_accuracy(labels[None], scores[None])
    assert float(found[0]) == pytest.approx(share_of_ordered_pairs(labels, scores, np.ones(10000)), rel=1e-6)


def test_gauc_leaves_out_lists_of_one_class():
    labels, scores = [[1, 0, 0], [1, 1, 1], [0, 0, 0], [0, 1, -1]], [[2, 3, 1], [1, 2, 3], [1, 2, 3], [1, 2, 3]]
    assert value(GAUC(), labels, scores) == pytest.approx((1 / 2 + 1) / 2)
    assert value(GAUC(), labels, scores, np.float32([3, 9, 9, 1])) == pytest.approx((3 * 1 / 2 + 1 * 1) / (3 + 1))
    assert value(GAUC(), labels[1:3], scores[1:3]) == 0


WITH_EMPTY = [cls for cls in METRIC_CLASSES if "empty" in inspect.signature(cls).parameters]


def test_which_metrics_leave_lists_without_relevant_items_to_the_caller():
    assert {cls.__name__ for cls in METRIC_CLASSES} - {cls.__name__ for cls in WITH_EMPTY} == {"ARP", "GAUC", "OPA"}


@pytest.mark.parametrize("cls", WITH_EMPTY, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize(("empty", "expected"), [("zero", 1 / 2), ("one", 1), ("skip", 1)])
def test_lists_without_a_relevant_item(cls, empty, expected):
    labels = np.float32([[1, 0], [0, 0]])
    labels = labels[..., None] if cls in (AlphaDCG, PrecisionIA) else labels
    assert value(cls(k=1, empty=empty), labels, [[1, 0], [1, 0]]) == pytest.approx(expected)


@pytest.mark.parametrize("cls", [ARP, OPA, GAUC], ids=lambda cls: cls.__name__)
def test_lists_that_say_nothing_are_left_out(cls):
    """Also where a score is not a number."""
    alone = value(cls(), [[1, 0]], [[0, 1]])
    assert value(cls(), [[1, 0], [0, 0]], [[0, 1], [float("nan"), 0]]) == alone


def test_names_say_the_cutoff():
    assert [NDCG().name, NDCG(k=10).name, MRR(k=5).name] == ["ndcg", "ndcg_at_10", "mrr_at_5"]
    assert {cls().name for cls in METRIC_CLASSES} == {
        *("arp", "dcg", "gauc", "mrr", "ndcg", "opa", "alpha_dcg", "bpref", "hits"),
        *("map", "precision", "precision_ia", "recall"),
    }
    assert NDCG(k=10, name="mine").name == "mine"


def test_reset_forgets():
    metric = NDCG()
    value(metric, [[0, 1]], [[1, 0]])
    metric.reset_state()
    assert value(metric, [[1, 0]], [[1, 0]]) == 1
