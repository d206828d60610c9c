"""Random orders without sorted draws: they sort by grade, and no statistic tells them from uniform ones."""

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


def slots(batch, length, seed=0):
    return ops.convert_to_numpy(shuffles.slots((batch, length), seed))


def ranks(batch, length, seed=0):
    return np.argsort(np.argsort(slots(batch, length, seed), axis=1), axis=1)


def turning(orders):
    """The number of ascents of each order, which neighbours that move together spread."""
    return np.sum(orders[:, 1:] > orders[:, :-1], axis=1)


@pytest.mark.parametrize("length", [1, 2, 65, 128, 200, 1025])
def test_slots_differ_and_fit(length):
    numbers = slots(7, length)
    assert numbers.min() >= 0 and numbers.max() < shuffles.slot_count(length) < 2 * length + (length == 1)
    assert all(len(set(row)) == length for row in numbers.tolist())


@pytest.mark.parametrize("length", [65, 100, 256, 700])
def test_items_are_sorted_by_grade_and_padding_is_last(length):
    random = np.random.default_rng(length)
    labels = random.integers(0, 5, (6, length)).astype("float32")
    mask = random.random(labels.shape) < 0.7
    numbers = slots(6, length)
    arguments = ops.convert_to_tensor(labels * mask), ops.convert_to_tensor(mask), ops.convert_to_tensor(numbers)
    order = ops.convert_to_numpy(shuffles.order_of_grades(*arguments))
    expected = np.lexsort((numbers, -labels, ~mask), axis=1)
    # Ties of padding are in the order of their slots too, whatever grades it had.
    expected[~np.take_along_axis(mask, expected, axis=1)] = order[~np.take_along_axis(mask, order, axis=1)]
    np.testing.assert_array_equal(order, expected)
    np.testing.assert_array_equal(np.sort(order, axis=1), np.tile(np.arange(length), (6, 1)))


@pytest.mark.parametrize("length", [65, 200])
def test_every_order_of_three_items_is_as_likely(length):
    lists = 30_000
    found = ranks(lists, length)
    for items in ([0, 1, 2], [3, 35, 64], [10, 20, 30], [0, 32, 64]):
        orders = np.argsort(found[:, items], axis=1)
        counts = np.unique(orders @ [9, 3, 1], return_counts=True)[1]
        expected = lists / math.factorial(len(items))
        # Chi square of 5 degrees of freedom: 30 has probability 1.5e-5.
        assert len(counts) == math.factorial(len(items)) and np.sum((counts - expected) ** 2) / expected < 30


@pytest.mark.parametrize("length", [65, 200, 1000])
def test_neighbours_do_not_move_together(length):
    lists = 10_000
    # Ascents of a uniform order have mean (n - 1) / 2 and variance (n + 1) / 12.
    ascents, deviation = turning(ranks(lists, length)), math.sqrt((length + 1) / 12)
    assert ascents.mean() == pytest.approx((length - 1) / 2, abs=5 * deviation / math.sqrt(lists))
    assert ascents.std() == pytest.approx(deviation, rel=5 / math.sqrt(2 * lists))


def test_fewer_steps_would_show(monkeypatch):
    monkeypatch.setattr(shuffles, "STEPS", 3)
    assert turning(ranks(10_000, 200)).std() > 1.2 * math.sqrt(201 / 12)


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
