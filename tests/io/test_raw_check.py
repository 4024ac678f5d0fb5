"""RAW files that are not whole are refused: cut, zeroed, garbled, stubs; and every error of LibRaw is one line."""

import struct
import types

import numpy as np
import pytest
import tifffile

from hdr_tf.io import image_files, raw, raw_check
from tests import helpers

rawpy = pytest.importorskip("rawpy")

CAMERA = np.random.default_rng(0).uniform(0.05, 0.6, (64, 96, 3))


def refusal(path, read=image_files.read_image):
    with pytest.raises(ValueError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and "attribute" not in message
    return message


def jpeg_tile(samples=b"\x12\x34\xff\x00\x56" * 40):
    """The frame of a lossless JPEG; its samples mean nothing."""
    frame = b"\xff\xc3" + struct.pack(">HBHHB3B", 11, 14, 64, 64, 1, 0, 0x11, 0)
    return b"\xff\xd8" + frame + b"\xff\xda" + struct.pack(">HB2B3B", 8, 1, 0, 0, 1, 0, 0) + samples + b"\xff\xd9"


def write_tiles(path, tiles, compression=7):
    tags = [(50706, "B", 4, (1, 4, 0, 0), True)]
    options = {"compression": compression, "photometric": 32803, "tile": (64, 64), "subfiletype": 0, "metadata": None}
    with tifffile.TiffWriter(path) as file:
        file.write(iter(tiles), shape=(64, 64 * len(tiles)), dtype="uint16", extratags=tags, **options)
    return path


@pytest.mark.parametrize("read", [image_files.read_image, raw.read_sensor])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.98])
@pytest.mark.parametrize("tail", ["cut", "zeros"])
def test_a_file_that_ends_too_early(tmp_path, tail, kept, read):
    path = helpers.write_dng(tmp_path / "a.dng", CAMERA, read=2e-3)
    with tifffile.TiffFile(path) as file:
        start, count = file.pages.first.dataoffsets[0], sum(file.pages.first.databytecounts)
    read(path)
    data = path.read_bytes()
    end = start + round(kept * count)
    path.write_bytes(data[:end] + (bytes(start + count - end) + data[start + count :] if tail == "zeros" else b""))
    assert "RAW" in refusal(path, read)


def test_byte_counts_that_fit_the_file_but_not_the_image(tmp_path):
    path = helpers.write_dng(tmp_path / "a.dng", CAMERA, read=2e-3)
    with tifffile.TiffFile(path) as file:
        tag = file.pages.first.tags["StripByteCounts"]
        place, value = tag.valueoffset, sum(file.pages.first.databytecounts)
    data = bytearray(path.read_bytes())
    kind = {3: "<H", 4: "<I"}[tag.dtype]
    struct.pack_into(kind, data, place, value // 2)
    path.write_bytes(data)
    assert helpers.mentioned(f"RAW {value // 2:,} {value:,}", refusal(path))


def test_tiles_are_jpeg_from_begin_to_end(tmp_path):
    tile = jpeg_tile()
    raw_check.check_stored(write_tiles(tmp_path / "a.dng", [tile] * 3))
    raw_check.check_stored(write_tiles(tmp_path / "a.dng", [tile + bytes(2)] * 3))
    for wrong, words in (
        (bytes(len(tile)), "2 3 zeros"),
        (tile[:-60] + bytes(60), "2 3 end"),
        (tile[:90] + b"\xff\x37" + tile[92:], "2 3 damaged"),
        (np.random.default_rng(0).bytes(len(tile)), "2 3 JPEG"),
    ):
        path = write_tiles(tmp_path / "a.dng", [tile, wrong, tile])
        assert helpers.mentioned(words, refusal(path, raw_check.check_stored))


def test_other_compressions_do_not_end_in_zeros(tmp_path):
    data = np.random.default_rng(0).bytes(9000)
    raw_check.check_stored(write_tiles(tmp_path / "a.dng", [data + bytes(99)] * 2, 8))
    for wrong in (data[:3000] + bytes(6000), bytes(9000)):
        assert "zeros" in refusal(write_tiles(tmp_path / "a.dng", [data, wrong], 8), raw_check.check_stored)


def samples(pixels, white=15_871, black=512):
    sizes = types.SimpleNamespace(raw_width=pixels.shape[1], raw_height=pixels.shape[0])
    levels = {"white_level": white, "black_level_per_channel": [black] * 4}
    return types.SimpleNamespace(raw_image=pixels, raw_image_visible=pixels, sizes=sizes, **levels)


def test_rows_of_a_sensor_differ(tmp_path):
    path = tmp_path / "a.cr3"  # nothing is known about how it is stored
    path.write_bytes(bytes(5000))
    noisy = helpers.mosaic(CAMERA, read=2e-3)
    raw_check.check_samples(path, samples(noisy))
    for level in (0, 512, 2048):  # as decoders leave what they could not read
        wrong = noisy.copy()
        wrong[40:] = level
        with pytest.raises(ValueError, match=helpers.mentions("a.cr3 64" if level else "a.cr3 2,304")):
            raw_check.check_samples(path, samples(wrong))
    last = noisy.copy()
    last[40:] = np.tile(last[38:40], (12, 1))  # or repeat it
    with pytest.raises(ValueError, match=helpers.mentions("a.cr3 24 64")):
        raw_check.check_samples(path, samples(last))
    last = noisy.copy()
    last[-1, -70:] = 0  # below any black level
    with pytest.raises(ValueError, match=helpers.mentions("a.cr3 70")):
        raw_check.check_samples(path, samples(last))
    raw_check.check_samples(path, samples(last, black=0))
    with pytest.raises(ValueError, match=helpers.mentions("a.cr3 0")):
        raw_check.check_samples(path, samples(np.zeros_like(noisy)))


def test_clipped_and_computed_rows_are_sound(tmp_path):
    path = tmp_path / "a.cr3"
    path.write_bytes(bytes(5000))
    clipped = helpers.mosaic(CAMERA, read=2e-3)
    clipped[30:] = 15_871
    raw_check.check_samples(path, samples(clipped))
    raw_check.check_samples(path, samples(np.full_like(clipped, 15_871)))
    raw_check.check_samples(path, samples(np.full_like(clipped, 700)))  # computed, without noise
    computed = np.full_like(clipped, 700)
    computed[10:20, 5:20] = 900
    raw_check.check_samples(path, samples(computed))


def test_a_stub_is_too_small_for_what_it_says(tmp_path):
    path = tmp_path / "a.cr3"
    path.write_bytes(bytes(500))
    large = types.SimpleNamespace(raw_width=6000, raw_height=4000)
    with pytest.raises(ValueError, match=helpers.mentions("a.cr3 500 6000 x 4000")):
        raw_check.check_samples(path, types.SimpleNamespace(raw_image=None, sizes=large, white_level=1))


ERRORS = [getattr(rawpy, name) for name in dir(rawpy) if isinstance(getattr(rawpy, name), type) and name.endswith("Error")]


@pytest.mark.parametrize("arguments", [(b"why \xff not",), ("why not",), (), (7,)], ids=["bytes", "text", "nothing", "number"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_of_the_decoder_is_a_line(tmp_path, monkeypatch, error, arguments):
    path = helpers.write_dng(tmp_path / "a.dng", CAMERA)

    def fail(_):
        if error is rawpy.NotSupportedError:
            raise error("why not", (0, 21, 0))
        raise error(*arguments)

    monkeypatch.setattr(rawpy, "imread", fail)
    for read in (image_files.read_image, raw.read_sensor):
        message = refusal(path, read)
        unsupported = {rawpy.NotSupportedError, rawpy.LibRawFileUnsupportedError, rawpy.LibRawNotImplementedError}
        assert ("damaged" in message) == (
            error
            not in unsupported
            | {rawpy.LibRawTooBigError, rawpy.LibRawUnsufficientMemoryError, rawpy.LibRawMemPoolOverflowError}
        )


@pytest.mark.parametrize(
    "content", [b"II*\0 no camera wrote this", b"\0" * 5000, b"II*\0\x08\0\0\0\0\0", bytes(range(256)) * 9]
)
@pytest.mark.parametrize("name", ["a.dng", "a.nef", "a.cr2", "a.cr3", "a.arw", "a.raf", "a.orf", "a.rw2"])
def test_what_no_camera_wrote(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert helpers.mentioned(f"{name} RAW", refusal(tmp_path / name))
