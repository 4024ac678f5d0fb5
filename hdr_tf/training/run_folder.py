"""The folder of a training run, see hdr_tf/training/loop.py: its flags, checkpoints, log and final weights."""

import csv
import dataclasses
import importlib.util
import pathlib
from collections.abc import Mapping

import keras
import numpy as np

from hdr_tf import cli, weights
from hdr_tf.checkpoints import read_npz
from hdr_tf.io import manifest, outputs
from hdr_tf.training import multi_worker
from hdr_tf.training.config import RunConfig, TrainingConfig

KEPT_CHECKPOINTS = 2


def is_writer(config: TrainingConfig) -> bool:
    """Returns whether this process writes the run folder: among several workers only the chief does."""
    return config.strategy != "multi_worker" or multi_worker.is_chief()


def save_weights(networks: Mapping[str, keras.Model], config: TrainingConfig) -> None:
    """Writes {NAME: network} into the run folder as NAME.weights.h5 and prints the paths. Every worker has to call it."""
    for name, network in networks.items() if is_writer(config) else ():
        path = pathlib.Path(config.run) / f"{name}.weights.h5"
        weights.save_weights(network, path)
        print(f"{path}: {config.steps} steps")
    if config.strategy == "multi_worker":
        multi_worker.mean(0)  # waits: TensorFlow takes a worker that ends before the others for lost


def write_config(run: pathlib.Path, config: RunConfig, write: bool = True) -> None:
    """Writes the flags into config.json if `write`; ValueError if the run was started with others, except for --steps. The file
    may have former names, see `cli.current_names`, and lack flags that are newer than the run."""
    path, ours = run / "config.json", dataclasses.asdict(config)
    if (stored := manifest.read(path)) is not None:
        stored = dataclasses.asdict(type(config)()) | cli.current_names(type(config), stored)
        manifest.check_plan(path, stored, ours, {"steps"}, "choose another --run")
    if write:
        if importlib.util.find_spec("tensorboard") is None:  # a tf.summary without it fails after the first steps
            raise ValueError("logs of training need the package tensorboard, found none: pip install 'hdr_tf[train]'")
        run.mkdir(parents=True, exist_ok=True)
        manifest.save(path, ours, indent=2)


def _variables(model):
    variables = [*model.variables, *model.optimizer.variables]
    named = {variable.path: variable for variable in variables}
    assert len(named) == len(variables), "two variables have one name: a checkpoint would hold only one of them"
    return named


def save_checkpoint(model: keras.Model, run: pathlib.Path, step: int, write: bool = True) -> None:
    """Writes all variables of a compiled model as checkpoints/STEP.npz, and removes all but the last two checkpoints. With
    `write=False` it only reads them: every worker has to, since the workers together hold a metric's count."""
    arrays = {path: np.asarray(variable) for path, variable in _variables(model).items()}
    if not write:
        return
    with outputs.atomic(run / "checkpoints" / f"{step:08d}.npz") as temporary:
        np.savez(temporary, **arrays)
    for old in checkpoints(run)[:-KEPT_CHECKPOINTS]:
        old.unlink()


def checkpoints(run: str | pathlib.Path) -> list[pathlib.Path]:
    """Returns the checkpoints of a run, the latest last."""
    return sorted((pathlib.Path(run) / "checkpoints").glob("[0-9]*.npz"))


def restore_checkpoint(model: keras.Model, run: pathlib.Path) -> int:
    """Reads the latest checkpoint into a compiled model, all of it or nothing, and returns its step, or 0 if there is none."""
    if not (stored := checkpoints(run)):
        return 0
    path = stored[-1]
    try:
        arrays = read_npz(path.read_bytes())
    except Exception as error:  # a damaged archive may raise nearly anything
        raise ValueError(f"{path}: is damaged; remove it, and the run continues from the checkpoint before it") from error
    variables = _variables(model)
    if different := sorted(arrays.keys() ^ variables.keys()):
        raise ValueError(f"{path}: expected the variables of this model, found differences in {', '.join(different)}")
    for name, variable in variables.items():
        expected, found = tuple(variable.shape), arrays[name]
        if found.shape != expected or found.dtype.kind not in "fiub":
            raise ValueError(f"{path}: expected numbers of shape {expected} as {name}, found {found.dtype} {found.shape}")
    for name, variable in variables.items():
        variable.assign(arrays[name])
    return int(path.stem)


def cut_log(path: pathlib.Path, first: int) -> None:
    """Drops the rows whose first cell is `first` or more: they were logged after the checkpoint and will be logged again."""
    if not path.exists():
        return
    with path.open(newline="") as file:
        try:
            rows = list(csv.reader(file))  # the first is the header; none if the run was killed in its first epoch
            kept = rows[:1] + [row for row in rows[1:] if int(row[0]) < first]
        except (ValueError, IndexError, csv.Error) as error:
            raise ValueError(f"{path}: expected the log of a run, found something else; remove it") from error
    with outputs.atomic(path) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(kept)
