"""What a record holds, declared once: encoding, the tf.io spec and decoding come from the same object.

    example (dict of numpy arrays) => encode() => serialized tf.train.Example => parse() => dict of tensors

>>> import numpy as np
>>> record = {"exposures": np.zeros([2, 8, 8, 3], np.uint8), "ev": np.array([-2.0, 2.0], np.float32), "source": "noise"}
>>> parse(BRACKET, encode(BRACKET, record))["exposures"].shape
TensorShape([2, 8, 8, 3])
"""

import dataclasses
import difflib
from collections.abc import Mapping

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Array:
    """An array of one type; None in `shape` stands for any length, which the record itself carries."""

    dtype: str
    shape: tuple[int | None, ...]

    # Without a default: a record that lacks the field is refused, not filled in.
    spec = tf.io.FixedLenFeature([], tf.string)

    def encode(self, value) -> bytes:
        value = np.asarray(value)
        fits = value.ndim == len(self.shape) and all(
            length in (None, found) for length, found in zip(self.shape, value.shape, strict=True)
        )
        if value.dtype != self.dtype or not fits:
            raise ValueError(f"expected {self.describe()}, found {value.dtype} {list(value.shape)}")
        return tf.make_tensor_proto(value).SerializeToString()

    def decode(self, value):
        return tf.ensure_shape(tf.io.parse_tensor(value, self.dtype), self.shape)

    def describe(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


@dataclasses.dataclass(frozen=True)
class Text:
    """A string."""

    spec = tf.io.FixedLenFeature([], tf.string)

    def encode(self, value) -> bytes:
        if not isinstance(value, str):
            raise ValueError(f"expected text, found {type(value).__name__}")
        return value.encode()

    def decode(self, value):
        return value

    def describe(self) -> str:
        return "text"


Schema = Mapping[str, Array | Text]

# A bracket: exposures of one scene as RGB, darkest first, their offsets in stops, and the picture that they come from.
BRACKET = {
    "exposures": Array("uint8", (None, None, None, 3)),
    "ev": Array("float32", (None,)),
    "source": Text(),
}

KINDS = {"bracket": BRACKET}


def encode(schema: Schema, example: Mapping) -> bytes:
    """Returns the example as a serialized tf.train.Example.

    Raises:
        ValueError: a field is missing, unknown, or of another type or shape than declared; the message names it.
    """
    unknown, missing = sorted(set(example) - set(schema)), sorted(set(schema) - set(example))
    if unknown or missing:
        close = [name for key in unknown for name in difflib.get_close_matches(key, missing, n=1)]
        raise ValueError(
            f"record fields do not fit: available {sorted(schema)}, missing {missing}, unrecognised {unknown}"
            + (f"; did you mean {close[0]!r}?" if close else "")
        )
    features = {}
    for name, field in schema.items():
        try:
            value = field.encode(example[name])
        except ValueError as error:
            raise ValueError(f"in field {name!r}: {error}") from error
        features[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)


def parse(schema: Schema, serialized) -> dict:
    """Returns the tensors of one serialized example; works eagerly and inside tf.data.map.

    Raises:
        tf.errors.InvalidArgumentError: a field is missing or of another type or shape; the message names it.
    """
    values = tf.io.parse_single_example(serialized, {name: field.spec for name, field in schema.items()})
    return {name: field.decode(values[name]) for name, field in schema.items()}


def describe(schema: Schema) -> dict[str, str]:
    """Returns the schema as text, for the manifest."""
    return {name: field.describe() for name, field in schema.items()}
