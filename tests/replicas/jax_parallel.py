"""How far training on two devices of JAX is from training on one; printed as JSON."""

import json
import sys
from pathlib import Path

import jax
import keras
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from replicas.models import SETTINGS, data_of, model_of, weights_of

SEVERAL = {
    "plain": {},
    "chunks, symmetric": {"settings": {**SETTINGS, "symmetric": True, "chunk_size": 3}},
    "micro-batches": {"micro_batch_size": 4},
}


def trained(**options):
    """Losses of three steps, the last of which is not full, and the weights after them."""
    x, ids, weights = data_of(22)
    model = model_of(**options)
    wanted = 1 if keras.distribution.distribution() is None else 2
    assert {len(weight.value.sharding.device_set) for weight in model.weights} == {wanted}
    logs = model.fit(x, ids, sample_weight=weights, batch_size=8, shuffle=False, verbose=0).history
    return np.concatenate([logs["loss"], weights_of(model)])


if __name__ == "__main__":
    assert jax.device_count() == 2
    expected = {name: trained(**options) for name, options in SEVERAL.items()}
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    print(json.dumps({name: float(np.abs(trained(**SEVERAL[name]) - expected[name]).max()) for name in SEVERAL}))
