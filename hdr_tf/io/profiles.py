"""Colour profiles (ICC): small ones are made, and the curve of any is read by Little CMS.

Profiles that are made are of version 4 and hold three colours and one curve for all, or for gray images the curve alone.
"""

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageCms

# x and y in CIE 1931 of red, green, blue and white.
SRGB = (0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329)
BT_2020 = (0.708, 0.292, 0.17, 0.797, 0.131, 0.046, 0.3127, 0.329)
ADOBE_RGB = (0.64, 0.33, 0.21, 0.71, 0.15, 0.06, 0.3127, 0.329)
ADOBE_RGB_GAMMA = 563 / 256

_D50 = np.array([0.9642, 1, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_EVEN = 3  # a gamma after which 16 bit resolve light from black to white
_NO_OPTIMIZATION = 0x0100  # of Little CMS: curves are computed, not looked up


def make(
    name: str, primaries: Sequence[float] | None, gamma: float | np.ndarray | None, cicp: Sequence[int] | None = None
) -> bytes:
    """Returns a profile.

    Args:
        name: for lists of profiles, ASCII.
        primaries: x and y of red, green, blue and white, see `SRGB`; None for a profile of gray images.
        gamma: of the curve; or light from 0 to 1 at evenly spaced values; None for the curve of sRGB.
        cicp: colour primaries, transfer characteristics, matrix and range of ITU-T H.273, which then count instead.
    """
    if gamma is None:
        curve = b"para" + struct.pack(">IHH5i", 0, 3, 0, *_fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
    elif isinstance(gamma, np.ndarray):
        curve = b"curv" + struct.pack(">II", 0, len(gamma)) + np.rint(65535 * gamma).astype(">u2").tobytes()
    else:
        curve = b"para" + struct.pack(">IHHi", 0, 0, 0, *_fixed(gamma))
    tags = {b"desc": _text(name), b"cprt": _text("CC0"), b"wtpt": _xyz(_D50)}
    if primaries is None:
        tags[b"kTRC"] = curve
    else:
        adapted, adaptation = to_xyz(primaries)
        tags |= {name: _xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), adapted.T, strict=True)}
        tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
        tags[b"chad"] = b"sf32" + bytes(4) + struct.pack(">9i", *_fixed(*adaptation.ravel()))
    if cicp:
        tags[b"cicp"] = b"cicp" + bytes(4) + bytes(cicp)
    return _joined(b"GRAY" if primaries is None else b"RGB ", tags)


def to_xyz(primaries: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the colours of red, green and blue as they look under D50, [3, 3] with a column for each, and the adaptation."""
    x, y = np.array(primaries, np.float64).reshape(4, 2).T
    colours = np.stack([x / y, np.ones(4), (1 - x - y) / y])
    white = colours[:, 3]
    gains = (_BRADFORD @ _D50) / (_BRADFORD @ white)
    adaptation = np.linalg.solve(_BRADFORD, gains[:, None] * _BRADFORD)
    return adaptation @ (colours[:, :3] * np.linalg.solve(colours[:, :3], white)), adaptation


def opened(icc: bytes) -> Any:
    """Returns a profile as Little CMS reads it, Pillow's CmsProfile; OSError if it is damaged."""
    return ImageCms.core.profile_frombytes(icc)


def curve(icc: bytes) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the curve of a profile for RGB or gray, at 256 evenly spaced values; None if there is none, or if it falls.

    Returns:
        The values, 0 to 1, and the third roots of the light of a gray of such values, 0 to 1, in steps of 1/65535.
    """
    try:
        source = opened(icc)
        mode = {"RGB ": "RGB", "GRAY": "L"}[source.xcolor_space]
        target = opened(make("gray", None, _EVEN))
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        transform = ImageCms.buildTransform(source, target, mode, "I;16", intent, ImageCms.Flags(_NO_OPTIMIZATION))
        ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None]).convert(mode)
        values = np.asarray(ImageCms.applyTransform(ramp, transform), np.uint16)[0] / 65535
    except Exception:  # a damaged profile, or one of a kind that Pillow has no words for
        return None
    if values[-1] <= 0 or (np.diff(values) < 0).any():
        return None
    return np.linspace(0, 1, 256), values / values[-1]


def _joined(space, tags):
    table, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">II", start + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    header = struct.pack(
        ">I4sI4s4s4s12s4s", start + len(body), bytes(4), 0x04300000, b"mntr", space, b"XYZ ", bytes(12), b"acsp"
    )
    return (header.ljust(68, b"\0") + struct.pack(">3i", *_fixed(*_D50))).ljust(128, b"\0") + table + body


def _fixed(*values):
    return (round(float(value) * 65536) for value in values)


def _xyz(values):
    return b"XYZ " + bytes(4) + struct.pack(">3i", *_fixed(*values))


def _text(text):
    data = text.encode("utf-16-be")
    return b"mluc" + struct.pack(">3I2s2s2I", 0, 1, 12, b"en", b"US", len(data), 28) + data
