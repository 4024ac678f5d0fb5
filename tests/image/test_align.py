"""Alignment: the original's own pair, known movements, and images without features."""

import itertools
import json
import re

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hdr_tf.image import align, optical_flow, tone
from hdr_tf.image.depth import to_depth
from hdr_tf.io import image_files
from tests import helpers


def scene(height=300, width=400, seed=0):
    """A textured image: random rectangles of random colours, a little blurred."""
    generator = np.random.default_rng(seed)
    image = np.full((height, width, 3), 120, np.uint8)
    for _ in range(250):
        x, y = generator.integers(0, width), generator.integers(0, height)
        size = generator.integers(5, 40, 2)
        colour = generator.integers(10, 245, 3).tolist()
        cv2.rectangle(image, (x, y), (x + int(size[0]), y + int(size[1])), colour, -1)
    return cv2.GaussianBlur(image, (0, 0), 1)


def darker(image):
    return (image * 0.4).astype(np.uint8)


def corner_error(found, true, height=300, width=400):
    corners = np.float64([[[0, 0], [width, 0], [0, height], [width, height]]])
    return np.abs(cv2.perspectiveTransform(corners, found) - cv2.perspectiveTransform(corners, true)).max()


MOVES = {  # from target to source
    "shift": [[1, 0, 7], [0, 1, -12], [0, 0, 1]],
    "rotation": [[np.cos(0.05), -np.sin(0.05), 12], [np.sin(0.05), np.cos(0.05), -9], [0, 0, 1]],
    "zoom": [[1.05, 0, -10], [0, 1.05, -8], [0, 0, 1]],
    "perspective": [[1.01, 0.01, -5], [-0.01, 0.99, 4], [3e-5, -2e-5, 1]],
}


@pytest.fixture
def pair(reference):
    return [image_files.read_image(reference / "hyperp_mb" / name).pixels for name in ("2_UN.jpg", "2_OV.jpg")]


def test_parity_homography_of_hyperp_mb(reference, pair):
    expected = np.array(json.loads((reference / "hyperp_mb" / "homography.json").read_text())["homography"])
    found = align.homography(*pair)
    # Bit-equal with OpenCV 5.0.0; SIFT or RANSAC of other releases may differ (4.14.0 differs from the 7th digit on).
    assert corner_error(found, expected, *pair[0].shape[:2]) < 2
    np.testing.assert_array_equal(align.homography(*pair), found)
    np.testing.assert_array_equal(align.homography(*(to_depth(p, 16) for p in pair)), found)


def test_parity_warp_of_hyperp_mb(reference, pair):
    matrix = np.array(json.loads((reference / "hyperp_mb" / "homography.json").read_text())["homography"])
    flags = cv2.INTER_LANCZOS4 + cv2.WARP_INVERSE_MAP  # channel by channel, as in the original
    expected = [cv2.warpPerspective(pair[0][..., i], matrix, (1280, 960), flags=flags) for i in range(3)]
    np.testing.assert_array_equal(align.warp(pair[0], matrix), np.dstack(expected))


@pytest.mark.parametrize("move", MOVES)
def test_homography_finds_a_known_movement(move):
    target, true = scene(), np.float64(MOVES[move])
    source = cv2.warpPerspective(target, true, (400, 300))
    found = align.homography(darker(source), target)
    assert corner_error(found, true) < 1  # pixel


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("method", ["homography", "mtb"])
def test_align_every_kind_of_image(method, depth, gray):
    middle = scene()
    images = [np.roll(darker(middle), (4, 9), (0, 1)), middle, np.roll(middle, (-6, 3), (0, 1))]
    if gray:
        images = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images]
    images = [to_depth(image, depth) for image in images]
    copies = [image.copy() for image in images]
    aligned = align.align(images, method, reference=1)
    assert aligned[1] is images[1]
    inner = np.s_[20:-20, 20:-20]
    for found, original, factor in zip(aligned, copies, (0.4, 1, 1), strict=True):
        assert found.dtype == original.dtype and found.shape == original.shape
        difference = np.abs(found[inner] / 1.0 - copies[1][inner] * factor) / (257 if depth == 16 else 1)
        # mtb moves whole pixels; truncation costs a level. With Lanczos, a tenth of a pixel costs levels at edges.
        assert difference.mean() < (1 if method == "mtb" else 3)
    for image, copy in zip(images, copies, strict=True):
        np.testing.assert_array_equal(image, copy)


def test_align_is_repeatable():
    images = [cv2.warpPerspective(scene(), np.float64(MOVES["rotation"]), (400, 300)), scene()]
    first = align.align(images, "homography", 1)
    cv2.setRNGSeed(7)
    np.testing.assert_array_equal(align.align(images, "homography", 1)[0], first[0])


@pytest.mark.parametrize("method", ["homography", "mtb"])
@pytest.mark.parametrize("size", [(8, 8), (9, 200), (100, 100)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_flat_images_stay(method, size, level, warnings):
    images = [np.full(size, level, np.uint8), np.full(size, level, np.uint8)]
    assert align.align(images, method, 1)[0] is images[0]
    assert len(warnings) == 1 and "image 1 of 2 is not aligned" in warnings[0]


def test_too_few_matches_fall_back_with_the_numbers(warnings):
    images = [scene(seed=1), scene(seed=2)]
    assert align.align(images, "homography", 1)[0] is images[0]
    assert "expected" in warnings[0] and "found" in warnings[0]


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([[1, 0, np.nan], [0, 1, 0], [0, 0, 1]], "not finite"),
        ([[0.01, 0, 0], [0, 0.01, 0], [0, 0, 1]], "areas 0.0001 times"),
        ([[-1, 0, 400], [0, 1, 0], [0, 0, 1]], "areas -1 times"),
        ([[1, 0, 0], [0, 1, 0], [-0.01, 0, 1]], "horizon"),
        ([[1, 0, 900], [0, 1, 0], [0, 0, 1]], "moves a corner by 900 pixels"),
    ],
)
def test_implausible_homography_falls_back(matrix, message, warnings, monkeypatch):
    monkeypatch.setattr(cv2, "findHomography", lambda here, *_: (np.float64(matrix), np.ones((len(here), 1), np.uint8)))
    images = [scene(), scene()]
    assert align.align(images, "homography", 1)[0] is images[0]
    assert message in warnings[0]


def test_large_images_are_matched_smaller(monkeypatch):
    target, true = scene(), np.float64(MOVES["rotation"])
    source = cv2.warpPerspective(target, true, (400, 300))
    monkeypatch.setattr(align, "_MATCHING_PIXELS", 60_000)
    assert corner_error(align.homography(source, target), true) < 1.5  # pixels, found at 0.7 of the size


def test_unknown_method():
    with pytest.raises(ValueError, match=helpers.mentions("auto homography mtb flow")):
        align.align([scene(), scene()], "flow", 0)


@pytest.mark.parametrize("depth", [8, 16])
def test_auto_uses_what_helps(depth, warnings, caplog):
    middle = scene()
    turned = cv2.warpPerspective(darker(middle), np.float64(MOVES["rotation"]), (400, 300))
    images = [to_depth(image, depth) for image in (turned, darker(middle), middle, scene(seed=1))]
    with caplog.at_level("INFO", "absl"):
        aligned = align.align(images, "auto", reference=2)
    line = caplog.messages[-1]
    assert re.search(r"\b3\b.*\b1\b.*homography\b.* 0\.06\b.* homography\b.*\b2\b.* 1\.00\b.*\b4\b.* 0\.00\b", line)
    for index in (1, 2, 3):
        assert aligned[index] is images[index]
    np.testing.assert_array_equal(aligned[0], align.align(images, "homography", 2)[0])
    assert len(warnings) == 2  # about the image of another scene, by auto and by the homography


def test_auto_uses_a_shift_that_is_better(caplog, monkeypatch):
    middle, moved = scene(), np.roll(darker(scene()), (4, 9), (0, 1))
    wrong = np.float64(MOVES["zoom"])
    for found in ((None, "too few matches"), (wrong, None)):
        monkeypatch.setattr(align, "_find_homography", lambda source, target, found=found: found)
        with caplog.at_level("INFO", "absl"):
            aligned = align.align([moved, middle], "auto", 1)
        assert re.search(r"\b2\b.*\b1\b.*\bmtb\b.*\bmtb 1\.00\b", caplog.messages[-1])
        np.testing.assert_array_equal(aligned[0][20:-20, 20:-20], darker(middle)[20:-20, 20:-20])


@pytest.mark.parametrize("method", ["auto", "homography", "mtb"])
def test_auto_and_crop_of_flat_images(method):
    flat = [np.full((40, 50), level, np.uint8) for level in (0, 90, 255)]
    for image, before in zip(align.align(flat, method, 1, crop=True), flat, strict=True):
        np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("move", MOVES)
def test_crop_leaves_no_border(move, caplog):
    """White images, so that every black or darkened pixel lies beyond a border."""
    middle, matrix = scene(), np.float64(MOVES[move])
    found = [cv2.warpPerspective(middle, m, (400, 300)) for m in (matrix, np.linalg.inv(matrix))]
    white = [np.maximum(image, 250) for image in (found[0], middle, found[1])]

    def finds(source, target):
        return (matrix, None) if source is white[0] else (np.linalg.inv(matrix), None)

    with pytest.MonkeyPatch.context() as patch, caplog.at_level("INFO", "absl"):
        patch.setattr(align, "_find_homography", finds)
        whole, cropped = (align.align(white, "homography", 1, crop=crop) for crop in (False, True))
    assert min(image.min() for image in whole) == 0
    assert min(image.min() for image in cropped) >= 249
    height, width = cropped[1].shape[:2]
    assert all(image.shape == (height, width, 3) for image in cropped) and height * width > 0.6 * 300 * 400
    line = caplog.messages[-1]  # after those about white images, whose alignment cannot be checked
    *sizes, column, row = map(int, re.findall(r"\d+", line))
    assert sizes == [width, height, 400, 300]
    np.testing.assert_array_equal(cropped[1], white[1][row : row + height, column : column + width])
    for a, b in zip(whole, cropped, strict=True):
        np.testing.assert_array_equal(a[row : row + height, column : column + width], b)


def test_crop_of_a_shift_is_exact():
    middle = scene()
    images = [np.roll(darker(middle), (4, 9), (0, 1)), middle, np.roll(middle, (-6, 3), (0, 1))]
    aligned = align.align(images, "mtb", 1, crop=True)
    # Missing are 9 columns on the right, 4 rows at the bottom of the first image and 6 at the top of the last.
    for image, expected in zip(aligned, (darker(middle), middle, middle), strict=True):
        np.testing.assert_array_equal(image, expected[6:-4, :-9])


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=8))
def test_largest_rectangle_equals_a_search(spans):
    mask = np.array([[start <= column < end for column in range(9)] for start, end in spans])
    corners = itertools.product(range(len(mask)), range(1, len(mask) + 1), range(9), range(1, 10))
    areas = [(b - t) * (r - left) for t, b, left, r in corners if t < b and left < r and mask[t:b, left:r].all()]
    if areas:
        rows, columns = align.largest_rectangle(mask)
        assert mask[rows, columns].all() and mask[rows, columns].size == max(areas)
    else:
        with pytest.raises(ValueError, match=helpers.mentions("crop")):
            align.largest_rectangle(mask)


@pytest.mark.parametrize("pair", ["ArchSequence", "Balloons", "Chair"])
def test_auto_on_real_pairs(reference, pair):
    """Images of a tripod stay; turned by 1.5 degrees they are aligned, or stay if the two have few edges in common."""
    dark, bright = sorted((image_files.read_image(p).pixels for p in (reference / "mefb_dev" / pair).iterdir()), key=np.mean)
    scale = 400 / dark.shape[1]
    dark, bright = (cv2.resize(p, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for p in (dark, bright))
    assert align.align([dark, bright], "auto", 1)[0] is dark
    height, width = dark.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 1.5, 1)
    turned = cv2.warpAffine(dark, turn, (width, height), flags=cv2.INTER_CUBIC)
    (aligned, _) = align.align([turned, bright], "auto", 1)
    inner = np.s_[20:-20, 20:-20]
    errors = [np.abs(image[inner] / 1.0 - dark[inner]).mean() for image in (aligned, turned)]
    assert aligned is turned or errors[0] < 0.7 * errors[1], errors


EXPOSURES = (1.0, 4.0, 16.0)


def exposed(shifts, height=96, width=121, noise=0.0):
    """Exposures of a scene over five stops, [3, H, W, 3] float32 in 0..1, each view shifted by (rows, columns)."""
    rng = np.random.default_rng(0)
    radiance = 0.7 * (scene(height, width) / np.float32(255)) ** 2.2
    radiance[:, : width // 2] /= 16
    images = [tone.to_exposure(np.roll(radiance, move, (0, 1)), e) for move, e in zip(shifts, EXPOSURES, strict=True)]
    return np.clip([image + noise * rng.standard_normal(image.shape) for image in images], 0, 1).astype(np.float32)


def test_flow_aligns_a_moved_bracket(warnings):
    moved, still = exposed([(3, -4), (0, 0), (-2, 5)]), exposed([(0, 0)] * 3)
    copy = moved.copy()
    aligned = optical_flow.flow(moved, EXPOSURES)
    assert aligned.shape == moved.shape and aligned.dtype == np.float32 and not warnings
    assert aligned.min() >= 0 and aligned.max() <= 1
    np.testing.assert_array_equal(aligned[1], moved[1])
    np.testing.assert_array_equal(moved, copy)
    inner = np.s_[16:-16, 16:-16]
    for index in (0, 2):
        before, after = (np.mean((ldr[index] - still[index])[inner] ** 2) for ldr in (moved, aligned))
        assert after < 0.25 * before


def test_flow_follows_a_moving_object():
    still = exposed([(0, 0)] * 3)
    moved = still.copy()
    moved[0, 30:60, 70:100] = still[0, 30:60, 66:96]
    aligned = optical_flow.flow(moved, EXPOSURES)
    inside = np.s_[0, 36:54, 76:94]
    assert np.mean((aligned - still)[inside] ** 2) < 0.25 * np.mean((moved - still)[inside] ** 2)


def test_flow_hardly_changes_a_still_bracket():
    still = exposed([(0, 0)] * 3, noise=0.005)
    assert np.mean((optical_flow.flow(still, EXPOSURES) - still) ** 2) < 0.01**2


@pytest.mark.parametrize("level", [0, 0.5, 1])
def test_flow_of_flat_images_stays(level, warnings):
    flat = np.full((3, 20, 30, 3), level, np.float32)
    np.testing.assert_array_equal(optical_flow.flow(flat, EXPOSURES), flat)
    assert not warnings  # nothing moved


@pytest.mark.parametrize("size", [(8, 8), (11, 200), (200, 9)])
def test_flow_of_tiny_images_stays(size, warnings):
    tiny = np.random.default_rng(0).random((3, *size, 3), np.float32)
    np.testing.assert_array_equal(optical_flow.flow(tiny, EXPOSURES), tiny)
    assert "expected at least 12 x 12 pixels for optical flow" in warnings[1]


@pytest.mark.parametrize(("value", "message"), [(np.nan, "not finite"), (40, "changes the mean difference")])
def test_implausible_flow_falls_back(value, message, warnings, monkeypatch):
    class Wrong:
        def setFinestScale(self, level):
            pass

        def calc(self, target, source, start):
            return np.full((*target.shape, 2), value, np.float32)

    monkeypatch.setattr(cv2, "DISOpticalFlow_create", lambda preset: Wrong())
    moved = exposed([(1, 0), (0, 0), (0, 1)])
    np.testing.assert_array_equal(optical_flow.flow(moved, EXPOSURES), moved)
    assert len(warnings) == 2 and message in warnings[0]


def test_confident_flow_uses_the_reference_where_something_is_hidden():
    still = exposed([(0, 0)] * 3)
    moved = still.copy()
    moved[0, 30:60, 70:100] = 0.9  # an object that only this exposure shows
    moved[2, 60:80, 20:40] = 0.02
    aligned, confidence, notes = optical_flow.confident_flow(moved, EXPOSURES)
    assert aligned.shape == moved.shape and aligned.dtype == np.float32 and confidence.shape == moved.shape[:3] and not notes
    np.testing.assert_array_equal(aligned[1], moved[1])
    np.testing.assert_array_equal(confidence[1], 1)
    for index, inside in ((0, np.s_[32:58, 72:98]), (2, np.s_[62:78, 22:38])):
        # Where the reference is clipped it shows less than the exposure did.
        assert np.mean((aligned - still)[index][inside] ** 2) < 0.05 * np.mean((moved - still)[index][inside] ** 2)
        shown = tone.to_exposure(tone.to_radiance(moved[1], EXPOSURES[1]), EXPOSURES[index])
        nowhere = confidence[index] == 0
        assert nowhere.sum() > 100
        np.testing.assert_array_equal(aligned[index][nowhere], shown[nowhere])
        assert confidence[index].mean() > 0.8
    assert np.mean((aligned - still) ** 2) < 0.1 * np.mean((optical_flow.flow(moved, EXPOSURES) - still) ** 2)


def test_confident_flow_keeps_highlights_that_the_reference_clips():
    moved, still = exposed([(3, -4), (0, 0), (-2, 5)]), exposed([(0, 0)] * 3)
    aligned, confidence, _ = optical_flow.confident_flow(moved, EXPOSURES)
    inner = np.s_[16:-16, 16:-16]
    lost = (still[1] == 1)[inner]
    assert lost.sum() > 200 and confidence[0][inner].mean() > 0.9
    before, after = (np.mean((ldr[0] - still[0])[inner][lost] ** 2) for ldr in (moved, aligned))
    assert after < 0.25 * before


@pytest.mark.parametrize("size", [(12, 12), (97, 53)])
def test_confident_flow_does_not_change_a_still_bracket(size):
    still = exposed([(0, 0)] * 3, *size)
    aligned, confidence, notes = optical_flow.confident_flow(still, EXPOSURES)
    np.testing.assert_array_equal(aligned, still)
    np.testing.assert_array_equal(confidence, 1)
    assert not notes


@pytest.mark.parametrize("level", [0, 0.5, 1])
def test_confident_flow_notes_flat_images(level):
    flat = np.full((3, 21, 30, 3), level, np.float32)
    aligned, confidence, notes = optical_flow.confident_flow(flat, (1, 1.01, 1.02))  # so close that the images agree
    np.testing.assert_array_equal(aligned, flat)
    assert confidence.min() == 1
    assert len(notes) == 2 and helpers.mentioned("1 3", notes[0])


def test_confident_flow_of_a_clipped_reference():
    """Pixels of the short exposure stay where they are bright enough for the reference to clip; darker ones are wrong."""
    ldr = np.ones((3, 24, 40, 3), np.float32)
    ldr[0, :, :20] = 0.7
    ldr[0, :, 20:] = 0.2
    aligned, confidence, notes = optical_flow.confident_flow(ldr, EXPOSURES)
    np.testing.assert_array_equal(aligned[0, :, :18], ldr[0, :, :18])
    np.testing.assert_allclose(aligned[0, :, 22:], 0.25 ** (1 / 2.2), rtol=1e-6)
    assert (confidence[0, :, 22:] == 0).all() and len(notes) == 2


@pytest.mark.parametrize("size", [(8, 8), (11, 200)])
def test_confident_flow_of_tiny_images(size):
    """Images too small for the flow are tested nevertheless."""
    tiny = np.random.default_rng(0).random((3, *size, 3), np.float32)
    aligned, confidence, notes = optical_flow.confident_flow(tiny, EXPOSURES)
    assert helpers.mentioned("12 x 12", notes[0]) and confidence[0].mean() < 0.5
    assert np.isfinite(aligned).all() and aligned.min() >= 0 and aligned.max() <= 1


@pytest.mark.parametrize("move", [(0, 0), (3, -5), (17, 9)])
@pytest.mark.parametrize("depth", [8, 16])
def test_a_camera_that_moved_is_noticed(move, depth):
    middle = scene()
    moved = np.roll(darker(middle), move, (0, 1))
    found = align.displacement(*(to_depth(image, depth) for image in (moved, middle)))
    assert found == pytest.approx(np.hypot(*move), abs=0.3)
    assert align.displacement(scene(seed=1), middle) == 0
    assert align.displacement(np.zeros((9, 30), np.uint8), np.full((9, 30), 200, np.uint8)) == 0


@pytest.mark.parametrize("method", ["auto", "homography", "mtb"])
def test_a_moon_that_cannot_be_aligned_is_reported(method, warnings):
    y, x = np.mgrid[:200, :300]
    moons = [np.uint8(200 * (np.hypot(y - 100, x - centre) < 12)) for centre in (60, 220)]
    align.align(moons, method, 1)
    assert len(warnings) == 1 and helpers.mentioned("1 2", warnings[0])
