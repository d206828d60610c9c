"""Learning to rank for Keras 3: losses, metrics, two-tower models and their export.

All of ``tfrankloss.losses`` and ``tfrankloss.metrics`` is here too, but for their ``get``. ``data`` and ``serving`` are
imported on their own, since they load TensorFlow.
"""

from tfrankloss import distribution, functional, layers, losses, metrics, models, retrieval, sampling
from tfrankloss.losses import *
from tfrankloss.metrics import *
from tfrankloss.version import __version__

__all__ = [
    "__version__",
    "distribution",
    "functional",
    "layers",
    "losses",
    "metrics",
    "models",
    "retrieval",
    "sampling",
]
__all__ += losses.__all__
__all__.remove("get")
__all__ += metrics.__all__
__all__.remove("get")

# Whose would it be? `losses.get` and `metrics.get` say so.
del get
