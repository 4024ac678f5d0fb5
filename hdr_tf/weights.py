"""Weights of networks: this software's `.weights.h5` files (HDF5, each array under its variable's path), and arrays under the
names of an original program, see hdr_tf/checkpoints.py.

A file may come from a stranger. HDF5 lets an array lie in other files, anywhere on the disk, and a small file describe large
arrays. So every array has to lie in the file itself, as a whole and uncompressed, and no larger than the file. The attribute
"sha256" guards names, shapes, numbers and the other attributes against damage, not against whoever wrote the file.
"""

import contextlib
import functools
import hashlib
import json
import math
import mmap
import os
import pathlib
import struct
from collections.abc import Callable, Iterator
from typing import Literal

import h5py
import keras
import numpy as np
from absl import logging

from hdr_tf.io.outputs import atomic, shortened

if keras.config.backend() == "tensorflow":  # the networks themselves run on any backend of Keras
    import tensorflow as tf

    from hdr_tf import device

CHECKSUM = "sha256"

_HEAP = b"GCOL\x01"  # how a global heap begins, HDF5 File Format Specification, III.E

DERIVED = (".num_batches_tracked", ".relative_position_index", ".attn_mask")  # PyTorch's buffers without learned values


@contextlib.contextmanager
def precision(mixed: bool) -> Iterator[None]:
    """Networks that are built in this context compute in bfloat16 (float16 on a GPU without it) if `mixed`, else in the
    precision that Keras is set to."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(device.half_precision() if mixed else before)
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
    arrays = {name: keras.ops.convert_to_numpy(variable) for name, variable in _own_paths(model).items()}
    notes = {"model": model.name, **notes}
    with atomic(path) as temporary, h5py.File(temporary, "w") as file:
        for name, note in (notes | {CHECKSUM: _checksum(notes, arrays)}).items():
            # Of fixed length: where HDF5 keeps texts of variable length, a damaged byte can make it search for ever.
            text = note.encode()
            file.attrs.create(name, text, dtype=h5py.string_dtype("utf-8", max(len(text), 1)))
        for name, array in arrays.items():
            file[name] = array


def load_weights(model: keras.Model, path: str | os.PathLike) -> None:
    """Reads the weights of a model from a file of `save_weights`; all of them or none. A damaged file, one with values that are
    not finite, and one of another kind or network raise ValueError. A file without a checksum is logged."""
    notes, arrays = _read(path, f"weights of {model.name}")
    names = {variable.path: name for name, variable in _own_paths(model).items()}
    assign(model, arrays, names, "keras", f"{path} (weights of {shortened(notes.get('model', 'another program'))})")
    if CHECKSUM not in notes:
        _log_missing_checksum(pathlib.Path(path).absolute())


def read_shapes(path: str | os.PathLike) -> dict[str, tuple[int, ...]]:
    """Returns the shapes in a file of `save_weights`, {variable path: shape}."""
    return {name: array.shape for name, array in _read(path, "weights")[1].items()}


def read_notes(path: str | os.PathLike) -> dict[str, str]:
    """Returns the attributes of a file of `save_weights`, the name of the model among them."""
    return _read(path, "weights")[0]


def check_size(build: Callable[[], keras.Model], path: str | os.PathLike) -> None:
    """Raises ValueError, before memory is taken, if a network whose sizes were read from a file is larger than the file."""
    if keras.config.backend() != "tensorflow":  # only its graphs can be built without values
        return
    left = sum(math.prod(shape) for shape in read_shapes(path).values())

    def count(create, **arguments):
        nonlocal left
        variable = create(**arguments)
        left -= variable.shape.num_elements() if variable.dtype.is_floating else 0  # others are states of random numbers
        if left < 0:
            raise _Refused("a network of the widths in it would be larger than what it holds")
        return variable

    try:
        with tf.Graph().as_default(), tf.variable_creator_scope(count):  # in a graph, variables have a shape and no values
            build()
    except (ValueError, TypeError, ArithmeticError) as error:
        raise ValueError(f"{path}: expected the weights of a network, found others ({shortened(str(error))})") from error


class _Refused(ValueError):
    """Says what was found in a file."""


def _read(path, expected) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Returns the attributes and the arrays of a file, {variable path: array}."""
    with pathlib.Path(path).open("rb") as file:  # a missing or forbidden file is the operating system's error, which names it
        size = os.fstat(file.fileno()).st_size
    try:
        with h5py.File(path, "r") as file:
            names = list(file.attrs)
            if CHECKSUM not in names:
                _check_texts(path, size)
            notes = {name: _note(file, name, CHECKSUM in names) for name in names}
            arrays = dict(_arrays(file, size))
        if CHECKSUM in notes and notes[CHECKSUM] != _checksum(notes, arrays):
            raise _Refused("a damaged one: its checksum is that of other values")
    except Exception as error:  # h5py raises nearly anything for a damaged file
        found = str(error) if isinstance(error, _Refused) else "another kind of file or a damaged one"
        problem = f"{path}: expected {expected} (.weights.h5), found {found}"
        raise ValueError(f"{problem}; hdr-tf convert converts an original checkpoint") from error
    return notes, arrays


def _note(file, name, fixed):
    """The text of an attribute; `fixed`: it has to have a fixed length, as in all files with a checksum."""
    attribute = h5py.h5a.open(file.id, name.encode())
    kind = attribute.get_type()
    if attribute.shape != () or not isinstance(kind, h5py.h5t.TypeStringID) or fixed and kind.is_variable_str():
        raise _Refused(f"an attribute that is no text, {shortened(name)}")
    note = file.attrs[name]
    return note if isinstance(note, str) else note.decode()


def _check_texts(path, size):
    """Checks the heaps in which HDF5 keeps texts of variable length, as files of earlier versions have them: with a damaged
    length in one, HDF5 searches for ever."""
    with pathlib.Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        left, start = size, data.find(_HEAP)
        while start >= 0:
            (length,) = struct.unpack_from("<Q", data, start + 8)
            at, end, left = start + 16, start + length, left - length
            if left < 0 or end > size:  # heaps do not overlap
                raise _Refused("damaged texts")
            while at + 16 <= end:
                number, whole = struct.unpack_from("<H6xQ", data, at)
                whole = 16 + (whole + 7) // 8 * 8 if number else whole  # 0 is an empty place, its head included
                if not 16 <= whole <= end - at:
                    raise _Refused("damaged texts")
                at += whole
            start = data.find(_HEAP, start + 1)


def _arrays(file: h5py.File, size: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the names and the arrays of a file of `size` bytes, which together are no larger than it."""
    visited, groups = {_address(file)}, [("", file)]
    while groups:
        prefix, group = groups.pop()
        for name in group:
            path, shown = f"{prefix}{name}", shortened(f"{prefix}{name}")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise _Refused(f"a link to somewhere else, {shown}")
            item = group[name]
            if (address := _address(item)) in visited:
                raise _Refused(f"one object under two names, {shown}")
            visited.add(address)
            if isinstance(item, h5py.Group):
                groups.append((f"{path}/", item))
                continue
            if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "fiub":
                raise _Refused(f"something else than numbers, {shown}")
            if item.external or item.is_virtual:
                raise _Refused(f"an array whose numbers are in another file, {shown}")
            if item.chunks or not item.size or item.id.get_storage_size() != item.nbytes:
                raise _Refused(f"an array that is empty, incomplete or in chunks, {shown}")
            if (size := size - item.nbytes) < 0:
                raise _Refused(f"arrays that are larger than the file, {shown} among them")
            yield path, item[()]


def _address(item):
    return h5py.h5o.get_info(item.id).addr


def _checksum(notes, arrays):
    digest = hashlib.sha256()
    notes = {name: note for name, note in notes.items() if name != CHECKSUM}
    digest.update(json.dumps(notes, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


@functools.cache
def _log_missing_checksum(path):
    logging.warning("%s: has no checksum, so damage may have changed it unnoticed", path)


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
    dtypes = {variable.path: variable.dtype for variable in model.weights}
    values = {path: _to_keras(np.asarray(arrays[name]), path, layout) for path, name in names.items() if name in arrays}
    problems = {
        "missing": [name for name in names.values() if name not in arrays],
        "unexpected": sorted(arrays.keys() - names.values()),
        "wrongly shaped (in Keras' layout)": [
            f"{names[path]} {value.shape} instead of {shapes[path]}"
            for path, value in values.items()
            if value.shape != shapes[path]
        ],
        "no finite numbers": [
            names[path]
            for path, value in values.items()
            if value.dtype.kind not in "fiub" or not np.isfinite(value.astype(dtypes[path])).all()
        ],
    }
    if any(problems.values()):
        lists = "; ".join(f"{kind}: {_some(found)}" for kind, found in problems.items() if found)
        raise ValueError(f"{source}: does not fit {model.name}: {lists}")
    # Converted by NumPy, since TensorFlow does not take every type of numbers and would stop half-way.
    values = {path: value.astype(dtypes[path]) for path, value in values.items()}
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
    return ", ".join(map(shortened, names[:most])) + more


def _to_keras(array: np.ndarray, path: str, layout: str) -> np.ndarray:
    if array.ndim == 2 and layout == "torch" and path.endswith("/kernel"):
        return array.T
    if array.ndim != 4 or layout == "keras":
        return array
    if layout == "lasagne":
        array = array[:, :, ::-1, ::-1]
    return array.transpose(2, 3, 1, 0)
