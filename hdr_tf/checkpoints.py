"""Reads the checkpoints of published networks: PyTorch, npz (Lasagne) and TensorFlow 1.

A PyTorch file is a pickle, and opening a pickle may run any program. The reader here accepts tensors, containers and numbers,
refuses every other class by name, and needs no PyTorch. The arrays are views of the file's bytes; each is checked against its
storage. `weights.assign` gives them to a network.

What a file says about its own size is not believed: the readers count the bytes that they get, and stop.
"""

import collections
import glob
import io
import math
import os
import pathlib
import pickle
import zipfile
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from hdr_tf.io.outputs import shortened

MAX_EXPANSION = 100  # an npz file unpacks to at most that many times its size; PyTorch does not compress
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
    counter of steps are left out of a TensorFlow checkpoint, and so are texts. Any other file raises ValueError.
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
            pickled = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            if not pickled:
                return read_npz(data)
            return _read_torch_zip(_Members(archive, len(data)), pickled[0].removesuffix("data.pkl"))
    except Exception as error:  # a damaged pickle or archive may raise nearly anything
        found = str(error) if isinstance(error, ValueError) else f"a damaged file ({type(error).__name__}: {error})"
        problem = f"{path}: expected a checkpoint of PyTorch, npz or TensorFlow 1, found {shortened(found, 500)}"
        raise ValueError(problem) from error


def read_npz(data: bytes) -> dict[str, np.ndarray]:
    """Reads the arrays in the bytes of an npz file. A damaged file may raise nearly anything."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = _Members(archive, MAX_EXPANSION * len(data))
        return {name.removesuffix(".npy"): _read_npy(members.read(name)) for name in archive.namelist()}


class _Members:
    """Reads the members of an archive, `left` bytes in all. The sizes in its directory may be anything."""

    def __init__(self, archive: zipfile.ZipFile, left: int):
        self.archive, self.left = archive, left

    def read(self, name: str) -> bytes:
        if self.archive.getinfo(name).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError("an archive of another compression")
        with self.archive.open(name) as member:
            content = member.read(self.left + 1)
        self.left -= len(content)
        if self.left < 0:
            raise ValueError("an archive that would fill many times its size")
        return content


def _read_npy(content):
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
    shape, _, dtype = read_header(file)
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize > len(content):
        raise ValueError("an array that is larger than its file")
    return np.load(io.BytesIO(content), allow_pickle=False)


def _read_tensorflow(prefix: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
        state = {*TRAINING_STATE, *(f"{name}/{slot}" for name in shapes for slot in ADAM_SLOTS)}
        names = [name for name in shapes if name not in state and (dtypes[name].is_floating or dtypes[name].is_integer)]
        size = sum(path.stat().st_size for path in prefix.parent.glob(f"{glob.escape(prefix.name)}.data-*"))
        if sum(math.prod(shapes[name]) * dtypes[name].size for name in names) > size:
            raise ValueError(f"arrays that are larger than its data, {size} bytes")
        return {name: reader.get_tensor(name) for name in names}
    except Exception as error:  # TensorFlow's own errors, and whatever its reader in C++ raises
        found = shortened(" ".join(str(error).split()), 500)
        raise ValueError(f"{prefix}: expected a TensorFlow checkpoint, found a damaged one ({found})") from error


class _Storage(NamedTuple):
    """A tensor's memory as the pickle names it; several tensors may share one."""

    kind: str
    key: str


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements, as the offset


# What PyTorch writes, of all protocols. Sets, and objects that are made in other ways than by a call, are not among it.
_OPCODES = (
    *(pickle.PROTO, pickle.FRAME, pickle.MARK, pickle.STOP, pickle.POP, pickle.POP_MARK, pickle.DUP),
    *(pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE, pickle.GET, pickle.BINGET, pickle.LONG_BINGET),
    *(pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.INT, pickle.BININT, pickle.BININT1, pickle.BININT2),
    *(pickle.LONG, pickle.LONG1, pickle.LONG4, pickle.FLOAT, pickle.BINFLOAT, pickle.BINBYTES, pickle.SHORT_BINBYTES),
    *(pickle.STRING, pickle.BINSTRING, pickle.SHORT_BINSTRING, pickle.UNICODE, pickle.BINUNICODE, pickle.SHORT_BINUNICODE),
    *(pickle.TUPLE, pickle.EMPTY_TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
    *(pickle.LIST, pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS),
    *(pickle.DICT, pickle.EMPTY_DICT, pickle.SETITEM, pickle.SETITEMS),
    *(pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.REDUCE, pickle.BUILD, pickle.BINPERSID),
)


class _Unpickler(pickle._Unpickler):
    """Reads tensors as `_Tensor`, containers and numbers; refuses any other class.

    It extends the unpickler in Python, because the one in C allocates whatever size a hostile file names. Opcodes that PyTorch
    never writes are left out. A tuple may hold the same tuple many times, and so on: then a hash or a text of it takes for
    ever. So nothing here takes the hash or the text of a tuple.
    """

    dispatch = {code[0]: pickle._Unpickler.dispatch[code[0]] for code in _OPCODES}

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
        raise ValueError(f"an object of class {shortened(module)}.{shortened(name)}, which is no tensor, container or number")

    def persistent_load(self, identifier) -> _Storage:
        _, kind, key, _, _, *view = identifier
        if not (isinstance(kind, str) and kind in STORAGES and isinstance(key, str)):
            raise ValueError("a storage without type and name")
        if any(part is not None for part in view):
            raise ValueError("a storage that is part of another, as PyTorch wrote it before 0.4")
        self.storages.append(_Storage(kind, key))
        return self.storages[-1]

    def load_setitem(self):
        _check_keys(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self):
        _check_keys(self.stack[::2])
        super().load_setitems()

    def load_dict(self):
        _check_keys(self.stack[::2])
        super().load_dict()

    def load_reduce(self):
        if self.stack[-2] is collections.OrderedDict:  # of Python 2: from a list of pairs
            _check_keys([key for pairs in self.stack[-1] for key, _ in pairs])
        super().load_reduce()

    def load_build(self):
        self.stack.pop()  # a state dict's list of versions

    dispatch |= {
        **{pickle.SETITEM[0]: load_setitem, pickle.SETITEMS[0]: load_setitems, pickle.DICT[0]: load_dict},
        **{pickle.REDUCE[0]: load_reduce, pickle.BUILD[0]: load_build},
    }

    def _rebuild_tensor_v2(self, storage, offset, shape, strides, *_) -> _Tensor:
        flat = isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides) <= 32
        if not (isinstance(storage, _Storage) and flat and all(map(_is_size, (offset, *shape, *strides)))):
            raise ValueError("a tensor without storage, or whose offset, shape and strides are not numbers from 0")
        return _Tensor(storage, offset, shape, strides)

    def _rebuild_parameter(self, tensor, *_) -> _Tensor:
        return tensor


def _check_keys(keys):
    if not all(isinstance(key, str | int) for key in keys):  # numbers: in the state of an optimizer
        raise ValueError("a dict whose keys are not names or numbers")


def _is_size(number):
    return type(number) is int and 0 <= number < 2**63


def _read_torch_zip(members: _Members, folder: str) -> dict[str, np.ndarray]:
    if f"{folder}byteorder" in members.archive.namelist() and members.read(f"{folder}byteorder") != b"little":
        raise ValueError("a PyTorch file with big-endian numbers")
    unpickler = _Unpickler(io.BytesIO(members.read(f"{folder}data.pkl")))
    tensors = _state_dict(unpickler.load())
    storages = _by_key(unpickler)
    memory = {storage: _numbers(storage, members.read(f"{folder}data/{key}")) for key, storage in storages.items()}
    return {name: _array(name, tensor, memory) for name, tensor in tensors.items()}


def _by_key(unpickler) -> dict[str, _Storage]:
    """Returns the storages by their keys."""
    storages = {storage.key: storage for storage in unpickler.storages}
    if any(storage != storages[storage.key] for storage in unpickler.storages):
        raise ValueError("a storage of two types")
    return storages


def _read_torch_legacy(data: bytes) -> dict[str, np.ndarray]:
    stream = io.BytesIO(data)
    if not data.startswith(b"\x80") or _Unpickler(stream).load() != TORCH_MAGIC:
        raise ValueError("something else, or a truncated file")
    _Unpickler(stream).load()  # version of the format
    if not _Unpickler(stream).load()["little_endian"]:
        raise ValueError("a PyTorch file with big-endian numbers")
    unpickler = _Unpickler(stream)
    tensors = _state_dict(unpickler.load())
    storages, memory = _by_key(unpickler), {}
    for key in _Unpickler(stream).load():  # each storage: number of elements, elements
        if not isinstance(key, str):
            raise ValueError("a storage without a name")
        size = int.from_bytes(stream.read(8), "little") * np.dtype(STORAGES[storages[key].kind]).itemsize
        content = stream.read(size)
        if len(content) != size:
            raise ValueError(f"a truncated file: storage {shortened(key)} has {len(content)} of {size} bytes")
        memory[storages[key]] = _numbers(storages[key], content)
    return {name: _array(name, tensor, memory) for name, tensor in tensors.items()}


def _state_dict(root) -> dict[str, _Tensor]:
    """Finds the tensors by name: an inner dict that holds tensors, or else the file's object itself."""

    def tensors(value) -> dict[str, _Tensor]:
        items = value.items() if isinstance(value, dict) else ()
        return {k: v for k, v in items if isinstance(v, _Tensor) and isinstance(k, str)}

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
    fits = offset <= numbers.size
    if fits and math.prod(shape) > 0:
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        fits = last < numbers.size and math.prod(shape) <= numbers.size
    if not fits:
        place = f"with shape {shape} at {offset}, strides {strides}"
        raise ValueError(f"{shortened(name)} {place}, beyond its storage of {numbers.size} numbers")
    steps = [stride * numbers.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(numbers[offset:], shape, steps, writeable=False)
