"""Sizes of AV1 data from sequence headers written bit by bit, also those of sequences, which no encoder at hand writes."""

import pytest

from hdr_tf.io import boxes
from tests import helpers

START = [(0, 4), (0, 1)]  # profile, still image; a header for several images
POINT = [(0, 12), (5, 5)]  # what is decoded, level
LONG_POINT = [(0, 12), (9, 5), (1, 1), (1, 1), (0, 21), (1, 1), (3, 4)]  # with tier, delay and number of images that are shown
SIDES = [(5, 4), (5, 4), (63, 6), (47, 6)]  # numbers of bits, width, height
TICKS = [(1, 1), (0, 64), (1, 1), (1, 3), (2, 2)]  # of a clock, and how many for each image


def header(*numbers):
    """A sequence header of numbers, (value, bits) each, from the highest bit on."""
    bits = length = 0
    for value, count in numbers:
        bits, length = bits << count | value, length + count
    return (bits << -length % 8).to_bytes(-(-length // 8))


@pytest.mark.parametrize(
    "numbers",
    [
        [(0, 4), (1, 1), (5, 5)],  # one image
        [*START, (0, 1), (0, 1), (0, 5), *POINT],
        [*START, *TICKS, (0, 1), (0, 1), (0, 5), *POINT],
        # A model of the decoder, whose delays have ten bits, and two points.
        [*START, *TICKS, (1, 1), (9, 5), (0, 42), (1, 1), (1, 5), *LONG_POINT * 2],
    ],
    ids=["image", "sequence", "timing", "decoder"],
)
def test_size_of_a_sequence(numbers):
    assert boxes._sequence_size(header(*numbers, *SIDES)) == (64, 48)
    with pytest.raises(ValueError, match="cut short"):
        boxes._sequence_size(header(*numbers, *SIDES)[:-2])


def test_frames_that_may_be_larger_are_refused():
    sides = [(15, 4), (5, 4), (63, 16), (47, 6)]  # a frame may state a width of 16 bits
    with pytest.raises(ValueError, match=helpers.mentions("64 48")):
        boxes._sequence_size(header(*START, (0, 1), (0, 1), (0, 5), *POINT, *sides))
