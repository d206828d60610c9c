"""The in-batch softmax: accidental hits, explicit negatives, similarities, large ids, matrices of scores."""

import math
import re

import keras
import numpy as np
import pytest
import references
from backend import NAME, central_differences, to_numpy, values_and_gradient

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


BY_ID = {"targets": "candidate_ids"}
TABLE = [0.5, 0.125, 0.25, 0.0625, 0.0625]
OPTIONS = [
    {},
    {"similarity": "cosine", "temperature": 0.1, "symmetric": True, "margin": 0.2},
    {"similarity": "euclidean", "temperature": 2.0, "symmetric": True, "relevance": "weight"},
    {"shared_negatives": True, "candidate_probability": "embeddings", "hardest_negatives": 3, "symmetric": True},
    {"candidate_probability": "targets", "label_smoothing": 0.2, "margin": 0.5, "similarity": "euclidean"},
    {"candidate_probability": "targets", "shared_negatives": True},
    BY_ID,
    {**BY_ID, "duplicates": "positive", "symmetric": True, "label_smoothing": 0.1, "margin": 0.3},
    {**BY_ID, "duplicates": "negative", "known_positives": 2, "hardest_negatives": 4},
    {**BY_ID, "known_positives": 2, "symmetric": True, "candidate_probability": TABLE, "label_smoothing": 0.1},
    {**BY_ID, "known_positives": 2, "duplicates": "positive", "shared_negatives": True, "candidate_probability": TABLE},
    {**BY_ID, "known_positives": [[0, 1], [2, -1], [3, 4]], "symmetric": True, "hardest_negatives": 2},
]


def targets_of(settings, random, negatives, rows=10):
    """Targets with accidental hits, a padded row and rows that do not count."""
    if "targets" not in settings:
        targets = random.integers(0, 4, (rows, 1)).astype("float32")
        if settings.get("candidate_probability") == "targets":
            targets = np.concatenate([targets, random.uniform(0.1, 1, (rows, 1 + negatives)).astype("float32")], axis=1)
    else:
        known = settings.get("known_positives")
        behind = 0 if known is None else known if isinstance(known, int) else 1
        targets = random.integers(0, 5, (rows, 1 + negatives)).astype("int32")
        most = 3 if isinstance(known, list) else 5
        targets = np.concatenate([targets, random.integers(0, most, (rows, behind)).astype("int32")], axis=1)
        if behind > 1:
            targets[::4, -1] = -1
    targets[3] = -1
    return targets


@pytest.mark.parametrize(("settings", "negatives"), [(o, 2 * (n % 2)) for n, o in enumerate(OPTIONS)], ids=str)
def test_options_at_once_and_in_chunks(settings, negatives, random):
    """Both agree with the reference, and so do their gradients; of chunks of 4 rows the last is not full."""
    embeddings = embeddings_of(random, rows=10, negatives=negatives)
    if settings.get("candidate_probability") == "embeddings":
        embeddings[:, :, -1] = -np.abs(embeddings[:, :, -1])
    targets = targets_of(settings, random, negatives)
    whole, chunked = (InBatchSoftmaxLoss(**settings, chunk_size=size, reduction=None) for size in (None, 4))
    values, gradient = values_and_gradient(whole, targets, embeddings)
    np.testing.assert_allclose(
        values, references.in_batch_softmax(targets, embeddings, **settings), rtol=1e-5, atol=2e-6
    )
    slopes = central_differences(
        lambda vectors: np.sum(references.in_batch_softmax(targets, vectors, **settings)), embeddings
    )
    if settings.get("candidate_probability") == "embeddings":
        slopes[:, :, -1] = 0
    np.testing.assert_allclose(gradient, slopes, rtol=1e-4, atol=2e-5 * max(1, np.abs(slopes).max()))
    close = {"rtol": 1e-6, "atol": 1e-6 * max(1, np.abs(gradient).max())}
    found, found_gradient = values_and_gradient(chunked, targets, embeddings)
    np.testing.assert_allclose(found, values, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found_gradient, gradient, **close)
    # Rows that weigh the same have their gradient from the first pass, others from a second one.
    weights = (random.integers(0, 4, 10) / 2).astype("float32")
    values, gradient = values_and_gradient(whole, targets, embeddings, sample_weight=weights)
    found, found_gradient = values_and_gradient(chunked, targets, embeddings, sample_weight=weights)
    np.testing.assert_allclose(found, values, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found_gradient, gradient, **close)


def test_no_options_are_a_softmax_cross_entropy(random):
    scores = random.normal(size=(6, 6)).astype("float32")
    expected = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(np.arange(6), scores)
    assert float(InBatchSoftmaxLoss()(np.ones(6, "float32"), scores)) == pytest.approx(float(expected), rel=1e-6)
    smooth = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.3)(np.eye(6), scores)
    loss = InBatchSoftmaxLoss(label_smoothing=0.3)(np.ones(6, "float32"), scores)
    assert float(loss) == pytest.approx(float(smooth), rel=1e-6)


def test_all_hardest_negatives_are_all(random):
    embeddings = embeddings_of(random)
    loss = InBatchSoftmaxLoss(hardest_negatives=100)(np.ones(5, "float32"), embeddings)
    assert float(loss) == pytest.approx(float(InBatchSoftmaxLoss()(np.ones(5, "float32"), embeddings)), rel=1e-6)


@pytest.mark.parametrize("settings", [{"symmetric": True}, {**BY_ID, "known_positives": 2}], ids=str)
def test_short_floats_are_computed_in_float32(settings, random):
    targets = targets_of(settings, random, 0)
    for dtype in ("float16", "bfloat16"):
        short = keras.ops.convert_to_tensor(embeddings_of(random, rows=10), dtype=dtype)
        for size in (None, 4):
            loss = InBatchSoftmaxLoss(**settings, chunk_size=size)
            expected = float(loss(targets, keras.ops.cast(short, "float32")))
            assert float(loss(targets, short)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({**BY_ID, "candidate_probability": [0.5, 0.0]}, "greater than 0 and at most 1. Received"),
        ({**BY_ID, "candidate_probability": [0.5, 1.5]}, "greater than 0 and at most 1. Received"),
        ({**BY_ID, "candidate_probability": [float("nan")]}, "greater than 0 and at most 1"),
        ({**BY_ID, "candidate_probability": "targets"}, "or None or 'embeddings'"),
        ({"candidate_probability": [0.5]}, "without targets="),
        ({"candidate_probability": "column"}, "must be a table of probabilities"),
        ({"known_positives": 2}, "without targets="),
        ({**BY_ID, "known_positives": 0}, "at least 1"),
        ({**BY_ID, "known_positives": [[0.5]]}, "integer ids"),
        ({"label_smoothing": 1.0}, "below 1"),
        ({"margin": -1.0}, "at least 0"),
        ({"hardest_negatives": 0}, "at least 1"),
        ({"relevance": "gain"}, "must be one of 'mask', 'weight'"),
    ],
    ids=str,
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        InBatchSoftmaxLoss(**settings)


@pytest.mark.parametrize(
    ("settings", "targets", "message"),
    [
        ({**BY_ID, "known_positives": 2}, np.zeros((4, 2), "int32"), "2 of known positives"),
        ({**BY_ID, "known_positives": 2}, np.zeros((4, 5), "int32"), "2 of known positives"),
        ({**BY_ID, "candidate_probability": [0.5]}, np.zeros((4, 1), "int32"), "ids of explicit negatives too"),
        ({"candidate_probability": "targets"}, np.ones((4, 2), "float32"), "(batch, 3)"),
    ],
    ids=str,
)
def test_targets_that_do_not_fit(settings, targets, message, random):
    with pytest.raises(ValueError, match=re.escape(message)):
        InBatchSoftmaxLoss(**settings)(targets, embeddings_of(random, rows=4, negatives=1))


@pytest.mark.parametrize(
    ("column", "wrong", "message"),
    [
        ("targets", 0.0, "`y_true` must hold probabilities, greater than 0 and at most 1, behind the relevance. "),
        ("targets", -0.5, "Received: -0.5 in row 1"),
        ("targets", 1.5, "Received: 1.5 in row 1"),
        ("embeddings", 0.25, "`y_pred` must hold logarithms of probabilities, finite and at most 0, as last coordi"),
        ("embeddings", -np.inf, "Received: -inf in row 1"),
        ("embeddings", np.nan, "Received: nan in row 1"),
    ],
)
@pytest.mark.parametrize("chunk_size", [None, 2])
def test_columns_of_no_probabilities(column, wrong, message, chunk_size, random):
    """An error where values can be seen; in a compiled graph NaN, never a number; of padded rows, nothing."""
    embeddings = embeddings_of(random, rows=4)
    embeddings[:, :, -1] = -1.0
    relevance = np.float32([[1, 0.5], [1, 0.5], [1, 0.5], [-1, 0.5]])[:, : 1 + (column == "targets")]

    def put(row):
        changed = relevance.copy(), embeddings.copy()
        changed[column == "embeddings"][(row, -1) if column == "targets" else (row, 1, -1)] = wrong
        return changed

    loss = InBatchSoftmaxLoss(candidate_probability=column, chunk_size=chunk_size, reduction=None)
    with pytest.raises(ValueError, match=re.escape(message)):
        loss(*put(1))
    right, _ = values_and_gradient(loss, relevance, embeddings)
    np.testing.assert_array_equal(values_and_gradient(loss, *put(3))[0], right)
    if NAME != "torch":
        assert np.isnan(values_and_gradient(loss, *put(1))[0][:3]).all()


@pytest.mark.parametrize("chunk_size", [None, 2])
def test_embeddings_of_nan_stop_a_training(chunk_size, random):
    """The loss stays NaN in a graph, whichever row holds it, so that the callback of Keras sees it."""
    x = random.normal(size=(8, 2, 3)).astype("float32")
    inputs = keras.Input((2, 3))
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    model.compile("sgd", InBatchSoftmaxLoss(chunk_size=chunk_size))
    stop = keras.callbacks.TerminateOnNaN()
    assert len(model.fit(x, np.ones(8), epochs=2, verbose=0, callbacks=[stop]).epoch) == 2
    x[3, 1, 0] = np.nan
    history = model.fit(x, np.ones(8), epochs=2, verbose=0, callbacks=[stop])
    assert np.isnan(history.history["loss"]).all() and len(history.epoch) == 1


@pytest.mark.skipif(NAME != "tensorflow", reason="strings are TensorFlow's")
def test_ids_hashed_from_strings(random):
    """Hashes beyond 2^24 and 2^31, which as floats or int32 would meet, find the same hits as small ids."""
    import tensorflow as tf

    words = [f"item-{number}" for number in (0, 1, 2, 0, 3, 1)]
    hashed = tf.strings.to_hash_bucket_fast(words, 2**62)
    assert int(tf.reduce_min(hashed)) > 2**31 and len(set(hashed.numpy().tolist())) == 4
    # Two ids that are one in float64 and in their last 32 bits.
    near = tf.constant([2**60, 2**60 + 2**32, 5, 2**60, 7, 2**60 + 2**32], "int64")
    embeddings = embeddings_of(random, rows=6)
    for settings in ({}, {"known_positives": 1}, {"duplicates": "positive", "symmetric": True}):
        loss = InBatchSoftmaxLoss(**BY_ID, **settings, reduction=None)
        found = []
        for ids in (hashed, near, np.int64([0, 1, 2, 0, 3, 1])):
            known = [tf.roll(ids, 1, 0)] if "known_positives" in settings else []
            found.append(values_and_gradient(loss, tf.stack([ids, *known], axis=1), embeddings))
        for values, gradient in found[:2]:
            np.testing.assert_allclose(values, found[2][0], rtol=1e-6)
            np.testing.assert_allclose(gradient, found[2][1], rtol=1e-5, atol=1e-7)
        negative = values_and_gradient(InBatchSoftmaxLoss(reduction=None), np.ones(6, "float32"), embeddings)[0]
        assert np.abs(negative - found[0][0]).max() > 1e-3


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
