"""TensorFlow Ranking 0.5.5 without its package, which does not import any more; its loss and metric modules do."""

import functools
import importlib
import importlib.util
import sys
import types


@functools.cache
def load():
    """The modules ``losses`` and ``metrics`` of TensorFlow Ranking, or None where it is not installed."""
    spec = importlib.util.find_spec("tensorflow_ranking")
    if spec is None:
        return None
    # `import tensorflow_ranking` needs tf.estimator, which TensorFlow dropped in 2.16: bare packages skip it.
    root = spec.submodule_search_locations[0]
    for name in ("tensorflow_ranking", "tensorflow_ranking.python", "tensorflow_ranking.python.keras"):
        if name not in sys.modules:
            package = types.ModuleType(name)
            package.__path__ = ["/".join([root, *name.split(".")[1:]])]
            sys.modules[name] = package
    names = ("losses", "metrics")
    return types.SimpleNamespace(**{n: importlib.import_module(f"tensorflow_ranking.python.keras.{n}") for n in names})
