"""Compile, fit, evaluate, save, load without custom objects and fit again: every loss and metric, on every backend."""

import keras
import numpy as np
import pytest
from backend import NAME
from laws import cases, layouts

from tfrankloss import SoftmaxLoss, metrics

pytestmark = pytest.mark.backends

every_loss = pytest.mark.parametrize("case", cases.DEFAULT_LOSSES, ids=str)
BATCH, LENGTH, FEATURES = 6, 4, 3
DEFAULT_METRICS = [cases.Case(cls, ()) for cls in cases.METRIC_CLASSES]


def scorer(columns=None):
    """Scores (B, L) or (B, L, columns) from features (B, L, F)."""
    features = keras.Input((LENGTH, FEATURES))
    scores = keras.layers.Dense(columns or 1, kernel_initializer="zeros")(features)
    if columns is None:
        scores = keras.layers.Reshape((LENGTH,), dtype=scores.dtype)(scores)
    return keras.Model(features, scores)


def two_rows():
    """Queries and candidates (B, 2, D) from features (B, 2, F)."""
    features = keras.Input((2, FEATURES))
    return keras.Model(features, keras.layers.Dense(3)(features))


def task(layout, random):
    """A model, and a batch from which it can learn; one list is padding."""
    if isinstance(layout, layouts.Rows):
        features = random.normal(size=(2 * BATCH, 1, FEATURES)).repeat(2, axis=1)
        targets = np.arange(2 * BATCH, dtype="int32") if layout.ids else np.ones(2 * BATCH, "float32")
        return two_rows(), features.astype("float32"), targets
    features = random.normal(size=(2 * BATCH, LENGTH, FEATURES)).astype("float32")
    labels = labels_of(layout, features[..., 0])
    labels[0], labels[1, 2:] = -1, -1
    return scorer(layout.columns), features, labels


def labels_of(layout, relevance):
    """Labels that follow ``relevance`` (B, L): of four grades, or all different where the loss is to have it so."""
    if layout.distinct_labels:
        return layout.label_step * np.argsort(np.argsort(relevance, axis=1), axis=1).astype("float32")
    return np.clip(np.round(relevance + 1), 0, layout.largest_label).astype("float32")


def weights_of(layout, shape):
    shapes = {"list": (2 * BATCH,), "column": (2 * BATCH, 1), "item": (2 * BATCH, LENGTH)}
    if shape is None or (shape == "item" and isinstance(layout, layouts.Rows)):
        return None
    return np.linspace(0, 2, int(np.prod(shapes[shape])), dtype="float32").reshape(shapes[shape])


def losses_of(model, x, y, weights=None, epochs=1):
    history = model.fit(x, y, sample_weight=weights, batch_size=BATCH, epochs=epochs, verbose=0, shuffle=False)
    return history.history["loss"]


def check_learned(case, history, model, x, y):
    """The loss fell or, where noise moves it more than a few steps do, the ranking beats one of equal scores."""
    assert np.isfinite(history).all()
    if case.has("nothing is drawn"):
        assert history[-1] < history[0]
        return
    trained, equal = metrics.NDCG(), metrics.NDCG()
    trained.update_state(y, model.predict(x, verbose=0))
    equal.update_state(y, np.zeros_like(y))
    assert float(trained.result()) > float(equal.result())


@every_loss
def test_fit_save_load_fit(case, random, tmp_path):
    model, x, y = task(case.layout, random)
    model.compile(optimizer=keras.optimizers.Adam(0.05), loss=case.make())
    history = losses_of(model, x, y, epochs=5)
    check_learned(case, history, model, x, y)
    before = model.evaluate(x, y, batch_size=BATCH, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.loss) is case.cls
    assert loaded.loss.get_config() == model.loss.get_config()
    # A restored loss with noise begins its draws anew.
    if case.has("nothing is drawn"):
        assert loaded.evaluate(x, y, batch_size=BATCH, verbose=0) == pytest.approx(before, rel=1e-5)
    assert np.isfinite(losses_of(loaded, x, y)).all()


@every_loss
@pytest.mark.parametrize("shape", ["list", "column", "item"])
def test_sample_weight(case, shape, random):
    """What fit makes of weights is what the loss itself makes of them."""
    rows = isinstance(case.layout, layouts.Rows)
    if NAME != "tensorflow" and shape != ("list" if rows else "item"):
        pytest.skip("Keras hands weights of every shape on alike; the laws try them on every backend")
    weights = weights_of(case.layout, shape)
    if weights is None:
        pytest.skip("rows have no items to weigh")
    model, x, y = task(case.layout, random)
    model.compile(optimizer=keras.optimizers.SGD(0.0), loss=case.make())
    expected = float(case.make()(y, model(x), weights))
    history = model.fit(x, y, sample_weight=weights, batch_size=len(y), verbose=0, shuffle=False)
    assert history.history["loss"] == pytest.approx([expected], rel=1e-5)


@keras.saving.register_keras_serializable(package="tests")
def mean_score(y_true, y_pred):
    """A loss for any labels and weights; no loss of the package takes labels by subtopic."""
    return keras.ops.mean(y_pred)


def made(case, prefix=""):
    """The metric of a case with a cutoff, where it has one."""
    settings = {"k": 2} if "k" in case.make().settings else {}
    return case.make(name=prefix + case.name, **settings)


@pytest.mark.parametrize("layout", [layouts.Lists(), layouts.Subtopics()], ids=["labels", "subtopics"])
@pytest.mark.parametrize("shape", [None, "list", "item"])
def test_metrics_in_compile(shape, layout, random, tmp_path):
    model, x, y = task(layouts.Lists(), random)
    own = [case for case in DEFAULT_METRICS if case.layout == layout]
    by_subtopic = isinstance(layout, layouts.Subtopics)
    model.compile(
        optimizer="adam",
        loss=mean_score if by_subtopic else SoftmaxLoss(),
        metrics=[made(case) for case in own],
        weighted_metrics=[made(case, "weighted") for case in own],
    )
    weights = weights_of(layouts.Lists(), shape)
    if by_subtopic:
        y = np.stack([y, np.roll(y, 1, axis=1)], axis=2)
    # Compiling many metrics takes long: they are trained with once, and saved once.
    if shape == "item":
        losses_of(model, x, y, weights)
    found = model.evaluate(x, y, sample_weight=weights, batch_size=BATCH, verbose=0, return_dict=True)
    scores = model.predict(x, verbose=0)
    for case in own:
        plain, weighted = made(case), made(case, "weighted")
        plain.update_state(y, scores)
        weighted.update_state(y, scores, weights)
        assert found[plain.name] == pytest.approx(float(plain.result()), rel=1e-5)
        assert found[weighted.name] == pytest.approx(float(weighted.result()), rel=1e-5)
    if shape is not None:
        return
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    again = loaded.evaluate(x, y, sample_weight=weights, batch_size=BATCH, verbose=0, return_dict=True)
    assert again == pytest.approx(found, rel=1e-5)


@every_loss
def test_mixed_precision(case, random):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model, x, y = task(case.layout, random)
        model.compile(optimizer=keras.optimizers.Adam(0.05), loss=case.make())
        history = losses_of(model, x, y, epochs=3)
    finally:
        keras.config.set_dtype_policy("float32")
    assert keras.backend.standardize_dtype(model.output.dtype) == "bfloat16"
    check_learned(case, history, model, x, y)


FIXED = [c for c in cases.DEFAULT_LOSSES if isinstance(c.layout, layouts.Lists) and c.has("nothing is drawn")]


@pytest.mark.parametrize("case", FIXED, ids=str)
def test_keras_mask_of_the_model(case, random):
    """Padding known to the model alone: its mask reaches the loss, whatever the labels there are."""
    features = keras.Input((LENGTH, FEATURES))
    columns = case.layout.columns
    scores = keras.layers.Dense(columns or 1)(keras.layers.Masking()(features))
    model = keras.Model(features, scores if columns else DropLastAxis()(scores))
    model.compile(optimizer="adam", loss=case.make(), metrics=[] if columns else [metrics.NDCG()])
    x = random.normal(size=(BATCH, LENGTH, FEATURES)).astype("float32")
    x[:, -1] = 0
    labels = labels_of(case.layout, random.normal(size=(BATCH, LENGTH)))
    padded = labels.copy()
    padded[:, -1] = -1
    by_mask = model.evaluate(x, labels, batch_size=BATCH, verbose=0, return_dict=True)
    by_label = model.evaluate(x, padded, batch_size=BATCH, verbose=0, return_dict=True)
    assert by_mask == pytest.approx(by_label, rel=1e-5)
    scores = keras.ops.convert_to_numpy(model(x))
    assert by_mask["loss"] == pytest.approx(float(case.make()(padded, scores)), rel=1e-5)


@keras.saving.register_keras_serializable(package="tests")
class DropLastAxis(keras.layers.Layer):
    """(B, L, 1) to (B, L), with the mask of the list."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs):
        return inputs[..., 0]
