"""The joint model of ranking and clicks, feature crosses and distillation, against slow float64 loops."""

import itertools

import keras
import numpy as np
import pytest
from backend import central_differences, to_numpy

from tfrankloss import KLListwiseLoss, SoftmaxLoss
from tfrankloss.functional import teacher_probabilities
from tfrankloss.layers import FactorizationMachine, FeatureVectors
from tfrankloss.models import JointRankingCTRModel, deep_fm_scorer, joint_ranking_ctr

pytestmark = pytest.mark.backends

LISTS = np.random.default_rng(0).normal(size=(4, 5, 3)).astype("float32")
GRADES = np.array([[2, 0, 1, 0, 0], [0, 1, 0, -1, -1], [1, 1, 0, 2, -1], [0, 0, 0, 0, 0]], "float32")
CLICKS = np.minimum(GRADES, 1)


def slow_machine(x, vectors, linear, bias):
    value = bias + sum(w * f for w, f in zip(linear, x, strict=True))
    for f, g in itertools.combinations(range(len(x)), 2):
        value += sum(a * b for a, b in zip(vectors[f], vectors[g], strict=True)) * x[f] * x[g]
    return value


def test_factorization_machine_by_all_pairs(random):
    x = random.normal(size=(7, 6))
    layer = FactorizationMachine(4)
    layer.build((None, 6))
    weights = [random.normal(size=(6, 4)), random.normal(size=(6, 1)), random.normal(size=1)]
    layer.set_weights(weights)
    expected = [[slow_machine(row, weights[0], weights[1][:, 0], weights[2][0])] for row in x]
    np.testing.assert_allclose(to_numpy(layer(x)), expected, rtol=1e-4, atol=1e-5)
    lists = to_numpy(layer(x.reshape(1, 7, 6)))
    np.testing.assert_allclose(lists, np.reshape(expected, (1, 7, 1)), rtol=1e-4, atol=1e-5)


def test_factorization_machine_gradients(random):
    x, y = random.normal(size=(5, 4)), random.normal(size=(5, 1))
    model = keras.Sequential([keras.Input((4,), name="features"), FactorizationMachine(2)])
    before = [random.normal(size=weight.shape) for weight in model.get_weights()]
    model.set_weights(before)
    # A step of size 1 down the gradient: what the weights lose is the gradient, on every backend.
    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.train_on_batch(x, y)

    def slow(weights):
        found = [slow_machine(row, weights[0], weights[1][:, 0], weights[2][0]) for row in x]
        return np.mean((np.array(found) - y[:, 0]) ** 2)

    for place, after in enumerate(model.get_weights()):
        expected = central_differences(lambda w, at=place: slow([*before[:at], w, *before[at + 1 :]]), before[place])
        np.testing.assert_allclose(before[place] - after, expected, rtol=2e-3, atol=2e-4)


def test_deep_fm_by_all_pairs_and_by_hand(tmp_path):
    model = deep_fm_scorer(3, dimension=2, hidden=(4,))
    rng = np.random.default_rng(1)
    shapes = {weight.path.split("/")[-2] + "/" + weight.name: weight for weight in model.weights}
    for weight in shapes.values():
        weight.assign(rng.normal(size=weight.shape))
    vectors = next(to_numpy(weight) for name, weight in shapes.items() if name.endswith("vectors"))
    dense = [to_numpy(weight) for name, weight in shapes.items() if not name.endswith("vectors")]
    linear = next(w for w in dense if w.shape == (3, 1))[:, 0]
    kernel, last = (next(w for w in dense if w.shape == shape) for shape in ((6, 4), (4, 1)))
    bias = next(w for w in dense if w.shape == (4,))
    expected = np.zeros(LISTS.shape[:2])
    for place in np.ndindex(expected.shape):
        x = LISTS[place].astype("float64")
        deep = np.maximum((x[:, None] * vectors).ravel() @ kernel + bias, 0) @ last
        expected[place] = slow_machine(x, vectors, linear, 0.0) + deep[0]
    np.testing.assert_allclose(model.predict(LISTS, verbose=0), expected, rtol=1e-4, atol=1e-4)
    model.save(tmp_path / "deep.keras")
    restored = keras.models.load_model(tmp_path / "deep.keras")
    np.testing.assert_array_equal(restored.predict(LISTS, verbose=0), model.predict(LISTS, verbose=0))


def test_crosses_learn_what_no_single_feature_tells():
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(600, 6, 4)).astype("float32")
    crossed = signs[..., 0] * signs[..., 1] > 0
    # Lists of three right and three wrong items: a model that cannot tell them apart has a loss of log(6).
    kept = crossed.sum(axis=1) == 3
    signs, labels = signs[kept], crossed[kept].astype("float32")
    losses = {}
    for name, item in (("machine", FactorizationMachine(4)), ("linear", keras.layers.Dense(1))):
        model = keras.Sequential([keras.Input((6, 4), name="features"), item, keras.layers.Reshape((6,))])
        model.compile(keras.optimizers.Adam(0.1), SoftmaxLoss())
        losses[name] = model.fit(signs, labels / 3, epochs=10, verbose=0).history["loss"][-1]
    # The right half of the six items at best, and none at all.
    assert losses["machine"] < np.log(3) + 0.1 < np.log(6) - 0.1 < losses["linear"]


def slow_click_loss(clicks, logits, weights):
    total, count = 0.0, 0
    for row, weight in enumerate(weights):
        for click, logit in zip(clicks[row], logits[row], strict=True):
            if click >= 0:
                total += weight * (click * np.logaddexp(0, -logit) + (1 - click) * np.logaddexp(0, logit))
                count += 1
    return total / count


@pytest.mark.parametrize("weights", [None, np.array([0.5, 2.0, 1.0, 3.0])], ids=["plain", "weighted"])
@pytest.mark.parametrize("weighting", ["fixed", "uncertainty"])
def test_joint_loss_by_the_slow_loop(weighting, weights):
    features = keras.Input((None, 3), name="features")
    heads = keras.Model(features, {"scores": features[..., 0], "clicks": features[..., 1]})
    model = JointRankingCTRModel(heads, 0.3, weighting)
    if weighting == "uncertainty":
        model.log_variances.assign([0.4, -0.7])
    model.compile("sgd", SoftmaxLoss())
    y = {"scores": GRADES, "clicks": CLICKS}
    found = model.evaluate(LISTS, y, sample_weight=weights, verbose=0, return_dict=True)
    each = np.ones(4) if weights is None else weights
    scores, logits = LISTS[..., 0].astype("float64"), LISTS[..., 1].astype("float64")
    ranking = 0.0
    for row in range(4):
        valid = GRADES[row] >= 0
        s = scores[row][valid]
        ranking -= each[row] * np.sum(GRADES[row][valid] * (s - np.log(np.exp(s).sum()))) / 4
    click = slow_click_loss(CLICKS, logits, each)
    total = 0.3 * ranking + 0.7 * click
    if weighting == "uncertainty":
        total = np.exp(-0.4) * ranking + 0.2 + np.exp(0.7) * click - 0.35
    assert found == {
        key: pytest.approx(value, rel=1e-5)
        for key, value in {"loss": total, "ranking_loss": ranking, "click_loss": click}.items()
    }


def test_gradient_of_the_learned_weights():
    features = keras.Input((None, 3), name="features")
    heads = keras.Model(features, {"scores": features[..., 0], "clicks": features[..., 1]})
    model = JointRankingCTRModel(heads, weighting="uncertainty")
    before = np.array([0.4, -0.7])
    model.log_variances.assign(before)
    # A step of size 1 down the gradient: what the weights lose is the gradient, on every backend.
    model.compile(keras.optimizers.SGD(1.0), SoftmaxLoss())
    found = model.train_on_batch(LISTS, {"scores": GRADES, "clicks": CLICKS}, return_dict=True)
    losses = np.array([found["ranking_loss"], found["click_loss"]])
    np.testing.assert_allclose(before - to_numpy(model.log_variances), 0.5 - np.exp(-before) * losses, rtol=1e-4)


@pytest.mark.parametrize("weighting", ["fixed", "uncertainty"])
def test_joint_model_learns_saves_and_trains_on(weighting, tmp_path):
    rng = np.random.default_rng(0)
    lists = rng.normal(size=(64, 6, 3)).astype("float32")
    y = {"scores": (lists[..., 0] > 0.5).astype("float32"), "clicks": (lists[..., 1] > 0).astype("float32")}
    model = joint_ranking_ctr(3, (16,), (8,), weighting=weighting, dropout=0.1)
    model.compile(keras.optimizers.Adam(0.02), SoftmaxLoss(temperature=0.5))
    history = model.fit(lists, y, epochs=8, verbose=0).history
    assert history["ranking_loss"][-1] < 0.8 * history["ranking_loss"][0]
    assert history["click_loss"][-1] < 0.8 * history["click_loss"][0]
    model.save(tmp_path / "joint.keras")
    restored = keras.models.load_model(tmp_path / "joint.keras")
    before = model.evaluate(lists, y, verbose=0, return_dict=True)
    assert restored.evaluate(lists, y, verbose=0, return_dict=True) == pytest.approx(before, rel=1e-5)
    restored.fit(lists, y, epochs=3, verbose=0)
    assert restored.evaluate(lists, y, verbose=0, return_dict=True)["loss"] < before["loss"]
    outputs = model.predict(lists, verbose=0)
    np.testing.assert_allclose(model.ranker().predict(lists, verbose=0), outputs["scores"], rtol=1e-5, atol=1e-6)
    shares = model.click_model().predict(lists, verbose=0)
    np.testing.assert_allclose(shares, 1 / (1 + np.exp(-outputs["clicks"])), rtol=1e-4, atol=1e-6)


def test_teacher_probabilities_and_their_loss():
    teacher = np.array([[2.0, -3.0, 0.5, np.nan], [1e4, -1e4, 9e3, 0.0]], "float32")
    mask = np.array([[True, True, True, False], [True] * 4])
    found = to_numpy(teacher_probabilities(teacher, mask, temperature=3.0))
    assert found[0, 3] == -1
    expected = []
    for row, valid in zip(teacher.astype("float64"), mask, strict=True):
        powers = np.exp((row[valid] - row[valid].max()) / 3)
        expected.append(powers / powers.sum())
        np.testing.assert_allclose(found[len(expected) - 1][valid], expected[-1], rtol=1e-5, atol=1e-30)
    student = np.array([[0.3, 1.0, -0.2, np.inf], [0.1, 0.2, 0.3, 0.4]], "float32")
    slow = 0.0
    for p, row, valid in zip(expected, student.astype("float64"), mask, strict=True):
        q = np.exp(row[valid] / 3) / np.exp(row[valid] / 3).sum()
        slow += sum(a * np.log(a / b) for a, b in zip(p, q, strict=True) if a > 0) / 2
    loss = KLListwiseLoss(labels_are_probabilities=True, temperature=3.0)
    assert float(loss(found, student)) == pytest.approx(slow, rel=1e-5)
    assert float(loss(found[:1], teacher[:1])) == pytest.approx(0, abs=1e-6)


FEATURES = keras.Input((None, 3), name="features")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: FactorizationMachine(0), ValueError, "`dimension` must be at least 1"),
        (lambda: FactorizationMachine(2, use_bias=1), TypeError, "`use_bias` must be True or False"),
        (lambda: FactorizationMachine(2)(keras.Input((None,))), ValueError, "known number of features"),
        (lambda: FeatureVectors(0), ValueError, "`dimension` must be at least 1"),
        (lambda: deep_fm_scorer(3, dimension=0), ValueError, "`dimension` must be at least 1"),
        (lambda: deep_fm_scorer(3, dropout=1), ValueError, "`dropout` must be at least 0"),
        (lambda: joint_ranking_ctr(3, alpha=2), ValueError, "`alpha` must lie between 0 and 1"),
        (lambda: joint_ranking_ctr(3, weighting="auto"), ValueError, "`weighting` must be one of"),
        (lambda: joint_ranking_ctr(3, head=(0,)), ValueError, "`hidden` must be at least 1"),
        (lambda: JointRankingCTRModel(None), TypeError, "`model` must be a functional Keras model"),
        (lambda: JointRankingCTRModel(keras.Model(FEATURES, FEATURES)), ValueError, "a dict of 'scores' and 'clicks'"),
        (
            lambda: JointRankingCTRModel(keras.Model(FEATURES, {"scores": FEATURES, "clicks": FEATURES})),
            ValueError,
            "must have shape",
        ),
        (lambda: joint_ranking_ctr(3).compile("adam", "mse"), TypeError, "`loss` must be a ranking loss"),
        (lambda: teacher_probabilities([[1.0]], temperature=0), ValueError, "`temperature` must be greater than 0"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_labels_must_be_a_dict():
    model = joint_ranking_ctr(3)
    model.compile("adam", SoftmaxLoss())
    with pytest.raises(ValueError, match="`y` must be a dict of 'scores' and 'clicks'"):
        model.fit(LISTS, GRADES, verbose=0)
