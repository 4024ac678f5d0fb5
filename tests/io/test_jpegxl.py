"""Headers of JPEG XL written bit by bit, with what the encoders at hand do not write: other sizes, extra channels, colours."""

import pytest

from hdr_tf.io import jpegxl

DEFAULT = [(1, 1)]  # colours
SIDES = [(0, 1), (0, 2), (20, 9), (0, 3), (0, 2), (29, 9)]  # 21 rows, no ratio, 30 columns


def header(*numbers):
    """A codestream that begins with numbers, (value, bits) each, from the lowest bit on."""
    bits = length = 0
    for value, count in numbers:
        bits, length = bits | value << length, length + count
    return b"\xff\x0a" + bits.to_bytes(length // 8 + 1, "little")


def enumerated(value):
    if value < 2:
        return [(value, 2)]
    return [(2, 2), (value - 2, 4)] if value < 18 else [(3, 2), (value - 18, 6)]


def coded(white, primaries, transfer, profile=0, power=0):
    """Colours of RGB images by their codes."""
    codes = [(0, 1), (profile, 1), *enumerated(0), *enumerated(white), *enumerated(primaries), (power, 1)]
    return codes + ([(1000, 24)] if power else enumerated(transfer))


# Not all the default, no further fields; integers of 8 bit; 16 bits are enough, no extra channels, coded as XYB.
PLAIN = [(0, 1), (0, 1), (0, 1), (0, 2), (1, 1), (0, 2), (1, 1)]
# Turned, to be shown at another size, animated; floating point; an alpha channel called "abc".
ANIMATED = [(0, 1), (1, 1), (5, 3), (1, 1), *SIDES, (0, 1), (1, 1), (0, 2), (0, 2), (1, 2), (3, 3), (0, 1)]
FULL = [*ANIMATED, (1, 1), (0, 2), (8, 4), (1, 1), (1, 2), (0, 1), (0, 2), (0, 1), (0, 2), (0, 2), (1, 2), (3, 4)]
FULL += [(byte, 8) for byte in b"abc"] + [(1, 1), (1, 1)]


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (SIDES, (30, 21)),
        ([(1, 1), (8, 5), (5, 3)], (128, 72)),  # in units of 8 pixels, 16 to 9
        ([(0, 1), (1, 2), (999, 13), (1, 3)], (1000, 1000)),
        ([(0, 1), (3, 2), (2**29, 30), (0, 3), (2, 2), (2**17, 18)], (2**17 + 1, 2**29 + 1)),
    ],
)
def test_sizes(numbers, expected):
    assert jpegxl.read_header(header(*numbers, *DEFAULT)) == (expected, jpegxl.SRGB)


@pytest.mark.parametrize("before", [PLAIN, FULL], ids=["plain", "full"])
@pytest.mark.parametrize(
    ("colours", "expected"),
    [
        (DEFAULT, jpegxl.SRGB),
        (coded(1, 1, 8), (1, 8)),  # linear
        (coded(1, 9, 18), (9, 18)),  # Rec. 2020, HLG
        (coded(1, 11, 16), (12, 16)),  # P3 with D65, PQ
        (coded(11, 11, 17), (11, 17)),  # P3 of cinemas
        (coded(10, 1, 13), None),  # white E
        (coded(2, 1, 13), None),
        (coded(1, 2, 13), None),
        (coded(1, 1, 13, profile=1), None),
        (coded(1, 1, 13, power=1), None),
    ],
)
def test_colours(before, colours, expected):
    assert jpegxl.read_header(header(*SIDES, *before, *colours)) == ((30, 21), expected)


def test_what_is_no_codestream():
    with pytest.raises(ValueError, match="codestream"):
        jpegxl.read_header(b"\0\0\0\x0cJXL ")
