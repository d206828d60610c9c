"""The queue of past rows: losses and steps against float64 sums over the batch and what came before it."""

import keras
import numpy as np
import pytest

from tfrankloss import InBatchSoftmaxLoss
from tfrankloss.distribution import replicas
from tfrankloss.models import two_tower

pytestmark = pytest.mark.backends

ITEMS, DIMENSION = 12, 4


def table(name):
    """A tower that is a table of embeddings."""
    ids = keras.Input((), name=name, dtype="int32")
    return keras.Model(ids, keras.layers.Embedding(ITEMS, DIMENSION, "normal", name=f"{name}_table")(ids))


def model_of(queue_size=6, learning_rate=0.0, similarity="dot", **settings):
    loss = InBatchSoftmaxLoss(targets="candidate_ids", similarity=similarity, **settings)
    keras.utils.set_random_seed(1)
    model = two_tower(table("user"), table("item"), similarity=similarity, queue_size=queue_size)
    random = np.random.default_rng(1)
    for weight in model.trainable_weights:
        weight.assign(random.normal(size=weight.shape))
    model.compile(keras.optimizers.SGD(learning_rate), loss)
    return model


def step(model, users, items):
    given = {"user": np.int32(users), "item": np.int32(items)}
    return float(model.train_on_batch(given, np.int32(items)))


def tables(model):
    return [np.array(keras.ops.convert_to_numpy(weight), "float64") for weight in model.trainable_weights]


def log_probabilities(scores, same):
    """Log softmax of rows whose first columns are their own, without other columns of the same candidate."""
    scores = np.where(same & ~np.eye(*same.shape, dtype=bool), -np.inf, scores)
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


def expected(queries, candidates, items, past=((), (), ()), symmetric=False):
    """The loss of a batch beside past queries, candidates and ids."""
    ids = np.array([*items, *past[2]])
    same = np.array(items)[:, None] == ids
    losses = []
    for own, others in ((queries, [*candidates, *past[1]]), (candidates, [*queries, *past[0]])):
        losses.append(-np.diagonal(log_probabilities(own @ np.array(others).T, same)).mean())
    return np.mean(losses if symmetric else losses[:1])


@pytest.mark.parametrize("symmetric", [False, True], ids=["one way", "symmetric"])
@pytest.mark.parametrize("chunk_size", [None, 2])
def test_past_rows_are_negatives_once_they_are_past(symmetric, chunk_size):
    model = model_of(symmetric=symmetric, chunk_size=chunk_size)
    users, items = tables(model)
    batches = [([0, 1, 2, 3], [0, 1, 2, 3]), ([4, 5, 6, 7], [4, 5, 1, 6]), ([8, 9, 10], [7, 4, 8])]
    past = ([], [], [])
    for of_users, of_items in batches:
        beside = tuple(part[:6] for part in past)
        found = step(model, of_users, of_items)
        assert found == pytest.approx(expected(users[of_users], items[of_items], of_items, beside, symmetric), rel=1e-5)
        past = ([*users[of_users], *past[0]], [*items[of_items], *past[1]], [*of_items, *past[2]])
    # It holds 6 of the 11 rows, and what it does not hold does make a difference.
    assert expected(users[[8, 9, 10]], items[[7, 4, 8]], [7, 4, 8], beside) != pytest.approx(
        expected(users[[8, 9, 10]], items[[7, 4, 8]], [7, 4, 8], tuple(part[3:] for part in past)), rel=1e-3
    )


def test_the_past_has_no_gradient():
    model = model_of(learning_rate=1.0)
    first, second = ([0, 1, 2], [0, 1, 2]), ([3, 4, 5], [3, 4, 0])
    step(model, *first)
    held = [keras.ops.convert_to_numpy(rows).astype("float64") for rows in model.past_rows.rows()]
    before = tables(model)
    step(model, *second)
    after = tables(model)
    queries, candidates = (part[list(of)] for part, of in zip(before, second, strict=True))
    columns = np.concatenate([candidates, held[1][:3, 1]])
    same = np.array(second[1])[:, None] == np.array([*second[1], *held[0][:3]])
    shares = np.exp(log_probabilities(queries @ columns.T, same))
    pull = (shares - np.eye(*shares.shape)) / 3
    users, items = np.zeros_like(before[0]), np.zeros_like(before[1])
    users[second[0]], items[second[1]] = pull @ columns, pull[:, :3].T @ queries
    np.testing.assert_allclose(before[0] - after[0], users, atol=1e-5)
    np.testing.assert_allclose(before[1] - after[1], items, atol=1e-5)


def test_a_batch_larger_than_the_queue_leaves_its_first_rows():
    model = model_of(queue_size=3)
    step(model, [0, 1, 2, 3, 4], [5, 6, 7, 8, 9])
    ids, embeddings, mask = map(keras.ops.convert_to_numpy, model.past_rows.rows())
    assert ids.tolist() == [5, 6, 7] and mask.all()
    np.testing.assert_allclose(embeddings[:, 1], tables(model)[1][[5, 6, 7]], rtol=1e-6)


def test_padded_rows_stay_out():
    model = model_of()
    users, items = tables(model)
    given = {"user": np.int32([0, 1, 2]), "item": np.int32([0, 1, 2])}
    model.train_on_batch(given, np.int32([0, -1, 2]))
    found = step(model, [3, 4], [3, 4])
    past = (users[[0, 2]], items[[0, 2]], [0, 2])
    assert found == pytest.approx(expected(users[[3, 4]], items[[3, 4]], [3, 4], past), rel=1e-5)


def test_evaluation_is_of_the_batch_alone():
    model = model_of()
    users, items = tables(model)
    step(model, [0, 1, 2], [0, 1, 2])
    given = {"user": np.int32([3, 4]), "item": np.int32([3, 4])}
    found = model.evaluate(given, np.int32([3, 4]), verbose=0)
    assert found == pytest.approx(expected(users[[3, 4]], items[[3, 4]], [3, 4]), rel=1e-5)


def test_micro_batches_are_the_same():
    weights = []
    for size in (None, 3):
        keras.utils.set_random_seed(2)
        model = two_tower(table("user"), table("item"), queue_size=5, micro_batch_size=size)
        model.compile(keras.optimizers.SGD(0.5), InBatchSoftmaxLoss(targets="candidate_ids"))
        random = np.random.default_rng(0)
        for _ in range(3):
            users, items = random.permutation(ITEMS)[:8], random.permutation(ITEMS)[:8]
            step(model, users, items)
        weights.append(tables(model))
    for whole, cut in zip(*weights, strict=True):
        np.testing.assert_allclose(cut, whole, atol=1e-5)


def test_a_saved_model_goes_on_with_its_past(tmp_path):
    model = model_of()
    step(model, [0, 1, 2], [0, 1, 2])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.queue_size == 6
    assert step(loaded, [3, 4], [3, 1]) == pytest.approx(step(model, [3, 4], [3, 1]), rel=1e-6)


def test_fit_learns_from_few_rows_at_a_time():
    """Batches of 2 have one negative each; the queue makes them 8."""
    random = np.random.default_rng(0)
    users = random.integers(0, ITEMS, 1200)
    ranks = {}
    for queue_size in (None, 6):
        keras.utils.set_random_seed(3)
        model = two_tower(table("user"), table("item"), queue_size=queue_size)
        model.compile(keras.optimizers.Adam(0.02), InBatchSoftmaxLoss(targets="candidate_ids"))
        given = {"user": users.astype("int32"), "item": users.astype("int32")}
        model.fit(given, users.astype("int32"), batch_size=2, epochs=1, verbose=0)
        first, second = tables(model)
        ranks[queue_size] = np.mean(np.diagonal(log_probabilities(first @ second.T, np.eye(ITEMS, dtype=bool))))
    assert ranks[6] > ranks[None] / 2


@pytest.mark.parametrize(
    ("settings", "loss", "name"),
    [
        ({"queue_size": 0}, None, "queue_size"),
        ({"queue_size": 4, "mode": "pointwise"}, None, "queue_size"),
        ({"queue_size": 4}, "mse", "loss"),
        ({"queue_size": 4}, InBatchSoftmaxLoss(candidate_probability="targets"), "candidate_probability"),
        ({"queue_size": 4, "num_negatives": 1}, InBatchSoftmaxLoss(shared_negatives=True), "shared_negatives"),
    ],
)
def test_what_does_not_go_together(settings, loss, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        two_tower(table("user"), table("item"), **settings).compile("sgd", loss)


def test_several_replicas_have_none(monkeypatch):
    model = model_of()
    monkeypatch.setattr(replicas, "on_several_replicas", lambda: True)
    with model.loss.beside(model.past_rows), pytest.raises(ValueError, match="`queue_size` must be None where several"):
        model.loss(np.int32([0, 1]), np.zeros((2, 2, DIMENSION), "float32"))
