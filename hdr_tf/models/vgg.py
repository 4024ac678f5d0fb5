"""VGG16 up to its first dense layer: the picture features of the two-exposure editor.

K. Simonyan, A. Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015
(https://arxiv.org/abs/1409.1556); the features are those of bigmms/reinforcement_learning_hdr (375578f,
utils_file/model_vgg.py). Layers have the names of
keras.applications, whose weights it takes.

    [B, 224, 224, 3] RGB, 0..1 --> x 255, means taken off --> 13 convolutions, 5 poolings --> fc6 [B, 4096] before its ReLU

Kept: the editor hands BGR to a network that turns RGB to BGR, so that the weights, which were trained on BGR, see RGB, from
which the means of B, G and R are taken off, in this order.
"""

import keras

SIDE, FEATURES = 224, 4096
MEANS = (103.939, 116.779, 123.68)  # of ImageNet's B, G, R
BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))  # convolutions, their filters


def vgg16_fc6(weights: str | None = None, name: str = "vgg16_fc6") -> keras.Model:
    """Builds the network.

    Args:
        weights: what keras.applications.VGG16 takes: a file that holds its dense layers too, "imagenet" to download that, None
            for random ones.
        name: of the model.

    Raises:
        ValueError: the weights cannot be downloaded or read, or are another network's.
    """
    trained = _trained_layers(weights) if weights is not None else {}
    picture = keras.Input((SIDE, SIDE, 3), name="picture")
    x = keras.layers.Rescaling(255.0, [-mean for mean in MEANS], name="means")(picture)
    for block, (convolutions, filters) in enumerate(BLOCKS, start=1):
        for number in range(1, convolutions + 1):
            conv = f"block{block}_conv{number}"
            x = keras.layers.Conv2D(filters, 3, padding="same", activation="relu", name=conv)(x)
        x = keras.layers.MaxPooling2D(name=f"block{block}_pool")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    model = keras.Model(picture, keras.layers.Dense(FEATURES, name="fc6")(x), name=name)
    for name, arrays in trained.items():
        model.get_layer(name).set_weights(arrays)
    return model


def _trained_layers(weights):
    try:
        vgg = keras.applications.VGG16(weights=weights)
    except Exception as error:  # whatever downloading, h5py and Keras raise
        raise ValueError(
            f"VGG16: expected weights, found none in {weights!r} ({' '.join(str(error).split())[:200]}); give the file "
            "vgg16_weights_tf_dim_ordering_tf_kernels.h5 by --vgg_weights, or do without: --features=quality"
        ) from error
    names = {layer.name: layer.name for layer in vgg.layers if "conv" in layer.name} | {"fc1": "fc6"}
    return {ours: vgg.get_layer(theirs).get_weights() for theirs, ours in names.items()}


def original_names() -> dict[str, str]:
    """The weight map {variable path: name in vgg16.npy of the original, as <layer>/filter, <layer>/biases}."""
    names = {"fc6/kernel": "fc6/weights", "fc6/bias": "fc6/biases"}
    for block, (convolutions, _) in enumerate(BLOCKS, start=1):
        for number in range(1, convolutions + 1):
            for ours, theirs in (("kernel", "filter"), ("bias", "biases")):
                names[f"block{block}_conv{number}/{ours}"] = f"conv{block}_{number}/{theirs}"
    return names
