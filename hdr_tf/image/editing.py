"""The editor's edits: six of a virtual exposure, and a pair on its way through them.

    EDITS       the edits by number: name, function, strength
    Editing     a pair after some edits: the virtual exposure, and what it is fused to
    start, run  before the first edit, and after each of a sequence
    shrink      the small copy that an agent looks at

From bigmms/reinforcement_learning_hdr (375578f, utils_file/action.py, action_set.py, agent_test.py), the program of Yin et al.,
IEEE TNNLS 33(12), 2022 (hdr_tf/image/fusion.py has the reference). An edit changes the virtual exposure, never the pair; the
fused picture is made anew from all three, so edits do not blur it. The first virtual exposure is the fusion of the pair with
its estimated one, and the first fused picture is the same. What an agent decides on a small copy is done at full size.

These live here and not in hdr_tf/rl, which needs TF-Agents: who only fuses, has not installed it.

Kept: RGB counts as BGR in the saturation (HSV does not care), whose neutral value is the mean of Cb and Cr and not 128; the
mean of the contrast is that of V over the picture, at each size its own.

Changed: HSV is not computed. A new V of the same hue and saturation scales the pixel; equal but for rounding, 1e-6. Without any
edit the program writes the picture that it read; here the result is the first fused picture. The 22 other edits of
action.py, which its agent cannot reach, are left out.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator

import cv2
import numpy as np
from PIL import Image

from hdr_tf.image import color, fusion
from hdr_tf.image.depth import to_depth, to_rgb

STEPS = 20  # edits at most
SIDE = 224  # pixels of the small copy


def contrast(picture: np.ndarray, strength: float) -> np.ndarray:
    """Returns the picture with V = max(R, G, B) drawn to (below 1) or from its mean over the picture, clipped to 0..1.

    Args:
        picture: [H, W, 3] float32 RGB, 0..1.
        strength: 1 changes nothing.
    """
    value = picture.max(axis=2)
    target = strength * value + (1 - strength) * value.mean()
    result = picture * np.divide(target, value, out=np.zeros_like(value), where=value > 0)[..., None]
    np.copyto(result, target[..., None], where=value[..., None] <= 0)
    return _clipped(result)


def brightness(picture: np.ndarray, strength: float) -> np.ndarray:
    """Returns the picture with V multiplied by the strength, clipped to 0..1; arguments as of `contrast`."""
    return _clipped(picture * np.float32(strength))


def saturation(picture: np.ndarray, strength: float) -> np.ndarray:
    """Returns the picture with each pixel's Cb and Cr drawn to or from their mean, clipped to 0..1; arguments as of
    `contrast`."""
    # A linear map: what Cb gains, Cr loses.
    gain = (1 - strength) / 2 * np.outer(color.YCBCR_TO_RGB @ [0, 1, -1], [0, -1, 1] @ color.RGB_TO_YCBCR)
    return _clipped(cv2.transform(picture, (np.eye(3) + gain)[::-1, ::-1].astype(np.float32)))


def _clipped(picture):
    """In its place: a copy of a large picture takes much memory."""
    return np.clip(picture, 0, 1, out=picture)


@dataclasses.dataclass(frozen=True)
class Edit:
    """An entry of `EDITS`."""

    name: str
    function: Callable[[np.ndarray, float], np.ndarray]
    strength: float


EDITS = (
    Edit("less contrast", contrast, 0.95),
    Edit("more contrast", contrast, 1.05),
    Edit("less saturation", saturation, 0.95),
    Edit("more saturation", saturation, 1.05),
    Edit("darker", brightness, 0.93),
    Edit("brighter", brightness, 1.07),
)


@dataclasses.dataclass(frozen=True, eq=False)
class Editing:
    """A pair after some edits. It does not change: `edit` returns another one, so trying out all edits needs no copies."""

    fuse: fusion.PairFusion
    """the pair"""
    virtual: np.ndarray
    """[H, W, 3] float32 RGB, 0..1"""
    actions: tuple[int, ...] = ()
    """the edits so far, numbers in `EDITS`"""

    def edit(self, action: int) -> "Editing":
        """Returns the pair after one more edit; fusing waits until somebody asks for `fused`.

        Raises:
            ValueError: there is no such edit.
        """
        if not 0 <= action < len(EDITS):
            raise ValueError(f"expected an edit of 0 to {len(EDITS) - 1}, found {action}")
        chosen = EDITS[action]
        return Editing(self.fuse, chosen.function(self.virtual, chosen.strength), (*self.actions, int(action)))

    @functools.cached_property
    def fused(self) -> np.ndarray:
        """The fused picture, [H, W, 3] float32 RGB, clipped to 0..1."""
        return _clipped(self.fuse(self.virtual)) if self.actions else self.virtual


def start(under: np.ndarray, over: np.ndarray) -> Editing:
    """Returns a pair without edits.

    Args:
        under: the darker picture, uint8 or uint16 [H, W, 3] RGB, 8 pixels a side and more.
        over: the brighter one, likewise.

    Raises:
        ValueError: two sizes, or too small.
    """
    fuse = fusion.PairFusion(under, over)
    return Editing(fuse, _clipped(fuse(fusion.virtual_exposure(under, over))))


def run(under: np.ndarray, over: np.ndarray, actions: Iterable[int]) -> Iterator[Editing]:
    """Yields the pair without edits, and then after each of the actions."""
    state = start(under, over)
    yield state
    for action in actions:
        state = state.edit(action)
        yield state


def shrink(pixels: np.ndarray) -> np.ndarray:
    """Returns a picture at 224 x 224, as Pillow's bilinear filter scales it: [H, W, 3] or [H, W], uint8 or uint16, to uint8
    [224, 224, 3]."""
    pixels = to_depth(to_rgb(pixels), 8)
    return np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
