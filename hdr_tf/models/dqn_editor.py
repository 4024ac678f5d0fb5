"""The Q network of the two-exposure editor: estimates from an image's features how much each of the six edits is worth.

J.-L. Yin, B.-H. Chen, Y.-T. Peng, H. Hwang: "Automatic Intermediate Generation With Deep Reinforcement Learning for
Robust Two-Exposure Image Fusion", IEEE TNNLS 33(12), 2022. Original code: https://github.com/bigmms/reinforcement_learning_hdr
(375578f), utils_file/q_network.py.

Input: [B, features] float32 from `hdr_tf.editor.features`. Output: [B, 6] float32 without limits, for each edit of
`hdr_tf.editor.edits` the discounted sum of the rewards that follow it.

    fc1..fc4  dense 4096, 4096, 512, with a ReLU after each, then dense 6

With `duel`, a second such column, v_fc1..v_fc4, ends in one value: Q = value + advantage - mean advantage (Wang et al.,
"Dueling network architectures for deep reinforcement learning", ICML 2016, https://arxiv.org/abs/1511.06581).

Kept: initial kernels and biases from a normal distribution that is cut at two deviations. The variance is 1 / inputs for a
kernel (1 / its own width for the first one) and 1 / width for a bias, so the deviation of the last biases is as large as 0.4
(edits) or 1 (value).
Changed: any widths; the dropout layers are left out, since they drop nothing.
"""

from collections.abc import Sequence

import keras
from keras import ops

EDITS = 6
HIDDEN = (4096, 4096, 512)
FEATURES = 12096  # 4,096 of VGG16, 8,000 of the quality histogram


def dqn_editor(
    features: int = FEATURES, hidden: Sequence[int] = HIDDEN, duel: bool = False, name: str = "dqn_editor"
) -> keras.Model:
    """Builds the network, [B, features] -> [B, 6].

    Args:
        features: length of the input vector.
        hidden: widths of the hidden layers, at least one.
        duel: whether separate columns compute value and advantage.
        name: of the model.

    Example:
        >>> dqn_editor(8000, hidden=(64,))(keras.random.uniform((2, 8000))).shape
        TensorShape([2, 6])
    """
    if not hidden or min(features, *hidden) < 1:
        raise ValueError(f"expected features and hidden layers of at least 1 value, found {features} and {list(hidden)}")
    x = keras.Input((features,), name="features")
    q = _column(x, hidden, EDITS, "fc")
    if duel:
        q = _column(x, hidden, 1, "v_fc") + q - ops.mean(q, axis=1, keepdims=True)
    return keras.Model(x, q, name=name)


def _column(x, hidden, outputs, name):
    inputs = (hidden[0], *hidden)  # the original uses the width of the first layer in place of its inputs
    for number, width in enumerate((*hidden, outputs), start=1):
        x = keras.layers.Dense(
            width,
            activation="relu" if number <= len(hidden) else None,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=inputs[number - 1] ** -0.5),
            bias_initializer=keras.initializers.TruncatedNormal(stddev=width**-0.5),
            name=f"{name}{number}",
        )(x)
    return x


def original_names(duel: bool = False) -> dict[str, str]:
    """Returns the original's name for each variable path of the network with three hidden layers."""
    return {
        f"{column}{number}/{ours}": f"pred/{column}{number}_{theirs}"
        for column in (("fc", "v_fc") if duel else ("fc",))
        for number in range(1, len(HIDDEN) + 2)
        for ours, theirs in (("kernel", "weights"), ("bias", "biases"))
    }
