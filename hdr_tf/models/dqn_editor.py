"""The two-exposure editor's Q network: what a picture's features say each of the six edits is worth.

Yin, Chen, Peng, Hwang, "Automatic Intermediate Generation With Deep Reinforcement Learning for Robust Two-Exposure Image
Fusion", IEEE TNNLS 33(12), 2022; code: bigmms/reinforcement_learning_hdr, 375578f, utils_file/q_network.py.

    [B, features] float32 (hdr_tf/features.py) --> dense 4096, 4096, 512, ReLU between --> [B, 6], the discounted sum of rewards
    that each edit (hdr_tf/image/editing.py) begins; no limits

With `duel`, a second such column ends in one value: Q = value + advantage - mean advantage (Wang et al., "Dueling network
architectures for deep reinforcement learning", ICML 2016, https://arxiv.org/abs/1511.06581).

Kept: kernels and biases from a normal distribution cut at two deviations: of a kernel the root of 1 / inputs (of the first one
1 / its own width), of a bias 1 / its own width, so that the last biases are as large as 0.4 (0.4 of the edits, 1 of the value).

Changed: any widths; the dropout that drops nothing is left out.
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
    """Builds the network.

    Args:
        features: length of the vector that it takes.
        hidden: widths of the layers before the last, one and more.
        duel: value and advantage in columns of their own.
        name: of the model.

    Raises:
        ValueError: a width below 1, or none.

    Example:
        >>> dqn_editor(8000, hidden=(64,))(keras.random.uniform((2, 8000))).shape
        TensorShape([2, 6])
    """
    if not hidden or min(features, *hidden) < 1:
        raise ValueError(f"expected features and hidden layers of 1 and more values, found {features} and {list(hidden)}")
    x = keras.Input((features,), name="features")
    q = _column(x, hidden, EDITS, "fc")
    if duel:
        q = _column(x, hidden, 1, "v_fc") + q - ops.mean(q, axis=1, keepdims=True)
    return keras.Model(x, q, name=name)


def _column(x, hidden, outputs, name):
    inputs = hidden[0]  # of the first kernel's deviation
    for number, width in enumerate((*hidden, outputs), start=1):
        x = keras.layers.Dense(
            width,
            activation="relu" if number <= len(hidden) else None,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=inputs**-0.5),
            bias_initializer=keras.initializers.TruncatedNormal(stddev=width**-0.5),
            name=f"{name}{number}",
        )(x)
        inputs = width
    return x


def original_names(duel: bool = False) -> dict[str, str]:
    """The weight map {variable path: original name} of the network with three hidden layers."""
    return {
        f"{column}{number}/{ours}": f"pred/{column}{number}_{theirs}"
        for column in (("fc", "v_fc") if duel else ("fc",))
        for number in range(1, len(HIDDEN) + 2)
        for ours, theirs in (("kernel", "weights"), ("bias", "biases"))
    }
