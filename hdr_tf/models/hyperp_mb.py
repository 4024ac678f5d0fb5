"""HyperP_MB: fuses the lightness of an under- and an over-exposed image by DenseFuse with an encoder for each.

Chan-Gi Im, Dong-Min Son, Hyuk-Ju Kwon, Sung-Hak Lee: "Multi-Task Learning Approach Using Dynamic Hyperparameter for
Multi-Exposure Fusion", Mathematics 11(7):1620, 2023, https://doi.org/10.3390/math11071620. Original code:
https://github.com/Changi-Im/HyperP_MB (9f676f6), net.py.

Inputs `under`, `over`: [B, H, W, 1] float32, OpenCV's 8-bit L of Lab in 0..255; H and W at least 8. Output `fused`: lightness,
the same shape, never negative and without an upper bound (the original clips it to 0..255 when it writes the file).

    under -> under_conv1 1-16, under_dense1..3, each appended to its input -> 64 channels
    over  -> over_conv1, over_dense1..3, with their own weights            -> 64 channels
    mean of the two -> conv2 64-64, conv3 64-32, conv4 32-16, conv5 16-1   -> image

Kept: reflection padding of one pixel; a ReLU after every convolution including the last; new channels after the old ones;
pixels are not scaled; PyTorch's initialisers; no dropout, because the original never calls its dropout layers.

Changed (for two exposures outputs are equal within float32): more than two exposures, dark to bright, which are then called
`exposure_1`, `exposure_2`, ... The darker half is encoded as `under`, the brighter half as `over`; if their number is odd, the
middle one is encoded as both.
"""

import keras

from hdr_tf.models import blocks

ENCODER = ("conv1", "dense1", "dense2", "dense3")
DECODER = ("conv2", "conv3", "conv4", "conv5")
ORIGINALS = {"under": ("conv1", "DB1"), "over": ("conv1_1", "DB2")}  # of each encoder's conv1 and dense block


def hyperp_mb(exposures: int = 2) -> keras.Model:
    """Builds the network for a number of images, at least 2, on which the weights do not depend.

    Example:
        model = hyperp_mb()
        under, over = 255 * keras.random.uniform((2, 1, 24, 32, 1))
        model({"under": under, "over": over})["fused"].shape  # (1, 24, 32, 1)
    """
    inputs, images = blocks.image_inputs(blocks.exposure_names(exposures), channels=1)
    half = (exposures + 1) // 2
    encodings = []
    for side, group in (("under", images[:half]), ("over", images[-half:])):
        encodings += blocks.dense_encoder(group, [f"{side}_{name}" for name in ENCODER])
    features = keras.layers.Average(name="fused_features")(encodings)
    fused = blocks.dense_decoder(features, 1, DECODER)
    return keras.Model(inputs, {"fused": fused}, name="hyperp_mb")


def begin_with(network: keras.Model, autoencoder: keras.Model) -> None:
    """Copies the encoder of a `densefuse_gray` to both encoders of a `hyperp_mb`, and its decoder: both then fuse alike."""
    copies = [("decoder", name, name) for name in DECODER]
    copies += [("encoder", name, f"{side}_{name}") for side in ORIGINALS for name in ENCODER]
    for part, name, ours in copies:
        network.get_layer(ours).set_weights(autoencoder.get_layer(part).get_layer(name).get_weights())


def original_names() -> dict[str, str]:
    """Returns the original's name for each variable path, such as {"under_conv1/kernel": "conv1.conv2d.weight"}."""
    originals = {name: f"{name}.conv2d" for name in DECODER}
    for exposure, (first, block) in ORIGINALS.items():
        originals[f"{exposure}_{ENCODER[0]}"] = f"{first}.conv2d"
        originals |= {f"{exposure}_{name}": f"{block}.denseblock.{i}.dense_conv.conv2d" for i, name in enumerate(ENCODER[1:])}
    return blocks.torch_names(originals)
