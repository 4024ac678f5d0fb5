"""Weights in and out: this software's `.weights.h5` files, and the checkpoints that the published networks came with.

A checkpoint is read into a flat dict of arrays under the original program's names and in its layout
(`read_checkpoint`), and assigned by a weight map {variable path: original name} (`assign`), which refuses anything that
does not fit exactly. A PyTorch file is a pickle, which may run any program when it is opened without care: the reader
here knows tensors, containers and numbers, refuses every other class by name, and needs no PyTorch. It returns views of
the file's bytes and checks each against its storage.
"""

import collections
import io
import math
import os
import pathlib
import pickle
import zipfile
from typing import Literal, NamedTuple

import h5py
import keras
import numpy as np

from hdr_tf.image.files import atomic

PRETRAINED = pathlib.Path(__file__).parent / "pretrained"
DERIVED = (".num_batches_tracked", ".relative_position_index", ".attn_mask")  # PyTorch's buffers that hold nothing learned
TORCH_MAGIC = 0x1950A86A20F9469CFC6C  # first object of a file in the legacy format
ADAM_SLOTS = ("Adam", "Adam_1")  # TensorFlow 1 keeps the moments of variable x as x/Adam and x/Adam_1
TRAINING_STATE = ("beta1_power", "beta2_power", "global_step", "step/step")  # the last one is the two-exposure editor's
STORAGES = {  # PyTorch's name: dtype of the bytes
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


def pretrained(name: str) -> pathlib.Path | None:
    """The weights of the network `name` that come with this software, None where there are none."""
    path = PRETRAINED / f"{name}.weights.h5"
    return path if path.exists() else None


def save_weights(model: keras.Model, path: str | os.PathLike, **notes: str) -> None:
    """Writes the weights of a model to `path`, completely or not at all: HDF5, each array under its variable's path. Its
    folder is made. A network within another one (`esbn_end_to_end`) gives the file that it would give alone.

    Keras' own file of the same ending numbers the layers in the order of the graph, which for one network may depend on
    the number of its inputs.

    Args:
        model: a network, built.
        path: a name that ends in .weights.h5.
        **notes: further attributes of the file, for `read_notes`.

    Raises:
        ValueError: for a name that does not end in .weights.h5.
        OSError: if the file cannot be written.
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
    """Reads the weights of a model from a file of `save_weights`; all of them or none.

    Raises:
        ValueError: if the file is of another kind, damaged, or holds the weights of another network.
        OSError: if it is missing or cannot be read.
    """
    path = pathlib.Path(path)
    with path.open("rb"):  # a missing or forbidden file is the operating system's error, which names it
        pass
    arrays = {}
    try:
        with h5py.File(path, "r") as file:
            file.visititems(lambda name, item: arrays.update({name: item}) if isinstance(item, h5py.Dataset) else None)
            source = f"{path} (weights of {file.attrs.get('model', 'another program')})"
            names = {variable.path: name for name, variable in _own_paths(model).items()}
            assign(model, arrays, names, "keras", source)
    except (OSError, RuntimeError, KeyError) as error:
        raise ValueError(
            f"{path}: expected weights of {model.name} (.weights.h5), found another kind of file or a damaged one; "
            "tools/convert_checkpoint.py converts an original checkpoint"
        ) from error


def read_shapes(path: str | os.PathLike) -> dict[str, tuple[int, ...]]:
    """The shapes in a file of `save_weights`, {variable path: shape}, which tell how wide the network is.

    Raises:
        ValueError: if the file is of another kind or damaged.
        OSError: if it is missing or cannot be read.
    """
    path = pathlib.Path(path)
    with path.open("rb"):
        pass
    shapes = {}
    try:
        with h5py.File(path, "r") as file:
            file.visititems(lambda name, item: shapes.update({name: item.shape}) if isinstance(item, h5py.Dataset) else None)
    except (OSError, RuntimeError, KeyError) as error:
        raise ValueError(f"{path}: expected weights (.weights.h5), found another kind of file or a damaged one") from error
    return shapes


def read_notes(path: str | os.PathLike) -> dict[str, str]:
    """The attributes of a file of `save_weights` that `read_shapes` could read, the name of the model among them."""
    with h5py.File(path, "r") as file:
        return {name: str(value) for name, value in file.attrs.items()}


def _own_paths(model: keras.Model) -> dict[str, keras.Variable]:
    """The variables by their paths, without the model's name in front that they have within another model."""
    return {variable.path.removeprefix(f"{model.name}/"): variable for variable in model.weights}


def assign(
    model: keras.Model,
    arrays: dict[str, np.ndarray],
    names: dict[str, str],
    layout: Literal["torch", "lasagne", "keras"],
    source: str = "checkpoint",
) -> None:
    """Gives a model the arrays of a checkpoint; all of them or, where anything does not fit, none.

    PyTorch's counters `num_batches_tracked` are ignored, on which nothing depends, and so are the tables and masks that window
    attention keeps, which follow from the sizes. Arrays called arr_0, arr_1, ..., as Lasagne's users save them, take the
    original names in the order of `names`.

    Args:
        model: a network, built.
        arrays: {original name: array}, as `read_checkpoint` returns it.
        names: the weight map {variable path: original name}.
        layout: how the original keeps a convolution's kernel: "torch" [out, in, height, width], "lasagne" the same
            flipped in both spatial axes, "keras" [height, width, in, out] as TensorFlow; of a dense layer's, "torch" [out, in].
        source: where the arrays come from, for the message.

    Raises:
        ValueError: naming the missing, unexpected and wrongly shaped arrays, the first ten of each.
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
    """Turns a network that SelfHDR trained, whose pictures and radiance are blue, green, red, into the same one for red, green,
    blue: the input channels of what meets an exposure, its radiance before the picture, and the channels of the output."""
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


def read_checkpoint(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads an original checkpoint: PyTorch (zip or legacy format), npz, or a TensorFlow 1 checkpoint (the prefix of its files,
    or its .index file).

    A PyTorch state dict that is wrapped, as in {"model": state dict, "epoch": 3}, is unwrapped. Of a TensorFlow checkpoint
    what the optimizer keeps (Adam's moments and powers of beta) and the counter of steps are left out.

    Returns:
        {original name: array} in the original's layout; bfloat16 becomes float32. Arrays may be read-only views.

    Raises:
        ValueError: if the file is of another kind, damaged, or holds an object that is no tensor, container or number.
        OSError: if it cannot be read.
    """
    path = pathlib.Path(path)
    if path.suffix == ".index":
        path = path.with_suffix("")
    if pathlib.Path(f"{path}.index").exists():
        return _read_tensorflow(path)
    data = path.read_bytes()
    try:
        if not zipfile.is_zipfile(io.BytesIO(data)):
            return _read_torch_legacy(data)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(item.file_size for item in archive.infolist()) > 100 * len(data):
                raise ValueError("an archive that would fill more than a hundred times its size")
            if any(name.endswith("/data.pkl") for name in archive.namelist()):
                return _read_torch_zip(archive)
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except Exception as error:  # a damaged pickle or archive may raise nearly anything
        found = str(error) if isinstance(error, ValueError) else f"a damaged file ({type(error).__name__}: {error})"
        raise ValueError(f"{path}: expected a checkpoint of PyTorch, npz or TensorFlow 1, found {found}") from error


def _read_tensorflow(prefix: pathlib.Path) -> dict[str, np.ndarray]:
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(str(prefix))
        names = reader.get_variable_to_shape_map()
        return {name: reader.get_tensor(name) for name in names if not _is_state_of_training(name, names)}
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise ValueError(f"{prefix}: expected a TensorFlow checkpoint, found a damaged one ({error})") from error


def _is_state_of_training(name: str, names) -> bool:
    variable, _, slot = name.rpartition("/")
    return name in TRAINING_STATE or (slot in ADAM_SLOTS and variable in names)


class _Storage(NamedTuple):
    """A tensor's memory as the pickle names it; several tensors may share one."""

    kind: str
    key: str


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements, as the offset


class _Unpickler(pickle._Unpickler):
    """Reads tensors as `_Tensor`, containers and numbers; refuses any other class.

    It is the unpickler in Python, since the one in C allocates whatever size a hostile file names; for the same reason
    it lacks the one opcode that does so here too, which PyTorch never writes.
    """

    dispatch = {code: load for code, load in pickle._Unpickler.dispatch.items() if code != pickle.BYTEARRAY8[0]}

    def __init__(self, stream):
        super().__init__(stream)
        self.storages = []

    def find_class(self, module: str, name: str):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
            return getattr(self, name)
        if module == "torch" and name in STORAGES:
            return name
        raise ValueError(f"an object of class {module}.{name}, which is no tensor, container or number")

    def persistent_load(self, identifier) -> _Storage:
        _, kind, key, _, _, *view = identifier
        if any(view):
            raise ValueError("a storage that is a part of another, as PyTorch wrote before 0.4")
        self.storages.append(_Storage(kind, key))
        return self.storages[-1]

    def _rebuild_tensor_v2(self, storage, offset, shape, strides, *_) -> _Tensor:
        return _Tensor(storage, offset, shape, strides)

    def _rebuild_parameter(self, tensor, *_) -> _Tensor:
        return tensor


def _read_torch_zip(archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    folder = next(name for name in archive.namelist() if name.endswith("/data.pkl")).removesuffix("data.pkl")
    if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
        raise ValueError("a PyTorch file with big-endian numbers")
    unpickler = _Unpickler(io.BytesIO(archive.read(f"{folder}data.pkl")))
    tensors = _state_dict(unpickler.load())
    memory = {storage: _numbers(storage, archive.read(f"{folder}data/{storage.key}")) for storage in set(unpickler.storages)}
    return {name: _array(name, tensor, memory) for name, tensor in tensors.items()}


def _read_torch_legacy(data: bytes) -> dict[str, np.ndarray]:
    stream = io.BytesIO(data)
    if not data.startswith(b"\x80") or _Unpickler(stream).load() != TORCH_MAGIC:
        raise ValueError("something else, or a truncated file")
    _Unpickler(stream).load()  # version of the format
    if not _Unpickler(stream).load()["little_endian"]:
        raise ValueError("a PyTorch file with big-endian numbers")
    unpickler = _Unpickler(stream)
    tensors = _state_dict(unpickler.load())
    storages = {storage.key: storage for storage in unpickler.storages}
    memory = {}
    for key in _Unpickler(stream).load():  # each storage: number of elements, elements
        size = int.from_bytes(stream.read(8), "little") * np.dtype(STORAGES[storages[key].kind]).itemsize
        content = stream.read(size)
        if len(content) != size:
            raise ValueError(f"a truncated file: storage {key} has {len(content)} of {size} bytes")
        memory[storages[key]] = _numbers(storages[key], content)
    return {name: _array(name, tensor, memory) for name, tensor in tensors.items()}


def _state_dict(root) -> dict[str, _Tensor]:
    """Finds the tensors by name: an inner dict that holds tensors, or else the file's object itself."""

    def tensors(value) -> dict[str, _Tensor]:
        return {k: v for k, v in value.items() if isinstance(v, _Tensor)} if isinstance(value, dict) else {}

    wrapped = {key: tensors(value) for key, value in root.items() if tensors(value)} if isinstance(root, dict) else {}
    if len(wrapped) > 1:
        wrapped = {key: wrapped[key] for key in wrapped if key in ("model", "state_dict")} or wrapped
    if len(wrapped) > 1:
        raise ValueError(f"several state dicts: {', '.join(map(str, wrapped))}")
    found = next(iter(wrapped.values())) if wrapped else tensors(root)
    if not found:
        raise ValueError("a PyTorch file without a state dict")
    return found


def _numbers(storage: _Storage, content: bytes) -> np.ndarray:
    numbers = np.frombuffer(content, STORAGES[storage.kind])
    if storage.kind == "BFloat16Storage":  # which numpy lacks: the upper half of a float32
        return (numbers.astype("<u4") << 16).view("<f4")
    return numbers


def _array(name: str, tensor: _Tensor, memory: dict[_Storage, np.ndarray]) -> np.ndarray:
    """Lays a tensor over its storage, after a check that no element lies outside."""
    _, offset, shape, strides = tensor
    numbers = memory[tensor.storage]
    fits = len(shape) == len(strides) <= 32 and offset >= 0 and all(number >= 0 for number in (*shape, *strides))
    if fits and math.prod(shape) > 0:
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        fits = last < numbers.size and math.prod(shape) <= numbers.size
    if not fits:
        raise ValueError(
            f"{name} with shape {shape} at {offset}, strides {strides}, beyond its storage of {numbers.size} numbers"
        )
    return np.lib.stride_tricks.as_strided(
        numbers[offset:], shape, [stride * numbers.itemsize for stride in strides], writeable=False
    )
