"""Random orders without sorted draws: no statistic tells them from uniform ones, within a list and between lists."""

import itertools
import math

import keras
import numpy as np
import pytest
import references
from keras import ops

from tfrankloss import ListMLELoss
from tfrankloss.functional import shuffles

pytestmark = pytest.mark.backends

# Lists of up to SORTED items have sorted draws behind them, longer ones have not.
LENGTHS = [3, 4, 20, 65, 200, 512, 600]
# Short lists whose ties are put in order: by comparing, or where labels are no grades by sorting.
TIES = [(3, 0.0), (20, 4.0), (32, 0.0), (20, 7.5)]
ORDERS = [(length, None) for length in LENGTHS] + TIES


def places(batch, length, seed=0, label=None):
    """Places of items in any order, or those of items that all have one label in descending order of it."""
    if label is None:
        return ops.convert_to_numpy(shuffles.places(ops.zeros((batch, length)), seed))
    labels = ops.full((batch, length), label)
    return ops.convert_to_numpy(shuffles.descending_places(labels, ops.ones((batch, length), "bool"), seed))


@pytest.fixture(scope="module")
def drawn():
    """Places of twenty lists in each of 240 batches, by length: other batches know nothing of each other."""
    generator = keras.random.SeedGenerator(3)
    known = {}

    def of_length(length, label):
        if (length, label) not in known:
            # Ties of lists are drawn by themselves: a batch of them is as many batches.
            batches, lists = (240, 20) if label is None else (1, 240 * 20)
            orders = np.stack([places(lists, length, generator, label) for _ in range(batches)])
            known[length, label] = orders.reshape(240, 20, length)
        return known[length, label]

    return of_length


@pytest.mark.parametrize(
    ("length", "label"), [*((length, None) for length in (0, 1, 2, 1025, 50_000)), (1, 0.0), (2, 0.0), *ORDERS]
)
def test_every_place_is_taken_once(length, label):
    found = places(7, length, label=label)
    np.testing.assert_array_equal(np.sort(found, axis=1), np.tile(np.arange(length), (7, 1)))


@pytest.mark.parametrize("highest", [4, 9])
@pytest.mark.parametrize("length", [3, 20, 32])
def test_items_of_short_lists_are_in_order_of_their_labels(highest, length, random):
    labels, mask = random.integers(0, highest + 1, (40, length)).astype("float32"), random.random((40, length)) < 0.7
    found = ops.convert_to_numpy(
        shuffles.descending_places(ops.convert_to_tensor(labels * mask), ops.convert_to_tensor(mask), seed=1)
    )
    ordered = np.full(labels.shape, np.nan)
    np.put_along_axis(ordered, found, np.where(mask, labels, -1), axis=1)
    np.testing.assert_array_equal(ordered, -np.sort(-np.where(mask, labels, -1), axis=1))


@pytest.mark.parametrize(("length", "label"), ORDERS)
def test_lists_differ_and_seeds_repeat(length, label):
    first, again, other = (places(8, length, seed, label) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)
    assert len({tuple(row) for row in first.tolist()}) > (2 if length < 5 else 7)


@pytest.mark.parametrize(("length", "label"), ORDERS)
def test_every_order_of_three_items_is_as_likely_in_a_batch(length, label):
    lists = 6000
    batch = 200 if label is None else lists
    found = np.concatenate([places(batch, length, seed, label) for seed in range(lists // batch)])
    for items in ([0, 1, 2], [0, length // 2, length - 1]):
        if len(set(items)) == 3:
            counts = np.unique(np.argsort(found[:, items], axis=1) @ [9, 3, 1], return_counts=True)[1]
            expected = lists / math.factorial(3)
            # Chi square of 5 degrees of freedom: 30 has probability 1.5e-5. Lists of one batch are not independent.
            assert len(counts) == math.factorial(3) and np.sum((counts - expected) ** 2) / expected < 60


@pytest.mark.parametrize(("length", "label"), ORDERS)
def test_orders_of_a_first_list_are_uniform(length, label, drawn):
    first = drawn(length, label)[:, 0]
    counts = np.unique(np.argsort(first[:, [0, 1, 2]], axis=1) @ [9, 3, 1], return_counts=True)[1]
    assert len(counts) == 6 and np.sum((counts - 40) ** 2) / 40 < 30
    # Ascents of a uniform order have mean (n - 1) / 2 and variance (n + 1) / 12.
    ascents, deviation = np.sum(first[:, 1:] > first[:, :-1], axis=1), math.sqrt((length + 1) / 12)
    assert ascents.mean() == pytest.approx((length - 1) / 2, abs=5 * deviation / math.sqrt(len(first)))
    if length > 4:
        assert ascents.std() == pytest.approx(deviation, rel=5 / math.sqrt(2 * len(first)))


@pytest.mark.parametrize(("length", "label"), ORDERS)
def test_lists_of_a_batch_are_not_correlated(length, label, drawn):
    both = drawn(length, label)
    weights = np.linspace(-1, 1, length)
    for statistic in (both[:, :, 0] < both[:, :, 1], both @ weights):
        first, second = statistic[:, :2].astype(float).T
        assert abs(np.corrcoef(first, second)[0, 1]) < 5 / math.sqrt(len(both))
        # The mean of lists that are not correlated has the variance of one of them, over their number.
        mean = np.var(np.mean(statistic, axis=1)) * statistic.shape[1] / np.var(statistic)
        assert mean == pytest.approx(1, abs=5 * math.sqrt(2 / len(both)))


def test_fewer_steps_would_show(monkeypatch):
    def ascents(steps):
        monkeypatch.setattr(shuffles, "STEPS", steps)
        orders = np.concatenate([places(1, 600, seed) for seed in range(150)])
        return np.sum(orders[:, 1:] > orders[:, :-1], axis=1).std() / math.sqrt(601 / 12)

    assert ascents(1) > 2
    assert ascents(6) == pytest.approx(1, rel=5 / math.sqrt(2 * 150))


def test_list_mle_of_long_lists_is_on_average_the_mean_over_all_orders():
    scores = np.array([0.5, -1.0, 1.5, 0.2, 2.0])
    ordered = [
        (*first, *last) for first in itertools.permutations(scores[:3]) for last in itertools.permutations(scores[3:])
    ]
    each = [sum(references.logsumexp(order[k:]) - order[k] for k in range(5)) for order in ordered]
    lists, length = 4000, 70
    labels, padded = np.full((lists, length), -1.0, "float32"), np.zeros((lists, length), "float32")
    labels[:, 8:13], padded[:, 8:13] = [4, 4, 4, 1, 1], scores
    loss = ListMLELoss(ties="random", seed=7, reduction=None)
    values = keras.ops.convert_to_numpy(loss(labels, padded))
    assert values.mean() == pytest.approx(np.mean(each), abs=float(5 * values.std() / math.sqrt(lists)))
    assert len(np.unique(values.round(4))) == len(np.unique(np.round(each, 4)))


def test_other_labels_of_long_lists_are_shuffled_among_their_ties():
    scores = np.array([0.5, -1.0, 1.5])
    orders = list(itertools.permutations(scores))
    each = [sum(references.logsumexp((*order, 2.0)[k:]) - (*order, 2.0)[k] for k in range(4)) for order in orders]
    labels, padded = np.full((2000, 70), -1.0, "float32"), np.zeros((2000, 70), "float32")
    labels[:, 5:9], padded[:, 5:9] = [7.5, 7.5, 7.5, 0.25], [*scores, 2.0]
    values = keras.ops.convert_to_numpy(ListMLELoss(ties="random", seed=7, reduction=None)(labels, padded))
    assert values.mean() == pytest.approx(np.mean(each), abs=float(5 * values.std() / math.sqrt(2000)))
    assert len(np.unique(values.round(4))) == len(orders)
