"""Files that are understood but not supported say so, and never "damaged"; CMYK is converted by its profile."""

import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from hdr_tf.io import image_files, transfer
from tests import helpers


def refusal(path, read=image_files.read_image):
    with pytest.raises(ValueError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    assert "damaged" not in message and "read_" not in message and "to_" not in message
    return message


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(
    ("compression", "name"),
    [(34887, "LERC"), (50001, "WEBP"), (50002, "JPEGXL"), (34712, "JPEG2000"), (50000, "ZSTD"), (64999, "64999")],
)
def test_compressions_of_tiff(tmp_path, compression, name, dtype):
    """As the tag says; what stands in the strips does not matter."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, helpers.noise(16, 16, 3).astype(dtype), photometric="rgb")
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages.first.tags["Compression"].overwrite(compression)
    read = image_files.read_radiance if dtype == np.float32 else image_files.read_image
    if (dtype, name) == (np.uint8, "ZSTD"):  # Pillow reads it, if it were
        with pytest.raises(ValueError):
            read(path)
        return
    assert helpers.mentioned(f"{name} LZW {np.dtype(dtype).itemsize * 8}", refusal(path, read))


@pytest.mark.parametrize(
    ("marker", "bits", "words"),
    [(0xC1, 12, "12"), (0xC0, 12, "12"), (0xC3, 8, "lossless"), (0xC3, 16, "16"), (0xF7, 8, "JPEG-LS")],
)
def test_kinds_of_jpeg(tmp_path, marker, bits, words):
    data = bytearray(helpers.encoded("JPEG"))
    place = data.index(b"\xff\xc0")
    data[place + 1], data[place + 4] = marker, bits
    (tmp_path / "a.jpg").write_bytes(data)
    assert helpers.mentioned(f"{words} JPEG", refusal(tmp_path / "a.jpg"))


def inks(space=b"CMYK", channels=4):
    """A profile of inks that are ideal: a table of two points for each of them, to Lab."""
    table = []
    for number in range(2**channels):
        on = [number >> (channels - 1 - i) & 1 for i in range(channels)]
        rgb = np.array([1.0 - ink for ink in on[:3]]) * (1 - on[3])
        lightness = 255 * (0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2]) ** (1 / 3)
        table += [round(lightness), 128, 128]
    matrix = struct.pack(">9i", *(65536 * (i in (0, 4, 8)) for i in range(9)))
    curves = bytes(range(256))
    lut = b"mft1" + bytes(4) + bytes((channels, 3, 2, 0)) + matrix + curves * channels + bytes(table) + curves * 3
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    text = b"desc" + bytes(4) + struct.pack(">I", 5) + b"inks\0" + bytes(78)
    tags = {b"desc": text, b"wtpt": white, b"A2B0": lut, b"A2B1": lut, b"cprt": b"text" + bytes(4) + b"CC0\0"}
    contents, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, value in tags.items():
        contents += name + struct.pack(">II", start + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    head = struct.pack(">I4sI4s4s4s12s4s", start + len(body), bytes(4), 0x02400000, b"prtr", space, b"Lab ", bytes(12), b"acsp")
    return (head.ljust(68, b"\0") + white[8:]).ljust(128, b"\0") + contents + body


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_cmyk_is_converted_by_its_profile(tmp_path, name):
    ImageCms.ImageCmsProfile(io.BytesIO(inks()))
    image = Image.new("CMYK", (16, 16), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (8, 0, 16, 16))
    image.save(tmp_path / name, icc_profile=inks())
    loaded = image_files.read_image(tmp_path / name)
    assert loaded.pixels.shape == (16, 16, 3) and loaded.metadata.icc is None and transfer.stated(loaded.metadata) is None
    assert loaded.pixels[:, :6].min() > 250 and loaded.pixels[:, 10:].max() < 5
    (note,) = loaded.notes
    assert helpers.mentioned("CMYK sRGB", note)


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
@pytest.mark.parametrize("profile", [None, bytes(60), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()])
def test_cmyk_without_a_profile_of_its_inks_is_refused(tmp_path, name, profile):
    Image.new("CMYK", (16, 16)).save(tmp_path / name, icc_profile=profile)
    assert "CMYK" in refusal(tmp_path / name)


def test_other_kinds_name_no_function(tmp_path):
    image_files.write_radiance(tmp_path / "a.exr", np.ones((8, 8, 3), np.float32))
    image_files.write_radiance(tmp_path / "a.tif", np.ones((8, 8, 3), np.float32))
    image_files.write_image(tmp_path / "a.png", np.ones((8, 8, 3), np.uint8))
    for name in ("a.exr", "a.tif"):
        refusal(tmp_path / name)
    refusal(tmp_path / "a.png", image_files.read_radiance)
    with pytest.raises(ValueError, match="a.jpg") as caught:
        image_files.write_image(tmp_path / "a.jpg", np.ones((8, 8, 3), np.uint16))
    assert "to_depth" not in str(caught.value)
