"""What all training scripts share: flags, the run folder, checkpoints and exact resume.

A run is a folder:

    config.json              the flags, written once and compared when the run goes on
    checkpoints/00002000.npz every variable of model and optimizer at a step; the last two are kept
    logs/                    TensorBoard
    log.csv                  a row for each epoch
    samples/00002000.png     pictures, if the script makes any
    NAME.weights.h5          the weights, when the last step is done

An epoch is `log_every` steps: then the log gets its row, the checkpoint is written (under a temporary name, renamed) and a
sample is drawn. A run that was killed goes on from its last checkpoint when the same command is typed again: variables,
learning rate (a function of the optimizer's step) and the order of the data are those of an unbroken run, since scripts make
their data as a function of seed and step and `prepare` asks TensorFlow for deterministic operations.
"""

import csv
import dataclasses
import json
import pathlib
from collections.abc import Callable

import keras
import numpy as np
from absl import logging

from hdr_tf import weights
from hdr_tf.image import files

KEEP = 2  # checkpoints


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Flags of every training script; a script's own Config extends it."""

    run: str = "runs/new"  # folder of the run; an existing one is continued
    steps: int = 10_000  # at which the run ends
    seed: int = 0  # of weights, data order and augmentation
    log_every: int = 250  # steps between log rows, checkpoints and samples
    jit: bool = False  # compile the step with XLA
    mixed_precision: bool = False  # half-width arithmetic: bfloat16 on a CPU, float16 on a GPU


def prepare(config: TrainingConfig) -> None:
    """Seeds everything and sets the precision; to be called before the model is made.

    On a CPU mixed precision means bfloat16, since float16 is several times slower than float32 there.

    Raises:
        ValueError: if the number of steps is not a multiple of `log_every`.
    """
    import tensorflow as tf

    if config.steps < 1 or config.log_every < 1 or config.steps % config.log_every:
        raise ValueError(f"expected --steps to be a multiple of --log_every, found {config.steps} and {config.log_every}")
    keras.utils.set_random_seed(config.seed)
    tf.config.experimental.enable_op_determinism()
    if config.mixed_precision:
        keras.mixed_precision.set_global_policy("mixed_float16" if tf.config.list_physical_devices("GPU") else "mixed_bfloat16")


def fit(
    model: keras.Model,
    network: keras.Model,
    data: Callable[[int], object],
    config: TrainingConfig,
    sample: Callable[[], np.ndarray] | None = None,
) -> pathlib.Path:
    """Trains until `config.steps`, from the last checkpoint of the run if there is one.

    Args:
        model: compiled model that is trained.
        network: the part of it whose weights are the result.
        data: from a step to an endless `tf.data.Dataset` of the batches from there on.
        config: the script's flags.
        sample: makes a picture [H, W, 3] uint8 of what the network does, for the run folder and TensorBoard.

    Returns:
        The path of the weights.

    Raises:
        ValueError: if the folder holds a run with other flags, or a checkpoint that does not fit.
    """
    run = pathlib.Path(config.run)
    _write_config(run, config)
    model.optimizer.build(model.trainable_variables)
    start = _restore(model, run)
    if start:
        logging.info("%s goes on from step %d", run, start)
        _cut_log(run / "log.csv", start // config.log_every)
    if start < config.steps:
        callbacks = [
            keras.callbacks.TerminateOnNaN(),
            keras.callbacks.CSVLogger(run / "log.csv", append=True),
            keras.callbacks.TensorBoard(run / "logs", write_graph=False),
            _Checkpoint(run, config.log_every),
        ]
        if sample:
            callbacks.append(_Sample(run, config.log_every, sample))
        model.fit(
            data(start),
            initial_epoch=start // config.log_every,
            epochs=config.steps // config.log_every,
            steps_per_epoch=config.log_every,
            callbacks=callbacks,
            verbose=2,
        )
    path = run / f"{network.name}.weights.h5"
    weights.save_weights(network, path)
    return path


def _write_config(run: pathlib.Path, config: TrainingConfig) -> None:
    """Writes config.json, or compares it: only the end of a run may change when it goes on."""
    path = run / "config.json"
    ours = dataclasses.asdict(config)
    if path.exists():
        theirs = json.loads(path.read_text())
        changed = sorted(key for key in ours.keys() | theirs.keys() if key != "steps" and ours.get(key) != theirs.get(key))
        if changed:
            raise ValueError(f"{path}: the run was started with other values of {', '.join(changed)}; choose another --run")
    run.mkdir(parents=True, exist_ok=True)
    with files.atomic(path) as temporary:
        temporary.write_text(json.dumps(ours, indent=2) + "\n")


def _variables(model: keras.Model) -> dict[str, keras.Variable]:
    named = {}
    for variable in [*model.variables, *model.optimizer.variables]:
        named[variable.path] = variable
    return named


class _Checkpoint(keras.callbacks.Callback):
    def __init__(self, run, every):
        super().__init__()
        self.folder, self.every = run / "checkpoints", every
        self.folder.mkdir(exist_ok=True)

    def on_epoch_end(self, epoch, logs=None):
        with files.atomic(self.folder / f"{(epoch + 1) * self.every:08d}.npz") as temporary:
            np.savez(temporary, **{path: keras.ops.convert_to_numpy(v) for path, v in _variables(self.model).items()})
        for old in sorted(self.folder.glob("*.npz"))[:-KEEP]:
            old.unlink()


def _restore(model: keras.Model, run: pathlib.Path) -> int:
    """Reads the last checkpoint and returns its step, 0 without one."""
    found = sorted((run / "checkpoints").glob("[0-9]*.npz"))
    if not found:
        return 0
    variables = _variables(model)
    with np.load(found[-1]) as stored:
        if set(stored.files) != set(variables):
            odd = sorted(set(stored.files) ^ set(variables))
            raise ValueError(f"{found[-1]}: expected the variables of this model, found differences in {', '.join(odd[:5])}")
        for path, variable in variables.items():
            variable.assign(stored[path])
    return int(found[-1].stem)


def _cut_log(path: pathlib.Path, epochs: int) -> None:
    """Drops the rows that were logged after the checkpoint, which will come again."""
    if not path.exists():
        return
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    with files.atomic(path) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows([header, *(row for row in rows if int(row[0]) < epochs)])


class _Sample(keras.callbacks.Callback):
    def __init__(self, run, every, sample):
        super().__init__()
        self.folder, self.every, self.sample = run / "samples", every, sample
        self.folder.mkdir(exist_ok=True)

    def on_epoch_end(self, epoch, logs=None):
        import tensorflow as tf

        step = (epoch + 1) * self.every
        picture = self.sample()
        files.write_picture(self.folder / f"{step:08d}.png", picture)
        with tf.summary.create_file_writer(str(self.folder.parent / "logs" / "samples")).as_default():
            tf.summary.image("sample", picture[None], step)
