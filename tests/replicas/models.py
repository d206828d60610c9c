"""Models and data that one device and several replicas train alike."""

import keras
import numpy as np

from tfrankloss import InBatchSoftmaxLoss
from tfrankloss.models import two_tower

SETTINGS = {"targets": "candidate_ids", "temperature": 0.3}


def model_of(settings=SETTINGS, negatives=0, optimizer=None, dropout=0.0, metrics=None, **options):
    """Two towers with dropout and a penalty of weights, compiled."""
    keras.utils.set_random_seed(3)
    layers = keras.layers
    user, item = keras.Input((), dtype="int32", name="user"), keras.Input((3,), name="item")
    query = layers.Embedding(7, 4, embeddings_regularizer="l2")(user)
    query = layers.Dense(4, activation="tanh")(layers.Dropout(dropout, seed=5)(query))
    # Without a bias, which shifts all scores of a row alike: Adam would follow the rounding of its gradient.
    candidate = layers.Dense(4, use_bias=False)(item)
    towers = keras.Model(user, query, name="users"), keras.Model(item, candidate, name="items")
    similarity = settings.get("similarity", "dot")
    model = two_tower(*towers, similarity=similarity, num_negatives=negatives or None, **options)
    model.compile(optimizer or keras.optimizers.Adam(0.05), InBatchSoftmaxLoss(**settings), metrics=metrics)
    return model


def data_of(rows=24, negatives=0):
    """Inputs, ids and weights; some rows are padding, by id or by weight, and ids come more than once."""
    random = np.random.default_rng(8)
    shape = (rows, 1 + negatives, 3) if negatives else (rows, 3)
    x = {"user": random.integers(0, 7, rows).astype("int32"), "item": random.normal(size=shape).astype("float32")}
    ids = random.integers(0, 9, (rows, 1 + negatives)).astype("int32")
    ids[::5] = -1
    return x, ids, random.integers(0, 4, rows).astype("float32")


def weights_of(model):
    """All weights of a model in one array."""
    return np.concatenate([keras.ops.convert_to_numpy(weight).ravel() for weight in model.weights])
