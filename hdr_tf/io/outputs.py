"""Output files: checks before the work begins, and atomic writes."""

import contextlib
import functools
import os
import pathlib
import re
import shutil
import socket
import uuid
import zlib
from collections.abc import Iterator, Sequence

MAX_NAME = 255  # bytes of a file's name, on all file systems in common use


@contextlib.contextmanager
def atomic(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a temporary name next to `path`, with its suffix. Renames the file or folder at the end, removes it on an error.

    A symbolic link stays and the file that it leads to is replaced; a pipe or a device is refused (ValueError). What a killed
    process left under such names is removed when the next process first writes into the folder. If writing fails, the OSError
    is one line that begins with the path.
    """
    path = pathlib.Path(path)
    target = _target(path)
    _sweep(target.absolute().parent)
    prefix = f".{_MACHINE}-{os.getpid()}-{uuid.uuid4().hex[:8]}."
    temporary = target.with_name(prefix + _last(target.name, MAX_NAME - len(prefix)))
    try:
        yield temporary
        temporary.replace(target)
    except OSError as error:
        reason = error.strerror or str(error).rpartition(": ")[2]  # a file within a folder is reported without its own name
        raise type(error)(f"{path}: cannot be written: {reason}") from error
    finally:
        _remove(temporary)


# Whether a process of another machine runs cannot be known. A checksum, because its name may be too long for a file name.
_MACHINE = f"{zlib.crc32(socket.gethostname().encode()):08x}"


def _target(path):
    """What a path leads to, if it is a symbolic link. ValueError if a file must not take its place."""
    target = pathlib.Path(os.path.realpath(path)) if path.is_symlink() else path
    if target.is_symlink():
        raise ValueError(f"{path}: expected a file to write to, found a symbolic link that leads to itself")
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise ValueError(f"{path}: expected a file to write to, found a pipe or device")
    return target


def _last(name, count):
    return os.fsencode(name)[-count:].decode(errors="ignore")


def named(stem: str, ending: str) -> str:
    """Returns the name of a file, with as much of the stem as file systems allow."""
    return os.fsencode(stem)[: MAX_NAME - len(ending)].decode(errors="ignore") + ending


@functools.cache
def _sweep(folder):
    for path in folder.glob(f".{_MACHINE}-*"):
        process = re.match(r"\.\w{8}-(\d{1,9})-\w{8}\.", path.name)
        if process and not _is_running(int(process[1])):
            with contextlib.suppress(OSError):  # another process has just removed it, or it belongs to another user
                _remove(path)


def _is_running(process):
    try:
        os.kill(process, 0)  # signal 0 only asks
    except OSError as error:
        return not isinstance(error, ProcessLookupError)  # another user's process
    return True


def _remove(path):
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def check_target(output: pathlib.Path, inputs: Sequence[str | os.PathLike]) -> None:
    """Raises ValueError if `output` cannot be written or is one of the input files."""
    length = len(os.fsencode(output.name))
    if length > MAX_NAME:
        raise ValueError(f"{output}: expected a name of at most {MAX_NAME} bytes, found {length}")
    target = _target(output)
    if os.path.realpath(output) in {os.path.realpath(path) for path in inputs}:
        raise ValueError(f"{output}: is one of the input images and would be overwritten; choose another output")
    if target.is_dir():
        raise ValueError(f"{output}: expected a file to write to, found a folder")
    folder = next(parent for parent in target.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ValueError(f"{output}: cannot be written: {folder} is not a writable folder")


def check_outside(output: pathlib.Path, folders: Sequence[pathlib.Path], what: str) -> None:
    """Raises ValueError if the folder `output` would stand next to the input folders, as one of them; they hold `what`."""
    if output.resolve().parent in {folder.parent.resolve() for folder in folders}:
        raise ValueError(f"{output}: lies among the {what} and would be mistaken for one; choose a folder elsewhere")


def shortened(text: str, most: int = 200) -> str:
    """Returns a text of at most `most` characters, for a message; what is missing of a longer one is marked."""
    return text if len(text) <= most else f"{text[:most]}..."
