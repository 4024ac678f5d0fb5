"""VGG16 up to its first dense layer, the picture features of the two-exposure editor, and three layers of VGG19, SelfHDR's.

K. Simonyan, A. Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015
(https://arxiv.org/abs/1409.1556); the features are those of bigmms/reinforcement_learning_hdr (375578f,
utils_file/model_vgg.py) and of cszhilu1998/SelfHDR (9e8af4a, models/networks.py). Layers have the names of
keras.applications, whose weights they take.

    both   RGB, 0..1 --> x 255, means taken off --> convolutions and poolings
    VGG16  [B, 224, 224, 3] --> 13 convolutions, 5 poolings --> fc6 [B, 4096] before its ReLU
    VGG19  [B, H, W, 3] --> relu3_2 [B, H / 4, W / 4, 256], relu4_2 [B, H / 8, W / 8, 512], relu5_2 [B, H / 16, W / 16, 512]

Kept: the editor hands BGR to a network that turns RGB to BGR, so that the weights, which were trained on BGR, see RGB, from
which the means of B, G and R are taken off, in this order. SelfHDR hands BGR to a network for RGB; here one for BGR gets RGB,
and the same means.

Changed: SelfHDR takes torchvision's weights, which were trained on pictures divided by 0.226 (on the average of the channels);
those of Keras are the authors', trained on levels up to 255. VGG19's features are divided by the ratio of the two, 255 x 0.226,
so that the loss counts about as much beside SelfHDR's others as in the original. That is reasoned, not measured.
"""

import keras

SIDE, FEATURES = 224, 4096
MEANS = (103.939, 116.779, 123.68)  # of ImageNet's B, G, R
BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))  # convolutions, their filters
BLOCKS_19 = ((2, 64), (2, 128), (4, 256), (4, 512), (2, 512))  # up to relu5_2
SEEN = ("block3_conv2", "block4_conv2", "block5_conv2")
LEVELS = 255 * 0.226  # for a difference of 1 in what torchvision's network takes


def vgg16_fc6(weights: str | None = None, name: str = "vgg16_fc6") -> keras.Model:
    """Builds the network.

    Args:
        weights: what keras.applications.VGG16 takes: a file that holds its dense layers too, "imagenet" to download that, None
            for random ones.
        name: of the model.

    Raises:
        ValueError: the weights cannot be downloaded or read, or are another network's.
    """
    trained = {}
    if weights is not None:
        trained = _trained_layers("VGG16", weights, "vgg16_weights_tf_dim_ordering_tf_kernels.h5", "--features=quality")
        trained["fc6"] = trained.pop("fc1")
    picture = keras.Input((SIDE, SIDE, 3), name="picture")
    x = keras.layers.Flatten(name="flatten")(_convolutions(picture, BLOCKS))
    return _with_weights(keras.Model(picture, keras.layers.Dense(FEATURES, name="fc6")(x), name=name), trained)


def vgg19_features(weights: str | None = None, name: str = "vgg19_features") -> keras.Model:
    """Builds the network that `losses.perceptual` looks with: [B, H, W, 3] RGB in 0..1 -> a list of three layers, see above.

    Args:
        weights: what keras.applications.VGG19 takes without its dense layers: a file, "imagenet" to download that, None for
            random ones.
        name: of the model.

    Raises:
        ValueError: the weights cannot be downloaded or read, or are another network's.

    Example:
        [features.shape[-1] for features in vgg19_features()(keras.random.uniform((1, 32, 32, 3)))]  # [256, 512, 512]
    """
    trained = {}
    if weights is not None:
        file = "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"
        trained = _trained_layers("VGG19", weights, file, "--structure_loss=l1", include_top=False)
    picture = keras.Input((None, None, 3), name="picture")
    whole = keras.Model(picture, _convolutions(picture, BLOCKS_19))
    features = [whole.get_layer(layer).output / LEVELS for layer in SEEN]
    return _with_weights(keras.Model(picture, features, name=name), trained)


def _convolutions(x, blocks):
    x = keras.layers.Rescaling(255.0, [-mean for mean in MEANS], name="means")(x)
    for block, (convolutions, filters) in enumerate(blocks, start=1):
        for number in range(1, convolutions + 1):
            conv = f"block{block}_conv{number}"
            x = keras.layers.Conv2D(filters, 3, padding="same", activation="relu", name=conv)(x)
        x = keras.layers.MaxPooling2D(name=f"block{block}_pool")(x)
    return x


def _trained_layers(network, weights, file, instead, **arguments):
    """The arrays of each layer that has some, by its name."""
    try:
        vgg = getattr(keras.applications, network)(weights=weights, **arguments)
    except Exception as error:  # whatever downloading, h5py and Keras raise
        raise ValueError(
            f"{network}: expected weights, found none in {weights!r} ({' '.join(str(error).split())[:200]}); give the file "
            f"{file} by --vgg_weights, or do without: {instead}"
        ) from error
    return {layer.name: layer.get_weights() for layer in vgg.layers if layer.weights}


def _with_weights(model, trained):
    for layer in model.layers:
        if layer.name in trained:
            layer.set_weights(trained[layer.name])
    return model


def original_names() -> dict[str, str]:
    """The weight map {variable path: name in vgg16.npy of the original, as <layer>/filter, <layer>/biases}."""
    names = {"fc6/kernel": "fc6/weights", "fc6/bias": "fc6/biases"}
    for block, (convolutions, _) in enumerate(BLOCKS, start=1):
        for number in range(1, convolutions + 1):
            for ours, theirs in (("kernel", "filter"), ("bias", "biases")):
                names[f"block{block}_conv{number}/{ours}"] = f"conv{block}_{number}/{theirs}"
    return names
