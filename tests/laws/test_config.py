"""Settings: what a config keeps, and what a constructor refuses. For losses and metrics alike, on every backend."""

import inspect
import re

import keras
import numpy as np
import pytest
from backend import metric_result, values_and_gradient

from laws import cases
from tfrankloss.config import from_config

pytestmark = pytest.mark.backends

CLASSES = cases.LOSS_CLASSES + cases.METRIC_CLASSES
every_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
every_case = pytest.mark.parametrize("case", cases.LOSSES + cases.METRICS, ids=str)
KEPT_BY_KERAS = {"name", "dtype", "reduction"}


@keras.saving.register_keras_serializable(package="tests")
def square_root_discount(ranks):
    return ranks**-0.5


def settings_of(cls):
    return [name for name in inspect.signature(cls).parameters if name not in KEPT_BY_KERAS]


def dtype_of(thing):
    return keras.dtype_policies.get(thing.dtype).compute_dtype


@every_class
def test_config_holds_every_argument(cls):
    given = cases.every_option(cls)
    made = cls(**given)
    config = made.get_config()
    assert set(config) == set(inspect.signature(cls).parameters)
    again = cls.from_config(config)
    assert again.get_config() == config
    for name, value in given.items():
        if name != "dtype":
            assert repr(from_config(config)[name]) == repr(value), name
    assert dtype_of(again) == dtype_of(made) == "float64"


@every_case
def test_config_gives_an_equal_one(case, random):
    made = case.make()
    config = made.get_config()
    assert case.cls.from_config(config).get_config() == config
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(made))
    assert type(again) is case.cls
    assert again.get_config() == config


@pytest.mark.parametrize("case", cases.DEFAULT_LOSSES, ids=str)
def test_restored_loss_has_the_same_value(case, random):
    batch = case.layout.sample(random)
    again = type(case.loss).from_config(case.loss.get_config())
    np.testing.assert_array_equal(values_and_gradient(again, *batch)[0], values_and_gradient(case.loss, *batch)[0])


@pytest.mark.parametrize("cls", cases.METRIC_CLASSES, ids=lambda cls: cls.__name__)
def test_restored_metric_has_the_same_value(cls, random):
    case = cases.Case(cls, tuple((name, values[0]) for name, values in cases.options(cls).items()))
    batch, metric = case.layout.sample(random), case.make()
    assert metric_result(cls.from_config(metric.get_config()), batch) == metric_result(metric, batch)


TRANSFORMS = [(cls, name) for cls in CLASSES for name in settings_of(cls) if name in ("gain", "discount")]


@pytest.mark.parametrize(("cls", "name"), TRANSFORMS)
def test_functions_survive_a_config(cls, name):
    made = cases.make(cls, **{name: square_root_discount})
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(made))
    assert again.get_config() == made.get_config()
    assert again.settings[name] is square_root_discount


@every_class
@pytest.mark.parametrize("name", [None, "my_name"])
def test_names(cls, name):
    made = cases.make(cls, name=name) if name else cases.make(cls)
    assert made.name == name if name else made.name
    assert cls.from_config(made.get_config()).name == made.name


@pytest.mark.parametrize(
    ("cls", "name"), [(cls, name) for cls in CLASSES for name in settings_of(cls)], ids=lambda value: str(value)
)
@pytest.mark.parametrize("wrong", [object(), "nonsense", [1]], ids=["object", "string", "list"])
def test_wrong_settings_raise_at_once(cls, name, wrong):
    with pytest.raises((TypeError, ValueError), match=re.escape(f"`{name}` must")) as caught:
        cases.make(cls, **{name: wrong})
    assert f"Received: {name}=" in str(caught.value)


NUMBERS = [(cls, name) for cls in CLASSES for name in settings_of(cls) if name.endswith("temperature")]


@pytest.mark.parametrize(("cls", "name"), NUMBERS)
@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf"), True, None])
def test_temperatures_are_positive_numbers(cls, name, wrong):
    with pytest.raises((TypeError, ValueError), match=f"`{name}` must be .*Received: {name}="):
        cases.make(cls, **{name: wrong})


COUNTS = [(cls, name) for cls in CLASSES for name in settings_of(cls) if name in ("k", "top_k")]


@pytest.mark.parametrize(("cls", "name"), COUNTS)
@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "2"])
def test_cutoffs_are_positive_integers(cls, name, wrong):
    with pytest.raises((TypeError, ValueError), match=f"`{name}` must be .*Received: {name}="):
        cases.make(cls, **{name: wrong})


@pytest.mark.parametrize("cls", cases.LOSS_CLASSES, ids=lambda cls: cls.__name__)
def test_unknown_reductions_raise(cls):
    with pytest.raises(ValueError, match="reduction"):
        cases.make(cls, reduction="average")
