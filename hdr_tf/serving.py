"""A network and its weights as a TensorFlow SavedModel, for programs that know nothing of this one."""

import os
import pathlib
import shutil
import tempfile

import tensorflow as tf

from hdr_tf import fusing

SIGNATURE = "serving_default"
TYPICAL_SIDE = 1024  # pixels: the pyramid's number of levels belongs to a size, though any size goes through it


def export(
    model: str, output: str | os.PathLike, weights: str | os.PathLike | None = None, exposures: int | None = None
) -> None:
    """Writes the folder of a SavedModel, completely or not at all.

    Its signature `serving_default` takes the network's inputs by name, [B, H, W, C] float32 of any size, and returns
    {"fused": [B, H, W, C]}; the ranges are the network's own.

    Args:
        model: a name in `fusing.SYSTEMS`.
        output: the folder to make; it must not exist.
        weights: a .weights.h5 file; None takes those that come with the software.
        exposures: number of inputs; None is 2.

    Raises:
        ValueError: the output exists, the model is unknown, has no weights, or takes another number of inputs.
        OSError: the output cannot be written.
    """
    output, count = pathlib.Path(output), 2 if exposures is None else exposures
    if output.exists() or output.is_symlink():
        raise ValueError(f"{output}: expected a folder that is not there yet; remove it or choose another")
    fusing.check_model(model, weights, count)
    arguments = fusing.SYSTEMS[model].arguments(count, TYPICAL_SIDE, TYPICAL_SIDE)
    network = fusing.load_network(model, weights, **arguments)
    signature = {x.name: tf.TensorSpec([None, None, None, x.shape[-1]], tf.float32, x.name) for x in network.inputs}
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        network.export(temporary, format="tf_saved_model", verbose=False, input_signature=[signature])
        temporary.chmod(0o755)  # mkdtemp makes folders for the owner alone
        temporary.replace(output)
    except BaseException:
        shutil.rmtree(temporary)
        raise
