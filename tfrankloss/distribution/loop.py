"""A training loop for several workers, where `keras.Model.fit` cannot build the model."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from tfrankloss import errors
from tfrankloss.distribution import backups

# Callbacks that write where all workers would write: only the chief calls them.
WRITERS = ("ModelCheckpoint", "CSVLogger", "TensorBoard", "RemoteMonitor", "ProgbarLogger")


def is_chief(strategy: Any = None) -> bool:
    """Whether this process is the worker that prints and writes: the chief, or the first one; the only one always is.

    Args:
        strategy: A strategy of `tf.distribute`; None for the one whose scope this is.

    Example:
        >>> from tfrankloss import distribution
        >>> distribution.is_chief()
        True
    """
    import tensorflow as tf

    return bool((strategy or tf.distribute.get_strategy()).extended.should_checkpoint)


def fit(
    model: keras.Model,
    dataset: Any,
    *,
    epochs: int = 1,
    steps_per_epoch: int | None = None,
    validation_data: Any = None,
    strategy: Any = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    backup_dir: str | Path | None = None,
    backup_every: int | None = None,
    verbose: int = 1,
) -> keras.callbacks.History:
    """Trains a compiled Keras model on all workers of a strategy, from where it was when it was killed.

    For `tf.distribute.MultiWorkerMirroredStrategy`, under which `keras.Model.fit` cannot build a model; it does the
    same under any other strategy and under none. Every worker runs the same program: makes the strategy first of all,
    builds and compiles the model in its scope, and calls this with the same data set of whole batches, of which each
    replica takes its part. Losses and metrics are those of all replicas.

    Callbacks are called on every worker with the same logs, so that what they decide is decided everywhere; those of
    Keras that write files are called on the chief only, as is the progress bar. When a callback of one worker stops the
    training, it stops on all of them: with several workers after the epoch.

    With ``backup_dir`` a training that was killed goes on where its last backup was, when all workers are started
    again: with the same weights, optimizer, seeds, metrics and place in the data, which must come in the same order
    again, as from `tf.data.Dataset.shuffle` with a seed. It then ends as it would have. Callbacks get back the numbers
    that they keep, such as the best result so far and how long ago it was, but nothing else (of
    `keras.callbacks.EarlyStopping` not the best weights). The backup is removed at the end.

    Args:
        model: A compiled model, made in the scope of ``strategy``.
        dataset: A `tf.data.Dataset` of batches ``(x, y)`` or ``(x, y, sample_weight)`` for all replicas together.
            When it ends, it starts over.
        epochs: Passes through the data, or through ``steps_per_epoch`` batches each.
        steps_per_epoch: Batches of an epoch; None for those of a data set that knows how many it has.
        validation_data: A data set of batches that ends, to evaluate after each epoch; None for no evaluation.
        strategy: The strategy; None for that of the model.
        callbacks: Keras callbacks.
        backup_dir: A folder for the backup, the same one for all workers, of this training alone; None for no backup.
        backup_every: Steps from one backup to the next; None for one after each epoch.
        verbose: 0 for no progress bar, 1 for a bar, 2 for a line per epoch; on the chief.

    Returns:
        The history, of the epochs before a restart too.

    Raises:
        TypeError: If the data are no `tf.data.Dataset`, or a number is not an integer.
        ValueError: If the model is not compiled, belongs to another strategy, or takes several steps per execution; if
            the backup is that of another model, or not all workers have found the same one; on another backend than
            TensorFlow.

    Example:
        >>> import tensorflow as tf
        >>> from tfrankloss import distribution
        >>> with tf.distribute.get_strategy().scope():
        ...     model = keras.Sequential([keras.layers.Dense(1, kernel_initializer="zeros")])
        ...     model.compile("sgd", "mse")
        >>> data = tf.data.Dataset.from_tensors(([[1.0], [2.0]], [[2.0], [4.0]]))
        >>> history = distribution.fit(model, data, epochs=2, verbose=0)
        >>> [round(loss, 4) for loss in history.history["loss"]]
        [10.0, 8.6866]
    """
    strategy = _check(model, dataset, validation_data, strategy)
    errors.check_positive_integer("epochs", epochs)
    errors.check_positive_integer("backup_every", backup_every, optional=True)
    steps = _count("steps_per_epoch", dataset, steps_per_epoch)
    chief = is_chief(strategy)
    with strategy.scope():
        _build(model, dataset)
        folder = None if backup_dir is None else Path(backup_dir)
        at = backups.START if folder is None else backups.restore(model, folder)
        _check_same_start(strategy, at.epoch * steps + at.step)
    data = iter(strategy.experimental_distribute_dataset(dataset.repeat().skip(at.epoch * steps + at.step)))
    train = _step_function(model, strategy, model.train_step)
    evaluate = None if validation_data is None else _Evaluation(model, strategy, validation_data)
    history = keras.callbacks.History()
    called = keras.callbacks.CallbackList(
        [*_called_here(callbacks, strategy), history],
        add_progbar=chief and verbose != 0,
        model=model,
        verbose=verbose,
        epochs=epochs,
        steps=steps,
    )
    model.stop_training = False
    called.on_train_begin()
    kept = backups.CallbackNumbers(callbacks)
    kept.restore(at.callbacks)
    history.history.update({name: list(values) for name, values in at.history.items()})
    history.epoch.extend(range(max(map(len, at.history.values()), default=0)))

    def back_up(epoch: int, step: int) -> None:
        if folder is not None:
            progress = backups.Progress(epoch, step, history.history, kept.numbers())
            backups.save(model, folder, progress, write=chief)

    logs: dict[str, Any] = {}
    alone = not _several_workers(strategy)
    for epoch in range(at.epoch, epochs):
        first = at.step if epoch == at.epoch else 0
        if first == 0:
            model.reset_metrics()
        called.on_epoch_begin(epoch)
        for step in range(first, steps):
            called.on_train_batch_begin(step)
            called.on_train_batch_end(step, train(data))
            if backup_every and (epoch * steps + step + 1) % backup_every == 0 and step + 1 < steps:
                back_up(epoch, step + 1)
            if alone and model.stop_training:
                break
        logs = _python(model.get_metrics_result())
        if evaluate is not None:
            logs.update(evaluate(called))
        called.on_epoch_end(epoch, logs)
        model.stop_training = _any(strategy, model.stop_training)
        # Once stopped it is at its end, also for those who take it up.
        back_up(epochs if model.stop_training else epoch + 1, 0)
        if model.stop_training:
            break
    if model.optimizer is not None:
        model.optimizer.finalize_variable_values(model.trainable_variables)
    called.on_train_end(logs)
    if folder and chief:
        backups.remove(folder)
    return history


def _check(model: keras.Model, dataset: Any, validation_data: Any, strategy: Any) -> Any:
    """The strategy, once it is sure that all fits."""
    if keras.backend.backend() != "tensorflow":
        raise ValueError(f"The Keras backend must be 'tensorflow'. Received: {keras.backend.backend()!r}")
    import tensorflow as tf

    for name, given in (("dataset", dataset), ("validation_data", validation_data)):
        if not isinstance(given, tf.data.Dataset) and (given is not None or name == "dataset"):
            raise TypeError(f"`{name}` must be a tf.data.Dataset of batches. {errors.received(name, given)}")
    if not model.compiled:
        raise ValueError("`model` must be compiled. Received: a model without a loss")
    if model.steps_per_execution != 1:
        raise ValueError(
            f"`model` must take one step at a time. Received: steps_per_execution={model.steps_per_execution}"
        )
    if strategy is not None and model.distribute_strategy is not strategy:
        raise ValueError(
            "`model` must be made in the scope of `strategy`. "
            f"Received: a model of {type(model.distribute_strategy).__name__}, strategy={strategy}"
        )
    return model.distribute_strategy


def _count(name: str, dataset: Any, steps: int | None) -> int:
    """How many batches to take of a data set."""
    errors.check_positive_integer(name, steps, optional=True)
    count = int(dataset.cardinality())
    if steps is None and count < 1:
        # What tf.data calls -1 and -2.
        reason = {-1: "an infinite data set", -2: "a data set of unknown length"}.get(count, "an empty data set")
        raise ValueError(f"`{name}` must be given for {reason}. Received: {name}=None")
    return count if steps is None else steps


class _DryRun(keras.Operation):
    """A step without gradients, called with the shapes of a batch: layers, losses and metrics make their variables."""

    def __init__(self, model: keras.Model):
        super().__init__()
        self.model = model

    def call(self, data: Any) -> Any:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        y_pred = self.model(x, training=False)
        self.model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
        return self.model.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=False)


def _build(model: keras.Model, dataset: Any) -> None:
    """Make the variables of layers, metrics and optimizer, which cannot be made while replicas run."""
    import tensorflow as tf

    batch = tf.nest.map_structure(lambda spec: keras.KerasTensor(spec.shape, spec.dtype.name), dataset.element_spec)
    _DryRun(model)(batch)
    if model.optimizer is not None and not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


def _step_function(model: keras.Model, strategy: Any, step: Callable[[Any], dict[str, Any]]) -> Callable[[Any], Any]:
    """A function that takes the next batch of an iterator on all replicas and gives the mean of their logs."""
    import tensorflow as tf

    def on_replica(batch):
        logs = step(batch)
        values = [tf.convert_to_tensor(value) for value in logs.values()]
        means = tf.distribute.get_replica_context().all_reduce("MEAN", values)
        return dict(zip(logs, means, strict=True))

    def on_all(iterator):
        logs = strategy.run(on_replica, args=(next(iterator),))
        return {name: strategy.experimental_local_results(value)[0] for name, value in logs.items()}

    return on_all if model.run_eagerly else tf.function(on_all, autograph=False, reduce_retracing=True)


class _Evaluation:
    """Evaluates a data set on all replicas: called with the callbacks, it gives the logs as those of validation."""

    def __init__(self, model: keras.Model, strategy: Any, dataset: Any):
        self.model = model
        self.steps = _count("validation_steps", dataset, None)
        self.data = strategy.experimental_distribute_dataset(dataset)
        self.function = _step_function(model, strategy, model.test_step)

    def __call__(self, called: keras.callbacks.CallbackList) -> dict[str, float]:
        self.model.reset_metrics()
        called.on_test_begin()
        batches = iter(self.data)
        for step in range(self.steps):
            called.on_test_batch_begin(step)
            called.on_test_batch_end(step, self.function(batches))
        logs = _python(self.model.get_metrics_result())
        called.on_test_end(logs)
        return {f"val_{name}": value for name, value in logs.items()}


def _called_here(callbacks: Sequence[keras.callbacks.Callback], strategy: Any) -> list[keras.callbacks.Callback]:
    """The callbacks that this worker calls."""
    writers = tuple(getattr(keras.callbacks, name) for name in WRITERS)
    if any(isinstance(callback, keras.callbacks.BackupAndRestore) for callback in callbacks):
        raise ValueError("`callbacks` must be without BackupAndRestore, for which there is `backup_dir`.")
    return [callback for callback in callbacks if is_chief(strategy) or not isinstance(callback, writers)]


def _several_workers(strategy: Any) -> bool:
    resolver = strategy.cluster_resolver
    return resolver is not None and sum(map(len, resolver.cluster_spec().as_dict().values())) > 1


def _everywhere(strategy: Any, value: float, how: str) -> float:
    """The sum or mean of a number over all replicas, of which those of a worker have the same."""
    import tensorflow as tf

    numbers = strategy.run(lambda: tf.constant(value, "float64"))
    return float(strategy.reduce(how, numbers, axis=None))


def _any(strategy: Any, stop: bool) -> bool:
    """Whether it holds for any worker."""
    return _everywhere(strategy, float(stop), "SUM") > 0


def _check_same_start(strategy: Any, steps: int) -> None:
    mean = _everywhere(strategy, steps, "MEAN")
    if mean != steps:
        raise ValueError(
            "`backup_dir` must be one folder that all workers see. "
            f"Received: backups of {steps} steps here and {mean:g} in the mean of all workers"
        )


def _python(logs: dict[str, Any]) -> dict[str, Any]:
    """Logs as the numbers that callbacks take."""
    return {name: float(keras.ops.convert_to_numpy(value)) for name, value in logs.items()}
