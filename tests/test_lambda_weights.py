"""Lambda weights: golden numbers, ties, blocks of pairs, configs. Laws and references are with the losses."""

import math

import keras
import numpy as np
import pytest
from backend import to_numpy, values_and_gradient
from keras import ops

from tfrankloss import ListMLELoss, PairwiseHingeLoss, RankNetLoss, functional, losses
from tfrankloss.functional import gains, lists
from tfrankloss.functional.lambda_weights import RankedItems, ranked_items

pytestmark = pytest.mark.backends

GOLDEN_LABELS, GOLDEN_SCORES = np.float32([[1, 0, 2]]), np.float32([[0.6, 0.8, 0.1]])
WEIGHTS = [
    losses.LabelDiffLambdaWeight(),
    losses.DCGLambdaWeight(k=3, gain="exponential", discount="log2", normalized=True, smooth_fraction=0.5),
    losses.NDCGLambdaWeight(k=4, smooth_fraction=1.0),
    losses.NDCGLambdaWeightV2(k=2),
    losses.MRRLambdaWeight(threshold=2.0),
    losses.PrecisionLambdaWeight(k=2),
    losses.YetiDCGLambdaWeight(normalized=True),
    losses.NDCGLoss1LambdaWeight(k=3),
    losses.NDCGLoss2LambdaWeight(discount="reciprocal"),
    losses.NDCGLoss2PlusPlusLambdaWeight(mu=2.0, gain="linear"),
]
every_weight = pytest.mark.parametrize("weight", WEIGHTS, ids=lambda weight: type(weight).__name__)


@pytest.mark.parametrize(
    ("weight", "golden"),
    [
        (losses.LabelDiffLambdaWeight(), 1.3261960),
        (losses.DCGLambdaWeight(), 1.2538366),
        (losses.NDCGLambdaWeight(), 0.3984915),
        (losses.NDCGLambdaWeightV2(), 0.3984915),
        (losses.PrecisionLambdaWeight(k=1), 0.6337750),
        (losses.YetiDCGLambdaWeight(), 1.0135748),
    ],
    ids=lambda value: type(value).__name__,
)
def test_golden(weight, golden):
    """Figures of TensorFlow Ranking 0.5.5, whose values are sums over the list divided by its length."""
    loss = RankNetLoss(lambda_weight=weight)(GOLDEN_LABELS, GOLDEN_SCORES)
    assert float(loss) == pytest.approx(3 * golden, rel=2e-6)


@pytest.mark.parametrize("discount", ["log2", "reciprocal"])
def test_steps_of_discounts_keep_their_digits(discount):
    ranks = np.float64([1, 2, 10, 1000, 1e6])
    function = {"log2": lambda ranks: 1 / np.log2(1 + ranks), "reciprocal": lambda ranks: 1 / ranks}[discount]
    found = to_numpy(gains.discount_step(gains.get_discount(discount), ops.convert_to_tensor(ranks, "float32")))
    np.testing.assert_allclose(found, function(ranks) - function(ranks + 1), rtol=1e-6)


def test_lambda_rank_by_hand():
    """|2^y_i - 2^y_j| |d(r_i) - d(r_j)| / ideal DCG, times the number of items."""
    labels, scores = [1, 0, 2], [0.6, 0.8, 0.1]
    ranks = [2, 1, 3]
    ideal = 3 + 1 / math.log2(3)
    total = 0.0
    for i, j in ((0, 1), (2, 0), (2, 1)):
        gains = abs(2 ** labels[i] - 2 ** labels[j]) / ideal
        swap = abs(1 / math.log2(1 + ranks[i]) - 1 / math.log2(1 + ranks[j]))
        total += 3 * gains * swap * math.log1p(math.exp(scores[j] - scores[i]))
    loss = RankNetLoss(lambda_weight=losses.NDCGLambdaWeight(smooth_fraction=1.0))
    assert float(loss(GOLDEN_LABELS, GOLDEN_SCORES)) == pytest.approx(total, rel=1e-6)


@pytest.mark.parametrize("padding", [0, 100])
def test_ranks_of_ties(padding):
    """Of equal scores the worse item comes first; equal items share the mean of their places; in long lists too."""
    labels = ops.convert_to_tensor(np.float32([[1, 0, 0, 2, 0, 1] + [0] * padding]))
    scores = ops.convert_to_tensor(np.float32([[3, 3, 3, 5, 9, 3] + [0] * padding]))
    mask = ops.convert_to_tensor(np.array([[True, True, True, True, False, True] + [False] * padding]))
    ranks = to_numpy(lists.mean_ranks(labels, scores, mask))
    np.testing.assert_array_equal(ranks[0, [0, 1, 2, 3, 5]], [4.5, 2.5, 2.5, 1, 4.5])


@pytest.mark.parametrize("weight", WEIGHTS[:6] + WEIGHTS[7:], ids=lambda weight: type(weight).__name__)
def test_constant_scores_learn(weight):
    """Neighbours alone, as Yeti has them, may be items of one grade."""
    labels, scores = np.float32([[0, 3, 1, 0, 2]]), np.zeros((1, 5), "float32")
    _, gradient = values_and_gradient(RankNetLoss(lambda_weight=weight, reduction=None), labels, scores)
    assert gradient[0, 1] < 0 < gradient[0, 0]
    # Their pairs are added up in orders of their own.
    np.testing.assert_allclose(gradient[0, 0], gradient[0, 3], rtol=1e-6)


@every_weight
def test_blocks_of_pairs(weight, random):
    """Any block of rows against any block of columns gives its part of the whole: no weight needs all pairs at once."""
    labels = ops.convert_to_tensor(random.integers(0, 4, (2, 7)).astype("float32"))
    scores = ops.convert_to_tensor(random.normal(size=(2, 7)).astype("float32"))
    items = ranked_items(weight, labels, scores, ops.ones((2, 7), "bool"))
    whole = to_numpy(weight.pair_weights(items.rows(), items.columns()))
    rows, columns = slice(2, 5), slice(1, 7)
    first = RankedItems(*(values[:, rows, None] for values in items))
    second = RankedItems(*(values[:, None, columns] for values in items))
    # How the last digit is rounded depends on where a number stands.
    np.testing.assert_allclose(to_numpy(weight.pair_weights(first, second)), whole[:, rows, columns], rtol=3e-7)


@every_weight
def test_lambdas_are_the_gradient(weight, random):
    labels = random.integers(0, 4, (2, 6)).astype("float32")
    scores = random.normal(size=(2, 6)).astype("float32")
    for pair_reduction in ("sum", "mean"):
        loss = RankNetLoss(lambda_weight=weight, pair_reduction=pair_reduction, reduction=None)
        _, gradient = values_and_gradient(loss, labels, scores)
        lambdas = functional.rank_net_lambdas(labels, scores, lambda_weight=weight, pair_reduction=pair_reduction)
        np.testing.assert_allclose(to_numpy(lambdas), gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weight", [*WEIGHTS, losses.ListMLELambdaWeight("reciprocal")], ids=repr)
def test_config(weight):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(weight))
    assert type(again) is type(weight)
    assert repr(again) == repr(weight)


@keras.saving.register_keras_serializable(package="tests")
def square_root_gain(labels):
    return ops.sqrt(labels)


def test_a_weight_is_saved_with_its_loss(random):
    loss = PairwiseHingeLoss(margin=2.0, lambda_weight=losses.NDCGLambdaWeight(gain=square_root_gain, k=2))
    again = PairwiseHingeLoss.from_config(loss.get_config())
    assert again.get_config() == loss.get_config()
    labels, scores = random.integers(0, 4, (3, 5)).astype("float32"), random.normal(size=(3, 5)).astype("float32")
    assert float(again(labels, scores)) == float(loss(labels, scores)) > 0


def test_list_mle_takes_its_weight():
    by_weight = ListMLELoss(lambda_weight=losses.ListMLELambdaWeight("log2"))
    assert float(by_weight(GOLDEN_LABELS, GOLDEN_SCORES)) == float(
        ListMLELoss(discount="log2")(GOLDEN_LABELS, GOLDEN_SCORES)
    )


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: RankNetLoss(lambda_weight="ndcg"), TypeError, "`lambda_weight` must be a LambdaWeight"),
        (lambda: RankNetLoss(lambda_weight=losses.ListMLELambdaWeight()), TypeError, "must be a LambdaWeight"),
        (lambda: ListMLELoss(lambda_weight=losses.NDCGLambdaWeight()), TypeError, "must be a ListMLELambdaWeight"),
        (lambda: losses.NDCGLambdaWeight(k=0), ValueError, "`k` must be at least 1. Received: k=0"),
        (lambda: losses.NDCGLambdaWeight(smooth_fraction=1.5), ValueError, "`smooth_fraction` must lie between"),
        (lambda: losses.DCGLambdaWeight(normalized=1), TypeError, "`normalized` must be True or False"),
        (lambda: losses.DCGLambdaWeight(gain="square"), ValueError, "`gain` must be one of"),
        (lambda: losses.YetiDCGLambdaWeight(discount="ln"), ValueError, "`discount` must be one of"),
        (lambda: losses.PrecisionLambdaWeight(k=1.5), TypeError, "`k` must be an integer"),
        (lambda: losses.PrecisionLambdaWeight(threshold="1"), TypeError, "`threshold` must be a number"),
        (lambda: losses.NDCGLoss2PlusPlusLambdaWeight(mu=0), ValueError, "`mu` must be greater than 0"),
        (lambda: losses.ListMLELambdaWeight("none"), ValueError, "`discount` must be one of"),
    ],
)
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()
