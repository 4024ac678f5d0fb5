"""What all training scripts share: flags, the run folder, checkpoints and exact resume.

A run is a folder:

    config.json               the flags, written once and compared when the run goes on
    checkpoints/00002000.npz  every variable of model and optimizer at a step; the last two are kept
    logs/                     TensorBoard
    log.csv                   a row for each epoch: loss, steps a second, share of the time spent on waiting for data
    samples/00002000.png      a picture of what the network does
    NAME.weights.h5           the weights, when the last step is done

An epoch is `log_every` steps: then the log gets its row and the sample is drawn; every `checkpoint_every` steps the checkpoint
is written (under a temporary name, renamed). A run that was killed goes on from its last checkpoint when the same command is
typed again: variables, learning rate (a function of the optimizer's step) and the order of the data are those of an unbroken
run, since scripts make their data as a function of seed and step, and `prepare` asks TensorFlow for deterministic operations
(not with `jit`).

`--strategy=mirrored` trains on all accelerators of the machine: the model is made within `scope(config)`, each takes its
share of every batch, and the gradients are averaged. A batch norm sees its accelerator's share only, and the averages that
are kept are those of the first. Without accelerators it runs on the CPU.

`--strategy=multi_worker` trains on several machines (hdr_tf/workers.py, docs/machines.md): the same command on each, with
TF_CONFIG in its environment and a run folder that all of them see.

Keras is imported inside the functions: scripts take their flags from here, and their --help should not wait for it.
"""

import contextlib
import csv
import dataclasses
import json
import pathlib
import time
import zipfile
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from absl import logging

from hdr_tf import workers
from hdr_tf.image import files

KEPT_CHECKPOINTS = 2


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Flags of every training script."""

    run: str = "runs/new"  # folder of the run; an existing one is continued
    steps: int = 10_000  # at which the run ends
    seed: int = 0  # of weights, data order and augmentation
    log_every: int = 250  # steps between log rows and samples
    checkpoint_every: int = 0  # steps between checkpoints, a multiple of log_every; 0: as log_every


@dataclasses.dataclass(frozen=True)
class TrainingConfig(RunConfig):
    """Flags of the training scripts that end in `fit`; a script's own Config extends it."""

    strategy: Literal["none", "mirrored", "multi_worker"] = "none"  # share each batch among accelerators, or machines
    jit: bool = False  # compile the step with XLA; a run that was killed then ends nearly, not exactly, as an unbroken one
    mixed_precision: bool = False  # half-width arithmetic: bfloat16 on a CPU, float16 on a GPU


@dataclasses.dataclass(frozen=True)
class DqnConfig(RunConfig):
    """Flags of the editor's agent (hdr_tf/rl/agent.py). The defaults are those of the original program, its counts of steps
    included, which `schedule_scale` multiplies."""

    run: str = "runs/dqn_editor"  # folder of the run; an existing one is continued
    steps: int = 400_000  # edits at which the run ends; not scaled
    log_every: int = 1_000  # edits between log rows, validation and samples, a multiple of 20
    hidden: str = "4096,4096,512"  # widths of the Q network's layers before the last
    duel: bool = False  # value and advantage in columns of their own
    double: bool = False  # double DQN: the edit that the next state is worth is chosen by the network, not by its older copy
    batch: int = 1  # transitions in a training step
    discount: float = 0.95  # of the reward that an edit later brings
    n_step: int = 1  # rewards that are added up before the rest is estimated
    persistence: int = 1  # how often a random edit is done in a row, at most until the episode ends
    # Square of the error clipped to +-1, without gradient beyond; Huber's; or the square itself, which alone has its minimum at
    # the mean of returns that are far apart.
    loss: Literal["clipped", "huber", "squared"] = "clipped"
    l2: float = 1e-4  # times half the sum of the squares of all weights and biases, added to the loss
    learning_rate: float = 1e-5  # of Adam, at first
    learning_rate_decay: float = 0.96  # factor
    learning_rate_steps: int = 5_000  # training steps between two decays
    learning_rate_floor: float = 1e-8  # never less than this
    target_steps: int = 500  # training steps between two updates of the older copy
    replay: int = 5_000  # transitions that are kept
    first_training: int = 1_000  # edits before the first training step
    schedule_scale: float = 1.0  # of learning_rate_steps, target_steps, first_training and epsilon's 10,000 to 320,000


@dataclasses.dataclass(frozen=True)
class PatchTrainingConfig(TrainingConfig):
    """Flags of the scripts that train on patches of scenes; the defaults are those of ESBN's programs."""

    data: str = ""  # folder of records of scenes
    steps: int = 300_000  # at which the run ends
    log_every: int = 1_000  # steps between log rows and samples
    checkpoint_every: int = 10_000  # steps between checkpoints
    batch: int = 4  # patches in a step
    patch: int = 256  # side of a patch in pixels
    learning_rate: float = 1e-4  # of the first step
    schedule: Literal["step", "cosine"] = "step"  # a tenth behind step 200,000, or a cosine that ends at a hundredth
    depth: Literal[8, 16] = 8  # bits of the pictures: the original reads 16-bit files as 8 bit
    resize: bool = True  # scale each patch down to 250 of 256 pixels and up again, as the original does
    shuffle_scenes: int = 8  # scenes in memory at a time


@dataclasses.dataclass(frozen=True)
class PixelTrainingConfig(TrainingConfig):
    """Flags of the scripts whose loss is a mean squared error and 1 - MS-SSIM; the defaults are DenseFuse's."""

    data: str = ""  # folder of records
    patch: int = 256  # side of a picture in pixels
    learning_rate: float = 1e-4  # of the first step
    schedule: Literal["constant", "cosine"] = "constant"  # or rising over a fiftieth of the run and falling to a hundredth
    optimizer: Literal["adam", "kfac"] = "adam"  # as the original, or natural gradient, at rates about 1e-2
    weights: str = ""  # go on from the weights in this file
    ssim_weight: float = 100  # of 1 - MS-SSIM


def prepare(config: TrainingConfig) -> None:
    """Seeds everything and sets the precision; to be called before the model is made.

    On a CPU mixed precision means bfloat16, since float16 is several times slower than float32 there.

    Raises:
        ValueError: if the numbers of steps do not divide each other, or the workers of `--strategy=multi_worker` are not told.
    """
    import keras
    import tensorflow as tf

    check_steps(config)
    if config.strategy == "multi_worker":
        workers.strategy()
    keras.utils.clear_session()  # Keras numbers what it names: a checkpoint should not depend on earlier models
    keras.utils.set_random_seed(config.seed)
    if not config.jit:  # Keras does without XLA where TensorFlow was asked for deterministic operations
        tf.config.experimental.enable_op_determinism()
    policy = "float32"
    if config.mixed_precision:
        policy = "mixed_float16" if tf.config.list_physical_devices("GPU") else "mixed_bfloat16"
    keras.mixed_precision.set_global_policy(policy)


def check_steps(config: RunConfig) -> None:
    """Raises ValueError if the numbers of steps do not divide each other."""
    if config.log_every < 1 or config.steps < 1 or config.steps % config.log_every:
        raise ValueError(f"expected --steps to be a multiple of --log_every, found {config.steps} and {config.log_every}")
    if config.checkpoint_every < 0 or config.checkpoint_every % config.log_every:
        found = f"{config.checkpoint_every} and {config.log_every}"
        raise ValueError(f"expected --checkpoint_every to be a multiple of --log_every, found {found}")


def scope(config: TrainingConfig) -> contextlib.AbstractContextManager:
    """The context in which the model is made and compiled, for `config.strategy`; the flags have a `batch`.

    Raises:
        ValueError: if a batch cannot be shared evenly.
    """
    import tensorflow as tf

    if config.strategy == "none":
        return contextlib.nullcontext()
    if config.strategy == "multi_worker" and config.jit:
        raise ValueError("--strategy=multi_worker: XLA does not compile a step of several machines; leave --jit out")
    strategy = workers.strategy() if config.strategy == "multi_worker" else tf.distribute.MirroredStrategy()
    if config.batch % strategy.num_replicas_in_sync:
        count = strategy.num_replicas_in_sync
        raise ValueError(f"expected --batch to be a multiple of {count}, the number of accelerators, found {config.batch}")
    return strategy.scope()


def whole_batch(loss: Callable) -> Callable:
    """Makes a scalar loss(output, truth) of a batch one for `compile`: Keras averages arrays over accelerators, but adds up
    scalars, and logs their sum."""
    from keras import ops

    return lambda truth, output: ops.reshape(loss(output, truth), (1,))


def adam(learning_rate: float, schedule: Literal["constant", "step", "cosine"], steps: int):
    """The optimizer of ESBN's programs (tkd1088/ESBN 3f873ab, training_fusion.py) and others: Adam with epsilon 1e-8; see
    `rate`."""
    import keras

    return keras.optimizers.Adam(rate(learning_rate, schedule, steps), epsilon=1e-8)


def rate(learning_rate: float, schedule: Literal["constant", "step", "cosine"], steps: int):
    """A learning rate as a function of the step.

    Args:
        learning_rate: of the first step.
        schedule: "constant"; "step", a tenth of it behind step 200,000, as ESBN's programs; "cosine", rising to it over a
            fiftieth of the run, then falling to a hundredth.
        steps: of the run.
    """
    import keras

    schedules = keras.optimizers.schedules
    if schedule == "constant":
        return learning_rate
    if schedule == "step":
        return schedules.PiecewiseConstantDecay([199_999], [learning_rate, learning_rate / 10])  # Keras counts from 0
    rise = steps // 50
    return schedules.CosineDecay(0.0, steps - rise, alpha=0.01, warmup_target=learning_rate, warmup_steps=rise)


def he_start(model, last: str) -> None:
    """Draws the kernels of all convolutions anew after He (2015), those of the layer `last` a twentieth as large.

    ESBN's own start, deviation 0.01, lets hardly anything through its nine layers; a last layer of full size saturates the
    tanh behind it.
    """
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel = keras.initializers.HeNormal()(layer.kernel.shape)
            layer.kernel.assign(kernel / 20 if layer.name == last else kernel)


def sheet(columns) -> np.ndarray:
    """Lays out columns of pictures [H, W, 3], or all [H, W, 1], in -1..1 as one picture [height, width, 3], uint8."""
    values = np.concatenate([np.concatenate(column, axis=0) for column in columns], axis=1)
    values = np.broadcast_to(values, (*values.shape[:2], 3))
    return ((np.clip(values, -1, 1) + 1) * 127.5 + 0.5).astype(np.uint8)


def living(make: Callable, batch, tries: int = 100):
    """Returns the first network out of `make()` that is not dead: each channel of its output above 0 somewhere in the batch.

    A ReLU at the end lets no gradient through where its input is below 0; a channel that starts like that everywhere stays
    zero for ever. Of 30 starts of DenseFuse 7 were, and in colour 17, with PyTorch's defaults. What is drawn depends on the
    seed that `prepare` set alone.

    Args:
        make: builds the network with weights drawn anew each time.
        batch: dict of tensors, with the network's inputs among them.
        tries: networks to draw at most.

    Raises:
        ValueError: all were dead.
    """
    import keras

    for number in range(tries):
        network = make()
        outputs = keras.tree.flatten(network({name: batch[name] for name in network.input}, training=False))
        if all(np.asarray(keras.ops.any(output != 0, axis=(0, 1, 2))).all() for output in outputs):
            if number:
                logging.warning("the first %d starts were dead (zero everywhere): went on to draw another", number)
            return network
    raise ValueError(f"{tries} starts of the network were all dead (zero everywhere); choose another --seed")


def trainer(network, loss: Callable[[dict, dict], dict], terms: Sequence[str] = ()):
    """Wraps a network so that it can be trained with a loss that takes whole batches.

    Args:
        network: keras.Model that takes a dict of tensors.
        loss: from a batch (dict of tensors, with the network's inputs among them) and the network's outputs (float32) to a dict
            of scalars, "loss" and `terms`.
        terms: names of further scalars to log.

    Returns:
        A keras.Model from such a batch to the network's outputs, to be compiled without a loss.
    """
    import keras
    from keras import ops

    class Trainer(keras.Model):
        def __init__(self):
            super().__init__(name="trainer")
            self.network = network
            self.terms = [keras.metrics.Mean(name) for name in ("loss", *terms)]

        def call(self, batch, training=False):
            return self.network({name: batch[name] for name in self.network.input}, training=training)

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            outputs = {name: ops.cast(output, "float32") for name, output in y_pred.items()}
            values = {name: ops.cast(value, "float32") for name, value in loss(x, outputs).items()}
            for term in self.terms:
                term.update_state(values[term.name])
            return values["loss"] / self.distribute_strategy.num_replicas_in_sync  # whose gradients are added up

        @property
        def metrics(self):
            return self.terms

    return Trainer()


def compiled(network, loss: Callable[[dict, dict], dict], terms: Sequence[str], config: PixelTrainingConfig):
    """Wraps a network for `fit` with the optimizer that the flags ask for, from the weights that they name.

    Args:
        network: keras.Model from a dict of tensors to one output.
        loss: as of `trainer`.
        terms: as of `trainer`; with natural gradient the log has the loss alone.
        config: the script's flags.
    """
    import keras

    from hdr_tf import kfac, weights

    if config.optimizer == "kfac" and not config.weights:
        raise ValueError("--optimizer=kfac: expected --weights of a run with adam; drawn ones die of its long steps")
    if config.weights:
        weights.load_weights(network, config.weights)
    schedule = config.learning_rate, config.schedule, config.steps
    if config.optimizer == "kfac":
        (name,) = network.output
        model = kfac.Trainer(network, lambda output, batch: loss(batch, {name: output})["loss"], seed=config.seed)
        model.compile(keras.optimizers.SGD(rate(*schedule), momentum=0.9), jit_compile=config.jit)
    else:
        model = trainer(network, loss, terms)
        model.compile(adam(*schedule), jit_compile=config.jit)
    return model


def fit(
    model,
    data: Callable[[int], object],
    config: TrainingConfig,
    sample: Callable[[], np.ndarray],
    validate: Callable[[], dict[str, float]] | None = None,
) -> None:
    """Trains until `config.steps`, from the last checkpoint of the run if there is one.

    Args:
        model: compiled keras.Model.
        data: from a step to an endless `tf.data.Dataset` of the batches from there on.
        config: the script's flags.
        sample: draws what the network does, uint8 [H, W, 3], for the run folder and TensorBoard.
        validate: measures it, for the log.

    Raises:
        ValueError: if the folder holds a run with other flags, or a checkpoint that does not fit, or if the loss is not finite;
            no checkpoint is made then.
    """
    import keras
    import tensorflow as tf

    run, every, chief = pathlib.Path(config.run), config.log_every, config.strategy != "multi_worker" or workers.is_chief()
    kinds = {"mirrored": tf.distribute.MirroredStrategy, "multi_worker": tf.distribute.MultiWorkerMirroredStrategy}
    if config.strategy != "none" and not isinstance(model.distribute_strategy, kinds[config.strategy]):
        raise ValueError(f"--strategy={config.strategy}: this network is trained on one accelerator; leave the flag out")
    write_config(run, config, chief)
    with model.distribute_strategy.scope():
        model.optimizer.build(model.trainable_variables)
    start = _restore(model, run)
    if config.strategy == "multi_worker" and workers.mean(start) != start:
        raise ValueError(f"{run}: another worker does not go on from step {start}; expected a folder that all workers see")
    if start >= config.steps:
        return
    if start:
        logging.info("%s goes on from step %d", run, start)
    writers = []
    if chief:
        for folder in ("checkpoints", "samples"):
            (run / folder).mkdir(exist_ok=True)
        cut_log(run / "log.csv", start // every)
        pictures = tf.summary.create_file_writer(str(run / "logs" / "samples"))
        writers = [
            keras.callbacks.CSVLogger(run / "log.csv", append=True),
            keras.callbacks.TensorBoard(run / "logs", write_graph=False),
        ]

    def finish_epoch(epoch, logs):
        step = (epoch + 1) * every
        if not np.isfinite(logs["loss"]):
            raise ValueError(f"{run}: the loss is {logs['loss']} before step {step}; the last checkpoint is an earlier one")
        if chief:
            picture = sample()
            files.write_picture(run / "samples" / f"{step:08d}.png", picture)
            with pictures.as_default():
                tf.summary.image("sample", picture[None], step)
        if step % (config.checkpoint_every or every) == 0 or step == config.steps:
            _save(model, run, step, chief)

    if config.strategy == "multi_worker":
        model.train_function = workers.step(model)
    callbacks = [
        _clock(model),  # before those that write what it measures
        *([keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(validate()))] if validate else []),
        keras.callbacks.TerminateOnNaN(),
        *writers,
        keras.callbacks.LambdaCallback(on_epoch_end=finish_epoch),
    ]
    epochs = range(start // every, config.steps // every)
    if config.strategy == "multi_worker":
        workers.fit(model, data(start), epochs, every, callbacks)
        return
    model.fit(
        data(start),
        shuffle=False,
        initial_epoch=epochs.start,
        epochs=epochs.stop,
        steps_per_epoch=every,
        callbacks=callbacks,
        verbose=2,
    )


def save_weights(network, name: str, config: TrainingConfig) -> None:
    """Writes the weights into the run folder as NAME.weights.h5, and says so."""
    from hdr_tf import weights

    if config.strategy != "multi_worker" or workers.is_chief():
        path = pathlib.Path(config.run) / f"{name}.weights.h5"
        weights.save_weights(network, path)
        print(f"{path}: {config.steps} steps")
    if config.strategy == "multi_worker":
        workers.mean(0)  # one that ends before the others is taken for lost


def _clock(model):
    """A callback that logs steps_per_second and input_share, the share of the time in which the program waits for a batch.

    The first epoch includes the compilation. Samples and checkpoints are not counted.
    """
    import keras

    waited = 0.0

    def batches(iterator):  # Keras would take them from the iterator out of sight
        nonlocal waited
        start = time.perf_counter()
        batch = next(iterator)
        waited += time.perf_counter() - start
        yield batch

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            nonlocal waited
            waited, self.start = 0.0, time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            seconds = time.perf_counter() - self.start
            logs |= {"steps_per_second": self.params["steps"] / seconds, "input_share": waited / seconds}
            if waited > seconds / 2:
                logging.warning(
                    "%d %% of the time went into waiting for data: a faster disk, more CPUs or a larger network would use it",
                    100 * waited / seconds,
                )

    model.make_train_function()
    step = model.train_function
    model.train_function = lambda iterator: step(batches(iterator))
    return Clock()


def write_config(run: pathlib.Path, config: RunConfig, write: bool = True) -> None:
    """Writes config.json into the run folder if asked to, and compares it: only the end of a run may change when it goes on.

    Raises:
        ValueError: the folder holds a run with other flags.
    """
    path, ours = run / "config.json", dataclasses.asdict(config)
    if path.exists():
        theirs = json.loads(path.read_text())
        changed = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key) and key != "steps")
        if changed:
            raise ValueError(f"{path}: the run was started with other values of {', '.join(changed)}; choose another --run")
    if not write:
        return
    run.mkdir(parents=True, exist_ok=True)
    with files.atomic(path) as temporary:
        temporary.write_text(json.dumps(ours, indent=2) + "\n")


def _variables(model):
    variables = [*model.variables, *model.optimizer.variables]
    named = {variable.path: variable for variable in variables}
    assert len(named) == len(variables), "two variables have one name: a checkpoint would hold one of them only"
    return named


def _save(model, run, step, chief=True):
    # Every worker reads, for together they have what a metric has counted.
    arrays = {path: np.asarray(variable) for path, variable in _variables(model).items()}
    if not chief:
        return
    with files.atomic(run / "checkpoints" / f"{step:08d}.npz") as temporary:
        np.savez(temporary, **arrays)
    for old in checkpoints(run)[:-KEPT_CHECKPOINTS]:
        old.unlink()


def checkpoints(run: str | pathlib.Path) -> list[pathlib.Path]:
    """The checkpoints of a run, the last one last."""
    return sorted((pathlib.Path(run) / "checkpoints").glob("[0-9]*.npz"))


def _restore(model, run):
    """Reads the last checkpoint and returns its step, 0 without one."""
    found = checkpoints(run)
    if not found:
        return 0
    try:
        with np.load(found[-1]) as file:
            stored = dict(file)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{found[-1]}: is damaged; remove it, and the run goes on from the checkpoint before") from error
    variables = _variables(model)
    if different := sorted(stored.keys() ^ variables.keys()):
        raise ValueError(f"{found[-1]}: expected the variables of this model, found differences in {', '.join(different)}")
    for path, variable in variables.items():
        variable.assign(stored[path])
    return int(found[-1].stem)


def cut_log(path: pathlib.Path, first: int) -> None:
    """Drops the rows that were logged after the checkpoint, those whose first cell is `first` or more: they will come again."""
    if not path.exists():
        return
    with path.open(newline="") as file:
        rows = list(csv.reader(file))  # the first is the header; none if the run was killed in its first epoch
    with files.atomic(path) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows[:1] + [row for row in rows[1:] if int(row[0]) < first])
