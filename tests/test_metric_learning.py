"""N-pair: classes, padded rows, the penalty on lengths, what is refused."""

import math

import keras
import numpy as np
import pytest
from backend import values_and_gradient

from tfrankloss import InBatchSoftmaxLoss, NPairLoss
from tfrankloss.functional import n_pair_loss
from tfrankloss.models import two_tower

pytestmark = pytest.mark.backends

CLASSES = np.int32([7, 3, 7, 5])
ROWS = np.zeros((4, 2, 3), "float32")


def both_of(classes, embeddings, **settings):
    return values_and_gradient(NPairLoss(reduction=None, **settings), classes, embeddings)


@pytest.fixture
def embeddings(random):
    return random.normal(size=(4, 2, 3)).astype("float32")


def test_by_hand(embeddings):
    """Sohn's form; row 2 has the class of row 0, so neither is a negative of the other."""
    s = np.float64(embeddings[:, 0]) @ embeddings[:, 1].T
    expected = [
        math.log(1 + sum(math.exp(s[i, j] - s[i, i]) for j in range(4) if CLASSES[j] != CLASSES[i])) for i in range(4)
    ]
    values, gradient = both_of(CLASSES, embeddings)
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    assert np.abs(gradient).min() > 0


def test_the_positive_of_the_same_class_gets_no_gradient(embeddings):
    loss = NPairLoss(reduction=None)
    _, of_first_row = values_and_gradient(lambda y, e, _: loss(y, e)[0], CLASSES, embeddings)
    np.testing.assert_array_equal(of_first_row[2], 0)
    assert np.abs(of_first_row[[1, 3], 1]).min() > 0


@pytest.mark.parametrize("similarity", ["dot", "cosine", "euclidean"])
def test_it_is_the_in_batch_softmax_with_classes_for_ids(similarity, embeddings):
    settings = {"similarity": similarity, "temperature": 0.5, "reduction": None}
    expected = values_and_gradient(InBatchSoftmaxLoss(targets="candidate_ids", **settings), CLASSES, embeddings)
    found = values_and_gradient(NPairLoss(**settings), CLASSES[:, None], embeddings)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_the_penalty_is_the_mean_squared_length(embeddings):
    plain, gradient = both_of(CLASSES, embeddings)
    values, pulled = both_of(CLASSES, embeddings, embedding_penalty=0.3)
    np.testing.assert_allclose(values - plain, 0.3 * np.square(embeddings).sum((1, 2)) / 2, rtol=1e-4)
    np.testing.assert_allclose(pulled - gradient, 0.3 * embeddings, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("classes", [[4, 4, 4, 4], [4, -1, 4, -2], [-1, -1, -1, -1]])
def test_one_class_has_nothing_to_learn_from(classes, embeddings):
    values, gradient = both_of(np.int32(classes), embeddings, embedding_penalty=0.3)
    np.testing.assert_allclose(values, 0, atol=1e-6)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_a_two_tower_model_learns_from_it(random):
    features = keras.Input((3,), name="query"), keras.Input((3,), name="candidate")
    towers = (keras.Model(x, keras.layers.Dense(4)(x), name=f"{x.name}_tower") for x in features)
    model = two_tower(*towers, similarity="cosine")
    model.compile(keras.optimizers.Adam(0.05), NPairLoss(temperature=0.2))
    classes = np.arange(32, dtype="int32") % 8
    centers = random.normal(size=(8, 3))
    noisy = (centers[classes] + 0.1 * random.normal(size=(2, 32, 3))).astype("float32")
    x = dict(zip(("query", "candidate"), noisy, strict=True))
    history = model.fit(x, classes, batch_size=16, epochs=15, verbose=0).history["loss"]
    assert history[-1] < 0.7 * history[0]
    with pytest.raises(ValueError, match="`loss` must have similarity"):
        model.compile("sgd", NPairLoss(similarity="euclidean"))


@pytest.mark.parametrize(
    ("classes", "embeddings", "argument", "received"),
    [
        (CLASSES, ROWS[:, :1], "y_pred", "y_pred.shape=(4, 1, 3)"),
        (CLASSES, np.zeros((4, 3, 3), "float32"), "y_pred", "y_pred.shape=(4, 3, 3)"),
        (CLASSES, np.zeros((4, 4), "float32"), "y_pred", "y_pred.shape=(4, 4)"),
        (CLASSES[:3], ROWS, "y_true", "y_true.shape=(3,"),
        (np.ones((4, 2), "int32"), ROWS, "y_true", "y_true.shape=(4, 2)"),
    ],
)
def test_wrong_shapes(classes, embeddings, argument, received):
    with pytest.raises(ValueError, match=f"`{argument}`") as caught:
        NPairLoss()(classes, embeddings)
    assert f"Received: {received}" in str(caught.value)


@pytest.mark.parametrize("dtype", ["float32", "bool"])
def test_classes_are_integers(dtype):
    with pytest.raises(TypeError, match=r"`y_true` must hold integers, .*Received: y_true.dtype="):
        NPairLoss()(CLASSES.astype(dtype), ROWS)


@pytest.mark.parametrize(
    ("arguments", "settings", "error", "message"),
    [
        ((CLASSES, ROWS), {"temperature": 0}, ValueError, "`temperature` must be greater than 0"),
        ((CLASSES, ROWS), {"embedding_penalty": -0.5}, ValueError, "`embedding_penalty` must be at least 0"),
        ((CLASSES, ROWS), {"similarity": "l1"}, ValueError, "`similarity` must be one of"),
        ((CLASSES.astype("float32"), ROWS), {}, TypeError, "`class_ids` must hold integers"),
        ((CLASSES[:, None], ROWS), {}, ValueError, r"`class_ids` must have shape \(batch,\)"),
        ((CLASSES[:3], ROWS), {}, ValueError, "`class_ids` and `embeddings` must have the same shape"),
        ((CLASSES, ROWS[0]), {}, ValueError, r"`embeddings` must have shape \(batch, 2, dimension\)"),
    ],
)
def test_the_function_refuses(arguments, settings, error, message):
    with pytest.raises(error, match=message):
        n_pair_loss(*arguments, **settings)


def test_penalties_are_not_negative():
    with pytest.raises(ValueError, match=r"`embedding_penalty` must be at least 0. Received: embedding_penalty=-1"):
        NPairLoss(embedding_penalty=-1)
