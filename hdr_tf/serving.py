"""A network and its weights as a TensorFlow SavedModel, for programs that know nothing of this one."""

import functools
import os
import pathlib
import shutil
import tempfile

import keras
import tensorflow as tf

from hdr_tf import editor, fusing, reconstruction

SIGNATURE = "serving_default"
TYPICAL_SIDE = 1024  # pixels: the pyramid's number of levels belongs to a size, though any size goes through it


def export(
    model: str, output: str | os.PathLike, weights: str | os.PathLike | None = None, exposures: int | None = None
) -> None:
    """Writes the folder of a SavedModel, completely or not at all.

    Its signature `serving_default` takes the network's inputs by name, [B, H, W, C] float32 of any size, and returns
    {"fused": [B, H, W, C]}; the ranges are the network's own. That of a model of radiance is its `reconstruct_batch`
    (`hdr_tf.reconstruction.Esbn`, `hdr_tf.selfhdr.SelfHdr`); that of "dqn_editor" takes "features", [B, length] float32 as
    hdr_tf/features.py makes them, and returns "q", [B, 6], and "edit", [B] int64, the best one, -1 where no value is positive.

    Args:
        model: a name in `fusing.MODELS` or `reconstruction.MODELS`.
        output: the folder to make; it must not exist.
        weights: a .weights.h5 file, of "esbn" the folder of its three; None takes those that come with the software.
        exposures: number of inputs; None is 2, and 3 for radiance.

    Raises:
        ValueError: the output exists, the model is unknown, has no weights, or takes another number of inputs.
        OSError: the output cannot be written.
    """
    output = pathlib.Path(output)
    if output.exists() or output.is_symlink():
        raise ValueError(f"{output}: expected a folder that is not there yet; remove it or choose another")
    if model in reconstruction.MODELS:
        write = _radiance(model, weights, exposures)
    elif model == fusing.EDITOR:
        write = _editor(weights, exposures)
    else:
        write = _fusing(model, weights, exposures)
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        write(temporary)
        temporary.chmod(0o755)  # mkdtemp makes folders for the owner alone
        temporary.replace(output)
    except BaseException:
        shutil.rmtree(temporary)
        raise


def _fusing(model, weights, exposures):
    """Loads a network of `fusing`; returns what writes it into a folder."""
    count = 2 if exposures is None else exposures
    fusing.check_model(model, weights, count)
    arguments = fusing.SYSTEMS[model].arguments(count, TYPICAL_SIDE, TYPICAL_SIDE)
    network = fusing.load_network(model, weights, **arguments)
    signature = {x.name: tf.TensorSpec([None, None, None, x.shape[-1]], tf.float32, x.name) for x in network.inputs}
    return functools.partial(network.export, format="tf_saved_model", verbose=False, input_signature=[signature])


def _radiance(model, weights, exposures):
    if exposures not in (None, 3):
        raise ValueError(f"{model} takes exactly 3 exposures, found {exposures}")
    system = reconstruction.load(model, weights)
    names = ("ldr_low", "ldr_mid", "ldr_high")
    signature = {name: tf.TensorSpec([None, None, None, 3], tf.float32, name) for name in names}
    signature["exposures"] = tf.TensorSpec([None, 3], tf.float32, "exposures")
    archive = keras.export.ExportArchive()
    for network in system.networks:
        archive.track(network)
    archive.add_endpoint(SIGNATURE, system.reconstruct_batch, input_signature=[signature])
    return functools.partial(archive.write_out, verbose=False)


def _editor(weights, exposures):
    fusing.check_model(fusing.EDITOR, weights, 2 if exposures is None else exposures)
    network = editor.load_network(fusing.weights_file(fusing.EDITOR, weights))

    def act(features):
        q_values = network(features, training=False)
        best = tf.where(tf.reduce_max(q_values, axis=1) > 0, tf.argmax(q_values, axis=1), -1)
        return {"q": q_values, "edit": best}

    archive = keras.export.ExportArchive()
    archive.track(network)
    signature = tf.TensorSpec([None, network.input_shape[1]], tf.float32, "features")
    archive.add_endpoint(SIGNATURE, act, input_signature=[signature])
    return functools.partial(archive.write_out, verbose=False)
