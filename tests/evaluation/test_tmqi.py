"""The index of tone-mapped images."""

import numpy as np
import pytest

from hdr_tf.evaluation.tmqi import tmqi

# Of the authors' MATLAB program, TMQI.m 1.0, run by Octave 7.3 (with zeros around the border blocks, as MATLAB's blkproc fills
# them up): quality, fidelity, naturalness of `_scene` by its curves.
EXPECTED = {
    (198, 242, "log"): (0.90096311, 0.92956682, 0.47558109),
    (198, 242, "gamma"): (0.86086563, 0.93536329, 0.25661455),
    (201, 250, "log"): (0.94366502, 0.93217374, 0.73240729),
    (201, 250, "gamma"): (0.87753721, 0.93651543, 0.33816300),
}


def _scene(height, width):
    y, x = np.mgrid[:height, :width]
    texture = 0.5 + 0.25 * np.sin(x / 3.7 + y / 11) + 0.25 * np.cos(x * y / 900)
    base = 10.0 ** (-2 + 4 * x / (width - 1))
    radiance = base[..., None] * np.stack([texture, 0.9 * texture + 0.05, 0.8 * texture + 0.1], axis=-1)
    return radiance / radiance.max()


@pytest.mark.parametrize("height, width, curve", EXPECTED)
def test_scores_of_the_authors_program(height, width, curve):
    radiance = _scene(height, width)
    values = np.log1p(5000 * radiance) / np.log(5001) if curve == "log" else np.minimum(1, 4 * radiance) ** (1 / 2.2)
    found = tmqi(7 * radiance, np.rint(255 * values).astype(np.uint8))
    np.testing.assert_allclose(found, EXPECTED[height, width, curve], atol=2e-6)


def test_images_that_cannot_be_scored():
    with pytest.raises(ValueError, match="176"):
        tmqi(np.ones((100, 300, 3)), np.ones((100, 300, 3), np.uint8))
