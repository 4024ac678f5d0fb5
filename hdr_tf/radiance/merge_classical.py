"""The runner of `merge_classical`, and what the runner of `merge` has in common with it: any number of exposures to radiance.

Exposures are moved onto the reference by optical flow, their noise is estimated from them, and `image.trusted_merge` merges. No
network and no TensorFlow are needed.
"""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from hdr_tf import systems
from hdr_tf.image import noise as noise_model
from hdr_tf.image import optical_flow, tone, trusted_merge
from hdr_tf.image.depth import to_depth

SMALL = 2**20  # pixels of the part of an image in which noise is measured


@dataclasses.dataclass(frozen=True)
class Merged:
    """The result of a merge."""

    radiance: np.ndarray  # [H, W, 3] float32: linear value / exposure
    source: np.ndarray  # [H, W] uint8: the exposure that counts most at a pixel, N where the fill does
    registered: optical_flow.Registered
    noise: noise_model.Noise


class MergeClassical:
    """Merges 2 to 9 exposures; see `hdr_tf.radiance.pipeline` for what a runner is."""

    aligns = True
    networks: tuple = ()

    def reconstruct(
        self,
        images: Sequence[np.ndarray],
        exposures: Sequence[float],
        reference: int | None = None,
        *,
        align: bool = True,
        fill: bool = True,
        denoise: float = 1.0,
        noise: noise_model.Noise | None = None,
        step: float | None = None,
        dark_error: float = 0.0,
    ) -> Merged:
        """Aligns and merges.

        Args:
            images: N of [H, W, 3] uint8 or uint16 RGB, gamma 2.2, H and W at least 8.
            exposures: [N], 2**stops.
            reference: index of the image whose geometry the result has; None: the middle exposure, the darker one of two.
            align: whether things or the camera may have moved.
            fill: whether to continue highlights where the reference is clipped and no other exposure can be trusted.
            denoise: factor on the variance of the noise to remove, 0 for none.
            noise: of the exposures, in linear values where 1 is the clip; None: estimated.
            step: between encoded values, where the images do not show it; None: by their type.
            dark_error: see `Response.dark_error`; where the noise is estimated.
        """
        exposures = np.asarray(exposures, np.float64)
        reference = middle(exposures) if reference is None else reference
        if noise is None:
            step = step or 1 / np.iinfo(images[0].dtype).max
            noise = noise_model.estimate([_linear_part(image) for image in images], step)._replace(dark_error=dark_error)
        relative = exposures / exposures[reference]
        registered = optical_flow.register(
            [to_depth(image, 16) for image in images], relative, reference, align, noise.dark_error
        )
        radiance, source = self._merge(registered, relative, reference, noise, fill, denoise)
        radiance *= np.float32(1 / exposures[reference])
        return Merged(radiance, source, registered, noise)

    def _merge(self, registered, exposures, reference, noise, fill, denoise):
        return trusted_merge.merge(registered, exposures, reference, noise, fill, denoise)


def middle(exposures: Sequence[float]) -> int:
    """Returns the index of the middle exposure, the darker of two."""
    return int(np.argsort(exposures, kind="stable")[(len(exposures) - 1) // 2])


def load(system: systems.RadianceSystem, path: pathlib.Path | None) -> MergeClassical:
    """Returns the runner; there are no weights."""
    return MergeClassical()


def _linear_part(image):
    """The middle of an image, linear."""
    height, width = image.shape[:2]
    scale = min(1, (SMALL / (height * width)) ** 0.5)
    rows, columns = (slice(round(n * (1 - scale) / 2), round(n * (1 + scale) / 2)) for n in (height, width))
    levels = np.arange(np.iinfo(image.dtype).max + 1, dtype=np.float32) / np.iinfo(image.dtype).max
    return tone.to_radiance(levels, 1)[image[rows, columns]]
