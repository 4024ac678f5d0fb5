"""VGG16 up to its first dense layer, the features of the two-exposure editor, and three layers of VGG19 for SelfHDR's loss.

K. Simonyan, A. Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015,
https://arxiv.org/abs/1409.1556. The features are those of bigmms/reinforcement_learning_hdr (375578f, utils_file/model_vgg.py)
and of cszhilu1998/SelfHDR (9e8af4a, models/networks.py). Layers have the names of keras.applications, whose weights they use.

    both   RGB in 0..1 -> times 255, minus the means -> convolutions and poolings
    VGG16  [B, 224, 224, 3] -> 13 convolutions, 5 poolings -> fc6 [B, 4096] before its ReLU
    VGG19  [B, H, W, 3] -> relu3_2 [B, H / 4, W / 4, 256], relu4_2 [B, H / 8, W / 8, 512], relu5_2 [B, H / 16, W / 16, 512]

Kept: the order of channels and means. The editor passes BGR to a network that reverses the channels, so weights that were
trained on BGR receive RGB, from which it subtracts the means of B, G and R in this order. SelfHDR passes BGR to a network for
RGB; here a network for BGR receives RGB, with the same means.

Changed: SelfHDR uses torchvision's weights, which were trained on images divided by 0.226 (the average of the channels); Keras
has the authors' weights, which were trained on levels up to 255. VGG19's features are divided by 255 x 0.226, the ratio of the
two, to give the loss about its original weight relative to SelfHDR's other losses. This is an estimate, not a measurement.
"""

import keras

SIDE, FEATURES = 224, 4096
MEANS = (103.939, 116.779, 123.68)  # of ImageNet's B, G, R
BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))  # VGG16: number of convolutions, their filters
BLOCKS_19 = ((2, 64), (2, 128), (4, 256), (4, 512), (2, 512))  # VGG19 up to relu5_2
FEATURE_LAYERS = ("block3_conv2", "block4_conv2", "block5_conv2")
KERAS_UNITS = 255 * 0.226  # that torchvision's network receives as a difference of 1


def vgg16_fc6(weights: str | None = None, name: str = "vgg16_fc6") -> keras.Model:
    """Builds VGG16 up to fc6: [B, 224, 224, 3] RGB in 0..1 -> [B, 4096].

    Args:
        weights: a file for keras.applications.VGG16 with its dense layers, "imagenet" to download it, None for random weights.

    Example:
        vgg16_fc6()(keras.random.uniform((1, 224, 224, 3))).shape  # (1, 4096)
    """
    image = keras.Input((SIDE, SIDE, 3), name="image")
    x = keras.layers.Flatten(name="flatten")(_convolutions(image, BLOCKS))
    model = keras.Model(image, keras.layers.Dense(FEATURES, name="fc6")(x), name=name)
    return _load(model, weights, "VGG16", "vgg16_weights_tf_dim_ordering_tf_kernels.h5", "--features=quality")


def vgg19_features(weights: str | None = None, name: str = "vgg19_features") -> keras.Model:
    """Builds the features for `losses.perceptual`: [B, H, W, 3] RGB in 0..1 -> a list of three tensors, see above.

    Args:
        weights: a file for keras.applications.VGG19 without its dense layers, "imagenet" to download it, None for random ones.

    Example:
        [features.shape[-1] for features in vgg19_features()(keras.random.uniform((1, 32, 32, 3)))]  # [256, 512, 512]
    """
    image = keras.Input((None, None, 3), name="image")
    whole = keras.Model(image, _convolutions(image, BLOCKS_19))
    features = [whole.get_layer(layer).output / KERAS_UNITS for layer in FEATURE_LAYERS]
    file = "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"
    return _load(keras.Model(image, features, name=name), weights, "VGG19", file, "--structure_loss=l1", include_top=False)


def _convolutions(x, blocks):
    x = keras.layers.Rescaling(255.0, [-mean for mean in MEANS], name="means")(x)
    for block, (convolutions, filters) in enumerate(blocks, start=1):
        for number in range(1, convolutions + 1):
            conv = f"block{block}_conv{number}"
            x = keras.layers.Conv2D(filters, 3, padding="same", activation="relu", name=conv)(x)
        x = keras.layers.MaxPooling2D(name=f"block{block}_pool")(x)
    return x


def _load(model, weights, network, file, instead, **arguments):
    if weights is None:
        return model
    try:
        vgg = getattr(keras.applications, network)(weights=weights, **arguments)
    except Exception as error:  # whatever downloading, h5py and Keras raise
        raise ValueError(
            f"{network}: expected weights, found none in {weights!r} ({' '.join(str(error).split())[:200]}); pass the file "
            f"{file} by --vgg_weights, or use {instead}, which needs none"
        ) from error
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(vgg.get_layer({"fc6": "fc1"}.get(layer.name, layer.name)).get_weights())
    return model


def original_names() -> dict[str, str]:
    """Returns {variable path: name in the original's vgg16.npy}, such as {"fc6/kernel": "fc6/weights"}."""
    names = {"fc6/kernel": "fc6/weights", "fc6/bias": "fc6/biases"}
    for block, (convolutions, _) in enumerate(BLOCKS, start=1):
        for number in range(1, convolutions + 1):
            ours, theirs = f"block{block}_conv{number}", f"conv{block}_{number}"
            names |= {f"{ours}/kernel": f"{theirs}/filter", f"{ours}/bias": f"{theirs}/biases"}
    return names
