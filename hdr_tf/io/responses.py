"""Files of camera responses: text with an encoded and a linear value in each line, both from 0 to 1 and increasing.

    # response: estimated
    # encoded linear
    0 0
    0.0009765625 1.0382e-07
    ...
    1 1

Blanks or a comma separate the two; what follows # is a comment.
"""

import os
import pathlib

import numpy as np

from hdr_tf.image.response import Response
from hdr_tf.io.outputs import atomic

_ROWS = 1025  # of a response that is a formula
_MAX_BYTES = 16 << 20


def write_response(path: str | os.PathLike, response: Response) -> None:
    """Writes a response; the file appears complete or not at all. Formulas (see `Response.name`) are sampled."""
    values, linear = response.values, response.linear
    if values is None or linear is None:
        values = np.linspace(0, 1, _ROWS)
        linear = response.decode(values).astype(float)
    rows = [f"{value:.10g} {light:.10g}" for value, light in zip(values, linear, strict=True)]
    with atomic(path) as temporary:
        temporary.write_text("\n".join([f"# response: {response.name}", "# encoded linear", *rows, ""]))


def read_response(path: str | os.PathLike) -> Response:
    """Reads a response; its name is "file" and that of the file.

    Raises:
        ValueError: a line that begins with the path says what is wrong: not text, other than two numbers in a line, values
            that do not increase, or that do not run from 0 to 1.
        OSError: the file cannot be read.
    """
    path = pathlib.Path(path)
    try:
        size = path.stat().st_size
        if not path.is_file() or size > _MAX_BYTES:
            found = f"one of {size} bytes" if path.is_file() else "a folder or device"
            raise ValueError(f"expected a text file of a response, found {found}")
        rows = [_row(number, line) for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1)]
        columns = np.array([row for row in rows if row], float).reshape(-1, 2).T
        return Response(f"file {path.name}", *columns)
    except UnicodeDecodeError:
        raise ValueError(f"{path}: expected a text file of a response, found one that is not text") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    except OSError as error:
        raise type(error)(f"{path}: cannot be read: {error.strerror}") from error


def _row(number, line):
    fields = line.partition("#")[0].replace(",", " ").split()
    try:
        row = [float(field) for field in fields]
    except ValueError:
        row = [None]
    if row and (len(row) != 2 or None in row):
        raise ValueError(f"expected an encoded and a linear value in line {number}, found {line[:40]!r}")
    return row
