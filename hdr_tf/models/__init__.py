"""Every network by name. A model takes a dict of named pictures [B, H, W, C] and returns {"fused": [B, H, W, C]}; what ESBN's
networks return, `hdr_tf.models.esbn` tells."""

import keras

from hdr_tf.models import deepfuse, densefuse, esbn, hyperp_mb
from hdr_tf.models.pyramid import pyramid

MODELS = {
    "pyramid": pyramid,
    "deepfuse_official": deepfuse.deepfuse_official,
    "deepfuse_sunnerli": deepfuse.deepfuse_sunnerli,
    "densefuse_gray": densefuse.densefuse_gray,
    "densefuse_rgb": densefuse.densefuse_rgb,
    "hyperp_mb": hyperp_mb.hyperp_mb,
    "esbn_align": esbn.esbn_align,
    "esbn_fusion": esbn.esbn_fusion,
    "esbn_end_to_end": esbn.esbn_end_to_end,
}
ORIGINALS = {  # the weight map of each published network, and the layout in which the original keeps its kernels
    "deepfuse_official": (deepfuse.official_names, "lasagne"),
    "deepfuse_sunnerli": (deepfuse.sunnerli_names, "torch"),
    "densefuse_gray": (densefuse.original_names, "torch"),
    "densefuse_rgb": (densefuse.original_names, "torch"),
    "hyperp_mb": (hyperp_mb.original_names, "torch"),
    "esbn_align": (esbn.align_names, "keras"),
    "esbn_fusion": (esbn.fusion_names, "keras"),
}


def build(name: str, **arguments) -> keras.Model:
    """Builds the network `name` with its builder's arguments; ValueError for an unknown name."""
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}, expected one of {', '.join(MODELS)}")
    return MODELS[name](**arguments)


def original_names(name: str) -> tuple[dict[str, str], str]:
    """The weight map {variable path: original name} of the network `name`, and the layout for `hdr_tf.weights.assign`."""
    if name not in ORIGINALS:
        raise ValueError(f"{name} has no checkpoint of other authors; there are {', '.join(ORIGINALS)}")
    return ORIGINALS[name][0](), ORIGINALS[name][1]
