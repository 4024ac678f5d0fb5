"""The editor's six edits of a virtual exposure, and a pair of exposures while it is edited.

From bigmms/reinforcement_learning_hdr (375578f, utils_file/action.py, action_set.py, agent_test.py), the program of Yin et al.
(hdr_tf/editor/virtual_exposure.py has the reference). An edit changes the virtual exposure, never the pair. The three are fused
anew after each edit, so edits do not add up to blur. The first virtual exposure is the fusion of the pair with its estimated
virtual exposure, and it is also the first fused image. The agent chooses edits on a small copy; they are then repeated at full
size.

Kept: the saturation treats RGB as BGR (HSV is the same either way), and its neutral value is the mean of Cb and Cr rather than
128; the contrast uses the mean of V over the image, which differs between the small copy and the full size.

Changed: HSV is not computed. A new V of the same hue and saturation scales the pixel, which is equal up to rounding (1e-6).
Without any edit the program writes the image that it read; here the result is the first fused image. The 22 other edits of
action.py, which its agent cannot reach, are left out.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from hdr_tf.editor import virtual_exposure
from hdr_tf.image import color
from hdr_tf.image.depth import to_depth, to_rgb

STEPS = 20  # largest number of edits
SIDE = 224  # pixels of the small copy


def contrast(image: np.ndarray, strength: float) -> np.ndarray:
    """Moves V = max(R, G, B) of each pixel towards (strength < 1) or away from its mean over the image.

    Args:
        image: [H, W, 3] float32 RGB, 0..1, as is the result.
        strength: 1 changes nothing.
    """
    value = functools.reduce(cv2.max, cv2.split(image))  # ten times as fast as image.max(axis=2)
    target = strength * value + (1 - strength) * value.mean()
    result = cv2.merge([np.divide(target, value, out=np.zeros_like(value), where=value > 0)] * 3)
    result *= image
    if (black := value <= 0).any():
        result[black] = target[black, None]
    return _clip(result)


def brightness(image: np.ndarray, strength: float) -> np.ndarray:
    """Multiplies V of each pixel by the strength; see `contrast`."""
    return _clip(image * np.float32(strength))


def saturation(image: np.ndarray, strength: float) -> np.ndarray:
    """Moves Cb and Cr of each pixel towards or away from their mean; see `contrast`."""
    # This is a linear map: Cr loses what Cb gains.
    gain = (1 - strength) / 2 * np.outer(color.YCBCR_TO_RGB @ [0, 1, -1], [0, -1, 1] @ color.RGB_TO_YCBCR)
    return _clip(cv2.transform(image, (np.eye(3) + gain)[::-1, ::-1].astype(np.float32)))


def _clip(image):
    """In place, because a copy of a large image takes much memory."""
    return np.clip(image, 0, 1, out=image)


class Edit(NamedTuple):
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
class EditedPair:
    """A pair after some edits. It is immutable: `edit` returns another one, so several edits can be tried without copies."""

    fuse: virtual_exposure.Fusion  # fuses the pair with a virtual exposure
    virtual: np.ndarray  # the virtual exposure, [H, W, 3] float32 RGB, 0..1
    actions: tuple[int, ...] = ()  # the edits so far, numbers in `EDITS`

    def edit(self, action: int) -> "EditedPair":
        """Returns the pair after one more edit; it is fused when `fused` is first read."""
        if not 0 <= action < len(EDITS):
            raise ValueError(f"expected an edit of 0 to {len(EDITS) - 1}, found {action}")
        _, function, strength = EDITS[action]
        return EditedPair(self.fuse, function(self.virtual, strength), (*self.actions, int(action)))

    @functools.cached_property
    def fused(self) -> np.ndarray:
        """The fused image, [H, W, 3] float32 RGB, clipped to 0..1."""
        return _clip(self.fuse(self.virtual)) if self.actions else self.virtual


def start(under: np.ndarray, over: np.ndarray, fuse: virtual_exposure.Fusion | None = None) -> EditedPair:
    """Returns a pair without edits.

    Args:
        under, over: the two exposures, uint8 or uint16 [H, W, 3] RGB of one size and type, at least 8 pixels a side.
        fuse: None for the published method, or another fusion of this pair with a virtual exposure, which then starts with
            `virtual_exposure.repaired_virtual_exposure`.
    """
    if fuse is None:
        fuse = virtual_exposure.PairFusion(under, over)
        return EditedPair(fuse, _clip(fuse(virtual_exposure.virtual_exposure(under, over))))
    return EditedPair(fuse, _clip(fuse(virtual_exposure.repaired_virtual_exposure(under, over))))


def run(
    under: np.ndarray, over: np.ndarray, actions: Iterable[int], fuse: virtual_exposure.Fusion | None = None
) -> Iterator[EditedPair]:
    """Yields the pair without edits, then the pair after each of the actions; the arguments are those of `start`."""
    state = start(under, over, fuse)
    yield state
    for action in actions:
        state = state.edit(action)
        yield state


def shrink(pixels: np.ndarray) -> np.ndarray:
    """Scales an image, uint8 or uint16 [H, W, 3] or [H, W], to uint8 [224, 224, 3] with Pillow's bilinear filter."""
    return np.asarray(Image.fromarray(to_depth(to_rgb(pixels), 8)).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
