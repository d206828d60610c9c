"""Training steps that hold the activations of a few rows at a time, whatever the batch: gradients by two passes.

The embeddings of all rows are made first, a micro-batch at a time and without a record. The loss of the whole batch
then has a gradient for each of them, and the second pass makes each micro-batch again, with a record, to carry that on
to the weights. Before it, random seeds and moving averages are put back, so that dropout drops the same and averages
move once.

Source: Gao, Zhang, Han and Callan, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup",
RepL4NLP 2021 (GradCache).
"""

from collections.abc import Iterator
from typing import Any

import keras

Tensor = Any

NO_ACTIVITY = "`micro_batch_size` must be None where layers add losses of activations, as an activity regularizer does."


def train_step(model: keras.Model, size: int, *arguments: Any) -> Any:
    """What ``model.train_step(*arguments)`` does on the running backend, with ``size`` rows at a time."""
    steps: dict[str, Any] = {"tensorflow": _tensorflow_step, "jax": _jax_step, "torch": _torch_step}
    return steps[keras.backend.backend()](model, size, *arguments)


def check_layers(model: keras.Model) -> None:
    """Raise if a layer is seen to add losses of its activations, which no embedding tells.

    Layers inside layers that are no models are not seen: `_check_losses` finds what they add, in the first step.
    """
    found = [layer.name for layer in _layers(model) if getattr(layer, "activity_regularizer", None) is not None]
    if found:
        raise ValueError(f"{NO_ACTIVITY} Received: layers={found}")


def _layers(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    yield layer
    for inner in getattr(layer, "layers", ()):
        yield from _layers(inner)


def _check_losses(model: keras.Model, losses: list[Any]) -> None:
    """Raise if there are more losses, after a call of the model, than penalties of weights."""
    penalties = sum(weight.regularizer is not None for weight in model.trainable_weights)
    if len(losses) > penalties:
        raise ValueError(f"{NO_ACTIVITY} Received: {len(losses) - penalties} losses added in a call")


def _tensorflow_step(model: keras.Model, size: int, data: Any) -> dict[str, Any]:
    import tensorflow as tf

    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    weights, states = model.trainable_weights, [variable.value for variable in model.non_trainable_variables]
    rows = tf.shape(keras.tree.flatten(x)[0])[0]
    count = (rows + size - 1) // size

    def part(values, number):
        return keras.tree.map_structure(lambda array: array[number * size : (number + 1) * size], values)

    def embed(number, found):
        found = found.write(number, model(part(x, number), training=True))
        _check_losses(model, model.losses)
        return number + 1, found

    at_first = [tf.identity(state) for state in states]
    output = model.outputs[0]
    found = tf.TensorArray(model.compute_dtype, count, infer_shape=False, element_shape=output.shape)
    # One at a time: what runs ahead holds activations of its own.
    in_turn = {"parallel_iterations": 1}
    found = tf.while_loop(lambda number, _: number < count, embed, (0, found), **in_turn)[1]
    embeddings = tf.ensure_shape(found.concat(), output.shape)
    variables = [weight.value for weight in weights]
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        loss = model.compute_loss(x=x, y=y, y_pred=embeddings, sample_weight=sample_weight, training=True)
        scaled = model.optimizer.scale_loss(loss)
    # Penalties of weights have a gradient of their own.
    upstream, *slopes = tape.gradient(scaled, [embeddings, *variables])
    upstream = tf.convert_to_tensor(upstream)
    at_last = [tf.identity(state) for state in states]
    for state, value in zip(states, at_first, strict=True):
        state.assign(value)

    def accumulate(number, slopes):
        with tf.GradientTape() as tape:
            outputs = model(part(x, number), training=True)
        more = tape.gradient(outputs, variables, part(upstream, number), unconnected_gradients="zero")
        return number + 1, [old + tf.convert_to_tensor(new) for old, new in zip(slopes, more, strict=True)]

    # Zeros that no optimizer of graphs knows as such, or they would be kept as constants beside the sums.
    slopes = [
        tf.minimum(tf.abs(variable), 0) if slope is None else tf.convert_to_tensor(slope)
        for slope, variable in zip(slopes, variables, strict=True)
    ]
    slopes = tf.while_loop(lambda number, _: number < count, accumulate, (0, slopes), **in_turn)[1]
    for state, value in zip(states, at_last, strict=True):
        state.assign(value)
    model.optimizer.apply_gradients(zip(slopes, weights, strict=True))
    # Each of several replicas has its share of the loss.
    _update_loss(model, loss * tf.distribute.get_strategy().num_replicas_in_sync, rows)
    return model.compute_metrics(x, y, embeddings, sample_weight=sample_weight)


def _jax_step(model: keras.Model, size: int, state: Any, data: Any) -> tuple[Any, Any]:
    import jax

    trainable, at_first, of_optimizer, of_metrics = state
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    rows = keras.tree.flatten(x)[0].shape[0]
    full = rows // size * size

    def forward(weights, states, inputs):
        outputs, states, losses = model.stateless_call(weights, states, inputs, training=True, return_losses=True)
        _check_losses(model, losses)
        return outputs, states

    def scan(step, carried, values):
        """Carry a step over the micro-batches of ``values``, of which the last may be short."""
        outputs = []
        if full:
            cut = jax.tree.map(lambda array: array[:full].reshape(-1, size, *array.shape[1:]), values)
            carried, output = jax.lax.scan(step, carried, cut)
            outputs += [output.reshape(full, *output.shape[2:])]
        if full < rows:
            carried, output = step(carried, jax.tree.map(lambda array: array[full:], values))
            outputs += [output]
        return carried, jax.numpy.concatenate(outputs)

    def embed(states, inputs):
        outputs, states = forward(trainable, states, inputs)
        return states, outputs

    states, embeddings = scan(embed, at_first, x)

    def loss_of(embeddings, weights):
        loss, variables = model.stateless_compute_loss(
            weights, states, of_metrics, x=x, y=y, y_pred=embeddings, sample_weight=sample_weight, training=True
        )
        with keras.StatelessScope(state_mapping=zip(model.optimizer.variables, of_optimizer, strict=True)):
            return model.optimizer.scale_loss(loss), (loss, variables)

    derivative = jax.value_and_grad(loss_of, argnums=(0, 1), has_aux=True)
    (_, (loss, (_, at_last, of_metrics))), (upstream, slopes) = derivative(embeddings, trainable)

    def accumulate(carried, given):
        states, slopes = carried
        inputs, upstream = given
        outputs, pull_back, states = jax.vjp(lambda weights: forward(weights, states, inputs), trainable, has_aux=True)
        more = pull_back(upstream)[0]
        return (states, jax.tree.map(jax.numpy.add, slopes, more)), outputs[:, :0, 0]

    (_, slopes), _ = scan(accumulate, (at_first, slopes), (x, upstream))
    trainable, of_optimizer = model.optimizer.stateless_apply(of_optimizer, slopes, trainable)
    with keras.StatelessScope(state_mapping=zip(model.metrics_variables, of_metrics, strict=True)) as scope:
        _update_loss(model, loss, rows)
        logs = model.compute_metrics(x, y, embeddings, sample_weight)
    of_metrics = [scope.get_current_value(variable) for variable in model.metrics_variables]
    return logs, (trainable, at_last, of_optimizer, of_metrics)


def _torch_step(model: keras.Model, size: int, data: Any) -> dict[str, Any]:
    import torch

    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    states = model.non_trainable_variables
    rows = len(keras.tree.flatten(x)[0])
    starts = range(0, rows, size)

    def part(values, start):
        return keras.tree.map_structure(lambda array: array[start : start + size], values)

    def copies():
        return [state.value.detach().clone() for state in states]

    model.zero_grad()
    at_first = copies()
    with torch.no_grad():
        embeddings = torch.cat([model(part(x, start), training=True) for start in starts])
        _check_losses(model, model.losses)
    embeddings.requires_grad_(True)
    loss = model.compute_loss(x=x, y=y, y_pred=embeddings, sample_weight=sample_weight, training=True)
    model.optimizer.scale_loss(loss).backward()
    at_last = copies()
    for state, value in zip(states, at_first, strict=True):
        state.assign(value)
    for start in starts:
        model(part(x, start), training=True).backward(part(embeddings.grad, start))
    for state, value in zip(states, at_last, strict=True):
        state.assign(value)
    weights = model.trainable_weights[:]
    with torch.no_grad():
        model.optimizer.apply([weight.value.grad for weight in weights], weights)
    _update_loss(model, loss.detach(), rows)
    return model.compute_metrics(x, y, embeddings.detach(), sample_weight=sample_weight)


def _update_loss(model: keras.Model, loss: Tensor, rows: Any) -> None:
    """Add the loss of a batch to the mean that Keras prints."""
    for metric in model.metrics:
        if metric.name == "loss":
            metric.update_state(loss, sample_weight=rows)
