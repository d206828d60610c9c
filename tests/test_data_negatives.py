"""Sampled negatives: their frequencies, never a positive, the hardest of a model, batches and training."""

import keras
import numpy as np
import pytest

from tfrankloss import SoftmaxLoss
from tfrankloss.data import HardestSampler, NegativeSampler, with_negatives
from tfrankloss.models import two_tower
from tfrankloss.retrieval import embedding_scores, two_tower_scores

USERS, ITEMS = 5, 9
# The last user has all items but one, so that drawing again and again must end.
PAIRS = [(0, 0), (0, 1), (0, 1), (1, 2), (2, 0), (2, 5), (3, 7), *((4, i) for i in range(ITEMS) if i != 3), (0, 3)]


@pytest.mark.parametrize("alpha", [0.0, 0.75, 2.0])
def test_frequencies_are_those_of_the_formula(alpha):
    sampler = NegativeSampler(PAIRS, ITEMS, alpha, seed=1)
    counts = [sum(item == i for _, item in PAIRS) for i in range(ITEMS)]
    weights = np.array([count**alpha for count in counts], "float64")
    np.testing.assert_allclose(sampler.probabilities, weights / weights.sum(), rtol=1e-12)
    for user in range(USERS):
        drawn = sampler.sample(np.full(4000, user), 5).ravel()
        allowed = np.array([weights[i] * ((user, i) not in PAIRS) for i in range(ITEMS)])
        shares = np.bincount(drawn, minlength=ITEMS) / len(drawn)
        assert not shares[allowed == 0].any()
        # Five deviations of a share of 20,000 draws.
        np.testing.assert_allclose(shares, allowed / allowed.sum(), atol=5 * 0.5 / np.sqrt(20_000))


def test_no_positive_is_ever_drawn_in_a_crowded_catalog():
    rng = np.random.default_rng(0)
    table = rng.random((40, 30)) < 0.8
    table[:, 0], table[0] = False, True
    table[0, 7] = False
    pairs = np.argwhere(table)
    users = np.tile(np.arange(40), 50)
    for sampler in (NegativeSampler(pairs, 30), NegativeSampler(pairs, 30, 0.0, seed=5)):
        items = sampler.sample(users, 4)
        assert items.shape == (2000, 4) and not table[users[:, None], items].any()
        assert set(items[users == 0].ravel()) == {7}


def test_without_pairs_all_items_are_negatives():
    assert set(NegativeSampler([], 4).sample(np.zeros(50, int), 2).ravel()) == {0, 1, 2, 3}


def test_hardest_are_the_best_of_the_model_as_it_is():
    rng = np.random.default_rng(0)
    pairs = np.argwhere(rng.random((6, 20)) < 0.3)
    sampler = HardestSampler(pairs, 20, 6, pool=4)
    known = {tuple(pair) for pair in pairs.tolist()}
    for seed in (1, 2):
        users, items = (np.random.default_rng(seed).normal(size=(n, 3)) for n in (6, 20))
        sampler.refresh(embedding_scores(users, items))
        for user in range(6):
            ranking = sorted((i for i in range(20) if (user, i) not in known), key=lambda i: -users[user] @ items[i])
            drawn = sampler.sample(np.full(60, user), 3)
            assert all(len(set(row)) == 3 for row in drawn.tolist())
            assert set(drawn.ravel().tolist()) == set(ranking[:4])


def test_batches_cover_the_pairs_anew_in_every_epoch():
    pairs = np.array(PAIRS[:8])
    sampler = NegativeSampler(PAIRS, ITEMS, 0.5)
    dataset = with_negatives(pairs, sampler, 3, 3)
    assert len(dataset) == 3
    epochs = []
    for _ in range(2):
        rows = []
        for inputs, labels in dataset.as_numpy_iterator():
            assert labels.tolist() == [[1, 0, 0, 0]] * len(labels)
            rows += [(user, *items) for user, items in zip(inputs["user"], inputs["item"].tolist(), strict=True)]
        assert sorted(row[:2] for row in rows) == sorted(map(tuple, pairs.tolist()))
        assert not any((row[0], item) in PAIRS for row in rows for item in row[2:])
        epochs.append(rows)
    assert epochs[0] != epochs[1]


def test_two_towers_learn_from_hard_negatives():
    # Every user likes the items of one of three kinds.
    pairs = np.array([(u, i) for u in range(12) for i in range(30) if i % 3 == u % 3 and (u + i) % 4])
    held_out = np.array([(u, i) for u in range(12) for i in range(30) if i % 3 == u % 3 and not (u + i) % 4])
    user, item = keras.Input((), name="user", dtype="int32"), keras.Input((), name="item", dtype="int32")
    model = two_tower(
        keras.Model(user, keras.layers.Embedding(12, 8)(user), name="users"),
        keras.Model(item, keras.layers.Embedding(30, 8)(item), name="items"),
        mode="listwise",
    )
    sampler = HardestSampler(pairs, 30, 12, pool=15)
    scores = two_tower_scores(np.arange(12), np.arange(30))

    class Refresh(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            sampler.refresh(scores(self.model))

    def names_reversed(users, items):
        return {"item": items, "user": users}

    sampler.refresh(scores(model))
    model.compile(keras.optimizers.Adam(0.05), SoftmaxLoss())
    dataset = with_negatives(pairs, sampler, 5, 16, inputs=names_reversed)
    model.fit(dataset, epochs=6, callbacks=[Refresh()], verbose=0)
    table = scores(model)(np.arange(12))
    own = table[held_out[:, 0], held_out[:, 1]]
    others = np.array([np.mean(table[u][np.arange(30) % 3 != u % 3]) for u in held_out[:, 0]])
    assert np.mean(own > others) > 0.9


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: NegativeSampler([(0, 2)], 2), ValueError, "`pairs` must hold candidate indices below 2"),
        (lambda: NegativeSampler([(0.5, 1.0)], 2), TypeError, "`pairs` must hold integers"),
        (lambda: NegativeSampler([(1, 0), (1, 1)], 2), ValueError, "1 users without one, such as 1"),
        (lambda: NegativeSampler([(0, 0)], 2, 0.5), ValueError, "leave every user an item"),
        (lambda: NegativeSampler([(0, 0)], 2, -1), ValueError, "`alpha` must be at least 0"),
        (lambda: NegativeSampler([], 2, 1), ValueError, "at least one pair to draw by popularity"),
        (lambda: NegativeSampler([(0, 0)], 2).sample(np.array([0]), 0), ValueError, "`num_negatives` must be at least"),
        (lambda: HardestSampler([(0, 0)], 3, 1, pool=3), ValueError, "`pool` must be at most 2"),
        (lambda: HardestSampler([(1, 0)], 3, 1, pool=1), ValueError, "user indices below 1"),
        (lambda: HardestSampler([], 3, 1, pool=1).sample(np.array([0]), 1), ValueError, "`refresh` must be called"),
        (lambda: with_negatives([], NegativeSampler([], 2), 1, 1), ValueError, "at least one pair"),
        (lambda: with_negatives([(0, 0)], NegativeSampler([], 2), 1, 0), ValueError, "`batch_size` must be at least"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
