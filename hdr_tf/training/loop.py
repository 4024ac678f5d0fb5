"""The training loop that all scripts share: seeds, precision, accelerators, optimizers, log, checkpoints and exact resume.

A run is a folder (hdr_tf/training/run_folder.py):

    config.json               the flags, written once and compared when the run continues
    checkpoints/00002000.npz  every variable of model and optimizer at a step; the last two are kept
    logs/, log.csv            TensorBoard; a row for each epoch: loss, steps a second, share of the time spent waiting for data
    samples/00002000.png      an image of what the network does
    NAME.weights.h5           the weights, after the last step

An epoch is `log_every` steps. The same command continues a killed run from its last checkpoint, exactly as if it had never
stopped: the checkpoint has all variables, the learning rate is a function of the optimizer's step, the data are a function of
seed and step, `prepare` asks TensorFlow for deterministic operations, and gradients are added up in an order that does not
depend on how fast other threads are. With `--deterministic=off`, with `jit`, natural gradient, several accelerators or workers,
that order is TensorFlow's, and the weights agree up to rounding. docs/machines.md has the price on a GPU.

Between log rows nothing waits for a step to end, so that an accelerator always has the next one to begin with: the loss is not
looked at before the epoch ends, and batches wait in the memory of the GPU.

`--strategy=mirrored` shares each batch among all accelerators of the machine (or takes the CPU) and averages the gradients. A
batch norm sees only its accelerator's share, and the moving averages of the first accelerator are kept.
"""

import contextlib
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Literal

import keras
import numpy as np
import tensorflow as tf
from absl import logging
from keras import ops

from hdr_tf import device, weights
from hdr_tf.io import image_files
from hdr_tf.training import kfac, multi_worker, run_folder
from hdr_tf.training.config import PatchTrainingConfig, TrainingConfig, check_steps


def prepare(config: TrainingConfig, kind: str | None = None) -> None:
    """Checks the flags, and --data if a kind of records is named, seeds everything, sets the precision, and prints what the run
    computes on; to be called before the model is built."""
    if kind and not config.data:
        raise ValueError(f"--data: expected a folder of records, as hdr-tf records --kind={kind} writes them")
    check_steps(config)
    if config.strategy == "multi_worker":
        multi_worker.strategy()
    keras.utils.clear_session()  # Keras numbers what it names: a checkpoint should not depend on earlier models
    keras.utils.set_random_seed(config.seed)
    if deterministic := is_deterministic(config):
        tf.config.experimental.enable_op_determinism()
    device.allow_tf32(config.tf32)
    policy = device.half_precision() if config.mixed_precision else "float32"
    keras.mixed_precision.set_global_policy(policy)
    print(device.describe(policy, config.jit, deterministic), flush=True)


def is_deterministic(config: TrainingConfig) -> bool:
    """Returns whether a run asks for deterministic operations; ValueError if it asks for XLA too."""
    if config.deterministic == "on" and config.jit:
        raise ValueError("--deterministic=on: Keras does not use XLA with deterministic operations; leave --jit out")
    return config.deterministic == "on" or (config.deterministic == "auto" and not config.jit)


def scope(config: TrainingConfig) -> contextlib.AbstractContextManager:
    """Returns the context in which the model is built and compiled for `config.strategy`."""
    if config.strategy == "none":
        return contextlib.nullcontext()
    if config.strategy == "multi_worker" and config.jit:
        raise ValueError("--strategy=multi_worker: XLA does not compile a step of several machines; leave --jit out")
    strategy = multi_worker.strategy() if config.strategy == "multi_worker" else tf.distribute.MirroredStrategy()
    if config.batch % (count := strategy.num_replicas_in_sync):
        raise ValueError(f"expected --batch to be a multiple of {count}, the number of accelerators, found {config.batch}")
    return strategy.scope()


def patches(
    read: Callable[..., tf.data.Dataset], config: PatchTrainingConfig, inputs: dict[str, str], targets: dict[str, str]
) -> Callable[[int], tf.data.Dataset]:
    """Returns the `data` of `fit`: patches of scenes as pairs (inputs, targets).

    Args:
        read: `tfrecords.dataset.patch_dataset`, which this module must not import.
        inputs, targets: {input or output of the network: feature of the records}.
    """
    features = [*inputs.values(), *targets.values()]
    flags = {name: getattr(config, name) for name in ("patch", "seed", "shuffle_scenes", "depth", "resize")}

    def choose(batch):
        return tuple({name: batch[feature] for name, feature in names.items()} for names in (inputs, targets))

    return lambda step: read(pathlib.Path(config.data), config.batch, features, start=step, **flags).map(choose)


def whole_batch(loss: Callable) -> Callable:
    """Turns a scalar loss(output, truth) of a batch into one for `compile`. With several accelerators Keras averages arrays,
    but adds scalars up and logs their sum."""
    return lambda truth, output: ops.reshape(loss(output, truth), (1,))


def adam(learning_rate: float, schedule: Literal["constant", "step", "cosine"], steps: int) -> keras.optimizers.Adam:
    """Returns Adam with epsilon 1e-8, as PyTorch and many original programs have it; see `rate` for the arguments."""
    return keras.optimizers.Adam(rate(learning_rate, schedule, steps), epsilon=1e-8)


def rate(learning_rate: float, schedule: Literal["constant", "step", "cosine"], steps: int):
    """Returns a learning rate, a number or a function of the step: "constant"; "step", a tenth after step 200,000; "cosine",
    which rises over a fiftieth of `steps` and then falls to a hundredth."""
    schedules = keras.optimizers.schedules
    if schedule == "constant":
        return learning_rate
    if schedule == "step":
        return schedules.PiecewiseConstantDecay([199_999], [learning_rate, learning_rate / 10])  # Keras counts from 0
    rise = steps // 50
    return schedules.CosineDecay(0.0, steps - rise, alpha=0.01, warmup_target=learning_rate, warmup_steps=rise)


def sheet(columns) -> np.ndarray:
    """Lays out columns of images [H, W, 3], or all [H, W, 1], in -1..1 as one image [height, width, 3], uint8."""
    values = np.concatenate([np.concatenate(column, axis=0) for column in columns], axis=1)
    values = np.broadcast_to(values, (*values.shape[:2], 3))
    return ((np.clip(values, -1, 1) + 1) * 127.5 + 0.5).astype(np.uint8)


class Trainer(keras.Model):
    """Wraps a network to train it with a loss of whole batches; to be compiled without a loss.

    Args:
        network: keras.Model that takes a dict of tensors.
        loss: function of a batch (dict of tensors, with the network's inputs among them) and the network's outputs (float32)
            that returns a dict of scalars, "loss" and `terms`.
        terms: names of further scalars to log.
    """

    def __init__(self, network: keras.Model, loss: Callable[[dict, dict], dict], terms: Sequence[str] = ()):
        super().__init__(name="trainer")
        self.network, self.batch_loss = network, loss
        self.terms = [keras.metrics.Mean(name) for name in ("loss", *terms)]

    def call(self, batch, training=False):
        return self.network({name: batch[name] for name in self.network.input}, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        outputs = {name: ops.cast(output, "float32") for name, output in y_pred.items()}
        values = {name: ops.cast(value, "float32") for name, value in self.batch_loss(x, outputs).items()}
        for term in self.terms:
            term.update_state(values[term.name])
        return values["loss"] / self.distribute_strategy.num_replicas_in_sync  # whose gradients are added up

    @property
    def metrics(self):
        return self.terms


def compiled(network: keras.Model, loss: Callable, terms: Sequence[str], config, batch: dict, optimizer=None) -> keras.Model:
    """Returns a network with the weights that the flags name, in a trainer for `fit`, compiled and built for a batch.

    For `loss` and `terms` see `Trainer`. Without a keras.optimizers.Optimizer, the flags are a SsimTrainingConfig and name one;
    with natural gradient the network has one output and the log has the loss alone.
    """
    natural = optimizer is None and config.optimizer == "kfac"
    if natural and not config.weights:
        raise ValueError("--optimizer=kfac: expected --weights of a run with adam; its long steps destroy random weights")
    if config.weights:
        weights.load_weights(network, config.weights)
    if optimizer is None:
        schedule = config.learning_rate, config.schedule, config.steps
        optimizer = keras.optimizers.SGD(rate(*schedule), momentum=0.9) if natural else adam(*schedule)
    if natural:
        (name,) = network.output
        model = kfac.Trainer(network, lambda output, batch: loss(batch, {name: output})["loss"], seed=config.seed)
    else:
        model = Trainer(network, loss, terms)
    model.compile(optimizer, jit_compile=config.jit)
    model.build({key: values.shape for key, values in batch.items()})
    return model


def fit(model: keras.Model, data: Callable, config: TrainingConfig, sample: Callable, validate: Callable | None = None) -> None:
    """Trains until `config.steps`, from the last checkpoint of the run if there is one; ValueError if the loss is not finite.

    Args:
        model: compiled model.
        data: data(step) returns an endless dataset of the batches from a step on.
        sample: draws what the network does, uint8 [H, W, 3], for the run folder and TensorBoard.
        validate: returns measurements of the network, {name: number}, for the log.
    """
    run, every = pathlib.Path(config.run), config.log_every
    start = _restore(model, run, config)
    if start >= config.steps:
        return
    if config.strategy == "multi_worker":
        model.train_function = multi_worker.step(model)
    batches = data(start)
    if config.strategy == "none":  # strategies place the batches themselves
        batches = device.prefetched(batches)
    if config.strategy == "none" and is_deterministic(config):
        _make_repeatable(model, batches.element_spec)
    callbacks = [
        _Clock(model),  # first, since the others write what it measures
        *([keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(validate()))] if validate else []),
        *_writers(model, run, config, start, sample),
    ]
    first, end = start // every, config.steps // every
    if config.strategy == "multi_worker":
        multi_worker.fit(model, batches, range(first, end), every, callbacks)
    else:
        model.fit(
            batches, epochs=end, initial_epoch=first, steps_per_epoch=every, callbacks=callbacks, shuffle=False, verbose=2
        )


def _make_repeatable(model, batch):
    """Lets the same steps of a model round in the same way whenever they are repeated, on batches of any of the shapes in a
    specification."""
    if type(model).train_step is keras.Model.train_step:
        model.train_step = _step_in_pairs(model)
    # TensorFlow makes a graph for the first shape that it meets, and one for all others, which round differently; and a run
    # that continues meets another shape first. Inlined, this one would be optimised for the shape of the caller.
    if not all(spec.shape.is_fully_defined() for spec in tf.nest.flatten(batch)):
        attributes = {"_noinline": True}
        model.train_step = tf.function(model.train_step, [batch], autograph=False, experimental_attributes=attributes)


def _step_in_pairs(model):
    """Returns Keras' `train_step`, with gradients of what is used several times that are added up in pairs.

    A GradientTape adds them up in one operation, AddN, which begins with whichever array nobody else needs any more: the order,
    and so the rounding, depends on what other threads have finished, despite deterministic operations."""

    def step(batch):
        x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
        y_pred = model(x, training=True)
        loss = model.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=weight, training=True)
        model._loss_tracker.update_state(loss, sample_weight=tf.shape(tf.nest.flatten(x)[0])[0])
        variables = [variable.value for variable in model.trainable_weights]
        pairs = tf.AggregationMethod.EXPERIMENTAL_TREE
        gradients = tf.gradients(model.optimizer.scale_loss(loss), variables, aggregation_method=pairs)
        model.optimizer.apply_gradients(zip(gradients, model.trainable_weights, strict=True))
        return model.compute_metrics(x, y, y_pred, sample_weight=weight)

    return step


def _restore(model, run, config):
    """Checks strategy and flags, reads the last checkpoint, and returns its step."""
    strategies = {"mirrored": tf.distribute.MirroredStrategy, "multi_worker": tf.distribute.MultiWorkerMirroredStrategy}
    if config.strategy != "none" and not isinstance(model.distribute_strategy, strategies[config.strategy]):
        raise ValueError(f"--strategy={config.strategy}: this network is trained on one accelerator; leave the flag out")
    run_folder.write_config(run, config, run_folder.is_writer(config))
    with model.distribute_strategy.scope():
        model.optimizer.build(model.trainable_variables)
    start = run_folder.restore_checkpoint(model, run)
    if config.strategy == "multi_worker" and multi_worker.mean(start) != start:
        raise ValueError(f"{run}: another worker does not start from step {start}; expected a folder that all workers see")
    if 0 < start < config.steps:
        logging.info("%s continues from step %d", run, start)
    return start


def _writers(model, run, config, start, sample):
    """Returns the callbacks that write log, samples and checkpoints."""
    writes, every, writers = run_folder.is_writer(config), config.log_every, []
    if writes:
        for folder in ("checkpoints", "samples"):
            (run / folder).mkdir(exist_ok=True)
        run_folder.cut_log(run / "log.csv", start // every)
        images = tf.summary.create_file_writer(str(run / "logs" / "samples"))
        writers = [
            keras.callbacks.CSVLogger(run / "log.csv", append=True),
            keras.callbacks.TensorBoard(run / "logs", write_graph=False),
        ]

    def finish_epoch(epoch, logs):
        step = (epoch + 1) * every
        if not np.isfinite(logs["loss"]):
            raise ValueError(f"{run}: the loss is {logs['loss']} before step {step}; the last checkpoint is an earlier one")
        if writes:
            image = sample()
            image_files.write_image(run / "samples" / f"{step:08d}.png", image)
            with images.as_default():
                tf.summary.image("sample", image[None], step)
        if step % (config.checkpoint_every or every) == 0 or step == config.steps:
            run_folder.save_checkpoint(model, run, step, writes)

    return [*writers, keras.callbacks.LambdaCallback(on_epoch_end=finish_epoch)]


class _Clock(keras.callbacks.Callback):
    """Logs steps_per_second and input_share, the share of the time spent on waiting for a batch. It counts the compilation, but
    not samples and checkpoints."""

    def __init__(self, model):
        super().__init__()
        model.make_train_function()
        step = model.train_function
        model.train_function = lambda iterator: step(self._timed(iterator, model.steps_per_execution))

    def _timed(self, iterator, count):
        """Keras would take the batches from the iterator where no callback sees it. This waits for a batch, not for the step
        before: an accelerator is still busy with it."""
        for _ in range(count):
            start = time.perf_counter()
            batch = next(iterator)
            self.waited += time.perf_counter() - start
            yield batch

    def on_epoch_begin(self, epoch, logs=None):
        self.waited, self.start = 0.0, time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.perf_counter() - self.start
        share = self.waited / seconds
        logs |= {"steps_per_second": self.params["steps"] / seconds, "input_share": share}
        if share > 0.5:
            message = (
                "%d %% of the time was spent on waiting for data: a faster disk or more CPUs would help, a larger network "
            )
            logging.warning(message + "would use it", 100 * share)
