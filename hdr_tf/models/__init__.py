"""Every network by name. A model takes a dict of named pictures [B, H, W, C] and returns {"fused": [B, H, W, C]}; what ESBN's
networks and those that SelfHDR trains take and return, radiance, their own files tell. The editor's takes a vector and returns
one (`hdr_tf.models.dqn_editor`)."""

import keras

from hdr_tf.models import ahdrnet, deepfuse, densefuse, dqn_editor, esbn, fshdr, hdr_transformer, hyperp_mb, sctnet
from hdr_tf.models.pyramid import pyramid

MODELS = {
    "pyramid": pyramid,
    "deepfuse_official": deepfuse.deepfuse_official,
    "deepfuse_sunnerli": deepfuse.deepfuse_sunnerli,
    "densefuse_gray": densefuse.densefuse_gray,
    "densefuse_rgb": densefuse.densefuse_rgb,
    "hyperp_mb": hyperp_mb.hyperp_mb,
    "dqn_editor": dqn_editor.dqn_editor,
    "esbn_align": esbn.esbn_align,
    "esbn_fusion": esbn.esbn_fusion,
    "esbn_end_to_end": esbn.esbn_end_to_end,
    "ahdrnet": ahdrnet.ahdrnet,
    "fshdr": fshdr.fshdr,
    "hdr_transformer": hdr_transformer.hdr_transformer,
    "sctnet": sctnet.sctnet,
}
ORIGINALS = {  # the weight map of each published network, and the layout in which the original keeps its kernels
    "deepfuse_official": (deepfuse.official_names, "lasagne"),
    "deepfuse_sunnerli": (deepfuse.sunnerli_names, "torch"),
    "densefuse_gray": (densefuse.original_names, "torch"),
    "densefuse_rgb": (densefuse.original_names, "torch"),
    "hyperp_mb": (hyperp_mb.original_names, "torch"),
    "dqn_editor": (dqn_editor.original_names, "keras"),
    "esbn_align": (esbn.align_names, "keras"),
    "esbn_fusion": (esbn.fusion_names, "keras"),
    "ahdrnet": (ahdrnet.original_names, "torch"),
    "fshdr": (fshdr.original_names, "torch"),
    "hdr_transformer": (hdr_transformer.original_names, "torch"),
    "sctnet": (sctnet.original_names, "torch"),
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
