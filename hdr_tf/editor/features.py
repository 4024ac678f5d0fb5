"""What the editor's agent sees: a vector of the images at 224 x 224, the input of its Q network.

    vgg        VGG16's fc6 of the virtual exposure before its ReLU, 4,096 values (hdr_tf/models/vgg.py)
    quality    8,000 bins of the virtual exposure; hdr_tf/editor/histograms.py has this and the other histograms
    pair       39 numbers: 13 of each exposure and of the virtual one (hdr_tf/editor/pair_statistics.py)
    history    20 rows of six values, one row for each step: 1 for the edit that was chosen

The agent of bigmms/reinforcement_learning_hdr (375578f, agent_test.py) sees "vgg" and "quality", in this order.

Changed: "pair" also describes the two exposures, without which no agent can tell which edit is the best (docs/dqn_editor.md).
In the history every step has a row. The program's test loop does not pass on the number of the step, so all edits fall into the
first row. The history is off there, and no agent that uses it was published.
"""

from collections.abc import Sequence

import numpy as np

from hdr_tf.editor import edits
from hdr_tf.editor.histograms import HISTOGRAMS
from hdr_tf.editor.pair_statistics import MEANS, pair_statistics
from hdr_tf.models import vgg

PARTS = ("vgg", "pair", *HISTOGRAMS)


class Features:
    """Computes the vector of an `edits.EditedPair` of 224 x 224 pixels.

    Example:
        >>> Features(["quality"], history=True).length
        8120
    """

    def __init__(self, parts: Sequence[str] = ("vgg", "quality"), history: bool = False, vgg_weights: str | None = None):
        """Args: names in `PARTS`, in the order of the vector; whether the edits so far are appended; a file for `models.vgg`,
        None to download it."""
        unknown = [part for part in parts if part not in PARTS]
        if unknown or not (parts or history) or len(set(parts)) < len(parts):
            raise ValueError(f"expected features out of {', '.join(PARTS)}, each once, found {', '.join(parts) or 'none'}")
        self.parts, self.history = tuple(parts), history
        extractors = [_extractor(part, vgg_weights) for part in parts]
        self._functions = [function for function, _ in extractors]
        self.length = sum(length for _, length in extractors) + history * edits.STEPS * len(edits.EDITS)

    @property
    def names(self) -> tuple[str, ...]:
        """The parts, and "history" if the edits are appended."""
        return (*self.parts, *["history"] * self.history)

    def __call__(self, state: edits.EditedPair) -> np.ndarray:
        """Returns the vector, float32 [length]."""
        vectors = [function(state) for function in self._functions]
        if self.history:
            rows = np.zeros((edits.STEPS, len(edits.EDITS)), np.float32)
            rows[np.arange(len(state.actions)), list(state.actions)] = 1
            vectors.append(rows.ravel())
        return np.concatenate(vectors)


def _extractor(part, vgg_weights):
    """The function of a part, from the state to its values, and their number."""
    if part == "pair":
        return lambda state: pair_statistics(state.fuse, state.virtual), MEANS.size
    if part == "vgg":
        network = vgg.vgg16_fc6(vgg_weights or "imagenet")
        return lambda state: np.asarray(network(state.virtual[None], training=False))[0], vgg.FEATURES
    function, length = HISTOGRAMS[part]
    return lambda state: function(state.virtual), length
