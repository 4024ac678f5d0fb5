"""The names that an exported model and its clients share: signatures, inputs and outputs.

serving_default    float32 tensors in and out (`hdr_tf.serving.endpoints`)
encoded            bytes of JPEG and PNG files in and out (`hdr_tf.serving.encoded`)
fill, weigh        of `merge`: the two stages of its network, with which the client merges tile by tile
"""

from hdr_tf.io.scenes import EXPOSURE_NAMES

TENSORS, ENCODED = "serving_default", "encoded"
LDR = tuple(f"ldr_{name}" for name in EXPOSURE_NAMES)  # the images that radiance takes
EXPOSURES = "exposures"  # of these images: 2**stops, [B, 3]
IMAGES, INSIDE, REFERENCE, NOISE = "images", "inside", "reference", "noise"  # the other inputs of `merge`
FUSED, HDR, PREVIEW, SOURCE = "fused_bytes", "hdr_bytes", "preview_bytes", "source_bytes"  # outputs of `encoded`


def exposure_input(number: int) -> str:
    """Returns the name of a fusion input of `encoded`; numbers count from 1, dark to bright."""
    return f"exposure_{number}"
