"""DeepFuse: a Y-shaped network with shared weights on the luminances of two exposures, in both published forms.

K. Ram Prabhakar, V. Sai Srikar, R. Venkatesh Babu: "DeepFuse: A Deep Unsupervised Approach for Exposure Fusion with
Extreme Exposure Image Pairs", ICCV 2017, https://arxiv.org/abs/1712.07384.

`deepfuse_official`, the authors' release https://github.com/KRamPrabhakar/DeepFuse (31c226f), main.py, in Lasagne; its
weights and not the paper's text are followed. Inputs `under`, `over`: [B, H, W, 1] float32 luminance in 0..255; output
`fused`: the same, stretched so that each picture spans 0..255.

    conv1 3x3 1-32, conv2 5x5 32-64       both exposures, the same weights
    sum
    conv3 7x7 64-64, conv4 5x5 64-32, conv5 5x5 32-16, conv6 7x7 16-1
    minimum and maximum of each picture to 0 and 255

`deepfuse_sunnerli`, the re-implementation https://github.com/SunnerLi/DeepFuse.pytorch (2986225), lib/model.py. Inputs
and output as above, but in -1..1.

    layer1 5x5 1-16, layer2 7x7 16-32     both exposures, the same weights, batch statistics of their own
    sum
    layer4 7x7 32-32, layer5 5x5 32-16, layer6 5x5 16-1

The two are symmetric in their inputs; H and W are at least 8. More than two exposures, `exposure_1`, `exposure_2`, ..., share
the first two layers likewise, and their sum is scaled to that of two.

Kept: zero padding. Official: no biases, leaky ReLU with slope 0.01 after every layer, the last included; Glorot's
normal initialiser. Sunnerli: convolution with bias, batch normalisation (epsilon 1e-5, running statistics move by 0.1
and hold the unbiased variance), then leaky ReLU 0.01 (layers 1, 4, 5), ReLU (layer 2) or tanh (layer 6); PyTorch's
initialisers; the running statistics of layers 1 and 2 move twice in a training step, first for `under`, then for
`over`.

Changed (outputs equal within float32 otherwise):
- Official: where the network's output is the same everywhere, as for two black pictures, `fused` is 0; the original
  divides 0 by 0.
- Official: the kernels are stored flipped, since Lasagne's convolution is a true one and Keras' a correlation; outputs
  do not change.
"""

import keras
from keras import ops

from hdr_tf.models import blocks

SLOPE = 0.01  # of both leaky ReLUs: Lasagne's and PyTorch's default
OFFICIAL = {  # layer: original variable, filters, kernel size; the first two are shared
    "conv1": ("l_conv1", 32, 3),
    "conv2": ("l_conv11", 64, 5),
    "conv3": ("l_conv40", 64, 7),
    "conv4": ("l_conv4", 32, 5),
    "conv5": ("l_conv41", 16, 5),
    "conv6": ("l_conv5", 1, 7),
}
SUNNERLI = {  # layer, named as in the original: filters, kernel size, activation; the first two are shared
    "layer1": (16, 5, "leaky_relu"),
    "layer2": (32, 7, "relu"),
    "layer4": (32, 7, "leaky_relu"),
    "layer5": (16, 5, "leaky_relu"),
    "layer6": (1, 5, "tanh"),
}


def deepfuse_official(exposures: int = 2) -> keras.Model:
    """Builds the authors' network.

    Args:
        exposures: number of pictures, at least 2; no weight depends on it. Other than 2 they are `exposure_1`, ...

    Returns:
        A model {"under", "over": [B, H, W, 1] luminance in 0..255} -> {"fused": [B, H, W, 1] in 0..255}.

    Raises:
        ValueError: fewer than two exposures.

    Example:
        model = deepfuse_official()
        under, over = 255 * keras.random.uniform((2, 1, 24, 32, 1))
        model({"under": under, "over": over})["fused"].shape  # (1, 24, 32, 1)
    """
    inputs, branches = blocks.picture_inputs(blocks.exposure_names(exposures), channels=1)
    for number, (name, (_, filters, size)) in enumerate(OFFICIAL.items()):
        if number == 2:
            branches = [_sum(branches)]
        convolution = keras.layers.Conv2D(
            filters, size, padding="same", use_bias=False, kernel_initializer="glorot_normal", name=name
        )
        activation = keras.layers.LeakyReLU(SLOPE, name=f"{name}_activation")
        branches = [activation(convolution(x)) for x in branches]
    return keras.Model(inputs, {"fused": _stretch(branches[0])}, name="deepfuse_official")


def in_parts(network: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Cuts `deepfuse_official` before the minimum and maximum of the picture; each pixel before them sees 13 pixels far."""
    raw = keras.Input((None, None, 1), name="raw")
    before = keras.Model(network.input, {"raw": network.get_layer("conv6_activation").output})
    return before, keras.Model({"raw": raw}, {"fused": _stretch(raw)})


def deepfuse_sunnerli(exposures: int = 2) -> keras.Model:
    """Builds SunnerLi's network; arguments and errors as of `deepfuse_official`.

    Returns:
        A model {"under", "over": [B, H, W, 1] luminance in -1..1} -> {"fused": [B, H, W, 1] in -1..1}.
    """
    inputs, branches = blocks.picture_inputs(blocks.exposure_names(exposures), channels=1)
    for number, (name, (filters, size, kind)) in enumerate(SUNNERLI.items()):
        if number == 2:
            # Keras runs the branches of a sum from the last to the first; `under` has to move the running statistics first.
            branches = [_sum(branches[::-1])]
        channels = branches[0].shape[-1]
        convolution = blocks.torch_convolution(channels, filters, size, f"{name}_conv", padding="same")
        normalisation = blocks.UnbiasedBatchNormalization(name=f"{name}_norm")
        activation = keras.layers.LeakyReLU(SLOPE) if kind == "leaky_relu" else keras.layers.Activation(kind)
        branches = [activation(normalisation(convolution(x))) for x in branches]
    return keras.Model(inputs, {"fused": branches[0]}, name="deepfuse_sunnerli")


def _sum(branches):
    """The sum of two; of more, their mean twice."""
    total = sum(branches[1:], branches[0])
    return total if len(branches) == 2 else total * (2 / len(branches))


def _stretch(raw):
    """Maps the smallest and largest value of each picture [B, H, W, 1] to 0 and 255, a flat picture to 0."""
    low = ops.min(raw, axis=(1, 2), keepdims=True)
    high = ops.max(raw, axis=(1, 2), keepdims=True)
    return (raw - low) / ops.where(high > low, high - low, 1) * 255


def official_names() -> dict[str, str]:
    """The Lasagne variable for each variable path, in the order of the published npz: "conv1/kernel": "l_conv1.W"."""
    return {f"{name}/kernel": f"{original}.W" for name, (original, _, _) in OFFICIAL.items()}


def sunnerli_names() -> dict[str, str]:
    """The PyTorch name for each variable path, such as "layer1_norm/gamma": "layer1.main.1.weight"."""
    names = blocks.torch_names({f"{name}_conv": f"{name}.main.0" for name in SUNNERLI})
    kinds = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    return names | {f"{name}_norm/{ours}": f"{name}.main.1.{theirs}" for name in SUNNERLI for ours, theirs in kinds.items()}
