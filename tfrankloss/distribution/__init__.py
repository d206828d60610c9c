"""Training on several replicas with TensorFlow: candidates of all of them as negatives, and a loop for several workers.

A replica is one copy of the model that takes a part of each batch, under a strategy of `tf.distribute`. TensorFlow is
imported when a function needs it. On JAX, `keras.distribution` needs nothing of this.
"""

from tfrankloss.distribution.loop import fit, is_chief

__all__ = ["fit", "is_chief"]
