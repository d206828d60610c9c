"""The figures and formulas of the source documents."""

import math

import numpy as np
import pytest
from backend import central_differences, to_numpy, values_and_gradient

from tfrankloss import InBatchSoftmaxLoss, KLListwiseLoss, ListMLELoss, ListNetLoss, RankNetLoss, SoftmaxLoss
from tfrankloss.functional import rank_net_lambdas

pytestmark = pytest.mark.backends

# The example of the list-wise document.
LABELS, SCORES = np.float32([[2, 5, 3, 1]]), np.float32([[0.7, 1.1, 2.1, 0.5]])


def ratio_product(places):
    """-log of the document's product of ratios po1 * po2 * ..., of scores already in the order of the labels."""
    ordered = [1.1, 2.1, 0.7, 0.5]
    return -sum(math.log(ordered[k] / sum(ordered[k:])) for k in range(places))


@pytest.mark.parametrize("ties", ["exact", "breslow", "efron", "position"])
@pytest.mark.parametrize("top_k", [None, 3, 4])
def test_list_mle_as_ratios(ties, top_k):
    loss = ListMLELoss(ties=ties, top_k=top_k, score_transform="identity")
    assert float(loss(LABELS, SCORES)) == pytest.approx(ratio_product(top_k or 4), rel=1e-5)
    assert float(loss(LABELS, SCORES)) == pytest.approx(2.377276, abs=5e-6)


def test_list_mle_of_two_places():
    """The document's ``list_size``: the product stops there."""
    loss = ListMLELoss(top_k=2, score_transform="identity")
    expected = -math.log(1.1 / (1.1 + 2.1 + 0.7 + 0.5)) - math.log(2.1 / (2.1 + 0.7 + 0.5))
    assert float(loss(LABELS, SCORES)) == pytest.approx(expected, rel=1e-5)


def test_list_mle_with_exponentials():
    assert float(ListMLELoss()(LABELS, SCORES)) == pytest.approx(2.565505, abs=5e-6)


@pytest.mark.parametrize(("temperature", "expected"), [(1.0, 0.340753), (0.2, 0.000136190)])
def test_temperature_of_one_positive_and_three_negatives(temperature, expected):
    """One perfect row: 0.340753, and 0.000136 once divided by 0.2, where the document prints 0.016."""
    labels, scores = np.float32([[1, 0, 0, 0]]), np.float32([[1, -1, -1, -1]])
    formula = math.log1p(3 * math.exp(-2 / temperature))
    assert formula == pytest.approx(expected, rel=5e-6)
    assert float(SoftmaxLoss(temperature=temperature)(labels, scores)) == pytest.approx(formula, rel=1e-3)
    square = np.float32(2 * np.eye(4) - 1)
    loss = InBatchSoftmaxLoss(temperature=temperature)
    assert float(loss(np.ones(4, "float32"), square)) == pytest.approx(formula, rel=1e-3)


def test_kl_is_the_divergence_of_two_softmaxes(random):
    labels, scores = np.float64([[5, 4, 3, 1]]), random.normal(size=(1, 4))
    p, q = np.exp(labels) / np.exp(labels).sum(), np.exp(scores) / np.exp(scores).sum()
    expected = (p * np.log(p / q)).sum()
    assert float(KLListwiseLoss()(labels, scores)) == pytest.approx(expected, rel=1e-5)
    teacher = KLListwiseLoss(labels_are_probabilities=True)
    assert float(teacher(p, scores)) == pytest.approx(expected, rel=1e-5)
    cross_entropy = -(p * np.log(q)).sum()
    assert float(ListNetLoss()(labels, scores)) == pytest.approx(cross_entropy, rel=1e-5)


def test_kl_is_zero_where_the_scores_are_the_labels():
    labels = np.float32([[5, 4, 3, 1]])
    assert float(KLListwiseLoss()(labels, labels)) == pytest.approx(0, abs=1e-6)


def test_rank_net_is_the_cross_entropy_of_pairs(random):
    """L = -sum over i < j of t log P + (1 - t) log(1 - P), P = sigmoid(s_i - s_j), t = 1, 1/2 or 0."""
    labels, scores = random.integers(0, 3, 5), random.normal(size=5)
    total = 0.0
    for i in range(5):
        for j in range(i + 1, 5):
            t = (1 + np.sign(labels[i] - labels[j])) / 2
            win = 1 / (1 + math.exp(-(scores[i] - scores[j])))
            total -= t * math.log(win) + (1 - t) * math.log(1 - win)
    loss = RankNetLoss(ties="half")
    assert float(loss(np.float32([labels]), np.float32([scores]))) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("pairs", ["graded", "binary"])
@pytest.mark.parametrize("ties", ["skip", "half"])
@pytest.mark.parametrize("pair_reduction", ["sum", "mean"])
def test_rank_net_lambdas_are_its_gradient(pairs, ties, pair_reduction, random):
    """lambda_i = sum over j of sigmoid(s_i - s_j) - t_ij."""
    settings = {"pairs": pairs, "ties": ties, "pair_reduction": pair_reduction}
    labels = random.integers(0, 3, (3, 6)).astype("float32")
    scores = random.normal(size=(3, 6)).astype("float32")
    lambdas = to_numpy(rank_net_lambdas(labels, scores, **settings))
    _, gradient = values_and_gradient(RankNetLoss(**settings, reduction=None), labels, scores)
    np.testing.assert_allclose(lambdas, gradient, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(lambdas.sum(axis=1), 0, atol=1e-5)


def test_rank_net_lambdas_by_hand(random):
    labels, scores = np.array([2, 0, 1, 1]), random.normal(size=4)
    expected = [
        sum(
            1 / (1 + math.exp(scores[j] - scores[i])) - (labels[i] > labels[j])
            for j in range(4)
            if labels[i] != labels[j]
        )
        for i in range(4)
    ]
    found = to_numpy(rank_net_lambdas(np.float32([labels]), np.float32([scores])))[0]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)

    def loss(s):
        return sum(np.log1p(np.exp(s[j] - s[i])) for i in range(4) for j in range(4) if labels[i] > labels[j])

    np.testing.assert_allclose(expected, central_differences(loss, scores), rtol=1e-6)


def test_full_product_softmax(random):
    """-I(r > 0)^T log diag softmax(alpha U W^T + beta); beta, the same for all, cancels."""
    u, w = random.normal(size=(2, 5, 3))
    r = np.array([1, 0, 2, 1, 0])
    alpha, beta = 2.5, 0.7
    product = alpha * u @ w.T + beta
    softmax = np.exp(product) / np.exp(product).sum(axis=1, keepdims=True)
    expected = -(r > 0).astype(float) @ np.log(np.diag(softmax))
    loss = InBatchSoftmaxLoss(temperature=1 / alpha, reduction="sum")
    embeddings = np.stack([u, w], axis=1).astype("float32")
    assert float(loss(r.astype("float32"), embeddings)) == pytest.approx(expected, rel=1e-5)
    plain = InBatchSoftmaxLoss(reduction="sum")
    assert float(plain(r.astype("float32"), product.astype("float32"))) == pytest.approx(expected, rel=1e-5)
