"""DenseFuse: one encoder for all pictures, a fusion of features without parameters, one decoder.

Hui Li, Xiao-Jun Wu: "DenseFuse: A Fusion Approach to Infrared and Visible Images", IEEE Transactions on Image
Processing 28(5), 2019, https://arxiv.org/abs/1804.08361. Original code: https://github.com/hli1221/densefuse-pytorch
(4394b63), net.py and fusion_strategy.py.

Inputs `exposure_1`, `exposure_2`, ...: [B, H, W, C] float32 in 0..255, C = 1 (gray) or 3 (RGB), H and W at least 8.
Output `fused`: [B, H, W, C] float32, never negative and not bounded above (the original clips to 0..255 when it
writes).

    encoder   conv1 C-16, then dense1..3, each appended to its input       -> 64 channels for each picture
    fusion    mean of the features, or their mean weighted by attention    -> 64 channels
    decoder   conv2 64-64, conv3 64-32, conv4 32-16, conv5 16-C            -> picture

`model.get_layer("encoder")` and `model.get_layer("decoder")` are models of their own; `mean` and `attention` fuse lists
of features.

Kept: reflection padding of one pixel; a ReLU after every convolution, the last included; new channels appended after
the old ones; no scaling of the pixels; the published program's plain mean where the paper speaks of addition; PyTorch's
initialisers; dropout layers are left out because the original never calls them.

Changed (outputs equal within float32 unless said otherwise):
- `attention` is the original's function (a soft maximum of the sums over channels; the paper takes absolute values and
  a 3x3 mean) as a softmax, which is finite for every input: the original's exponentials are NaN for sums above 88, that
  is for nearly all real features. Its 1e-10 in the denominator is left out, which changes nothing: sums of ReLU outputs
  make the denominator at least 2.
- The original's network ignores the strategy that it is asked for and averages; here `strategy` is followed.
- Two or more pictures; the original takes two.
"""

from typing import Literal

import keras
from keras import ops

from hdr_tf.models import blocks

ENCODER = ("conv1", "dense1", "dense2", "dense3")
DECODER = ("conv2", "conv3", "conv4", "conv5")


def densefuse_gray(exposures: int = 2, strategy: Literal["mean", "attention"] = "mean") -> keras.Model:
    """Builds the network for pictures of one channel; see `densefuse`.

    Example:
        model = densefuse_gray()
        under, over = 255 * keras.random.uniform((2, 1, 24, 32, 1))
        model({"exposure_1": under, "exposure_2": over})["fused"].shape  # (1, 24, 32, 1)
    """
    return densefuse(1, exposures, strategy, "densefuse_gray")


def densefuse_rgb(exposures: int = 2, strategy: Literal["mean", "attention"] = "mean") -> keras.Model:
    """Builds the network for RGB pictures, all channels together; see `densefuse`."""
    return densefuse(3, exposures, strategy, "densefuse_rgb")


def densefuse(channels: int, exposures: int, strategy: str, name: str) -> keras.Model:
    """Builds DenseFuse.

    Args:
        channels: of each picture, 1 or 3.
        exposures: number of pictures, at least 2; no weight depends on it.
        strategy: how features are fused, a key of `STRATEGIES`.
        name: of the model.

    Returns:
        A model {"exposure_1", ...: [B, H, W, channels] in 0..255} -> {"fused": [B, H, W, channels]}.

    Raises:
        ValueError: for less than 2 exposures or an unknown strategy.
    """
    if exposures < 2:
        raise ValueError(f"expected at least 2 exposures, found {exposures}")
    if strategy not in STRATEGIES:
        raise ValueError(f"unknown strategy {strategy!r}, expected one of {', '.join(STRATEGIES)}")
    inputs, pictures = blocks.picture_inputs([f"exposure_{i + 1}" for i in range(exposures)], channels)
    encoder, decoder = _encoder(channels), _decoder(channels)
    features = [encoder(picture) for picture in pictures]
    return keras.Model(inputs, {"fused": decoder(STRATEGIES[strategy](features))}, name=name)


def autoencoder(channels: int) -> keras.Model:
    """Builds the encoder and the decoder in one network without layers of layers, with the weights of `densefuse`.

    Args:
        channels: of the picture, 1 or 3.

    Returns:
        A model {"picture": [B, H, W, channels] in 0..255} -> {"picture": likewise}: what comes back of a picture that is fused
        with itself.
    """
    inputs, (picture,) = blocks.picture_inputs(["picture"], channels)
    (features,) = blocks.dense_encoder([picture], ENCODER)
    return keras.Model(inputs, {"picture": blocks.dense_decoder(features, channels, DECODER)}, name="autoencoder")


def mean(features: list):
    """The strategy "addition" as published: the mean of a list of features [B, H, W, C]."""
    return sum(features[1:], features[0]) / len(features)


def attention(features: list):
    """Spatial attention: a list of features [B, H, W, C], weighted at each pixel by a softmax of the sums over channels."""
    sums = ops.stack([ops.sum(feature, axis=-1, keepdims=True) for feature in features])
    weights = ops.softmax(sums, axis=0)
    return sum(weights[i] * feature for i, feature in enumerate(features))


STRATEGIES = {"mean": mean, "attention": attention}


def _encoder(channels: int) -> keras.Model:
    picture = keras.Input((None, None, channels), name="picture")
    (features,) = blocks.dense_encoder([picture], ENCODER)
    return keras.Model(picture, features, name="encoder")


def _decoder(channels: int) -> keras.Model:
    features = keras.Input((None, None, 64), name="features")
    return keras.Model(features, blocks.dense_decoder(features, channels, DECODER), name="decoder")


def original_names() -> dict[str, str]:
    """The original's parameter name for each variable path, such as "conv1/kernel": "conv1.conv2d.weight"."""
    originals = {name: f"DB1.denseblock.{i}.dense_conv.conv2d" for i, name in enumerate(ENCODER[1:])}
    originals |= {name: f"{name}.conv2d" for name in (ENCODER[0], *DECODER)}
    return blocks.torch_names(originals)
