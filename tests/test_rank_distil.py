"""RankDistil: its draws are the teacher's, their mean is a cross entropy, and padding never counts."""

import math

import numpy as np
import pytest
import references
from backend import to_numpy, values_and_gradient

from tfrankloss import CoupledRankDistilLoss
from tfrankloss.functional import coupled_rank_distil_loss, gumbel_noise, list_mle_loss

pytestmark = pytest.mark.backends

TEACHER, STUDENT = np.float32([1.5, 0.0, 0.5, 1.5]), np.float32([0.3, -1.0, 1.2, 0.4])
LISTS = 2000


@pytest.mark.parametrize("top_k", [None, 1, 2])
def test_mean_over_draws_is_the_cross_entropy(top_k):
    loss = CoupledRankDistilLoss(top_k=top_k, seed=5, reduction=None)
    values, gradient = values_and_gradient(loss, np.stack([TEACHER] * LISTS), np.stack([STUDENT] * LISTS))
    expected = references.list_value("CoupledRankDistilLoss", TEACHER, STUDENT, top_k=top_k)
    assert values.mean() == pytest.approx(expected, abs=float(5 * values.std() / math.sqrt(LISTS)))
    if top_k == 1:
        top = np.exp(references.log_softmax(STUDENT)) - np.exp(references.log_softmax(TEACHER))
        spread = gradient.std(axis=0) / math.sqrt(LISTS)
        np.testing.assert_array_less(np.abs(gradient.mean(axis=0) - top), 5 * spread)


def test_more_samples_give_less_noise():
    labels, scores = np.stack([TEACHER] * LISTS), np.stack([STUDENT] * LISTS)
    few, many = (
        values_and_gradient(CoupledRankDistilLoss(sample_size=size, seed=5, reduction=None), labels, scores)[0].std()
        for size in (2, 8)
    )
    assert few / many == pytest.approx(2, rel=0.1)


def test_noise_is_gumbel():
    noise = to_numpy(gumbel_noise((50, 20, 100), 3))
    assert noise.shape == (50, 20, 100)
    assert noise.mean() == pytest.approx(np.euler_gamma, abs=0.02)
    assert noise.std() == pytest.approx(math.pi / math.sqrt(6), abs=0.02)


def test_draws_are_repeated_by_their_seed():
    labels, scores = TEACHER[None], STUDENT[None]
    draws = [float(CoupledRankDistilLoss(seed=seed)(labels, scores)) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    loss = CoupledRankDistilLoss(seed=1)
    assert float(loss(labels, scores)) != float(loss(labels, scores))


@pytest.mark.parametrize("top_k", [None, 2, 10])
def test_padding_never_counts(top_k, random):
    labels, scores = random.integers(0, 3, (3, 4)).astype("float32"), random.normal(size=(3, 4)).astype("float32")
    labels[0] = [0, 1, 2, 0]
    noise = random.gumbel(size=(3, 5, 4)).astype("float32")
    expected = to_numpy(coupled_rank_distil_loss(labels, scores, noise=noise, top_k=top_k))
    places = [1, 2, 4, 6]
    wide = [np.full((*shape, 7), junk, "float32") for shape, junk in (((3,), -1), ((3,), np.nan), ((3, 5), np.inf))]
    for padded, values in zip(wide, (labels, scores, noise), strict=True):
        padded[..., places] = values
    found = to_numpy(coupled_rank_distil_loss(*wide[:2], noise=wide[2], top_k=top_k))
    np.testing.assert_allclose(found[:, places], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(np.delete(found, places, axis=1), 0)


def test_without_noise_it_is_list_mle(random):
    labels, scores = np.float32([random.permutation(6)]), random.normal(size=(1, 6)).astype("float32")
    for top_k in (None, 3):
        found = coupled_rank_distil_loss(labels, scores, noise=np.zeros((1, 2, 6), "float32"), top_k=top_k)
        expected = to_numpy(list_mle_loss(labels, scores, top_k=top_k))
        np.testing.assert_allclose(to_numpy(found).sum(), expected.sum(), rtol=1e-5)


@pytest.mark.parametrize("shape", [(2, 4), (2, 3, 5), (3, 3, 4)], ids=str)
def test_noise_of_another_shape_raises(shape):
    labels = np.zeros((2, 4), "float32")
    with pytest.raises(ValueError, match=r"`noise.*must have .*Received: noise"):
        coupled_rank_distil_loss(labels, labels, noise=np.zeros(shape, "float32"))


@pytest.mark.parametrize("name", ["sample_size", "top_k"])
@pytest.mark.parametrize("wrong", [0, -1, 1.5, True])
def test_counts_are_positive_integers(name, wrong):
    with pytest.raises((TypeError, ValueError), match=f"`{name}` must be .*Received: {name}="):
        CoupledRankDistilLoss(**{name: wrong})
