"""One clear error for each wrong input: which argument, the rule, and what was received."""

import keras
import numpy as np
import pytest
from laws import cases, layouts

import tfrankloss
from tfrankloss import InBatchSoftmaxLoss, functional, losses, metrics

pytestmark = pytest.mark.backends

Y, S = np.ones((3, 4), "float32"), np.zeros((3, 4), "float32")

LIST_LAYOUTS = {case.cls: case.layout for case in cases.DEFAULT_LOSSES if isinstance(case.layout, layouts.Lists)}
COLUMN_LOSSES = [cls for cls, layout in LIST_LAYOUTS.items() if layout.columns is not None]
METRICS = cases.METRIC_CLASSES
SUBTOPIC_METRICS = [metrics.AlphaDCG, metrics.PrecisionIA]
both = pytest.mark.parametrize("cls", [*LIST_LAYOUTS, *METRICS], ids=lambda cls: cls.__name__)


def scores_for(cls, scores):
    """Scores (B, L), as many times over as the class takes scores per item."""
    columns = LIST_LAYOUTS[cls].columns if cls in LIST_LAYOUTS else None
    return scores if columns is None else np.repeat(scores[..., None], columns, axis=-1)


def labels_for(cls, labels):
    """Labels (B, L) as those of one subtopic, where a metric asks for that."""
    return labels[..., None] if cls in SUBTOPIC_METRICS else labels


@pytest.mark.parametrize("cls", [cls for cls in [*LIST_LAYOUTS, *METRICS] if cls not in COLUMN_LOSSES])
@pytest.mark.parametrize(
    ("y_true", "y_pred", "weight", "argument", "rule", "received"),
    [
        (Y[0], S[0], None, "y_pred", "must have shape (batch, list_size)", "y_pred.shape=(4,)"),
        (Y[..., None], S[..., None], None, "y_pred", "keras.layers.Reshape((-1,))", "y_pred.shape=(3, 4, 1)"),
        (Y[..., None, None], S[..., None, None], None, "y_pred", "must have shape", "y_pred.shape=(3, 4, 1, 1)"),
        (Y[:, :3], S, None, "y_true", "must have the same shape", "y_true.shape=(3, 3)"),
        (Y[:1], S, None, "y_true", "must have the same shape", "y_true.shape=(1, 4)"),
        (Y[:, 0], S, None, "y_true", "must have the same shape", "y_true.shape=(3,)"),
        (Y, S, np.ones(4, "float32"), "sample_weight", "(batch,), (batch, 1)", "sample_weight.shape=(4,)"),
        (Y, S, np.ones((3, 2), "float32"), "sample_weight", "(batch, list_size)", "sample_weight.shape=(3, 2)"),
        (Y, S, np.ones((1, 4), "float32"), "sample_weight", "(batch, list_size)", "sample_weight.shape=(1, 4)"),
        (Y, S, np.ones((3, 4, 1), "float32"), "sample_weight", "(batch,)", "sample_weight.shape=(3, 4, 1)"),
    ],
)
def test_shapes_of_lists(cls, y_true, y_pred, weight, argument, rule, received):
    made = cases.make(cls)
    call = made if isinstance(made, keras.losses.Loss) else made.update_state
    if cls in SUBTOPIC_METRICS:
        if argument == "y_true":
            pytest.skip("labels by subtopic have a test of their own")
        y_true = y_true[..., None]
    with pytest.raises(ValueError) as caught:
        call(y_true, y_pred, weight)
    message = str(caught.value)
    assert f"`{argument}`" in message
    assert rule in message
    assert f"Received: {received}" in message


@pytest.mark.parametrize("cls", COLUMN_LOSSES)
@pytest.mark.parametrize(
    ("y_true", "columns", "weight", "argument", "rule"),
    [
        (Y, (), None, "y_pred", "must have shape (batch, list_size, {columns})"),
        (Y, (None, 1), None, "y_pred", "must have shape (batch, list_size, {columns})"),
        (Y[:, :3], (None,), None, "y_true", "must have shape (batch, list_size) where `y_pred` has"),
        (Y[:, 0], (None,), None, "y_true", "must have shape (batch, list_size) where `y_pred` has"),
        (Y[..., None], (None,), None, "y_true", "must have shape (batch, list_size) where `y_pred` has"),
        (Y, (None,), np.ones((3, 2), "float32"), "sample_weight", "(batch, list_size)"),
        (Y, (None,), np.ones((3, 4, 1), "float32"), "sample_weight", "(batch, list_size)"),
    ],
)
def test_shapes_of_lists_of_columns(cls, y_true, columns, weight, argument, rule):
    loss = cls()
    own = LIST_LAYOUTS[cls].columns
    y_pred = np.zeros((3, 4, *(own if size is None else size for size in columns)), "float32")
    with pytest.raises(ValueError) as caught:
        loss(y_true, y_pred, weight)
    message = str(caught.value)
    assert message.startswith(f"`{argument}` must have shape")
    assert rule.format(columns=loss.score_columns) in message
    assert f"y_pred.shape={y_pred.shape}" in message


@pytest.mark.parametrize("cls", [cls for cls in COLUMN_LOSSES if isinstance(cls().score_columns, int)])
def test_number_of_columns(cls):
    columns = cls().score_columns
    with pytest.raises(
        ValueError, match=rf"^`y_pred` must have shape \(batch, list_size, {columns}\). Received: y_pred"
    ):
        cls()(Y, np.zeros((3, 4, columns + 1), "float32"))


@pytest.mark.parametrize("cls", SUBTOPIC_METRICS, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("shape", [(3, 4), (3, 3, 2), (1, 4, 2), (3, 2), (3, 4, 2, 1)], ids=str)
def test_shapes_of_labels_by_subtopic(cls, shape):
    with pytest.raises(ValueError, match=r"`y_true` must have shape \(batch, list_size, subtopics\)") as caught:
        cls().update_state(np.ones(shape, "float32"), S)
    assert f"Received: y_true.shape={shape}" in str(caught.value)


@both
@pytest.mark.parametrize("value", [None, "text", {"scores": S}], ids=["none", "text", "dict"])
def test_kinds_of_input(cls, value):
    made = cases.make(cls)
    call = made if isinstance(made, keras.losses.Loss) else made.update_state
    for name, arguments in (("y_true", (value, scores_for(cls, S))), ("y_pred", (Y, value))):
        with pytest.raises(TypeError, match=f"`{name}` must be a dense or ragged array of numbers. Received: {name}="):
            call(*arguments)


@both
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="Keras' own segment sums refuse empty arrays")
@pytest.mark.parametrize("shape", [(3, 0), (0, 4), (0, 0)], ids=str)
def test_nothing_to_read(cls, shape):
    made = cases.make(cls, **({"reduction": None} if issubclass(cls, keras.losses.Loss) else {}))
    empty = np.zeros(shape, "float32")
    if isinstance(made, keras.losses.Loss):
        values = made(empty, scores_for(cls, empty))
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(values), np.zeros(shape[0]))
    else:
        made.update_state(labels_for(cls, empty), empty)
        assert float(made.result()) == 0


@both
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="ragged tensors are TensorFlow's")
def test_ragged_rows_of_other_lengths(cls):
    import tensorflow as tf

    made = cases.make(cls)
    call = made if isinstance(made, keras.losses.Loss) else made.update_state
    right = tf.ragged.constant([[1.0, 2.0], [1.0, 3.0]])
    scores = right.with_flat_values(tf.constant(scores_for(cls, right.flat_values.numpy())))
    short_weights = tf.ragged.constant([[1.0, 2.0], [1.0]])
    short, shorter = short_weights, short_weights[:1]
    if cls in SUBTOPIC_METRICS:
        right, short, shorter = (tf.expand_dims(ragged, 2) for ragged in (right, short, shorter))
    for labels, weights, message in (
        (short, None, r"`y_true` and `y_pred` must have rows of the same lengths.*y_true=\[2, 1\], y_pred=\[2, 2\]"),
        (shorter, None, r"`y_true` and `y_pred` must have the same shape.*y_true.shape=\(1,\)"),
        (right, short_weights, "`sample_weight` and `y_pred` must have rows of the same lengths"),
    ):
        with pytest.raises(ValueError, match=message):
            call(labels, scores, weights)
        with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="`y_pred` must have"):
            tf.function(call, autograph=False)(labels, scores, weights)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="ragged tensors are TensorFlow's")
@pytest.mark.parametrize("cls", COLUMN_LOSSES)
def test_ragged_scores_whose_items_are_rows(cls):
    """As ``tf.ragged.constant`` makes them of nested lists."""
    import tensorflow as tf

    loss, columns = cls(reduction=None), LIST_LAYOUTS[cls].columns
    labels = tf.ragged.constant([[1.0, 0.0], [0.0], []])
    items = [[[0.5] * columns, [1.0] * columns], [[-1.0] * columns], []]
    nested, flat = tf.ragged.constant(items, ragged_rank=2), tf.ragged.constant(items, ragged_rank=1)
    assert (nested.ragged_rank, flat.ragged_rank) == (2, 1)
    expected = loss(labels.to_tensor(-1), flat.to_tensor())
    for call in (loss, tf.function(loss, autograph=False)):
        np.testing.assert_allclose(call(labels, nested), expected, rtol=1e-6)
        np.testing.assert_allclose(call(labels, flat), expected, rtol=1e-6)
    uneven = tf.ragged.constant([[[0.5] * columns, [1.0]], [[-1.0] * (columns + 1)], []])
    with pytest.raises(ValueError, match="`y_pred` must have equally many scores for every item"):
        loss(labels, uneven)
    with pytest.raises(tf.errors.InvalidArgumentError, match="`y_pred` must have equally many scores for every item"):
        tf.function(loss, autograph=False)(labels, uneven)
    with pytest.raises(
        ValueError, match=r"`y_true` must have shape \(batch, list_size\). Received: y_true.shape=\(3, "
    ):
        loss(tf.ragged.constant([[[1.0], [0.0]], [[0.0]], []]), flat)


@pytest.mark.parametrize("cls", METRICS, ids=lambda cls: cls.__name__)
def test_a_score_that_is_not_a_number_is_seen(cls):
    labels, scores = Y.copy(), S.copy()
    labels[:, 2:] = 0
    scores[0, 1] = np.nan
    metric = cls()
    metric.update_state(labels_for(cls, labels), scores)
    assert np.isnan(float(metric.result()))
    metric.reset_state()
    metric.update_state(labels_for(cls, np.where(np.isnan(scores), -1, labels)), scores)
    assert np.isfinite(float(metric.result()))


ROWS = np.zeros((4, 2, 3), "float32")


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="traces TensorFlow")
def test_ids_for_another_number_of_negatives_are_seen_before_a_batch():
    import tensorflow as tf

    signature = [tf.TensorSpec([None, 3], tf.int32), tf.TensorSpec([None, 3, 2])]
    loss = tf.function(InBatchSoftmaxLoss(targets="candidate_ids"), signature, autograph=False)
    with pytest.raises(ValueError, match=r"an id for each explicit negative too, \(batch, 2\)"):
        loss.get_concrete_function()


@pytest.mark.parametrize(
    ("settings", "y_true", "y_pred", "weight", "argument", "received"),
    [
        ({}, np.ones(4), np.zeros(4), None, "y_pred", "y_pred.shape=(4,)"),
        ({}, np.ones(4), ROWS[:, :1], None, "y_pred", "y_pred.shape=(4, 1, 3)"),
        ({}, np.ones(4), np.zeros((4, 3)), None, "scores", "scores.shape=(4, 3)"),
        ({}, np.ones(3), ROWS, None, "y_true", "y_true.shape=(3,)"),
        ({}, np.ones((4, 2)), ROWS, None, "y_true", "y_true.shape=(4, 2)"),
        ({}, np.ones((4, 1, 1)), ROWS, None, "y_true", "y_true.shape=(4, 1, 1)"),
        ({}, np.ones(4), ROWS, np.ones(3), "sample_weight", "sample_weight.shape=(3,)"),
        ({}, np.ones(4), ROWS, np.ones((4, 2)), "sample_weight", "sample_weight.shape=(4, 2)"),
        ({"targets": "candidate_ids"}, np.ones((4, 3), "int32"), ROWS, None, "y_true", "y_true.shape=(4, 3)"),
    ],
)
def test_shapes_of_rows(settings, y_true, y_pred, weight, argument, received):
    with pytest.raises(ValueError) as caught:
        InBatchSoftmaxLoss(**settings)(y_true, y_pred, weight)
    assert f"`{argument}`" in str(caught.value)
    # A column may have been added to a row of targets by then.
    assert received.rstrip(")").rstrip(",") in str(caught.value)


@pytest.mark.parametrize("dtype", ["float32", "bool"])
def test_ids_are_integers(dtype):
    with pytest.raises(TypeError, match=r"`y_true` must hold integers.*Received: y_true.dtype="):
        InBatchSoftmaxLoss(targets="candidate_ids")(np.ones(4, dtype), ROWS)


@pytest.mark.parametrize("settings", [{"ties": "first"}, {"top_k": 0}, {"discount": "log"}, {"score_transform": "log"}])
def test_functions_check_their_settings(settings):
    (name,) = settings
    with pytest.raises(ValueError, match=f"`{name}` must be .*Received: {name}="):
        functional.list_mle_loss(Y, S, **settings)


def test_random_ties_need_a_seed():
    with pytest.raises(ValueError, match="`seed` must be given"):
        functional.list_mle_loss(Y, S, ties="random")


@pytest.mark.parametrize(
    "name", ["softmax_loss", "list_net_loss", "kl_listwise_loss", "list_mle_loss", "rank_net_loss"]
)
def test_functions_never_broadcast_labels(name):
    with pytest.raises(ValueError, match=r"`labels` and `scores` must have the same shape"):
        getattr(functional, name)(Y[:, :1], S)
    with pytest.raises(ValueError, match=r"`mask` and `scores` must have the same shape"):
        getattr(functional, name)(Y, S, np.ones((3, 1), bool))


FUNCTIONS_OF_K = [
    *("ndcg", "dcg", "precision_at_k", "recall_at_k", "reciprocal_rank", "hits_at_k", "average_precision", "bpref"),
    *("precision_ia", "alpha_dcg"),
]


@pytest.mark.parametrize("name", FUNCTIONS_OF_K)
@pytest.mark.parametrize(("k", "error"), [(0, ValueError), (-3, ValueError), (2.0, TypeError), ("5", TypeError)])
def test_cutoffs_of_metric_functions(name, k, error):
    with pytest.raises(error, match=r"`k` must be .*Received: k="):
        getattr(functional, name)(Y, S, k=k)


def test_an_abstract_base_cannot_be_built():
    for base in (losses.RankingLoss, metrics.RankingMetric):
        with pytest.raises(TypeError, match="abstract"):
            base()


def test_no_public_name_is_missing():
    for cls in cases.LOSS_CLASSES + cases.METRIC_CLASSES:
        assert getattr(tfrankloss, cls.__name__) is cls
        assert cls.__name__ in tfrankloss.__all__
