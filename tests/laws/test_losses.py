"""The laws that every loss keeps, in every setting, on every backend."""

import keras
import numpy as np
import pytest
import references
from backend import NAME, to_numpy, values_and_gradient
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from laws import cases, checks, layouts

pytestmark = pytest.mark.backends

every_loss = pytest.mark.parametrize("case", cases.LOSSES, ids=str)
every_class = pytest.mark.parametrize("case", cases.DEFAULT_LOSSES, ids=str)
every_fixed_loss = pytest.mark.parametrize("case", [c for c in cases.LOSSES if c.has("nothing is drawn")], ids=str)
every_fixed_list_loss = pytest.mark.parametrize(
    "case", [c for c in cases.LIST_LOSSES if c.has("nothing is drawn")], ids=str
)
every_list_loss = pytest.mark.parametrize("case", cases.LIST_LOSSES, ids=str)
tensorflow_only = pytest.mark.skipif(NAME != "tensorflow", reason="about TensorFlow alone")

generators = st.integers(0, 2**31).map(np.random.default_rng)
junk = st.sampled_from(layouts.JUNK)


def reference(case, batch, weights=None):
    """The float64 values of a batch as a function of its scores."""
    # What these choose does not change what there is to compute.
    settings = {key: value for key, value in case.settings.items() if key not in ("seed", "method", "chunk_size")}
    if isinstance(case.layout, layouts.Rows):
        return lambda scores: references.ROW_LOSSES[case.name](batch.y_true, scores, **settings)
    rows = [None] * len(batch.y_true) if weights is None else weights

    def values(scores):
        lists = zip(batch.y_true, scores, rows, batch.y_pred, strict=True)
        return np.array(
            [references.list_value(case.name, y, s, w, held_at=held, **settings) for y, s, w, held in lists]
        )

    return values


@every_class
def test_every_loss_has_a_reference(case):
    assert case.name in {**references.LOSSES, **references.ROW_LOSSES, **references.NOISY_LOSSES}


@every_fixed_loss
@given(data=st.data())
def test_padding(case, data):
    batch = data.draw(case.layout.batches())
    padded = case.layout.pad(batch, data.draw(generators), data.draw(junk))
    checks.check_rearranged(case.loss, batch, padded)


@every_fixed_list_loss
@given(data=st.data())
def test_padding_by_keras_mask(case, data):
    batch = data.draw(case.layout.batches())
    padded = case.layout.pad(batch, data.draw(generators), data.draw(junk))
    mask = padded.y_true >= 0
    junk_label = data.draw(st.sampled_from([0.0, 7.0, float("nan")]))
    padded = padded._replace(y_true=np.where(mask, padded.y_true, junk_label).astype("float32"))
    checks.check_rearranged(case.loss, batch, padded, mask=mask)


@tensorflow_only
@pytest.mark.parametrize("case", [c for c in cases.DEFAULT_LOSSES if isinstance(c.layout, layouts.Lists)], ids=str)
def test_padding_by_ragged_rows(case, random):
    import tensorflow as tf

    batch = case.layout.sample(random)
    lengths = [5, 2, 0]
    y_true, y_pred, weights = (
        tf.RaggedTensor.from_tensor(values, lengths) for values in (*batch, np.full((3, 5), 2.0, "float32"))
    )
    expected = np.where(np.arange(5) < np.array(lengths)[:, None], batch.y_true, -1).astype("float32")
    values, gradient = values_and_gradient(case.loss, expected, batch.y_pred)
    with tf.GradientTape() as tape, keras.StatelessScope():
        tape.watch(y_pred.flat_values)
        found = case.loss(y_true, y_pred)
    np.testing.assert_allclose(found, values, **checks.SAME)
    flat = np.concatenate([row[:length] for row, length in zip(gradient, lengths, strict=True)])
    found_gradient = tf.convert_to_tensor(tape.gradient(found, y_pred.flat_values))
    np.testing.assert_allclose(found_gradient, flat, **checks.SAME)
    with keras.StatelessScope():
        np.testing.assert_allclose(case.loss(y_true, y_pred, weights), 2 * values, **checks.SAME)


@every_fixed_loss
@given(data=st.data())
def test_order(case, data):
    batch = data.draw(case.layout.batches())
    checks.check_rearranged(case.loss, batch, case.layout.permute(batch, data.draw(generators)))


@every_class
def test_reduction(case, random):
    batch = case.layout.sample(random)
    checks.check_reduction(case.make, batch, cases.list_weights(random, len(batch.y_true)))


@every_loss
def test_lists_with_nothing_to_learn(case):
    laws = {f"one_{what}": case.has(f"one {what} teaches nothing") for what in ("grade", "item")}
    checks.check_nothing_to_learn(case.loss, case.layout.uninformative(**laws))


@pytest.mark.parametrize("case", [c for c in cases.DEFAULT_LOSSES if c.has("nothing is drawn")], ids=str)
def test_lists_with_nothing_to_learn_count(case, random):
    batch = case.layout.sample(random)
    empty = np.full_like(batch.y_true, -1)
    values, _ = values_and_gradient(case.loss, *batch)
    both = np.concatenate([batch.y_true, empty]), np.concatenate([batch.y_pred, batch.y_pred])
    mean, _ = values_and_gradient(case.make(), *both)
    np.testing.assert_allclose(mean, values.mean() / 2, rtol=1e-5)


@every_loss
@given(data=st.data())
def test_list_weights(case, data):
    batch = data.draw(case.layout.batches())
    weights = cases.list_weights(data.draw(generators), len(batch.y_true))
    checks.check_list_weights(case.loss, batch, weights)
    if isinstance(case.layout, layouts.Rows):
        checks.check_reference_gradient(case.loss, batch, reference(case, batch), list_weights=weights)


@every_class
def test_list_weights_in_square_batches(case, random):
    batch = case.layout.sample(random)
    side = batch.y_pred.shape[1]
    rows = np.arange(side) % len(batch.y_true)
    square = layouts.Batch(batch.y_true[rows], batch.y_pred[rows])
    checks.check_list_weights(case.loss, square, cases.list_weights(random, side))


@every_class
def test_shapes_of_list_weights(case, random):
    batch = case.layout.sample(random)
    checks.check_weight_shapes(case.loss, batch, cases.list_weights(random, len(batch.y_true)))


@pytest.mark.parametrize("case", [c for c in cases.LIST_LOSSES if c in cases.DEFAULT_LOSSES], ids=str)
def test_item_losses_of_a_subclass_are_summed(case, random):
    batch = case.layout.sample(random)
    counting = type(
        case.name, (case.cls,), {"item_losses": lambda self, labels, scores, mask: ops.cast(mask, "float32")}
    )
    weights = random.uniform(size=batch.y_true.shape).astype("float32")
    loss = cases.make(counting, reduction=None)
    counted = batch.y_true >= 0
    np.testing.assert_allclose(to_numpy(loss(batch.y_true, batch.y_pred)), counted.sum(1))
    np.testing.assert_allclose(
        to_numpy(loss(batch.y_true, batch.y_pred, weights)), np.sum(weights * counted, axis=1), rtol=1e-6
    )


@every_list_loss
@given(data=st.data())
def test_item_weights(case, data):
    batch = data.draw(case.layout.batches())
    generator = data.draw(generators)
    checks.check_item_weights(case.loss, batch, cases.list_weights(generator, len(batch.y_true)))
    weights = cases.item_weights(generator, batch.y_true.shape)
    if case.settings.get("ties") != "random" and case.has("nothing is drawn"):
        checks.check_value(case.loss, batch, reference(case, batch, weights), sample_weight=weights)
    removed = generator.random(batch.y_true.shape) < 0.4
    checks.check_zero_item_weight(case.loss, batch, weights, removed, data.draw(junk))


@every_loss
@given(data=st.data())
def test_list_of_weight_zero(case, data):
    batch = data.draw(case.layout.batches())
    weights = cases.list_weights(data.draw(generators), len(batch.y_true))
    checks.check_zero_list_weight(case.loss, batch, weights, data.draw(st.integers(0, 2)), data.draw(junk))


@every_fixed_loss
@given(data=st.data())
def test_agrees_with_the_reference(case, data):
    batch = data.draw(case.layout.batches())
    checks.check_value(case.loss, batch, reference(case, batch))
    if not case.has("smooth wherever scores are drawn"):
        batch = case.layout.sample(data.draw(generators))
    checks.check_reference_gradient(case.loss, batch, reference(case, batch))


@every_fixed_loss
@given(data=st.data())
def test_large_scores_agree_with_the_reference(case, data):
    scale = data.draw(st.sampled_from([10.0, 100.0, 1e3, 3e3]))
    batch = case.layout.sample(data.draw(generators), scale=scale)
    atol = 2e-6
    if isinstance(case.layout, layouts.Rows):
        # Products of embeddings are rounded before there is a loss: by their length, whatever the difference of two.
        atol = 1e-6 * np.square(batch.y_pred).sum(axis=-1).max() / case.settings.get("temperature", 1.0)
    checks.check_value(case.loss, batch, reference(case, batch), atol=atol)
    if not isinstance(case.layout, layouts.Rows):
        checks.check_reference_gradient(case.loss, batch, reference(case, batch), rtol=1e-5, atol=1e-6, of_largest=1e-5)


@every_fixed_list_loss
@given(data=st.data())
def test_small_differences_of_large_scores(case, data):
    offset = data.draw(st.sampled_from([100.0, -3e3, 1e4]))
    batch = case.layout.sample(data.draw(generators), offset=offset)
    checks.check_value(case.loss, batch, reference(case, batch))


@every_loss
@given(data=st.data())
def test_finite(case, data):
    batch = data.draw(case.layout.batches())
    drawn = [data.draw(st.sampled_from(case.layout.huge)) for _ in range(batch.y_pred.size)]
    scores = np.array(drawn, "float32").reshape(batch.y_pred.shape)
    checks.check_finite(case.loss, batch._replace(y_pred=scores))


@every_class
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision(case, dtype, random):
    checks.check_low_precision(case.loss, case.layout.sample(random), dtype)


@pytest.mark.skipif(NAME == "jax", reason="JAX has no float64 here; its gradients are compared with the reference's")
@every_loss
@given(generator=generators)
def test_central_differences(case, generator):
    if NAME == "torch" and case.name == "ListMLELoss" and case.settings.get("ties") not in ("random", "position"):
        pytest.skip("sums over groups of ties: Keras' segment_sum on torch goes through float32")
    if NAME == "torch" and case.name.startswith("NeuralSort"):
        pytest.skip("sums between two places: Keras' cumsum on torch goes through float32")
    batch = case.layout.sample(generator)
    values = None if case.has("gradient is the slope of its values") else reference(case, batch)
    checks.check_central_differences(_float64_loss(case), batch, values, case.step)


_FLOAT64_LOSSES = {}


def _float64_loss(case):
    """One object per case, so that it is compiled once."""
    return _FLOAT64_LOSSES.setdefault(case, case.make(reduction=None, dtype="float64"))


@tensorflow_only
@every_fixed_loss
def test_xla(case, random):
    import tensorflow as tf

    batch = case.layout.sample(random)
    values, gradient = values_and_gradient(case.loss, *batch)

    @tf.function(jit_compile=True, autograph=False)
    def run(y_true, y_pred):
        with tf.GradientTape() as tape, keras.StatelessScope():
            tape.watch(y_pred)
            values = case.loss(y_true, y_pred)
        return values, tape.gradient(values, y_pred)

    found, found_gradient = run(tf.constant(batch.y_true), tf.constant(batch.y_pred))
    np.testing.assert_allclose(found, values, **checks.CLOSE)
    np.testing.assert_allclose(found_gradient, gradient, **checks.CLOSE)


@pytest.mark.skipif(NAME == "torch", reason="torch runs losses as they are: there is nothing compiled to compare")
@every_class
def test_compiled_equals_plain(case, random):
    batch = case.layout.sample(random)
    values, _ = values_and_gradient(case.loss, *batch)
    with keras.StatelessScope():
        found = to_numpy(case.loss(*batch))
    np.testing.assert_allclose(found, values, **checks.CLOSE)


@tensorflow_only
@every_loss
def test_unknown_shapes(case, random):
    import tensorflow as tf

    batch = case.layout.sample(random)
    values, gradient = values_and_gradient(case.loss, *batch)
    unknown = [tf.TensorSpec([None] * array.ndim, array.dtype) for array in batch]

    @tf.function(input_signature=unknown, autograph=False)
    def run(y_true, y_pred):
        with tf.GradientTape() as tape, keras.StatelessScope():
            tape.watch(y_pred)
            values = case.loss(y_true, y_pred)
        return values, tape.gradient(values, y_pred)

    found, found_gradient = run(*batch)
    np.testing.assert_allclose(found, values, **checks.CLOSE)
    np.testing.assert_allclose(found_gradient, gradient, **checks.CLOSE)
