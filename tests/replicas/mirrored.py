"""What `tf.distribute.MirroredStrategy` makes of losses and of training, beside one device; printed as JSON.

The number of replicas is the argument: a process has one number for all of its collectives.
"""

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

REPLICAS = int(sys.argv[1])
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * REPLICAS)

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from test_in_batch import OPTIONS, embeddings_of, targets_of  # noqa: E402

from replicas.models import data_of, model_of, weights_of  # noqa: E402
from tfrankloss import InBatchSoftmaxLoss  # noqa: E402

STRATEGY = tf.distribute.MirroredStrategy([f"CPU:{device}" for device in range(REPLICAS)])
# Where the ten rows of a batch are cut, and for which options, since each takes seconds to trace: four replicas try
# those with the most columns, two all others.
CUTS, CASES = {2: ([6], (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11)), 4: ([4, 7, 10], (9,))}[REPLICAS]
REDUCTIONS = ("sum_over_batch_size", "mean_with_sample_weight", "sum")


def value_and_gradient(loss, *batch):
    """The loss of a batch on one device."""
    targets, embeddings, weights = map(tf.constant, batch)
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        value = loss(targets, embeddings, weights)
    return value.numpy(), tape.gradient(value, embeddings).numpy()


def over_replicas(loss, *batch):
    """The sum of the losses of all replicas, and the gradients of all rows."""
    parts = [np.split(array, CUTS) for array in batch]

    def part_of(number):
        def value(context):
            return tf.constant(parts[number][context.replica_id_in_sync_group])

        return STRATEGY.experimental_distribute_values_from_function(value)

    # As batches come from a data set: of any number of rows.
    @tf.function(input_signature=[tf.TensorSpec([None, *array.shape[1:]], array.dtype) for array in batch])
    def kept(*arrays):
        return arrays

    @tf.function(autograph=False)
    def run(*arrays):
        def on_replica(targets, embeddings, weights):
            targets, embeddings, weights = kept(targets, embeddings, weights)
            with tf.GradientTape() as tape:
                tape.watch(embeddings)
                value = loss(targets, embeddings, weights)
            return value, tape.gradient(value, embeddings)

        return STRATEGY.run(on_replica, args=arrays)

    values, gradients = map(STRATEGY.experimental_local_results, run(*map(part_of, range(3))))
    return sum(value.numpy() for value in values), np.concatenate([gradient.numpy() for gradient in gradients])


def of_losses():
    """The largest differences of value and gradient for every option, on replicas with unlike numbers of rows."""
    for number in CASES:
        settings, random = OPTIONS[number], np.random.default_rng(number)
        negatives = 2 * (number % 2)
        batch = targets_of(settings, random, negatives), embeddings_of(random, rows=10, negatives=negatives)
        if settings.get("candidate_probability") == "embeddings":
            # Logarithms of probabilities.
            batch[1][:, :, -1] = -np.abs(batch[1][:, :, -1])
        batch = (*batch, random.integers(0, 4, 10).astype("float32"))
        loss = InBatchSoftmaxLoss(**settings, reduction=REDUCTIONS[number % 3], chunk_size=(None, 3)[number // 2 % 2])
        value, gradient = value_and_gradient(loss, *batch)
        found, found_gradient = over_replicas(loss, *batch)
        size = max(1, np.abs(gradient).max())
        yield float(abs(found / value - 1)), float(np.abs(found_gradient - gradient).max() / size)


def of_training(rows, train, after, **options):
    """How far replicas are from one device in losses, weights, and what comes after."""
    x, ids, weights = data_of(rows, options.get("negatives", 0))
    found = []
    for strategy in (tf.distribute.get_strategy(), STRATEGY):
        with strategy.scope():
            model = model_of(**options)
        data = tf.data.Dataset.from_tensor_slices((x, ids, weights)).batch(8)
        logs = train(model, data).history
        found.append(np.concatenate([logs["loss"], [after(model, data)], weights_of(model)]))
    return float(np.abs(found[1] - found[0]).max())


def by_keras(model, data):
    """Three steps of `fit`."""
    return model.fit(data, verbose=0)


def evaluate(model, data):
    """The loss of the trained model."""
    return model.evaluate(data, verbose=0)


def nothing(model, data):
    """No further comparison, to save time."""
    return 0.0


TRAININGS = {
    2: {
        "a last batch of one row": lambda: of_training(17, by_keras, evaluate, negatives=2),
        "micro-batches": lambda: of_training(22, by_keras, nothing, micro_batch_size=3),
    },
    4: {"a last batch in unlike parts": lambda: of_training(22, by_keras, nothing)},
}

if __name__ == "__main__":
    trainings = {name: train() for name, train in TRAININGS[REPLICAS].items()}
    print(json.dumps({"losses": list(of_losses()), "trainings": trainings}))
