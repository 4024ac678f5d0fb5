"""What a record holds, declared once: encoding, the tf.io spec and decoding come from the same object.

    example (dict of numpy arrays) => encode() => serialized tf.train.Example => parse() => dict of tensors

>>> import numpy as np
>>> record = {"exposures": np.zeros([2, 8, 8, 3], np.uint8), "ev": np.array([-2.0, 2.0], np.float32), "source": "noise"}
>>> parse(BRACKET, encode(BRACKET, record))["exposures"].shape
TensorShape([2, 8, 8, 3])
"""

import dataclasses
import difflib
import functools
import zlib
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from hdr_tf.io.scenes import EXPOSURE_NAMES


@dataclasses.dataclass(frozen=True)
class Array:
    """An array of one type; None in `shape` stands for any length, which is part of the record."""

    dtype: str
    shape: tuple[int | None, ...]
    spec = tf.io.FixedLenFeature([], tf.string)  # no default, so that a record without the field is refused

    def encode(self, value) -> bytes:
        return tf.make_tensor_proto(self.checked(value)).SerializeToString()

    def checked(self, value) -> np.ndarray:
        value = np.asarray(value)
        if value.dtype != self.dtype or not tf.TensorShape(self.shape).is_compatible_with(value.shape):
            raise ValueError(f"expected {self.describe()}, found {value.dtype} {list(value.shape)}")
        return value

    def decode(self, value):
        return tf.ensure_shape(tf.io.parse_tensor(value, self.dtype), self.shape)

    def unpack(self, value: bytes) -> np.ndarray:
        return tf.make_ndarray(type(tf.make_tensor_proto(0)).FromString(value))  # a class without a public name

    def describe(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


@dataclasses.dataclass(frozen=True)
class Packed(Array):
    """An array of images [..., W, C], compressed without loss: lengths as int32, then deflated bytes.

    Integers become differences along the width, and the first bytes of all values come first, then the second bytes, and so
    on. The upper bytes of a noisy 16-bit image then compress well, unlike those of PNG, TIFF or the plain array; the lower two
    bytes of radiance from a Radiance file (8 bit and an exponent) are zero.
    """

    def encode(self, value) -> bytes:
        value = self.checked(value)
        if value.dtype.kind == "u":
            value = np.concatenate([value[..., :1, :], np.diff(value, axis=-2)], axis=-2)
        planes = np.moveaxis(np.ascontiguousarray(value)[..., None].view(np.uint8), -1, 0)
        # Higher levels take three times as long and save 2 %.
        return np.int32(value.shape).tobytes() + zlib.compress(planes.tobytes(), 1)

    def decode(self, value):
        # The function gets an array when it runs eagerly, and bytes in a map; an array of these would lose zeros at the end.
        def unpacked(value):
            return self.unpack(value if isinstance(value, bytes) else value.item())

        unpack = functools.partial(tf.numpy_function, unpacked, stateful=False)
        return tf.ensure_shape(unpack([value], self.dtype), self.shape)

    def unpack(self, value: bytes) -> np.ndarray:
        head, dtype = 4 * len(self.shape), np.dtype(self.dtype)
        shape = np.frombuffer(value[:head], np.int32)
        try:
            planes = np.frombuffer(zlib.decompress(memoryview(value)[head:]), np.uint8).reshape(dtype.itemsize, *shape)
        except (zlib.error, ValueError) as error:
            raise ValueError(f"expected {self.describe()}, found {len(value)} other bytes") from error
        array = np.ascontiguousarray(np.moveaxis(planes, 0, -1)).view(dtype)[..., 0]
        return np.cumsum(array, axis=-2, dtype=dtype) if dtype.kind == "u" else array

    def describe(self) -> str:
        return f"packed {super().describe()}"


@dataclasses.dataclass(frozen=True)
class Patch:
    """A square RGB patch [side, side, 3] as plain bytes, for readers that know type and size (`tf.io.decode_raw`)."""

    dtype: str
    spec = tf.io.FixedLenFeature([], tf.string)

    def encode(self, value) -> bytes:
        value = np.asarray(value)
        if value.dtype != self.dtype or value.ndim != 3 or value.shape != (len(value), len(value), 3):
            raise ValueError(f"expected {self.dtype} [side, side, 3], found {value.dtype} {list(value.shape)}")
        return value.tobytes()

    def decode(self, value):
        values = tf.io.decode_raw(value, self.dtype)
        side = tf.cast(tf.round(tf.sqrt(tf.size(values) / 3)), tf.int32)
        return tf.reshape(values, tf.stack([side, side, 3]))

    def unpack(self, value: bytes) -> np.ndarray:
        values = np.frombuffer(value, self.dtype)
        side = round((len(values) / 3) ** 0.5)
        return values.reshape(side, side, 3)

    def describe(self) -> str:
        return f"raw {self.dtype} [side, side, 3]"


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

    def unpack(self, value: bytes) -> str:
        return value.decode()

    def describe(self) -> str:
        return "text"


Schema = Mapping[str, Array | Patch | Text]

# A bracket: exposures of one scene as RGB, darkest first, their offsets in stops, and the name of their source.
BRACKET = {"exposures": Array("uint8", (None, None, None, 3)), "ev": Array("float32", (None,)), "source": Text()}

# A single RGB image and the name of its file.
IMAGES = {"picture": Array("uint8", (None, None, 3)), "source": Text()}

# A whole scene: three exposures as RGB, short to long, with the values of their files (up to 255 or 65535, depending on depth),
# log2 of the exposures, linear radiance, and the name of its folder. Patches are cut when the record is read.
KALANTARI = {
    "ldr": Packed("uint16", (3, None, None, 3)),
    "depth": Array("int32", ()),
    "stops": Array("float64", (3,)),
    "hdr": Packed("float32", (None, None, 3)),
    "name": Text(),
}

# A whole scene for SelfHDR: `hdr` is the colour label, never the true radiance, and `structure` the structure label, [0, 0, 3]
# as long as there is none.
SELFHDR = KALANTARI | {"structure": Packed("float32", (None, None, 3))}

# P patches of a scene for the merge network: N exposures that lie on each other, where flow left them
# (`hdr_tf.image.optical_flow`), their exposures relative to the reference, its index, the numbers of the noise
# (`hdr_tf.models.merge`), and the true radiance in units of the reference's clip.
MERGE = {
    "images": Packed("uint16", (None, None, None, None, 3)),
    "inside": Array("uint8", (None, None, None, None)),
    "exposures": Array("float32", (None,)),
    "reference": Array("int32", ()),
    "noise": Array("float32", (4,)),
    "hdr": Packed("float32", (None, None, None, 3)),
}

# Our names of the arrays of a patch, and the names in ESBN's scripts; images are uint8, radiance is float32.
ESBN_NAMES = {
    **{f"ldr_{side}": f"input_LDR_{side}" for side in EXPOSURE_NAMES},
    **{f"hdr_{side}": f"input_HDR_{side}" for side in EXPOSURE_NAMES},
    **{f"gt_ldr_{side}": f"gt_LDR_{side}" for side in ("low", "high")},
    "gt_hdr": "gt_HDR",
}


def esbn_names(kind: str) -> dict[str, str]:
    """Returns {our name: name in the record} of kind "esbn_align" or "esbn_merge"."""
    if kind == "esbn_merge":
        return {ours: f"merge/{name}" for ours, name in ESBN_NAMES.items() if not ours.startswith("gt_ldr")}
    return {ours: f"train/{name}" for ours, name in ESBN_NAMES.items()}


# Patches as ESBN's make_tfrecord.py writes them for the alignment networks, and as its training_fusion.py reads them.
ESBN_ALIGN, ESBN_MERGE = (
    {name: Patch("uint8" if "LDR" in name else "float32") for name in esbn_names(kind).values()}
    for kind in ("esbn_align", "esbn_merge")
)

KINDS = {
    "kalantari": KALANTARI,
    "selfhdr": SELFHDR,
    "merge": MERGE,
    "esbn_align": ESBN_ALIGN,
    "esbn_merge": ESBN_MERGE,
    "bracket": BRACKET,
    "images": IMAGES,
}

# How the files of a kind are compressed. Scenes are packed field by field, so that a record can be read without those before
# it; ESBN's own scripts read uncompressed files.
COMPRESSION = {kind: "GZIP" if kind in ("bracket", "images") else "" for kind in KINDS}


def encode(schema: Schema, example: Mapping) -> bytes:
    """Returns the example as a serialized tf.train.Example; a ValueError names the field that does not fit the schema."""
    unknown, missing = sorted(set(example) - set(schema)), sorted(set(schema) - set(example))
    if unknown or missing:
        close = [f"; did you mean {name!r}?" for key in unknown for name in difflib.get_close_matches(key, missing, n=1)]
        fields = f"available {sorted(schema)}, missing {missing}, unrecognised {unknown}"
        raise ValueError(f"record fields do not fit: {fields}{''.join(close[:1])}")
    features = {}
    for name, field in schema.items():
        try:
            value = field.encode(example[name])
        except ValueError as error:
            raise ValueError(f"in field {name!r}: {error}") from error
        features[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)


def parse(schema: Schema, serialized) -> dict:
    """Returns the tensors of one serialized example, eagerly or inside tf.data.map; where a field is missing or of another type
    or shape, a tf.errors.InvalidArgumentError names it."""
    values = tf.io.parse_single_example(serialized, {name: field.spec for name, field in schema.items()})
    return {name: field.decode(values[name]) for name, field in schema.items()}


def unpack(schema: Schema, serialized: bytes) -> dict:
    """Returns the arrays of one serialized example as `parse`, but without TensorFlow operations, for use inside of one."""
    features = tf.train.Example.FromString(serialized).features.feature
    values = {}
    for name, field in schema.items():
        try:
            values[name] = field.unpack(features[name].bytes_list.value[0])
        except (IndexError, ValueError) as error:
            raise ValueError(f"in field {name!r}: {error}") from error
    return values


def describe(schema: Schema) -> dict[str, str]:
    """Returns the schema as text, for the manifest."""
    return {name: field.describe() for name, field in schema.items()}
