"""Weights of networks: this software's `.weights.h5` files (HDF5, each array under its variable's path), and arrays under the
names of an original program, see hdr_tf/checkpoints.py."""

import contextlib
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Literal

import h5py
import keras
import numpy as np

from hdr_tf.io.outputs import atomic

DERIVED = (".num_batches_tracked", ".relative_position_index", ".attn_mask")  # PyTorch's buffers without learned values


@contextlib.contextmanager
def precision(mixed: bool) -> Iterator[None]:
    """Networks that are built in this context compute in bfloat16 if `mixed`, else in the precision that Keras is set to."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if mixed else before)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def save_weights(model: keras.Model, path: str | os.PathLike, **notes: str) -> None:
    """Writes the weights of a built model to `path`, which ends in .weights.h5, completely or not at all; creates its folder.

    A network within another one (`esbn_end_to_end`) gives the same file as alone; Keras's own files number the layers in the
    order of the graph, which may depend on the number of inputs. `notes` are further attributes of the file, for `read_notes`.
    """
    path = pathlib.Path(path)
    if not path.name.endswith(".weights.h5"):
        raise ValueError(f"{path}: expected a name that ends in .weights.h5")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs.update({"model": model.name, **notes})
        for name, variable in _own_paths(model).items():
            file[name] = keras.ops.convert_to_numpy(variable)


def load_weights(model: keras.Model, path: str | os.PathLike) -> None:
    """Reads the weights of a model from a file of `save_weights`; all of them or none. A damaged file and one of
    another kind or network raise ValueError."""
    with _open(path, f"weights of {model.name}") as (attributes, arrays):
        names = {variable.path: name for name, variable in _own_paths(model).items()}
        assign(model, arrays, names, "keras", f"{path} (weights of {attributes.get('model', 'another program')})")


def read_shapes(path: str | os.PathLike) -> dict[str, tuple[int, ...]]:
    """Returns the shapes in a file of `save_weights`, {variable path: shape}."""
    with _open(path, "weights") as (_, arrays):
        return {name: array.shape for name, array in arrays.items()}


def read_notes(path: str | os.PathLike) -> dict[str, str]:
    """Returns the attributes of a file of `save_weights`, the name of the model among them."""
    with _open(path, "weights") as (attributes, _):
        return {name: str(value) for name, value in attributes.items()}


@contextlib.contextmanager
def _open(path: str | os.PathLike, expected: str) -> Iterator[tuple[Mapping, dict[str, h5py.Dataset]]]:
    """Yields the attributes and the arrays of a file, {variable path: array}."""
    with pathlib.Path(path).open("rb"):  # a missing or forbidden file is the operating system's error, which names it
        pass
    arrays = {}
    try:
        with h5py.File(path, "r") as file:
            file.visititems(lambda name, item: arrays.update({name: item}) if isinstance(item, h5py.Dataset) else None)
            yield file.attrs, arrays
    except (OSError, RuntimeError, KeyError) as error:
        problem = f"{path}: expected {expected} (.weights.h5), found another kind of file or a damaged one"
        raise ValueError(f"{problem}; tools/convert_checkpoint.py converts an original checkpoint") from error


def _own_paths(model: keras.Model) -> dict[str, keras.Variable]:
    """Returns the variables by their paths, without the prefix with the model's name that they have within another model."""
    return {variable.path.removeprefix(f"{model.name}/"): variable for variable in model.weights}


def assign(
    model: keras.Model,
    arrays: dict[str, np.ndarray],
    names: dict[str, str],
    layout: Literal["torch", "lasagne", "keras"],
    source: str = "checkpoint",
) -> None:
    """Gives a built model the arrays of a checkpoint. If anything does not fit, it assigns none and raises ValueError with the
    missing, unexpected and wrongly shaped arrays, the first ten of each.

    Arrays called arr_0, arr_1, ..., as Lasagne's users save them, get the original names in the order of `names`. Those that
    `DERIVED` lists are ignored.

    Args:
        arrays: {original name: array}, as `checkpoints.read_checkpoint` returns it.
        names: the weight map {variable path: original name}.
        layout: how the original stores a convolution's kernel: "torch" [out, in, height, width]; "lasagne" the same, flipped in
            both spatial axes; "keras" [height, width, in, out], as TensorFlow. "torch" stores a dense layer's kernel [out, in].
        source: where the arrays come from, for the message.
    """
    arrays = {name: array for name, array in arrays.items() if not name.endswith(DERIVED)}
    if all(name.startswith("arr_") for name in arrays):
        renamed = {f"arr_{i}": name for i, name in enumerate(names.values())}
        arrays = {renamed.get(name, name): array for name, array in arrays.items()}
    shapes = {variable.path: tuple(variable.shape) for variable in model.weights}
    values = {path: _to_keras(arrays[name], path, layout) for path, name in names.items() if name in arrays}
    problems = {
        "missing": [name for name in names.values() if name not in arrays],
        "unexpected": sorted(arrays.keys() - names.values()),
        "wrongly shaped (in Keras' layout)": [
            f"{names[path]} {value.shape} instead of {shapes[path]}"
            for path, value in values.items()
            if value.shape != shapes[path]
        ],
    }
    if any(problems.values()):
        lists = "; ".join(f"{kind}: {_some(found)}" for kind, found in problems.items() if found)
        raise ValueError(f"{source}: does not fit {model.name}: {lists}")
    values = {path: np.asarray(value) for path, value in values.items()}  # read from the disk before any is assigned
    for variable in model.weights:
        variable.assign(values[variable.path])


def swap_red_and_blue(model: keras.Model) -> None:
    """Turns a network for blue, green, red, as SelfHDR trains it, into one for red, green, blue. It swaps the input channels of
    the kernels that meet an exposure (three of its radiance, three of the image) and the channels of the layer "output"."""
    for variable in model.weights:
        values = keras.ops.convert_to_numpy(variable)
        if values.ndim == 4 and values.shape[2] == 6:
            variable.assign(values[:, :, [2, 1, 0, 5, 4, 3]])
        elif variable.path.startswith("output/"):
            variable.assign(values[..., ::-1])


def _some(names: list[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _to_keras(array: np.ndarray, path: str, layout: str) -> np.ndarray:
    if array.ndim == 2 and layout == "torch" and path.endswith("/kernel"):
        return array.T
    if array.ndim != 4 or layout == "keras":
        return array
    if layout == "lasagne":
        array = array[:, :, ::-1, ::-1]
    return array.transpose(2, 3, 1, 0)
