"""From images to the planes that a fusion network takes, and from the fused plane to an image, without TensorFlow.

8-bit images go through the arithmetic that the original publishes, including its rounding and truncation; 16-bit images go
through the same formulas in float32 on v / 257, rounded once at the end. Images are split into the luminance, which the network
takes, and chroma, as the system's colour rule says (`hdr_tf.image.color`); the fused luminance is joined with the chroma.
"""

from collections.abc import Callable, Sequence

import numpy as np
from absl import logging

from hdr_tf import systems
from hdr_tf.image import color
from hdr_tf.image.depth import is_gray, to_rgb


def fuse(
    system: systems.FusionSystem, network: Callable, images: Sequence[np.ndarray], gray_and_color: bool = False
) -> np.ndarray:
    """Fuses images, see `hdr_tf.fusion.pipeline`, by a function from a list of planes [H, W, C], dark to bright, to the fused
    one: uint8 to uint8, or uint16 or float32 in 0..255 to float32 in 0..255."""
    eight_bit = images[0].dtype == np.uint8

    def fuse_planes(planes):
        shape = planes[0].shape
        return network([plane.reshape(*shape[:2], -1) for plane in planes]).reshape(shape)

    def fuse_luminance(planes):
        if system.color is not None:
            return fuse_planes(planes)
        return color.luminance(fuse_planes([to_rgb(plane) for plane in planes]))

    gray = [is_gray(image) for image in images]
    if all(gray):
        fused = fuse_luminance([plane if plane.ndim == 2 else color.luminance(plane) for plane in map(pixels, images)])
    elif system.color is None and not (system.keeps_color and gray_and_color):
        fused = fuse_planes([to_rgb(image) for image in images])
    else:
        rule = systems.resolve(system.color) if system.color else color.DENSEFUSE_GRAY
        luminances, *chroma = zip(*(rule.split(to_rgb(plane)) for plane in map(pixels, images)), strict=True)
        luminances = [luminance.astype(np.uint8 if eight_bit else np.float32) for luminance in luminances]
        chroma = list(zip(*chroma, strict=True))
        if gray_and_color:
            logging.info("one gray and one colour image: luminances fused, colour kept")
            chroma = [chroma[gray.index(False)]]
        fused = rule.join(fuse_luminance(luminances), chroma)
    if not eight_bit:
        fused = np.clip(fused, 0, 255)
        fused *= 257
        fused = np.round(fused, out=fused).astype(np.uint16)
    return fused


def pixels(image: np.ndarray) -> np.ndarray:
    """Returns the values of an image in 0..255: uint8 as they are, uint16 as float32."""
    return image / np.float32(257) if image.dtype == np.uint16 else image
