"""The header of a JPEG XL codestream (ISO/IEC 18181-1): size and colours."""

SRGB = 1, 13  # primaries and transfer characteristics of ITU-T H.273

_RATIOS = ((1, 1), (6, 5), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # width to height
_ALPHA, _SPOT, _CFA = 0, 2, 5  # kinds of extra channels
_LEVELS = ((0, 8), (0, 10), (0, 12), (6, 1))
_WHITE_D65, _WHITE_DCI = 1, 11
_P3 = 11


class _Bits:
    """Reads numbers from their lowest bit on; after the end there are zeros."""

    def __init__(self, data):
        self._bits = int.from_bytes(data, "little")

    def take(self, count):
        value, self._bits = self._bits & ((1 << count) - 1), self._bits >> count
        return value

    def choose(self, *choices):
        """One of four (number of bits, what is added to their value)."""
        count, least = choices[self.take(2)]
        return least + self.take(count)

    def enumerated(self):
        return self.choose((0, 0), (0, 1), (4, 2), (6, 18))


def read_header(codestream: bytes) -> tuple[tuple[int, int], tuple[int, int] | None]:
    """Reads the first 200 bytes of a codestream.

    Returns:
        width and height
        primaries and transfer characteristics, codes of ITU-T H.273; None if they have no codes, or a profile states them
    """
    if codestream[:2] != b"\xff\x0a":
        raise ValueError("no codestream")
    bits = _Bits(codestream[2:])
    return _size(bits), _colours(bits)


def _size(bits):
    small = bits.take(1)

    def side():
        return 8 * (1 + bits.take(5)) if small else bits.choose((9, 1), (13, 1), (18, 1), (30, 1))

    height, ratio = side(), bits.take(3)
    return height * _RATIOS[ratio - 1][0] // _RATIOS[ratio - 1][1] if ratio else side(), height


def _colours(bits):
    if bits.take(1):  # all is the default
        return SRGB
    if bits.take(1):
        bits.take(3)  # orientation
        if bits.take(1):
            _size(bits)  # to be shown at
        if bits.take(1):  # a preview
            return None
        if bits.take(1):  # an animation
            bits.choose((0, 100), (0, 1000), (10, 1), (30, 1))
            bits.choose((0, 1), (0, 1001), (8, 1), (10, 1))
            bits.choose((0, 0), (3, 0), (16, 0), (32, 0))
            bits.take(1)
    _depth(bits)
    bits.take(1)  # whether 16 bits are enough
    for _ in range(bits.choose((0, 0), (0, 1), (4, 2), (12, 1))):
        if not bits.take(1):
            _extra_channel(bits)
    bits.take(1)  # whether coded as XYB
    if bits.take(1):  # sRGB
        return SRGB
    profile, space = bits.take(1), bits.enumerated()
    if profile or space > 1:  # neither RGB nor gray
        return None
    white, primaries = bits.enumerated(), 1
    if white == 2:  # stated by coordinates
        return None
    if space == 0 and (primaries := bits.enumerated()) == 2:
        return None
    if bits.take(1):  # a power
        return None
    codes = {(_WHITE_D65, 1): 1, (_WHITE_D65, 9): 9, (_WHITE_D65, _P3): 12, (_WHITE_DCI, _P3): 11}
    return (codes[white, primaries], bits.enumerated()) if (white, primaries) in codes else None


def _depth(bits):
    if bits.take(1):  # floating point
        bits.choose((0, 32), (0, 16), (0, 24), (6, 1))
        bits.take(4)
    else:
        bits.choose(*_LEVELS)


def _extra_channel(bits):
    kind = bits.enumerated()
    _depth(bits)
    bits.choose((0, 0), (0, 3), (0, 4), (3, 1))
    bits.take(8 * bits.choose((0, 0), (4, 0), (5, 16), (10, 48)))  # its name
    if kind == _ALPHA:
        bits.take(1)
    elif kind == _SPOT:
        bits.take(64)
    elif kind == _CFA:
        bits.choose((0, 1), (2, 0), (4, 3), (8, 19))
