"""Training on several machines, for hdr_tf/training.py: TensorFlow's MultiWorkerMirroredStrategy.

TF_CONFIG names the workers. Each makes every batch and takes its share; the first, "chief" or worker 0, writes the run folder.

Keras's own `fit` (3.15) fails under that strategy (TensorFlow 2.21): it takes means of whole batches, and of scalars along an
axis. Here its `train_step` runs in a step of our own, between the same callbacks.

Whoever waits for a worker that is lost gets a ConnectionError, after some 15 seconds at the latest.
"""

import contextlib
import functools
import json
import os


@functools.cache  # once, and before TensorFlow computes anything
def strategy():
    """The strategy of this process.

    Raises:
        ValueError: TF_CONFIG does not tell which worker this is.
    """
    import tensorflow as tf

    try:
        task = json.loads(os.environ["TF_CONFIG"])["task"]
        told = {"type", "index"} <= task.keys()
    except (KeyError, ValueError, TypeError, AttributeError):
        told = False
    if not told:
        raise ValueError(
            "--strategy=multi_worker: expected TF_CONFIG in the environment, such as "
            """'{"cluster": {"worker": ["host1:9000", "host2:9000"]}, "task": {"type": "worker", "index": 0}}', """
            f"found {os.environ.get('TF_CONFIG') or 'none'}"
        )
    return tf.distribute.MultiWorkerMirroredStrategy()


def is_chief() -> bool:
    """Whether this process writes the run folder."""
    resolver = strategy().cluster_resolver
    cluster = resolver.cluster_spec().as_dict()
    return resolver.task_type == "chief" or ("chief" not in cluster and (resolver.task_type, resolver.task_id) == ("worker", 0))


@contextlib.contextmanager
def _lost():
    """Says in one line what TensorFlow says in many when another worker is gone."""
    import tensorflow as tf

    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.InternalError) as error:
        if "/job:" not in error.message:
            raise
        raise ConnectionError(
            "a worker was lost; end the others, and the same commands go on from the last checkpoint"
        ) from error


@_lost()
def mean(number: float) -> float:
    """The mean of the numbers that the workers give, when all have given theirs."""
    import tensorflow as tf

    @tf.function
    def compute():
        return strategy().reduce("MEAN", strategy().run(lambda: tf.constant(float(number))), axis=None)

    return float(compute())


def step(model):
    """What takes an iterator of batches, makes a training step of all workers, and returns the means of what is logged."""
    import tensorflow as tf

    @tf.function(autograph=False)
    def train(batch):
        logs = strategy().run(model.train_step, [batch])
        return {name: strategy().reduce("MEAN", value, axis=None) for name, value in logs.items()}

    return lambda iterator: train(next(iterator))


@_lost()
def fit(model, batches, epochs: range, steps: int, callbacks) -> None:
    """Keras's `fit`, with `model.train_function` of `step`.

    Args:
        model: compiled keras.Model, made in the scope of `strategy`.
        batches: endless dataset of the batches of all workers together, of known shapes.
        epochs: those to train.
        steps: of an epoch.
        callbacks: list of Keras's.
    """
    import keras

    callbacks = keras.callbacks.CallbackList(
        callbacks, add_progbar=True, model=model, epochs=epochs.stop, steps=steps, verbose=2
    )
    iterator, model.stop_training = iter(_shares(batches)), False
    callbacks.on_train_begin()
    for epoch in epochs:
        model.reset_metrics()
        callbacks.on_epoch_begin(epoch)
        for number in range(steps):
            logs = model.train_function(iterator)
            callbacks.on_train_batch_end(number, logs)
        callbacks.on_epoch_end(epoch, {name: float(value) for name, value in logs.items()})
        if model.stop_training:
            break
    callbacks.on_train_end()


def _shares(batches):
    """This machine's shares of the batches, one after the other for its accelerators."""
    import tensorflow as tf

    count = strategy().num_replicas_in_sync

    def shares(context):
        here = count // context.num_input_pipelines
        first = context.input_pipeline_id * here

        def cut(values):
            return tf.reshape(values, [count, -1, *values.shape[1:]])[first : first + here]

        return batches.map(lambda *batch: tf.nest.map_structure(cut, batch)).unbatch().prefetch(2)

    return strategy().distribute_datasets_from_function(shares)
