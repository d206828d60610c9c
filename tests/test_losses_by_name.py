"""Losses by name, and weighted sums of them."""

import keras
import numpy as np
import pytest
from backend import values_and_gradient

from tfrankloss import ListMLELoss, RankNetLoss, SoftmaxLoss, losses
from tfrankloss.losses import registry

pytestmark = pytest.mark.backends

Y, S = np.float32([[2, 0, 1, -1], [0, 1, 3, 3]]), np.float32([[0.3, 1.0, -0.4, 9.0], [1.0, 0.2, 0.1, -1.0]])
WEIGHTS = {"none": None, "list": np.float32([0.5, 2]), "item": np.float32([[1, 2, 3, 4], [0.5, 1, 0, 2]])}


@pytest.mark.parametrize("name", registry.names())
def test_every_name_gives_its_loss(name):
    loss = losses.get(name)
    assert loss.name == registry.OTHER_NAMES.get(name, name)
    assert type(losses.get(losses.get(name))) is type(loss)
    assert losses.get(keras.saving.serialize_keras_object(loss)).get_config() == loss.get_config()


def test_settings():
    assert losses.get("list_mle_loss", ties="efron", temperature=0.5).get_config()["ties"] == "efron"
    assert type(losses.get("pairwise_logistic_loss")) is RankNetLoss


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("reduction", [None, "sum", "mean_with_sample_weight"])
def test_weighted_sum(weights, reduction):
    both = losses.WeightedSumLoss(
        [ListMLELoss("breslow", temperature=2.0), SoftmaxLoss()], weights=[0.7, 0.3], reduction=reduction
    )
    parts = [
        values_and_gradient(loss, Y, S, sample_weight=weights)
        for loss in (ListMLELoss("breslow", temperature=2.0, reduction=reduction), SoftmaxLoss(reduction=reduction))
    ]
    found = values_and_gradient(both, Y, S, sample_weight=weights)
    for place in (0, 1):
        expected = 0.7 * parts[0][place] + 0.3 * parts[1][place]
        np.testing.assert_allclose(found[place], expected, rtol=1e-5, atol=1e-7)


def test_weighted_sum_by_name_is_saved_with_its_model(tmp_path):
    inputs = keras.Input((4, 2))
    model = keras.Model(inputs, keras.layers.Reshape((4,))(keras.layers.Dense(1)(inputs)))
    model.compile("sgd", loss=losses.get("list_mle_loss:0.7, softmax_loss:0.3"))
    features = np.random.default_rng(0).normal(size=(2, 4, 2)).astype("float32")
    model.fit(features, Y, verbose=0)
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    assert restored.loss.get_config() == model.loss.get_config()
    assert [type(loss) for loss in restored.loss.losses] == [ListMLELoss, SoftmaxLoss]
    assert restored.evaluate(features, Y, verbose=0) == pytest.approx(model.evaluate(features, Y, verbose=0))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: losses.get("list_mle"), ValueError, r"`identifier` must be one of .*Received: identifier='list_mle'"),
        (lambda: losses.get("softmax_loss:x"), ValueError, "numbers as weights. Received: weight='x'"),
        (lambda: losses.get("softmax_loss:-1"), ValueError, "`weights` must be greater than 0"),
        (lambda: losses.get("softmax_loss,"), ValueError, "`identifier` must be one of"),
        (lambda: losses.get("a:1,b:2", ties="exact"), ValueError, "`settings` must be given with a single name"),
        (lambda: losses.get(3), TypeError, "`identifier` must be a name, a config or a ranking loss"),
        (lambda: losses.get("softmax_loss", ties="exact"), TypeError, "ties"),
        (lambda: losses.WeightedSumLoss([], []), ValueError, "`losses` must hold at least one"),
        (lambda: losses.WeightedSumLoss([SoftmaxLoss()], [1, 2]), ValueError, "must have the same length"),
        (lambda: losses.WeightedSumLoss(["softmax"], [1]), TypeError, "`losses` must be a list of ranking losses"),
        (lambda: losses.WeightedSumLoss([SoftmaxLoss()], ["1"]), TypeError, "`weights` must be a number"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
