"""Metrics live against TensorFlow Ranking 0.5.5: the same where they should be, the differences pinned."""

import importlib

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("TensorFlow Ranking runs on TensorFlow", allow_module_level=True)

import tensorflow_ranking_modules

from tfrankloss import (
    ARP,
    DCG,
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
)

tfr = tensorflow_ranking_modules.load()
if tfr is None:
    pytest.skip("tensorflow-ranking is not installed", allow_module_level=True)
impl = importlib.import_module("tensorflow_ranking.python.metrics_impl")

BATCHES, SIZE, LENGTH = 200, 5, 7
CLOSE = {"rtol": 1e-5, "atol": 1e-6}
GOLDEN_LABELS, GOLDEN_SCORES = np.float32([[1, 0, 2]]), np.float32([[0.6, 0.8, 0.1]])
SUBTOPICS = np.float32([[[0, 1], [1, 0], [1, 1]]])

# Ours, theirs.
METRICS = {
    "ARP": (ARP, "ARPMetric"),
    "AlphaDCG": (AlphaDCG, "AlphaDCGMetric"),
    "BPref": (BPref, None),
    "DCG": (DCG, "DCGMetric"),
    "Hits": (Hits, "HitsMetric"),
    "MAP": (MeanAveragePrecision, "MeanAveragePrecisionMetric"),
    "MRR": (MRR, "MRRMetric"),
    "NDCG": (NDCG, "NDCGMetric"),
    "OPA": (OPA, "OPAMetric"),
    "PrecisionAtK": (PrecisionAtK, "PrecisionMetric"),
    "PrecisionIA": (PrecisionIA, "PrecisionIAMetric"),
    "RecallAtK": (RecallAtK, "RecallMetric"),
}
WITHOUT_CUTOFF = ("ARP", "OPA")
BY_SUBTOPIC = ("AlphaDCG", "PrecisionIA")
SETTINGS = [(name, k) for name in METRICS for k in ([None] if name in WITHOUT_CUTOFF else [None, 1, 3, 10])]
every_setting = pytest.mark.parametrize(("name", "k"), SETTINGS)
# Their lists without a relevant item weigh the mean of their batch; in ARP and OPA such lists weigh nothing.
every_mean_over_lists = pytest.mark.parametrize("name", [name for name in METRICS if name not in WITHOUT_CUTOFF])


def make_pair(name, k=None, **settings):
    """Our metric and theirs."""
    ours, theirs = METRICS[name]
    if theirs is None:
        # It has no class of its own among their Keras metrics.
        bpref = tfr.metrics._RankingMetric()
        bpref._metric = impl.BPrefMetric("bpref", topn=k, **settings)
        return ours(k=k, **settings), bpref
    if name in WITHOUT_CUTOFF:
        return ours(), getattr(tfr.metrics, theirs)()
    return ours(k=k, **settings), getattr(tfr.metrics, theirs)(topn=k, **settings)


def results(metrics, labels, scores, weights=None):
    values = []
    for metric in metrics:
        metric.reset_state()
        metric.update_state(labels, scores, weights)
        values.append(float(metric.result()))
    return values


def lists_of(metric, labels, scores):
    """Our value of each list."""
    batch = metric.read_batch(labels, scores, None, "float32")
    return keras.ops.convert_to_numpy(metric.list_values(batch.labels, batch.scores, batch.mask, None))


def batch_of(name, random, lists, filled=False):
    """Graded labels, scores without ties, padding at the end; unless ``filled``, lists without a relevant item."""
    topics = (3,) if name in BY_SUBTOPIC else ()
    highest = 3 if topics else 4
    labels = random.integers(0, highest, (lists, LENGTH, *topics))
    if not filled:
        labels[random.random(lists) < 0.2] = 0
    labels[random.random((lists, LENGTH)).cumsum(axis=1) > LENGTH / 2] = -1
    labels[:, :2] = np.maximum(labels[:, :2], 0)
    if filled:
        labels[:, 0], labels[:, 1] = 2, 0
    scores = random.permuted(np.tile(np.arange(LENGTH), (lists, 1)), axis=1) + random.uniform(0, 0.5, (lists, LENGTH))
    return labels.astype("float32"), scores.astype("float32")


def random_weights(random, lists, width):
    return random.uniform(0.5, 2, (lists, width)).astype("float32")


@every_setting
def test_values_of_lists(name, k, random):
    ours, theirs = make_pair(name, k)
    labels, scores = batch_of(name, random, BATCHES * SIZE)
    expected, _ = theirs._metric.compute(labels, scores)
    np.testing.assert_allclose(lists_of(ours, labels, scores), expected.numpy()[:, 0], **CLOSE)


@every_setting
def test_results(name, k, random):
    for _ in range(3):
        ours, theirs = results(make_pair(name, k), *batch_of(name, random, SIZE))
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-6)


@every_setting
def test_results_with_list_weights(name, k, random):
    for _ in range(3):
        batch = batch_of(name, random, SIZE, filled=True)
        ours, theirs = results(make_pair(name, k), *batch, random_weights(random, SIZE, 1))
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-6)


@every_setting
def test_results_with_item_weights(name, k, random):
    for _ in range(3):
        batch = batch_of(name, random, SIZE, filled=True)
        ours, theirs = results(make_pair(name, k), *batch, random_weights(random, SIZE, LENGTH))
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("k", [None, 3])
def test_options(k, random):
    for name, settings in (("BPref", {"use_trec_version": False}), ("AlphaDCG", {"alpha": 0.25})):
        ours, theirs = make_pair(name, k, **settings)
        labels, scores = batch_of(name, random, BATCHES)
        expected, _ = theirs._metric.compute(labels, scores)
        np.testing.assert_allclose(lists_of(ours, labels, scores), expected.numpy()[:, 0], **CLOSE)


@pytest.mark.parametrize(
    ("metric", "golden"),
    [
        (NDCG(), 0.5868827),
        (NDCG(k=2), 0.1737653),
        (DCG(), 2.1309297),
        (DCG(k=2), 0.6309298),
        (MRR(), 0.5),
        (MeanAveragePrecision(), 0.5833334),
        (MeanAveragePrecision(k=2), 0.25),
        (PrecisionAtK(), 0.6666667),
        (PrecisionAtK(k=2), 0.5),
        (RecallAtK(), 1.0),
        (RecallAtK(k=2), 0.5),
        (ARP(), 2.6666667),
        (OPA(), 0.0),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_golden_values(metric, golden):
    metric.update_state(GOLDEN_LABELS, GOLDEN_SCORES)
    assert float(metric.result()) == pytest.approx(golden, rel=1e-6)


# What is different, and meant to be.


def as_topics(name, labels):
    """Labels (B, L), where the metric asks for it as those of one subtopic."""
    labels = np.float32(labels)
    return labels[:, :, None] if name in BY_SUBTOPIC else labels


@every_mean_over_lists
def test_difference_weights_of_lists_without_relevant_items(name):
    """Ours keeps their weight; theirs gives them the mean weight of the rest of their batch."""
    labels, scores = as_topics(name, [[1, 0], [0, 0]]), np.float32([[1, 0], [1, 0]])
    ours, theirs = results(make_pair(name, 1), labels, scores, np.float32([[1], [3]]))
    assert ours == pytest.approx(1 / (1 + 3))
    assert theirs == pytest.approx(1 / (1 + 1))


@every_mean_over_lists
def test_difference_cutting_into_batches(name):
    """Ours does not depend on how lists are cut into batches; theirs does, by that mean weight."""
    labels, scores = as_topics(name, [[1, 0], [0, 0], [1, 0], [0, 0]]), np.float32([[1, 0]] * 4)
    weights = np.float32([[1], [1], [3], [3]])

    def cut(metric, order):
        metric.reset_state()
        for part in np.split(np.array(order), 2):
            metric.update_state(labels[part], scores[part], weights[part])
        return float(metric.result())

    ours, theirs = make_pair(name, 1)
    orders = [0, 1, 2, 3], [1, 3, 0, 2]
    assert [cut(ours, order) for order in orders] == pytest.approx([1 / 2] * 2)
    # A batch without relevant items gives its lists weight 1.
    assert [cut(theirs, order) for order in orders] == pytest.approx([4 / (2 + 6), 4 / (1 + 1 + 4)])


@pytest.mark.parametrize("name", [name for name in METRICS if name != "OPA"])
def test_difference_ties(name):
    """Ours is, deterministically, the mean of their random orders."""
    labels, scores = as_topics(name, [[0, 2, 0, 1, 0, 3]]), np.float32([[1, 1, 1, 0, 0, 0]])
    count = 20_000
    pair = make_pair(name, 2)
    ours, theirs = results(pair, np.repeat(labels, count, axis=0), np.repeat(scores, count, axis=0))
    assert ours == pytest.approx(results(pair[:1], labels, scores)[0], rel=1e-5)
    assert ours == pytest.approx(theirs, abs=0.05)


def test_difference_ties_of_ordered_pairs():
    """Ours counts a tie as half right, which is the mean over both orders; theirs as wrong."""
    assert results(make_pair("OPA"), np.float32([[1, 0]]), np.float32([[3, 3]])) == [0.5, 0.0]


def test_difference_padded_subtopics():
    """A list may have fewer subtopics than others. Ours ignores the padding; theirs of alpha-DCG counts it as -1."""
    narrow = np.concatenate([SUBTOPICS, np.full((1, 3, 1), -1)], axis=2, dtype="float32")
    for name in BY_SUBTOPIC:
        ours, _ = make_pair(name)
        assert results([ours], narrow, GOLDEN_SCORES) == results([ours], SUBTOPICS, GOLDEN_SCORES)
    alone, padded = (results(make_pair("AlphaDCG"), labels, GOLDEN_SCORES)[1] for labels in (SUBTOPICS, narrow))
    # Gains -1, -2 and -4 of the padding: each -1 above doubles the next.
    assert padded == pytest.approx(alone - sum(2**place / np.log2(place + 2) for place in range(3)), rel=1e-5)


def test_difference_items_of_weight_zero_by_subtopic():
    """In ours they are padding, as in the other metrics; in theirs they keep their place and cover subtopics."""
    weights = np.float32([[1, 0, 1]])
    d = [1 / np.log2(1 + rank) for rank in (1, 2, 3)]
    expected = {
        "PrecisionIA": (3 / (2 * 2), 4 / (2 * 3)),
        "AlphaDCG": (d[0] + 1.5 * d[1], (d[1] + (0.5 + 0.5) * d[2]) / (2 / 3)),
    }
    for name, pair in expected.items():
        assert results(make_pair(name), SUBTOPICS, GOLDEN_SCORES, weights) == pytest.approx(pair, rel=1e-6)


def test_difference_fractional_labels_of_alpha_dcg():
    """A list weighs by its items with any label above 0; theirs asks for 1 and sees no relevant item here."""
    weights = np.float32([[1, 1], [3, 3]])
    labels = np.float32([[[0.5], [0.0]], [[1.0], [0.0]]])
    scores = np.float32([[1, 0], [1, 0]])
    ours, theirs = results(make_pair("AlphaDCG"), labels, scores, weights)
    assert ours == pytest.approx((1 * 0.5 + 3 * 1) / (1 + 3))
    assert theirs == pytest.approx((3 * (0.5 * 1 / 3) + 3 * 1) / (3 + 3))


@pytest.mark.parametrize("name", METRICS)
def test_difference_nan_in_a_padded_score(name):
    """Ours is as without the padding."""
    labels, scores = as_topics(name, [[1, 0, 2, -1]]), np.float32([[0.6, 0.8, 0.1, np.nan]])
    ours, _ = make_pair(name)
    assert results([ours], labels, scores) == results([ours], labels[:, :3], scores[:, :3])
