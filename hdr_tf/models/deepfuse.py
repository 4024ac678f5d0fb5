"""DeepFuse in both published forms: fuses exposures by a Y-shaped network with shared weights on their luminances.

K. Ram Prabhakar, V. Sai Srikar, R. Venkatesh Babu: "DeepFuse: A Deep Unsupervised Approach for Exposure Fusion with
Extreme Exposure Image Pairs", ICCV 2017, https://arxiv.org/abs/1712.07384.

`deepfuse_official`, the authors' release https://github.com/KRamPrabhakar/DeepFuse (31c226f), main.py, in Lasagne. It follows
the published weights, not the paper's text. Inputs `under`, `over`, which may be exchanged: [B, H, W, 1] float32 luminance in
0..255, H and W at least 8. Output `fused`: the same, stretched so that each image spans 0..255.

    conv1 3x3 1-32, conv2 5x5 32-64       both exposures, shared weights; then their sum
    conv3 7x7 64-64, conv4 5x5 64-32, conv5 5x5 32-16, conv6 7x7 16-1
    minimum and maximum of each image to 0 and 255

`deepfuse_sunnerli`, the re-implementation https://github.com/SunnerLi/DeepFuse.pytorch (2986225), lib/model.py. Inputs and
output are the same, but in -1..1.

    layer1 5x5 1-16, layer2 7x7 16-32     both exposures, shared weights, separate batch statistics; then their sum
    layer4 7x7 32-32, layer5 5x5 32-16, layer6 5x5 16-1

Kept: zero padding. Official: no biases, leaky ReLU 0.01 after every layer including the last; Glorot's normal initialiser.
Sunnerli: convolution with bias, batch normalisation (epsilon 1e-5, running statistics with momentum 0.9 and the unbiased
variance), then leaky ReLU 0.01 (layers 1, 4, 5), ReLU (layer 2) or tanh (layer 6); PyTorch's initialisers; a training step
updates the running statistics of layers 1 and 2 twice, first with `under`, then with `over`.

Changed (otherwise outputs are equal within float32): more than two exposures, which are then called `exposure_1`, `exposure_2`,
...; the sum of their features is scaled to that of two. Official: where the network's output is the same everywhere, as for two
black images, `fused` is 0, and the original divides 0 by 0; the kernels are stored flipped, since Lasagne computes a true
convolution and Keras a correlation, which does not change outputs.
"""

import keras
from keras import ops

from hdr_tf.models import blocks

SLOPE = 0.01  # of both leaky ReLUs: Lasagne's and PyTorch's default
OFFICIAL = {  # layer: original variable, filters, kernel size; the exposures share the first two layers
    "conv1": ("l_conv1", 32, 3),
    "conv2": ("l_conv11", 64, 5),
    "conv3": ("l_conv40", 64, 7),
    "conv4": ("l_conv4", 32, 5),
    "conv5": ("l_conv41", 16, 5),
    "conv6": ("l_conv5", 1, 7),
}
SUNNERLI = {  # layer, named as in the original: filters, kernel size, activation; the exposures share the first two layers
    "layer1": (16, 5, "leaky_relu"),
    "layer2": (32, 7, "relu"),
    "layer4": (32, 7, "leaky_relu"),
    "layer5": (16, 5, "leaky_relu"),
    "layer6": (1, 5, "tanh"),
}


def deepfuse_official(exposures: int = 2) -> keras.Model:
    """Builds the authors' network for a number of images, at least 2, on which the weights do not depend.

    Its two sub-models are the stages of tiled inference: "convolutions", whose receptive-field radius is 13 pixels, and
    "stretch", which needs the minimum and maximum of the whole image.

    Example:
        model = deepfuse_official()
        under, over = 255 * keras.random.uniform((2, 1, 24, 32, 1))
        model({"under": under, "over": over})["fused"].shape  # (1, 24, 32, 1)
    """
    inputs, branches = blocks.image_inputs(blocks.exposure_names(exposures), channels=1)
    for number, (name, (_, filters, size)) in enumerate(OFFICIAL.items()):
        if number == 2:
            branches = [_sum(branches)]
        conv = keras.layers.Conv2D(filters, size, padding="same", use_bias=False, kernel_initializer="glorot_normal", name=name)
        activation = keras.layers.LeakyReLU(SLOPE, name=f"{name}_activation")
        branches = [activation(conv(x)) for x in branches]
    convolutions = keras.Model(inputs, {"raw": branches[0]}, name="convolutions")
    (raw,) = blocks.inputs_like(convolutions.output).values()
    stretch = keras.Model({"raw": raw}, {"fused": _stretch(raw)}, name="stretch")
    inputs = blocks.inputs_like(convolutions.input)
    return keras.Model(inputs, stretch(convolutions(inputs)), name="deepfuse_official")


def deepfuse_sunnerli(exposures: int = 2) -> keras.Model:
    """Builds SunnerLi's network, which is called in the same way."""
    inputs, branches = blocks.image_inputs(blocks.exposure_names(exposures), channels=1)
    for number, (name, (filters, size, kind)) in enumerate(SUNNERLI.items()):
        if number == 2:
            # Keras runs the branches of a sum from last to first, and `under` has to update the running statistics first.
            branches = [_sum(branches[::-1])]
        channels = branches[0].shape[-1]
        convolution = blocks.torch_convolution(channels, filters, size, f"{name}_conv", padding="same")
        normalisation = blocks.UnbiasedBatchNormalization(name=f"{name}_norm")
        activation = keras.layers.LeakyReLU(SLOPE) if kind == "leaky_relu" else keras.layers.Activation(kind)
        branches = [activation(normalisation(convolution(x))) for x in branches]
    return keras.Model(inputs, {"fused": branches[0]}, name="deepfuse_sunnerli")


def _sum(branches):
    """The sum of two branches; twice the mean of more."""
    total = sum(branches[1:], branches[0])
    return total if len(branches) == 2 else total * (2 / len(branches))


def _stretch(raw):
    """Maps the minimum and maximum of each image [B, H, W, 1] to 0 and 255, and a flat image to 0."""
    low = ops.min(raw, axis=(1, 2), keepdims=True)
    high = ops.max(raw, axis=(1, 2), keepdims=True)
    return (raw - low) / ops.where(high > low, high - low, 1) * 255


def official_names() -> dict[str, str]:
    """Returns the Lasagne variable for each variable path, in the order of the published npz: {"conv1/kernel": "l_conv1.W"}."""
    return {f"{name}/kernel": f"{original}.W" for name, (original, _, _) in OFFICIAL.items()}


def sunnerli_names() -> dict[str, str]:
    """Returns the PyTorch name for each variable path, such as {"layer1_norm/gamma": "layer1.main.1.weight"}."""
    norms = blocks.NORM | {"moving_mean": "running_mean", "moving_variance": "running_var"}
    names = blocks.torch_names({f"{name}_conv": f"{name}.main.0" for name in SUNNERLI})
    return names | blocks.torch_names({f"{name}_norm": f"{name}.main.1" for name in SUNNERLI}, norms)
