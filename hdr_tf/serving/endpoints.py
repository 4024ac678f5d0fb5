"""What an exported model computes: a function for each signature (`hdr_tf.serving.signatures`).

The registry names one of `fusion`, `radiance`, `merge` and `policy` for each system. Each returns the networks, which the
exported model keeps alive, and {signature: Endpoint}.
"""

import functools
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from hdr_tf import systems
from hdr_tf.editor.policy import load_network
from hdr_tf.fusion import compiled
from hdr_tf.image import tone
from hdr_tf.radiance import merge as merging
from hdr_tf.serving import encoded
from hdr_tf.serving.signatures import ENCODED, EXPOSURES, IMAGES, INSIDE, LDR, NOISE, REFERENCE, TENSORS, exposure_input

TYPICAL_SIDE = 1024  # pixels: some networks depend on the size, though each takes any size


class Endpoint(NamedTuple):
    """What a signature computes."""

    function: Callable[[dict], dict]
    """from named tensors to named tensors"""
    inputs: Sequence[tf.TensorSpec]
    examples: Mapping[str, Sequence[int]] = {}
    """shapes of small inputs, where an unknown size cannot be any number"""


def fusion(system: systems.FusionSystem, path: pathlib.Path | None, exposures: int | None, max_pixels: int) -> tuple:
    """The signatures of a fusion network.

    `serving_default` takes the network's inputs by name, [B, H, W, C] float32 in its own range, and returns {"fused": [B, H, W,
    C]}; `encoded` is that of `encoded.fusion`. `path` leads to the weights, `exposures` is the number of inputs (None: 2). An
    image of more than `max_pixels` is refused, by `encoded` before it is decoded."""
    count, least = 2 if exposures is None else exposures, systems.MIN_SIDE**2
    system.check_exposures(count)
    if max_pixels < least:
        raise ValueError(f"expected max_pixels of at least {least}, found {max_pixels}")

    def arguments(side):
        return tuple(compiled.builder_arguments(system, count, side, side).items())

    load = functools.cache(lambda arguments: systems.load_network(next(iter(system.networks)), path, **dict(arguments)))
    network = load(arguments(TYPICAL_SIDE))
    sides = {}  # {builder's arguments: the smallest shorter side of an image that needs them}
    for side in range(math.isqrt(max_pixels) + 1):
        sides.setdefault(arguments(side), side)
    networks = {side: load(arguments) for arguments, side in sides.items()}
    tensors = [tf.TensorSpec([None, None, None, x.shape[-1]], tf.float32, name) for name, x in network.input.items()]
    strings = [tf.TensorSpec([None], tf.string, exposure_input(number)) for number in range(1, count + 1)]
    return {network, *networks.values()}, {
        TENSORS: Endpoint(lambda inputs: network(encoded.checked(inputs, max_pixels), training=False), tensors),
        ENCODED: Endpoint(encoded.fusion(system, networks, max_pixels), strings),
    }


def radiance(system: systems.RadianceSystem, path: pathlib.Path, exposures: int | None, max_pixels: int) -> tuple:
    """The signatures of a radiance system: `serving_default` is the runner's `reconstruct_batch`, `encoded` is that of
    `encoded.reconstruction`. Arguments as in `fusion`."""
    system.check_exposures(3 if exposures is None else exposures)
    runner = systems.resolve(system.runner)(system, path)
    floats = [tf.TensorSpec([None, None, None, 3], tf.float32, name) for name in LDR]
    strings, numbers = [tf.TensorSpec([None], tf.string, name) for name in LDR], tf.TensorSpec([None, 3], tf.float32, EXPOSURES)

    def reconstruct(inputs):
        images = encoded.checked({name: inputs[name] for name in LDR}, max_pixels)
        return runner.reconstruct_batch(images | {EXPOSURES: encoded.checked_exposures(inputs[EXPOSURES])})

    return runner.networks, {
        TENSORS: Endpoint(reconstruct, [*floats, numbers]),
        ENCODED: Endpoint(encoded.reconstruction(runner, max_pixels), [*strings, numbers]),
    }


def merge(system: systems.RadianceSystem, path: pathlib.Path, exposures: int | None, max_pixels: int) -> tuple:
    """The signatures of `merge`, for any number of exposures that are aligned. Arguments as in `fusion`.

    `serving_default` takes linear images and returns what `Merge.reconstruct_batch` does; `encoded` is that of
    `encoded.merging`; `fill`, `weigh` and `denoise` are the stages of the network (`hdr_tf.radiance.merge.compiled`), for a
    client that merges in tiles."""
    if exposures is not None:
        system.check_exposures(exposures)
    runner = systems.resolve(system.runner)(system, path)
    images, inside = (tf.TensorSpec([None] * 4 + [size], tf.float32, name) for name, size in ((IMAGES, 3), (INSIDE, 1)))
    strings = tf.TensorSpec([None, None], tf.string, IMAGES)
    numbers = [
        tf.TensorSpec([None, None], tf.float32, EXPOSURES),
        tf.TensorSpec([None], tf.int32, REFERENCE),
        tf.TensorSpec([None, 4], tf.float32, NOISE),
    ]
    # Of two exposures, 64 x 64; the fill is a quarter of that.
    files = {IMAGES: (1, 2), EXPOSURES: (1, 2)}
    pixels = files | {IMAGES: (1, 2, 64, 64, 3), INSIDE: (1, 2, 64, 64, 1)}
    parts = pixels | {REFERENCE: (1, 2), "fill": (1, 16, 16, 3)} | dict.fromkeys(("radiance", "variance"), (1, 64, 64, 3))
    largest = max(max_pixels, merging.TILE_VALUES)  # the client's tiles do not depend on the export
    # Traced once, for both signatures.
    merge_batch = encoded.compiled_apart(runner.reconstruct_batch, [{x.name: x for x in (images, inside, *numbers)}])

    def reconstruct(inputs):
        inputs = encoded.checked_bracket(inputs, system.exposures, max_pixels)
        light = tf.clip_by_value(inputs[IMAGES], 0, 1)
        return merge_batch(inputs | {IMAGES: light ** (1 / tone.DISPLAY_GAMMA)})

    def stage(name):
        run = merging.compiled(runner.network.get_layer(name))
        layers = [x.name for x in run.input_signature if x.shape.rank > 2]

        def limited(inputs):
            inputs = inputs | encoded.limited({name: inputs[name] for name in layers}, largest, system.exposures[1])
            return run(*(inputs[x.name] for x in run.input_signature))

        return Endpoint(limited, run.input_signature, parts)

    return runner.networks, {
        TENSORS: Endpoint(reconstruct, [images, inside, *numbers], pixels),
        ENCODED: Endpoint(encoded.merging(merge_batch, system.exposures, max_pixels), [strings, *numbers], files),
        **{name: stage(name) for name in merging.STAGES},
    }


def policy(system: systems.FusionSystem, path: pathlib.Path, exposures: int | None, max_pixels: int) -> tuple:
    """The signature of the two-exposure editor's policy: from "features", [B, length] float32 (`hdr_tf.editor.features`), to
    "q", [B, 6], and "edit", [B] int64, the best edit, -1 if no value is positive. There is no `encoded`, because OpenCV edits
    the images. More than `max_pixels` features in all are refused. Arguments as in `fusion`."""
    system.check_exposures(2 if exposures is None else exposures)
    network = load_network(path)

    def act(inputs):
        inputs = encoded.of_shape(inputs, network.input_shape[1:])
        features = encoded.limited({"features": inputs["features"][..., None]}, max_pixels)["features"][..., 0]
        features = tf.debugging.check_numerics(features, "features: expected finite values")
        q_values = network(features, training=False)
        best = tf.where(tf.reduce_max(q_values, axis=1) > 0, tf.argmax(q_values, axis=1), -1)
        return {"q": q_values, "edit": best}

    return [network], {TENSORS: Endpoint(act, [tf.TensorSpec([None, network.input_shape[1]], tf.float32, "features")])}
