"""What the editor's agent sees: a vector of the virtual exposure at 224 x 224, as its network takes it.

    vgg        VGG16's fc6 before its ReLU, 4,096 values (hdr_tf/models/vgg.py)
    quality    8,000 bins; the other histograms are in hdr_tf/image/histograms.py
    history    a row of six for each of 20 steps, 1 for the edit that was taken

The agent of bigmms/reinforcement_learning_hdr (375578f, agent_test.py) sees "vgg" and "quality", in this order. It sees the
virtual exposure, not the fused picture.

Changed: in the history every step has a row. The program's test loop never tells which step it is, so that all edits fall into
the first row; it is off there, and no agent with it was published.
"""

from collections.abc import Sequence

import numpy as np

from hdr_tf.image import editing
from hdr_tf.image.histograms import HISTOGRAMS

PARTS = ("vgg", *HISTOGRAMS)


class Features:
    """From an `editing.Editing` of 224 x 224 pixels to a vector.

    Example:
        >>> Features(["quality"], history=True).length
        8120
    """

    def __init__(self, parts: Sequence[str] = ("vgg", "quality"), history: bool = False, vgg_weights: str | None = None):
        """Args:
            parts: names in `PARTS`; their order is that of the vector.
            history: whether the edits so far follow.
            vgg_weights: a file for `models.vgg`; None downloads it.

        Raises:
            ValueError: an unknown or repeated part, nothing to see, or no weights.
        """
        unknown = [part for part in parts if part not in PARTS]
        if unknown or not (parts or history) or len(set(parts)) < len(parts):
            raise ValueError(f"expected features out of {', '.join(PARTS)}, each once, found {', '.join(parts) or 'none'}")
        self.parts, self.history = tuple(parts), history
        self._extractors = [HISTOGRAMS[part][0] if part != "vgg" else _vgg(vgg_weights) for part in parts]
        self.length = sum(HISTOGRAMS[part][1] if part != "vgg" else 4096 for part in parts)
        self.length += history * editing.STEPS * len(editing.EDITS)

    def __call__(self, state: editing.Editing) -> np.ndarray:
        """Returns the vector, float32 [length]."""
        vectors = [extract(state.virtual) for extract in self._extractors]
        if self.history:
            rows = np.zeros((editing.STEPS, len(editing.EDITS)), np.float32)
            rows[np.arange(len(state.actions)), list(state.actions)] = 1
            vectors.append(rows.ravel())
        return np.concatenate(vectors)


def _vgg(weights):
    from hdr_tf.models import vgg  # Keras takes seconds to import

    network = vgg.vgg16_fc6(weights or "imagenet")
    return lambda picture: np.asarray(network(picture[None], training=False))[0]
