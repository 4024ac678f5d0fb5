"""Reads the checkpoints of published networks: PyTorch, npz (Lasagne) and TensorFlow 1.

A PyTorch file is a pickle, and opening a pickle may run any program. The reader here accepts tensors, containers and numbers,
refuses every other class by name, and needs no PyTorch. The arrays are views of the file's bytes; each is checked against its
storage. `weights.assign` gives them to a network.
"""

import collections
import io
import math
import os
import pathlib
import pickle
import zipfile
from typing import NamedTuple

import numpy as np
import tensorflow as tf

TORCH_MAGIC = 0x1950A86A20F9469CFC6C  # first object of a file in the legacy format
ADAM_SLOTS = ("Adam", "Adam_1")  # TensorFlow 1 keeps the moments of variable x as x/Adam and x/Adam_1
TRAINING_STATE = ("beta1_power", "beta2_power", "global_step", "step/step")  # the last one is the two-exposure editor's
STORAGES = {  # PyTorch's name: type of the numbers
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


def read_checkpoint(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads an original checkpoint: PyTorch (zip or legacy format), npz, or TensorFlow 1 (prefix of its files, or .index file).

    Returns {original name: array} in the original's layout; bfloat16 becomes float32, arrays may be read-only views. A wrapped
    state dict of PyTorch, as in {"model": state dict, "epoch": 3}, is unwrapped. The state of the optimizer and the
    counter of steps are left out of a TensorFlow checkpoint. Any other file raises ValueError.
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
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        names = reader.get_variable_to_shape_map()
        state = {*TRAINING_STATE, *(f"{name}/{slot}" for name in names for slot in ADAM_SLOTS)}
        return {name: reader.get_tensor(name) for name in names if name not in state}
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise ValueError(f"{prefix}: expected a TensorFlow checkpoint, found a damaged one ({error})") from error


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

    It extends the unpickler in Python, because the one in C allocates whatever size a hostile file names. The only opcode that
    would do so here too is removed; PyTorch never writes it.
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
            raise ValueError("a storage that is part of another, as PyTorch wrote it before 0.4")
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
    if not (found := next(iter(wrapped.values()), None) or tensors(root)):
        raise ValueError("a PyTorch file without a state dict")
    return found


def _numbers(storage: _Storage, content: bytes) -> np.ndarray:
    numbers = np.frombuffer(content, STORAGES[storage.kind])
    if storage.kind == "BFloat16Storage":  # which numpy lacks: the upper half of a float32
        return (numbers.astype("<u4") << 16).view("<f4")
    return numbers


def _array(name: str, tensor: _Tensor, memory: dict[_Storage, np.ndarray]) -> np.ndarray:
    """Returns a tensor as a view of its storage, after a check that no element lies outside."""
    _, offset, shape, strides = tensor
    numbers = memory[tensor.storage]
    fits = len(shape) == len(strides) <= 32 and offset >= 0 and all(number >= 0 for number in (*shape, *strides))
    if fits and math.prod(shape) > 0:
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        fits = last < numbers.size and math.prod(shape) <= numbers.size
    if not fits:
        place = f"with shape {shape} at {offset}, strides {strides}"
        raise ValueError(f"{name} {place}, beyond its storage of {numbers.size} numbers")
    steps = [stride * numbers.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(numbers[offset:], shape, steps, writeable=False)
