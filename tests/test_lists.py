"""The list primitives against NumPy: order, ties, suffix sums."""

import keras
import numpy as np
import pytest
from keras import ops

from tfrankloss.functional import gains, lists, log_sums, meetings

pytestmark = pytest.mark.backends


def array(value):
    return ops.convert_to_numpy(value)


@pytest.mark.parametrize("length", [1, 2, 31, 257, 5000])
def test_descending_order_is_stable_and_puts_padding_last(length):
    rng = np.random.default_rng(length)
    keys = rng.integers(0, 4, (3, length)).astype("float32")
    mask = rng.random((3, length)) < 0.8
    order = array(lists.descending_order(ops.convert_to_tensor(keys), ops.convert_to_tensor(mask)))
    for row in range(3):
        expected = sorted(range(length), key=lambda i, row=row: (not mask[row, i], -keys[row, i], i))
        items = mask[row].sum()
        assert order[row, :items].tolist() == expected[:items]
        assert sorted(order[row].tolist()) == list(range(length))


def test_put_back_undoes_take():
    values = np.random.default_rng(0).normal(size=(4, 50)).astype("float32")
    order = lists.descending_order(ops.convert_to_tensor(values), ops.ones((4, 50), "bool"))
    taken = lists.take(ops.convert_to_tensor(values), order)
    np.testing.assert_array_equal(array(taken), -np.sort(-values, axis=1))
    np.testing.assert_array_equal(array(lists.put_back(taken, order)), values)


def test_inverse_undoes_an_order():
    order = np.random.default_rng(0).permuted(np.tile(np.arange(9, dtype="int32"), (4, 1)), axis=1)
    np.testing.assert_array_equal(array(lists.inverse(ops.convert_to_tensor(order))), np.argsort(order, axis=1))


@pytest.mark.parametrize("behind", [False, True])
# None, one block, blocks that divide the list, one that is filled up, blocks of blocks.
@pytest.mark.parametrize("length", [0, 1, 20, 64, 67, 200, 1000, 4001, 20000])
def test_sums_before(length, behind):
    values = np.random.default_rng(length).integers(0, 5, (2, 3, length)).astype("float32")
    sums = np.cumsum(values, axis=-1)
    expected = sums[..., -1:] - sums if behind else sums - values
    np.testing.assert_array_equal(array(lists.sums_before(ops.convert_to_tensor(values), behind)), expected)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX has float64 only where it is told to")
@pytest.mark.parametrize("length", [20, 67, 1000])
def test_sums_before_keep_the_digits_of_float64(length):
    """A matrix product of Keras is float32 on torch, whatever its factors are."""
    values = np.random.default_rng(length).random((2, length))
    sums = array(lists.sums_before(ops.convert_to_tensor(values, dtype="float64")))
    assert sums.dtype == "float64"
    np.testing.assert_allclose(sums, np.cumsum(values, axis=-1) - values, rtol=1e-13)


@pytest.mark.parametrize("k", [None, 4])
@pytest.mark.parametrize("length", [0, 7, 300])
def test_ideal_dcg_of_grades_is_counted(length, k):
    rng = np.random.default_rng(length)
    labels, mask = rng.integers(0, 5, (6, length)).astype("float32"), rng.random((6, length)) < 0.7
    labels = np.where(mask, labels, 0.0).astype("float32")
    item_gains = np.where(mask, 2.0**labels - 1, 0.0)
    discounts = np.where(np.arange(length) < (k or length), 1 / np.log2(2.0 + np.arange(length)), 0.0)
    expected = -np.sort(-item_gains, axis=1) @ discounts
    inputs = [ops.convert_to_tensor(values) for values in (item_gains.astype("float32"), mask)]
    largest = labels.max(axis=1, initial=0)
    for rising in (None, gains.rising(gains.exponential_gain, ops.convert_to_tensor(labels))):
        found = array(gains.ideal_dcg(*inputs, gains.log2_discount, k, rising))
        found = found if rising is None else found * 2.0**largest
        np.testing.assert_allclose(found, expected, rtol=2e-6)


def test_tie_groups_of_each_list_stay_apart():
    keys = ops.convert_to_tensor([[3.0, 3.0, 1.0, 0.0], [3.0, 2.0, 2.0, 2.0]])
    mask = ops.convert_to_tensor([[True, True, True, False], [True, True, True, True]])
    groups = lists.tie_groups(keys, mask)
    assert array(groups.first).tolist() == [[1, 1, 3, 4], [1, 2, 2, 2]]
    assert array(groups.size).tolist() == [[2, 2, 1, 1], [1, 3, 3, 3]]
    values = ops.convert_to_tensor([[1.0, 2.0, 4.0, 8.0], [16.0, 32.0, 64.0, 128.0]])
    assert array(lists.group_sum(values, groups)).tolist() == [[3, 3, 4, 8], [16, 224, 224, 224]]
    assert array(lists.group_max(values, groups)).tolist() == [[2, 2, 4, 8], [16, 128, 128, 128]]
    assert array(lists.group_mean(values, groups))[0].tolist() == [1.5, 1.5, 4, 8]


@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("length", [1, 32, 33, 300])
def test_suffix_logsumexp(length, scale):
    rng = np.random.default_rng(length)
    values = (scale * rng.normal(size=(2, length))).astype("float32")
    items = [length, max(1, length // 2)]
    mask = np.arange(length) < np.array(items)[:, None]
    sums = log_sums.suffix_logsumexp(ops.convert_to_tensor(values), ops.convert_to_tensor(mask))
    actual = array(sums.largest + sums.excess)
    for row, count in enumerate(items):
        expected = np.logaddexp.accumulate(values[row, :count][::-1].astype("float64"))[::-1]
        np.testing.assert_allclose(actual[row, :count], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("length", [0, 1, 2, 5, 20, 65])
def test_every_two_items_meet_once(length):
    values = np.random.default_rng(length).integers(-9, 9, (3, length)).astype("float32")
    met = meetings.Meetings(length)
    first, second = met.of(ops.convert_to_tensor(values))
    here, there = met.of(ops.ones((3, length)))
    two = here * there
    others, gaps = met.totals((two * second, two * first), (two * (first - second), None))
    total = values.sum(axis=1, keepdims=True)
    np.testing.assert_array_equal(array(others), total - values)
    np.testing.assert_array_equal(array(gaps), length * values - total)


@pytest.mark.parametrize("length", [1, 2, 5, 20, 33])
def test_passes_are_counted(length):
    values = np.random.default_rng(length).integers(-9, 9, (3, length)).astype("float32")
    met = meetings.Meetings(length)
    first, second = met.of(ops.convert_to_tensor(values), nobody=float("inf"))
    passed = (ops.cast(second > first, "float32") + ops.cast(second >= first, "float32")) / 2
    greater, equal = (compare(values[:, None, :], values[:, :, None]).sum(axis=2) for compare in (np.greater, np.equal))
    np.testing.assert_array_equal(array(met.passes(passed)), greater + (equal - 1) / 2)
