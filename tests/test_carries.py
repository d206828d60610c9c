"""What is carried from block to block: kernels on ways of three parts, and three orders of passing blocks."""

import numpy as np
import pytest
from backend import to_numpy
from keras import ops

from tfrankloss.functional import carries, gap_kernels
from tfrankloss.functional.bernstein import Bernstein

pytestmark = pytest.mark.backends

FORMS = {"logistic": gap_kernels.LOGISTIC, "soft zero-one": gap_kernels.SOFT_ZERO_ONE}


def of_points(distances):
    return ops.convert_to_tensor(np.reshape(distances, (1, -1, 1)), dtype="float32")


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("kind", ["value", "slope"])
def test_a_kernel_of_three_parts_of_a_way(form, kind, random):
    kernel = getattr(form, kind).of_array
    # Eighths, whose sum is exact: what float32 makes of a gap is not in question.
    parts = np.round(8 * 10 ** random.uniform(-2, 1, (3, 200))) / 8
    basis = Bernstein(form.degree)
    first, last = (to_numpy(basis.features(of_points(part)))[0, :, :, 0] for part in (parts[0], parts[2]))
    way = to_numpy(basis.fading(of_points(parts[1])[:, :, 0]))[0]
    matrix = basis.of_kernel(kernel).astype("float32")
    assert (matrix >= 0).all() and (way >= 0).all()
    found = np.einsum("pl,plk,km,pm->p", first, way, matrix, last)
    # Of one pair by itself; that of many is a digit better.
    np.testing.assert_allclose(found, kernel(np.exp(-parts.sum(axis=0))), rtol=3e-6, atol=1e-30)


@pytest.mark.parametrize("kind", ["powers", "polynomial"])
@pytest.mark.parametrize("upwards", [False, True])
@pytest.mark.parametrize("count", [33, 36, 66])
def test_all_orders_of_passing_blocks_agree(kind, upwards, count, random):
    rates = Bernstein(4) if kind == "polynomial" else [np.array([0.0, 1, 2])]
    features = 5 if kind == "polynomial" else 3
    ends = -np.sort(-random.normal(size=(2, count)) * 3, axis=1)[:, ::-1]
    exit_ = carries.End((ops.convert_to_tensor(ends.copy(), dtype="float32"),), None)
    sums = random.random((2, 2, count, 3, features))
    one, way = (ops.convert_to_tensor(values, dtype="float32") for values in sums)
    held = carries.Sums(one, way if kind == "powers" else None)
    by_groups, *others = (
        order(held, exit_, rates, upwards)
        for order in (carries._so_far_by_groups, carries._so_far_in_turn, carries._so_far_by_doubling)
    )
    for other in others:
        for found, expected in zip(carries._given(by_groups), carries._given(other), strict=True):
            np.testing.assert_allclose(to_numpy(found), to_numpy(expected), rtol=1e-5)


@pytest.mark.parametrize("upwards", [False, True])
@pytest.mark.parametrize("count", [5, 66])
def test_what_does_not_fade_is_summed(upwards, count, random):
    ends = np.cumsum(random.random((2, count)), axis=1)
    exit_ = carries.End((ops.convert_to_tensor(ends, dtype="float32"),), None)
    held = carries.Sums(*(ops.convert_to_tensor(random.random((2, count, 3, 1)), dtype="float32") for _ in range(2)))
    found = carries._so_far_without_fading(held, exit_, upwards)
    in_turn = carries._so_far_in_turn(held, exit_, [np.zeros(1)], upwards)
    for one, other in zip(found, in_turn, strict=True):
        np.testing.assert_allclose(to_numpy(one), to_numpy(other), rtol=3e-6)
