"""Training on several machines with TensorFlow's MultiWorkerMirroredStrategy, for hdr_tf/training/loop.py.

The environment variable TF_CONFIG names the workers. Each worker reads every batch and processes its share. One of them, the
"chief" or else worker 0, writes the run folder, which all must see. If a worker is lost, those that wait for it raise a
ConnectionError within about 15 seconds.

Keras's own `fit` (3.15) fails under this strategy (TensorFlow 2.21): it takes means of whole batches, and of scalars along an
axis. Here the model's `train_step` runs in a step of our own, between the same callbacks.
"""

import contextlib
import functools
import json
import os
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

EXAMPLE = '{"cluster": {"worker": ["host1:9000", "host2:9000"]}, "task": {"type": "worker", "index": 0}}'


@functools.cache  # once, and before TensorFlow computes anything
def strategy() -> tf.distribute.MultiWorkerMirroredStrategy:
    """Returns the strategy of this process; ValueError if TF_CONFIG does not say which worker this is."""
    complete = False
    with contextlib.suppress(KeyError, ValueError, TypeError, AttributeError):
        complete = {"type", "index"} <= json.loads(os.environ["TF_CONFIG"])["task"].keys()
    if not complete:
        expected = f"expected TF_CONFIG in the environment, such as '{EXAMPLE}'"
        raise ValueError(f"--strategy=multi_worker: {expected}, found {os.environ.get('TF_CONFIG') or 'none'}")
    return tf.distribute.MultiWorkerMirroredStrategy()


def is_chief() -> bool:
    """Returns whether this process is the worker that writes the run folder."""
    resolver = strategy().cluster_resolver
    cluster = resolver.cluster_spec().as_dict()
    return resolver.task_type == "chief" or ("chief" not in cluster and (resolver.task_type, resolver.task_id) == ("worker", 0))


@contextlib.contextmanager
def _report_lost_worker() -> Iterator[None]:
    """Turns TensorFlow's long error about a lost worker into a ConnectionError of one line."""
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.InternalError) as error:
        if "/job:" not in error.message:
            raise
        message = "a worker was lost; stop the others, and the same commands continue from the last checkpoint"
        raise ConnectionError(message) from error


@_report_lost_worker()
def mean(number: float) -> float:
    """Returns the mean of the workers' numbers; waits until every worker has called it."""

    @tf.function
    def compute():
        return strategy().reduce("MEAN", strategy().run(lambda: tf.constant(float(number))), axis=None)

    return float(compute())


def step(model: keras.Model) -> Callable[[Iterator], dict]:
    """Returns a function that makes one training step of all workers from an iterator and returns the mean logged values."""

    @tf.function(autograph=False)
    def train(batch):
        logs = strategy().run(model.train_step, [batch])
        return {name: strategy().reduce("MEAN", value, axis=None) for name, value in logs.items()}

    return lambda iterator: train(next(iterator))


@_report_lost_worker()
def fit(model: keras.Model, batches: tf.data.Dataset, epochs: range, steps: int, callbacks: list) -> None:
    """Trains as Keras's `fit` does, with `steps` in an epoch, a `train_function` from `step`, a model built in the scope of
    `strategy`, and an endless dataset of the batches of all workers together, of known shapes."""
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
    """Returns this machine's shares of the batches, one after the other for its accelerators."""
    count = strategy().num_replicas_in_sync

    def shares(context):
        here = count // context.num_input_pipelines
        first = context.input_pipeline_id * here

        def cut(values):
            return tf.reshape(values, [count, -1, *values.shape[1:]])[first : first + here]

        return batches.map(lambda *batch: tf.nest.map_structure(cut, batch)).unbatch().prefetch(2)

    return strategy().distribute_datasets_from_function(shares)
