"""The figures and formulas of the source documents."""

import math

import keras
import numpy as np
import pytest
from backend import central_differences, to_numpy, values_and_gradient

from tfrankloss import (
    BPRLoss,
    InBatchSoftmaxLoss,
    KLListwiseLoss,
    ListMLELoss,
    ListNetLoss,
    NPairLoss,
    PairwiseHingeLoss,
    RankNetLoss,
    SampledSoftmaxLoss,
    SoftmaxLoss,
    TripletLoss,
)
from tfrankloss.functional import in_batch_scores, l2_normalize, rank_net_lambdas
from tfrankloss.models import two_tower

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
    for loss in (SoftmaxLoss(temperature=temperature), SampledSoftmaxLoss(temperature=temperature)):
        assert float(loss(labels, scores)) == pytest.approx(formula, rel=1e-3)
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


def test_full_product_softmax_the_other_way(random):
    """Queries and documents change places: the softmax runs over the columns."""
    u, w = random.normal(size=(2, 5, 3))
    product = u @ w.T
    expected = -np.log(np.diag(np.exp(product) / np.exp(product).sum(axis=0, keepdims=True))).mean()
    embeddings = np.stack([w, u], axis=1).astype("float32")
    assert float(InBatchSoftmaxLoss()(np.ones(5, "float32"), embeddings)) == pytest.approx(expected, rel=1e-5)


# Pairwise and point-wise: the positive is the first of a row, or its label is above 0.


def gaps_of(labels, scores):
    """s_i - s_j of every positive and every negative."""
    return (scores[:, None] - scores)[(labels[:, None] > 0) & (labels == 0)]


def test_logistic_loss_of_positives_and_negatives(random):
    labels, scores = np.array([2, 0, 1, 0, 0]), random.normal(size=5)
    expected = -np.log(1 / (1 + np.exp(-gaps_of(labels, scores)))).sum()
    loss = RankNetLoss(pairs="binary")
    assert float(loss(np.float32([labels]), np.float32([scores]))) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("margin", [0.2, 1.0])
def test_margin_ranking(margin, random):
    """max(0, -y (x1 - x2) + margin) with y = 1 where the first is better, over every pair with a better one."""
    labels, scores = np.array([2, 0, 1, 0, 2]), random.normal(size=5)
    total = 0.0
    for i in range(5):
        for j in range(i + 1, 5):
            y = np.sign(labels[i] - labels[j])
            total += max(0.0, -y * (scores[i] - scores[j]) + margin) if y else 0.0
    loss = PairwiseHingeLoss(margin=margin)
    assert float(loss(np.float32([labels]), np.float32([scores]))) == pytest.approx(total, rel=1e-5)


def rows_of(random):
    """Two rows of a positive and three negatives: labels and scores."""
    labels = np.zeros((2, 4))
    labels[:, 0] = 1
    return labels, random.normal(size=(2, 4))


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_triplet(alpha, random):
    labels, scores = rows_of(random)
    expected = np.maximum(0, alpha - scores[:, :1] + scores[:, 1:]).sum(axis=1).mean()
    assert float(TripletLoss(margin=alpha)(labels, scores)) == pytest.approx(expected, rel=1e-5)


def test_bpr_is_the_cross_entropy_of_the_pair(random):
    """The mean over pairs of -log sigmoid(pos - neg): BPR, and PairCE with its target of 1."""
    labels, scores = rows_of(random)
    win = 1 / (1 + np.exp(-(scores[:, :1] - scores[:, 1:])))
    target = 1.0
    expected = -(target * np.log(win) + (1 - target) * np.log(1 - win))
    assert float(BPRLoss(pair_reduction="mean")(labels, scores)) == pytest.approx(expected.mean(), rel=1e-5)
    assert float(BPRLoss(reduction="sum")(labels, scores)) == pytest.approx(expected.sum(), rel=1e-5)


def test_sampled_softmax(random):
    labels, scores = rows_of(random)
    expected = -np.log(np.exp(scores[:, 0]) / np.exp(scores).sum(axis=1)).mean()
    assert float(SampledSoftmaxLoss()(labels, scores)) == pytest.approx(expected, rel=1e-5)


def test_n_pair(random):
    """Sohn 2016: the positives of other classes are the negatives."""
    classes = np.array([4, 7, 4, 9])
    anchors, positives = random.normal(size=(2, 4, 3))
    products = anchors @ positives.T
    others = classes[:, None] != classes
    sums = (np.exp(products - np.diag(products)[:, None]) * others).sum(axis=1)
    penalty = 0.1 / 2 * ((anchors**2).sum(axis=1) + (positives**2).sum(axis=1))
    rows = np.stack([anchors, positives], axis=1).astype("float32")
    assert float(NPairLoss()(classes, rows)) == pytest.approx(np.log1p(sums).mean(), rel=1e-5)
    penalized = NPairLoss(embedding_penalty=0.1, reduction="sum")
    assert float(penalized(classes, rows)) == pytest.approx((np.log1p(sums) + penalty).sum(), rel=1e-5)


# Recall models: similarities and modes.


def test_similarities_of_unit_vectors(random):
    """dot = cosine, and |a - b|^2 = 2 (1 - cosine)."""
    a, b = random.normal(size=(2, 6, 3))
    cosine = np.array([[x @ y / math.sqrt((x @ x) * (y @ y)) for y in b] for x in a])
    rows = np.stack([a, b], axis=1).astype("float32")
    unit = l2_normalize(rows)
    for embeddings, similarity in ((rows, "cosine"), (unit, "cosine"), (unit, "dot")):
        found = to_numpy(in_batch_scores(embeddings, similarity=similarity))
        np.testing.assert_allclose(found, cosine, rtol=1e-4, atol=1e-5)
    distances = -to_numpy(in_batch_scores(unit, similarity="euclidean"))
    np.testing.assert_allclose(distances, 2 * (1 - cosine), rtol=1e-4, atol=1e-5)


def cosine_model(mode, temperature=1.0):
    """A two-tower model whose towers hand on their inputs."""
    user, item = keras.Input((3,), name="user"), keras.Input((3,), name="item")
    towers = keras.Model(user, user + 0), keras.Model(item, item + 0)
    return two_tower(*towers, mode=mode, similarity="cosine", temperature=temperature)


def cosines_of(users, lists):
    return np.einsum("bd,bld->bl", users, lists) / (
        np.linalg.norm(users, axis=1)[:, None] * np.linalg.norm(lists, axis=2)
    )


RECALL = {
    "listwise": (SampledSoftmaxLoss, lambda s: -np.log(np.exp(s[:, 0]) / np.exp(s).sum(axis=1)).mean()),
    "pairwise": (BPRLoss, lambda s: np.log1p(np.exp(s[:, 1:] - s[:, :1])).sum(axis=1).mean()),
}


@pytest.mark.parametrize(("mode", "loss", "formula"), [(mode, *case) for mode, case in RECALL.items()], ids=RECALL)
def test_recall_modes_of_lists(mode, loss, formula, random):
    users, lists = random.normal(size=(5, 3)), random.normal(size=(5, 4, 3))
    model = cosine_model(mode, temperature=0.2)
    model.compile(loss=loss())
    labels = np.zeros((5, 4))
    labels[:, 0] = 1
    found = model.evaluate({"user": users, "item": lists}, labels, verbose=0)
    assert found == pytest.approx(formula(cosines_of(users, lists) / 0.2), rel=1e-4)


def test_recall_mode_of_single_candidates(random):
    """Binary cross entropy of the scores as logits."""
    users, items, clicks = random.normal(size=(6, 3)), random.normal(size=(6, 3)), np.float32([1, 0, 0, 1, 0, 1])
    model = cosine_model("pointwise", temperature=0.2)
    model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=True))
    p = 1 / (1 + np.exp(-cosines_of(users, items[:, None])[:, 0] / 0.2))
    expected = -(clicks * np.log(p) + (1 - clicks) * np.log(1 - p)).mean()
    found = model.evaluate({"user": users, "item": items}, clicks, verbose=0)
    assert found == pytest.approx(expected, rel=1e-4)


def test_recall_mode_of_a_batch(random):
    users, items = random.normal(size=(5, 3)), random.normal(size=(5, 3))
    model = cosine_model("in_batch")
    model.compile(loss=InBatchSoftmaxLoss(temperature=0.2))
    scores = cosines_of(users, np.repeat(items[None], 5, axis=0)) / 0.2
    expected = -np.log(np.diag(np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True))).mean()
    found = model.evaluate({"user": users, "item": items}, np.ones(5), verbose=0)
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("alpha", [0.3, 0.5])
def test_ranking_and_clicks_together(alpha, random):
    """alpha times the pairwise loss and 1 - alpha times the cross entropy of clicks, in Keras' own way."""
    features = keras.Input((4, 2))
    model = keras.Model(features, {"scores": features[..., 0], "clicks": features[..., 1]})
    losses = {"scores": RankNetLoss(pairs="binary"), "clicks": keras.losses.BinaryCrossentropy(from_logits=True)}
    model.compile(loss=losses, loss_weights={"scores": alpha, "clicks": 1 - alpha})
    x, y = random.normal(size=(3, 4, 2)), np.float32([[1, 0, 0, 1], [0, 1, 0, 0], [1, 1, 1, 0]])
    ranking = np.mean([np.log1p(np.exp(-gaps_of(*row))).sum() for row in zip(y, x[..., 0], strict=True)])
    p = 1 / (1 + np.exp(-x[..., 1]))
    clicks = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
    found = model.evaluate(x, {"scores": y, "clicks": y}, verbose=0, return_dict=True)["loss"]
    assert found == pytest.approx(alpha * ranking + (1 - alpha) * clicks, rel=1e-4)
