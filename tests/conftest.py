"""What every test needs before TensorFlow or Keras is imported, and how many examples the laws are tried on."""

import functools
import inspect
import itertools
import os
import re

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TensorFlow Ranking's modules are written for Keras 2; Keras 3, imported as `keras`, is not touched by this.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
# Tests run side by side: threads of NumPy's own would wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import hypothesis
import keras
import numpy
import pytest
import tensorflow

# How many random examples: of a quick run, and of the two sweeps; of settings there are several to a class.
QUICK, SWEEPS = 6, {"classes": 200, "settings": 25}
# The laws that a quick run tries on every setting of every class.
TELLING = (
    "test_padding",
    "test_agrees_with_the_reference",
    "test_agrees_with_the_mean_over_all_orders_of_ties",
    "test_config_gives_an_equal_one",
)

COMMON = {
    "deadline": None,
    "database": None,
    "suppress_health_check": [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large],
}
# The quick profile does not shrink: a failure repeats itself, and a sweep makes it small.
hypothesis.settings.register_profile(
    "quick",
    max_examples=QUICK,
    derandomize=True,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    **COMMON,
)
for sweep, examples in SWEEPS.items():
    hypothesis.settings.register_profile(sweep, max_examples=examples, print_blob=True, **COMMON)


# JAX maps some 14 pieces of memory for each function it compiles, and the kernel allows a process 65,530: beyond these
# its compiler crashes. Of so many tests the functions stay below.
TESTS_PER_CACHE = 200
tests_done = itertools.count(1)


def pytest_runtest_teardown():
    if keras.backend.backend() == "jax" and next(tests_done) % TESTS_PER_CACHE == 0:
        import jax

        jax.clear_caches()


def pytest_addoption(parser):
    parser.addoption(
        "--sweep",
        choices=SWEEPS,
        help=f"try every law on many random examples, not on {QUICK}: classes as they are, or all their other settings",
    )


def pytest_configure(config):
    # An explicit --hypothesis-profile wins: hypothesis loads it after this hook.
    hypothesis.settings.load_profile(config.getoption("--sweep") or "quick")


def pytest_collection_modifyitems(config, items):
    """Leave some settings to the sweeps.

    In a quick run TensorFlow tries those that are tried everywhere in every law, and all of them in the laws that tell
    most. Other backends, where compiling takes the time, try the defaults, and those tried everywhere in the laws that
    tell most.
    """
    sweep = config.getoption("--sweep")
    first = keras.backend.backend() == "tensorflow"

    def is_left(item):
        case = getattr(item, "callspec", None) and item.callspec.params.get("case")
        if not hasattr(case, "everywhere"):
            return False
        if sweep:
            return bool(case.items) != (sweep == "settings")
        telling = item.originalname in TELLING
        tried = (telling or case.everywhere) if first else not case.items or (telling and case.everywhere)
        return not tried

    left = [item for item in items if is_left(item)]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if not is_left(item)]


@functools.cache
def may_train(module):
    """Whether tests of a module may call ``fit``, by themselves or in the code of a page or an example."""
    return re.search(r"\.fit\(|\.main\(|doctest|exec\(", inspect.getsource(module)) is not None


@pytest.fixture(autouse=True)
def same_draws(request):
    """Weights, shuffles and dropout are drawn alike in every run of a test."""
    with pytest.MonkeyPatch.context() as patch:
        if not may_train(request.module):
            # It makes TensorFlow forget the functions that it compiled, and `fit` alone draws by its seed, to shuffle.
            patch.setattr(tensorflow.random, "set_seed", lambda seed: None)
        keras.utils.set_random_seed(0)


@pytest.fixture
def random():
    """A NumPy generator with the same seed in every test."""
    return numpy.random.default_rng(20)
