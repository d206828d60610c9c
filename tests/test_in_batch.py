"""The in-batch softmax: accidental hits, explicit negatives, similarities, large ids, matrices of scores."""

import math

import keras
import numpy as np
import pytest
import references
from backend import NAME, to_numpy, values_and_gradient

from tfrankloss import InBatchSoftmaxLoss
from tfrankloss.functional import in_batch_scores, in_batch_softmax_loss

pytestmark = pytest.mark.backends


def embeddings_of(random, rows=5, negatives=0, dimension=3):
    return random.normal(size=(rows, 2 + negatives, dimension)).astype("float32")


@pytest.mark.parametrize("similarity", ["dot", "cosine", "euclidean"])
@pytest.mark.parametrize("negatives", [0, 2])
def test_scores(similarity, negatives, random):
    embeddings = embeddings_of(random, negatives=negatives)
    scores = to_numpy(in_batch_scores(embeddings, similarity=similarity))
    assert scores.shape == (5, 5 + negatives)
    for row in range(5):
        others = [embeddings[column, 1] for column in range(5)] + list(embeddings[row, 2:])
        expected = [references.similarity_of(embeddings[row, 0], other, similarity) for other in others]
        np.testing.assert_allclose(scores[row], expected, rtol=1e-4, atol=1e-5)


def test_cosine_of_a_zero_vector_is_zero(random):
    embeddings = embeddings_of(random)
    embeddings[0, 0] = 0
    loss = InBatchSoftmaxLoss(similarity="cosine", reduction=None)
    values, gradient = values_and_gradient(loss, np.ones(5, "float32"), embeddings)
    assert values[0] == pytest.approx(math.log(5), rel=1e-6)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("duplicates", ["mask", "positive", "negative"])
@pytest.mark.parametrize("columns", [1, 3])
def test_accidental_hits(duplicates, columns, random):
    """Rows 0 and 2 have the same candidate; row 1 has its own among its explicit negatives."""
    ids = np.int32([[4, 9, 9], [5, 5, 9], [4, 9, 8], [6, 4, 7]])[:, :columns]
    embeddings = embeddings_of(random, rows=4, negatives=2)
    settings = {"targets": "candidate_ids", "duplicates": duplicates}
    values, _ = values_and_gradient(InBatchSoftmaxLoss(**settings, reduction=None), ids, embeddings)
    np.testing.assert_allclose(values, references.in_batch_softmax(ids, embeddings, **settings), rtol=1e-5, atol=1e-6)


def test_a_masked_candidate_has_probability_zero(random):
    """Its score moves nothing and gets no gradient from that row."""
    scores = random.normal(size=(3, 3)).astype("float32")
    ids = np.int32([7, 7, 8])
    loss = InBatchSoftmaxLoss(targets="candidate_ids", reduction=None)
    values, gradient = values_and_gradient(loss, ids, scores)
    assert gradient[0, 1] == gradient[1, 0] == 0
    scores[0, 1] = scores[1, 0] = 1e30
    np.testing.assert_allclose(values_and_gradient(loss, ids, scores)[0], values, rtol=1e-6)


def test_ids_above_two_to_the_24_do_not_collide(random):
    """As floats these two would be one."""
    if NAME == "jax":
        pytest.skip("JAX has no int64 unless the whole process is switched to it; int32 is tested below")
    _check_large_ids(np.int64([2**53, 2**53 + 1, 5]), random)


def test_ids_in_int32_do_not_collide(random):
    _check_large_ids(np.int32([2**24, 2**24 + 1, 5]), random)


def _check_large_ids(ids, random):
    scores = random.normal(size=(3, 3)).astype("float32")
    by_id = InBatchSoftmaxLoss(targets="candidate_ids")(keras.ops.convert_to_tensor(ids), scores)
    assert float(by_id) == pytest.approx(float(InBatchSoftmaxLoss()(np.ones(3, "float32"), scores)), rel=1e-6)


def test_scores_or_embeddings_give_the_same(random):
    embeddings = embeddings_of(random, negatives=1)
    scores = to_numpy(in_batch_scores(embeddings))
    relevance = np.float32([1, 0, 2, 1, -1])
    loss = InBatchSoftmaxLoss(temperature=0.5, reduction=None)
    by_scores, _ = values_and_gradient(loss, relevance, scores)
    by_embeddings, _ = values_and_gradient(loss, relevance, embeddings)
    np.testing.assert_allclose(by_scores, by_embeddings, rtol=1e-5)
    functional = in_batch_softmax_loss(relevance, scores / 0.5)
    np.testing.assert_allclose(to_numpy(functional), by_scores, rtol=1e-5)


def test_rows_without_feedback_are_negatives_and_padded_rows_are_nothing(random):
    scores = random.normal(size=(3, 3)).astype("float32")
    loss = InBatchSoftmaxLoss(reduction=None)
    log_softmax = references.log_softmax
    values, _ = values_and_gradient(loss, np.float32([1, 0, 0]), scores)
    np.testing.assert_allclose(values, [-log_softmax(scores[0])[0], 0, 0], rtol=1e-5)
    values, _ = values_and_gradient(loss, np.float32([1, 0, -1]), scores)
    np.testing.assert_allclose(values, [-log_softmax(scores[0, :2])[0], 0, 0], rtol=1e-5)


def test_the_mean_over_rows_does_not_grow_by_reduction():
    """Equal scores: log(B) for every row, and so for their mean."""
    for rows in (2, 8):
        loss = InBatchSoftmaxLoss()(np.ones(rows, "float32"), np.zeros((rows, rows), "float32"))
        assert float(loss) == pytest.approx(math.log(rows), rel=1e-6)


CHUNKED = [
    {},
    {"similarity": "cosine", "temperature": 0.1},
    {"similarity": "euclidean", "temperature": 2.0},
    {"targets": "candidate_ids"},
    {"targets": "candidate_ids", "duplicates": "positive"},
    {"targets": "candidate_ids", "duplicates": "negative"},
]


@pytest.mark.parametrize("settings", CHUNKED, ids=str)
@pytest.mark.parametrize("negatives", [0, 2])
def test_chunks_are_the_whole_batch(settings, negatives, random):
    """Rows in chunks of 4 of which the last is not full, with padding, rows that do not count and accidental hits."""
    embeddings = embeddings_of(random, rows=10, negatives=negatives)
    by_id = "targets" in settings
    targets = random.integers(0, 4, (10, 1 + negatives if by_id else 1)).astype("int32" if by_id else "float32")
    targets[3] = -1
    whole, chunked = (InBatchSoftmaxLoss(**settings, chunk_size=size, reduction=None) for size in (None, 4))
    for weights in (None, (random.integers(0, 4, 10) / 2).astype("float32")):
        values, gradient = values_and_gradient(whole, targets, embeddings, sample_weight=weights)
        found, found_gradient = values_and_gradient(chunked, targets, embeddings, sample_weight=weights)
        np.testing.assert_allclose(found, values, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found_gradient, gradient, rtol=1e-5, atol=2e-6 * np.abs(gradient).max())


def test_no_scores_of_the_whole_batch(random):
    """Batches known to be large, or of unknown size, are taken in chunks by themselves."""
    from tfrankloss.losses import in_batch

    rows = in_batch.ROWS_AT_ONCE + 1
    embeddings = embeddings_of(random, rows=rows)
    values, gradient = values_and_gradient(InBatchSoftmaxLoss(reduction=None), np.ones(rows, "float32"), embeddings)
    scores = embeddings[:, 0].astype("float64") @ embeddings[:, 1].T
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(values, -np.log(np.diag(shares)), rtol=1e-5)
    shares[np.diag_indices(rows)] -= 1
    np.testing.assert_allclose(gradient[:, 0], shares @ embeddings[:, 1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gradient[:, 1], shares.T @ embeddings[:, 0], rtol=1e-5, atol=1e-5)
