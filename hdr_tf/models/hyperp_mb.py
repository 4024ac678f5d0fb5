"""HyperP_MB: DenseFuse with an encoder for each exposure, on the lightness of an under- and an over-exposed picture.

Chan-Gi Im, Dong-Min Son, Hyuk-Ju Kwon, Sung-Hak Lee: "Multi-Task Learning Approach Using Dynamic Hyperparameter for
Multi-Exposure Fusion", Mathematics 11(7):1620, 2023, https://doi.org/10.3390/math11071620. Original code:
https://github.com/Changi-Im/HyperP_MB (9f676f6), net.py. The hyperparameters of its loss, its alignment and its colour
step are not here.

Inputs `under`, `over`: [B, H, W, 1] float32, OpenCV's 8-bit L of Lab, 0..255; H and W at least 8.
Output `fused`: [B, H, W, 1] float32 lightness, never negative and not bounded above (the original clips it to 0..255
when it writes).

    under -> under_conv1 1-16, under_dense1..3, each appended to its input -> 64 channels
    over  -> over_conv1, over_dense1..3, weights of its own                -> 64 channels
    mean of the two
    conv2 64-64, conv3 64-32, conv4 32-16, conv5 16-1                      -> picture

Of more than two exposures, `exposure_1`, `exposure_2`, ... from dark to bright, the darker half is encoded as `under` and the
brighter half as `over`, the middle one of an odd number as both.

Kept: reflection padding of one pixel; a ReLU after every convolution, the last included; new channels appended after
the old ones; no scaling of the pixels; PyTorch's initialisers; dropout layers are left out because the original never
calls them.

Changed: nothing; outputs are equal within float32.
"""

import keras

from hdr_tf.models import blocks

ENCODER = ("conv1", "dense1", "dense2", "dense3")
DECODER = ("conv2", "conv3", "conv4", "conv5")
EXPOSURES = {"under": ("conv1", "DB1"), "over": ("conv1_1", "DB2")}  # originals of conv1 and dense block


def hyperp_mb(exposures: int = 2) -> keras.Model:
    """Builds HyperP_MB.

    Args:
        exposures: number of pictures, at least 2; no weight depends on it. Other than 2 they are `exposure_1`, ...

    Returns:
        A model {"under", "over": [B, H, W, 1] in 0..255} -> {"fused": [B, H, W, 1]}.

    Raises:
        ValueError: fewer than two exposures.

    Example:
        model = hyperp_mb()
        under, over = 255 * keras.random.uniform((2, 1, 24, 32, 1))
        model({"under": under, "over": over})["fused"].shape  # (1, 24, 32, 1)
    """
    inputs, pictures = blocks.picture_inputs(blocks.exposure_names(exposures), channels=1)
    half = (exposures + 1) // 2
    encodings = []
    for side, group in (("under", pictures[:half]), ("over", pictures[-half:])):
        encodings += blocks.dense_encoder(group, [f"{side}_{name}" for name in ENCODER])
    features = keras.layers.Average(name="fused_features")(encodings)
    fused = blocks.dense_decoder(features, 1, DECODER)
    return keras.Model(inputs, {"fused": fused}, name="hyperp_mb")


def begin_with(network: keras.Model, autoencoder: keras.Model) -> None:
    """Gives both encoders and the decoder of a `hyperp_mb` the weights of a `densefuse_gray`, which has one of each: it then
    fuses as that does, by about the plain mean."""
    copies = [("decoder", name, name) for name in DECODER]
    copies += [("encoder", name, f"{side}_{name}") for side in EXPOSURES for name in ENCODER]
    for part, name, ours in copies:
        network.get_layer(ours).set_weights(autoencoder.get_layer(part).get_layer(name).get_weights())


def original_names() -> dict[str, str]:
    """The original's parameter name for each variable path, such as "under_conv1/kernel": "conv1.conv2d.weight"."""
    originals = {name: f"{name}.conv2d" for name in DECODER}
    for exposure, (first, block) in EXPOSURES.items():
        originals[f"{exposure}_{ENCODER[0]}"] = f"{first}.conv2d"
        originals |= {f"{exposure}_{name}": f"{block}.denseblock.{i}.dense_conv.conv2d" for i, name in enumerate(ENCODER[1:])}
    return blocks.torch_names(originals)
