"""DenseFuse: fuses images by one encoder for all of them, a mean of their features, and one decoder.

Hui Li, Xiao-Jun Wu: "DenseFuse: A Fusion Approach to Infrared and Visible Images", IEEE Transactions on Image Processing 28(5),
2019, https://arxiv.org/abs/1804.08361. Original code: https://github.com/hli1221/densefuse-pytorch (4394b63), net.py and
fusion_strategy.py.

Inputs `exposure_1`, `exposure_2`, ...: [B, H, W, C] float32 in 0..255, C = 1 (gray) or 3 (RGB), H and W at least 8. Output
`fused`: the same, never negative and without an upper bound (the original clips it to 0..255 when it writes the file).

    encoder   conv1 C-16, then dense1..3, each appended to its input       -> 64 channels for each image
    fusion    mean of the features, plain or weighted by attention         -> 64 channels
    decoder   conv2 64-64, conv3 64-32, conv4 32-16, conv5 16-C            -> image

Kept: reflection padding of one pixel; a ReLU after every convolution including the last; new channels are appended after the
old ones; pixels are not scaled; the plain mean of the published program, where the paper says addition; PyTorch's initialisers;
no dropout, because the original never calls its dropout layers.

Changed (outputs equal within float32 unless said otherwise): more than two images; the strategy is not ignored, where the
original's network always uses the plain mean. `attention` computes the original's function (a softmax of the sums over
channels; the paper has absolute values and a 3x3 mean), but is finite for every input: the original's exponentials overflow to
NaN for sums above 88, which nearly all real features exceed. Its 1e-10 in the denominator is left out without effect, since
sums of ReLU outputs make the denominator at least 2.
"""

from typing import Literal

import keras
from keras import ops

from hdr_tf.models import blocks

ENCODER = ("conv1", "dense1", "dense2", "dense3")
DECODER = ("conv2", "conv3", "conv4", "conv5")


def densefuse_gray(exposures: int = 2, strategy: Literal["mean", "attention"] = "mean") -> keras.Model:
    """Builds the network for images of one channel; see `densefuse`.

    Example:
        model = densefuse_gray()
        under, over = 255 * keras.random.uniform((2, 1, 24, 32, 1))
        model({"exposure_1": under, "exposure_2": over})["fused"].shape  # (1, 24, 32, 1)
    """
    return densefuse(1, exposures, strategy, "densefuse_gray")


def densefuse_rgb(exposures: int = 2, strategy: Literal["mean", "attention"] = "mean") -> keras.Model:
    """Builds the network for RGB images; see `densefuse`."""
    return densefuse(3, exposures, strategy, "densefuse_rgb")


def densefuse(channels: int, exposures: int, strategy: str, name: str) -> keras.Model:
    """Builds DenseFuse, whose layers "encoder" and "decoder" are models themselves.

    Args:
        channels: 1 or 3.
        exposures: number of images, at least 2; the weights do not depend on it.
        strategy: how features are fused, a key of `STRATEGIES`.
        name: name of the model.
    """
    names = blocks.exposure_names(exposures, pair=None)
    if strategy not in STRATEGIES:
        raise ValueError(f"unknown strategy {strategy!r}, expected one of {', '.join(STRATEGIES)}")
    inputs, images = blocks.image_inputs(names, channels)
    image = keras.Input((None, None, channels), name="image")
    features = keras.Input((None, None, 64), name="features")
    encoder = keras.Model(image, blocks.dense_encoder([image], ENCODER)[0], name="encoder")
    decoder = keras.Model(features, blocks.dense_decoder(features, channels, DECODER), name="decoder")
    fused = STRATEGIES[strategy]([encoder(image) for image in images])
    return keras.Model(inputs, {"fused": decoder(fused)}, name=name)


def autoencoder(channels: int) -> keras.Model:
    """Builds the encoder and the decoder as one flat network for training, {"picture": [B, H, W, channels] in 0..255} -> the
    same, reconstructed; its weights are those of `densefuse`."""
    inputs, (image,) = blocks.image_inputs(["picture"], channels)
    (features,) = blocks.dense_encoder([image], ENCODER)
    return keras.Model(inputs, {"picture": blocks.dense_decoder(features, channels, DECODER)}, name="autoencoder")


def mean(features: list):
    """Returns the mean of a list of features [B, H, W, C], which the original calls "addition"."""
    return sum(features[1:], features[0]) / len(features)


def attention(features: list):
    """Returns the mean of a list of features [B, H, W, C], weighted at each pixel by a softmax of their sums over channels."""
    sums = ops.stack([ops.sum(feature, axis=-1, keepdims=True) for feature in features])
    weights = ops.softmax(sums, axis=0)
    return sum(weights[i] * feature for i, feature in enumerate(features))


STRATEGIES = {"mean": mean, "attention": attention}


def original_names() -> dict[str, str]:
    """Returns the original's name for each variable path, such as {"conv1/kernel": "conv1.conv2d.weight"}."""
    originals = {name: f"DB1.denseblock.{i}.dense_conv.conv2d" for i, name in enumerate(ENCODER[1:])}
    originals |= {name: f"{name}.conv2d" for name in (ENCODER[0], *DECODER)}
    return blocks.torch_names(originals)
