"""Alignment: the original's own pair, known movements, and pictures that give nothing to hold on to."""

import itertools
import json

import cv2
import numpy as np
import pytest
from absl import logging

from hdr_tf.image import align, files, optical_flow, tone
from hdr_tf.image.depth import to_depth


def scene(height=300, width=400, seed=0):
    """A textured picture: random rectangles of random colours, a little blurred."""
    generator = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 120, np.uint8)
    for _ in range(250):
        x, y = generator.integers(0, width), generator.integers(0, height)
        size = generator.integers(5, 40, 2)
        colour = generator.integers(10, 245, 3).tolist()
        cv2.rectangle(picture, (x, y), (x + int(size[0]), y + int(size[1])), colour, -1)
    return cv2.GaussianBlur(picture, (0, 0), 1)


def darker(picture):
    return (picture * 0.4).astype(np.uint8)


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
def warnings(monkeypatch):
    told = []
    monkeypatch.setattr(logging, "warning", lambda message, *values: told.append(message % values))
    return told


@pytest.fixture
def pair(reference):
    return [files.read_picture(reference / "hyperp_mb" / name).pixels for name in ("2_UN.jpg", "2_OV.jpg")]


def test_parity_homography_of_hyperp_mb(reference, pair):
    expected = np.array(json.loads((reference / "hyperp_mb" / "homography.json").read_text())["homography"])
    found = align.homography(*pair)
    # Bit-equal with OpenCV 5.0.0; SIFT or RANSAC of other releases may choose otherwise (4.14.0 differs from the 7th digit).
    assert corner_error(found, expected, *pair[0].shape[:2]) < 2
    np.testing.assert_array_equal(align.homography(*pair), found)
    np.testing.assert_array_equal(align.homography(*(to_depth(p, 16) for p in pair)), found)


def test_parity_warp_of_hyperp_mb(reference, pair):
    matrix = np.array(json.loads((reference / "hyperp_mb" / "homography.json").read_text())["homography"])
    flags = cv2.INTER_LANCZOS4 + cv2.WARP_INVERSE_MAP  # channel by channel, as the original warps
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
def test_align_every_kind_of_picture(method, depth, gray):
    middle = scene()
    pictures = [np.roll(darker(middle), (4, 9), (0, 1)), middle, np.roll(middle, (-6, 3), (0, 1))]
    if gray:
        pictures = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures]
    pictures = [to_depth(picture, depth) for picture in pictures]
    copies = [picture.copy() for picture in pictures]
    aligned = align.align(pictures, method, reference=1)
    assert aligned[1] is pictures[1]
    inner = np.s_[20:-20, 20:-20]
    for found, original, factor in zip(aligned, copies, (0.4, 1, 1), strict=True):
        assert found.dtype == original.dtype and found.shape == original.shape
        difference = np.abs(found[inner] / 1.0 - copies[1][inner] * factor) / (257 if depth == 16 else 1)
        # mtb moves whole pixels; truncation takes a level. Lanczos off by a tenth of a pixel costs levels at edges.
        assert difference.mean() < (1 if method == "mtb" else 3)
    for picture, copy in zip(pictures, copies, strict=True):
        np.testing.assert_array_equal(picture, copy)


def test_align_repeats_itself_whatever_ran_before():
    pictures = [cv2.warpPerspective(scene(), np.float64(MOVES["rotation"]), (400, 300)), scene()]
    first = align.align(pictures, "homography", 1)
    cv2.setRNGSeed(7)
    np.testing.assert_array_equal(align.align(pictures, "homography", 1)[0], first[0])


@pytest.mark.parametrize("method", ["homography", "mtb"])
@pytest.mark.parametrize("size", [(8, 8), (9, 200), (100, 100)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_flat_pictures_stay(method, size, level, warnings):
    pictures = [np.full(size, level, np.uint8), np.full(size, level, np.uint8)]
    assert align.align(pictures, method, 1)[0] is pictures[0]
    assert len(warnings) == 1 and "picture 1 of 2 is not aligned" in warnings[0]


def test_too_few_matches_fall_back_with_the_numbers(warnings):
    pictures = [scene(seed=1), scene(seed=2)]
    assert align.align(pictures, "homography", 1)[0] is pictures[0]
    assert "expected" in warnings[0] and "found" in warnings[0]


@pytest.mark.parametrize(
    ("matrix", "told"),
    [
        ([[1, 0, np.nan], [0, 1, 0], [0, 0, 1]], "not finite"),
        ([[0.01, 0, 0], [0, 0.01, 0], [0, 0, 1]], "areas 0.0001 times"),
        ([[-1, 0, 400], [0, 1, 0], [0, 0, 1]], "areas -1 times"),
        ([[1, 0, 0], [0, 1, 0], [-0.01, 0, 1]], "horizon"),
        ([[1, 0, 900], [0, 1, 0], [0, 0, 1]], "moves a corner by 900 pixels"),
    ],
)
def test_homography_that_is_not_sane_falls_back(matrix, told, warnings, monkeypatch):
    monkeypatch.setattr(cv2, "findHomography", lambda here, *_: (np.float64(matrix), np.ones((len(here), 1), np.uint8)))
    pictures = [scene(), scene()]
    assert align.align(pictures, "homography", 1)[0] is pictures[0]
    assert told in warnings[0]


def test_large_pictures_are_matched_smaller(monkeypatch):
    target, true = scene(), np.float64(MOVES["rotation"])
    source = cv2.warpPerspective(target, true, (400, 300))
    monkeypatch.setattr(align, "_MATCHING_PIXELS", 60_000)
    assert corner_error(align.homography(source, target), true) < 1.5  # pixel, seen at 0.7 of the size


def test_unknown_method():
    with pytest.raises(ValueError, match="expected the alignment auto, homography or mtb, found 'flow'"):
        align.align([scene(), scene()], "flow", 0)


@pytest.mark.parametrize("depth", [8, 16])
def test_auto_takes_what_helps(depth, warnings, caplog):
    middle = scene()
    turned = cv2.warpPerspective(darker(middle), np.float64(MOVES["rotation"]), (400, 300))
    pictures = [to_depth(picture, depth) for picture in (turned, darker(middle), middle, scene(seed=1))]
    with caplog.at_level("INFO", "absl"):
        aligned = align.align(pictures, "auto", reference=2)
    line = caplog.messages[-1]
    assert line.startswith(
        "aligned onto picture 3 of 4: picture 1 by homography (agreement of edges 0.06 as it came, homography"
    )
    assert "; picture 2 stays (agreement of edges 1.00 as" in line and "; picture 4 stays (agreement of edges 0.00 as" in line
    for index in (1, 2, 3):
        assert aligned[index] is pictures[index]
    np.testing.assert_array_equal(aligned[0], align.align(pictures, "homography", 2)[0])
    assert not warnings[1:]  # that of "homography" for the picture of another scene


def test_auto_takes_a_shift_that_is_better(caplog, monkeypatch):
    middle, moved = scene(), np.roll(darker(scene()), (4, 9), (0, 1))
    wrong = np.float64(MOVES["zoom"])
    for found in ((None, "too few matches"), (wrong, None)):
        monkeypatch.setattr(align, "_find_homography", lambda source, target, found=found: found)
        with caplog.at_level("INFO", "absl"):
            aligned = align.align([moved, middle], "auto", 1)
        assert "onto picture 2 of 2: picture 1 by mtb (agreement" in caplog.messages[-1]
        assert caplog.messages[-1].endswith(", mtb 1.00)")
        np.testing.assert_array_equal(aligned[0][20:-20, 20:-20], darker(middle)[20:-20, 20:-20])


@pytest.mark.parametrize("method", ["auto", "homography", "mtb"])
def test_auto_and_crop_of_flat_pictures(method):
    flat = [np.full((40, 50), level, np.uint8) for level in (0, 90, 255)]
    for picture, given in zip(align.align(flat, method, 1, crop=True), flat, strict=True):
        np.testing.assert_array_equal(picture, given)


@pytest.mark.parametrize("move", MOVES)
def test_crop_leaves_no_border(move, caplog):
    """White pictures, so that every black or darkened pixel comes from beyond a border."""
    middle, matrix = scene(), np.float64(MOVES[move])
    found = [cv2.warpPerspective(middle, m, (400, 300)) for m in (matrix, np.linalg.inv(matrix))]
    white = [np.maximum(picture, 250) for picture in (found[0], middle, found[1])]

    def finds(source, target):
        return (matrix, None) if source is white[0] else (np.linalg.inv(matrix), None)

    with pytest.MonkeyPatch.context() as patch, caplog.at_level("INFO", "absl"):
        patch.setattr(align, "_find_homography", finds)
        whole, cropped = (align.align(white, "homography", 1, crop=crop) for crop in (False, True))
    assert min(picture.min() for picture in whole) == 0
    assert min(picture.min() for picture in cropped) >= 249
    height, width = cropped[1].shape[:2]
    assert all(picture.shape == (height, width, 3) for picture in cropped) and height * width > 0.6 * 300 * 400
    (line,) = caplog.messages
    assert line.startswith(f"cropped to {width} x {height} of 400 x 300, from column ")
    column, row = int(line.split()[-4]), int(line.split()[-1])
    np.testing.assert_array_equal(cropped[1], white[1][row : row + height, column : column + width])
    for a, b in zip(whole, cropped, strict=True):
        np.testing.assert_array_equal(a[row : row + height, column : column + width], b)


def test_crop_of_a_shift_is_exact():
    middle = scene()
    aligned = align.align(
        [np.roll(darker(middle), (4, 9), (0, 1)), middle, np.roll(middle, (-6, 3), (0, 1))], "mtb", 1, crop=True
    )
    # 9 columns at the right are missing; 4 rows at the bottom of the one and 6 at the top of the other.
    for picture, expected in zip(aligned, (darker(middle), middle, middle), strict=True):
        np.testing.assert_array_equal(picture, expected[6:-4, :-9])


def test_largest_rectangle_equals_a_search():
    generator = np.random.default_rng(0)
    for _ in range(8):
        mask = np.zeros((12, 15), np.uint8)
        cv2.fillConvexPoly(mask, cv2.convexHull(generator.integers(-2, 16, (5, 1, 2)).astype(np.int32)), 1)
        rows, columns = align._largest_rectangle(mask > 0)
        assert mask[rows, columns].all()
        corners = itertools.product(range(12), range(1, 13), range(15), range(1, 16))
        areas = [(b - t) * (r - left) for t, b, left, r in corners if t < b and left < r and mask[t:b, left:r].all()]
        assert (rows.stop - rows.start) * (columns.stop - columns.start) == max(areas)
    with pytest.raises(ValueError, match="no pixel that every aligned picture reaches"):
        align._largest_rectangle(np.zeros((3, 4), bool))


@pytest.mark.parametrize("pair", ["ArchSequence", "Balloons", "Chair"])
def test_auto_on_real_pairs(reference, pair):
    """As they stand, nothing moves them; turned by 1.5 degrees they come back, or stay where little is to be seen in both."""
    dark, bright = sorted((files.read_picture(p).pixels for p in (reference / "mefb_dev" / pair).iterdir()), key=np.mean)
    scale = 400 / dark.shape[1]
    dark, bright = (cv2.resize(p, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for p in (dark, bright))
    assert align.align([dark, bright], "auto", 1)[0] is dark
    height, width = dark.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 1.5, 1)
    turned = cv2.warpAffine(dark, turn, (width, height), flags=cv2.INTER_CUBIC)
    (aligned, _) = align.align([turned, bright], "auto", 1)
    inner = np.s_[20:-20, 20:-20]
    errors = [np.abs(picture[inner] / 1.0 - dark[inner]).mean() for picture in (aligned, turned)]
    assert aligned is turned or errors[0] < 0.7 * errors[1], errors


EXPOSURES = (1.0, 4.0, 16.0)


def exposed(shifts, height=96, width=121, noise=0.0):
    """Exposures of a scene over five stops, [3, H, W, 3] float32 in 0..1, each view shifted by (rows, columns)."""
    rng = np.random.default_rng(0)
    radiance = 0.7 * (scene(height, width) / np.float32(255)) ** 2.2
    radiance[:, : width // 2] /= 16
    pictures = [tone.to_exposure(np.roll(radiance, move, (0, 1)), e) for move, e in zip(shifts, EXPOSURES, strict=True)]
    return np.clip([picture + noise * rng.standard_normal(picture.shape) for picture in pictures], 0, 1).astype(np.float32)


def test_flow_brings_a_moved_bracket_together(warnings):
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


def test_flow_follows_what_moves_by_itself():
    still = exposed([(0, 0)] * 3)
    moved = still.copy()
    moved[0, 30:60, 70:100] = still[0, 30:60, 66:96]
    aligned = optical_flow.flow(moved, EXPOSURES)
    inside = np.s_[0, 36:54, 76:94]
    assert np.mean((aligned - still)[inside] ** 2) < 0.25 * np.mean((moved - still)[inside] ** 2)


def test_flow_leaves_a_still_bracket_nearly_alone():
    still = exposed([(0, 0)] * 3, noise=0.005)
    assert np.mean((optical_flow.flow(still, EXPOSURES) - still) ** 2) < 0.01**2


@pytest.mark.parametrize("level", [0, 0.5, 1])
def test_flow_of_flat_pictures_stays(level, warnings):
    flat = np.full((3, 20, 30, 3), level, np.float32)
    np.testing.assert_array_equal(optical_flow.flow(flat, EXPOSURES), flat)
    assert not warnings  # nothing moved


@pytest.mark.parametrize("size", [(8, 8), (11, 200), (200, 9)])
def test_flow_of_tiny_pictures_stays(size, warnings):
    tiny = np.random.default_rng(0).random((3, *size, 3), np.float32)
    np.testing.assert_array_equal(optical_flow.flow(tiny, EXPOSURES), tiny)
    assert "expected at least 12 x 12 pixels for optical flow" in warnings[1]


@pytest.mark.parametrize(("value", "told"), [(np.nan, "not finite"), (40, "changes the mean difference")])
def test_flow_that_is_not_sane_falls_back(value, told, warnings, monkeypatch):
    class Wrong:
        def setFinestScale(self, level):
            pass

        def calc(self, target, source, start):
            return np.full((*target.shape, 2), value, np.float32)

    monkeypatch.setattr(cv2, "DISOpticalFlow_create", lambda preset: Wrong())
    moved = exposed([(1, 0), (0, 0), (0, 1)])
    np.testing.assert_array_equal(optical_flow.flow(moved, EXPOSURES), moved)
    assert len(warnings) == 2 and told in warnings[0]


def test_confident_flow_takes_the_reference_where_something_is_hidden():
    still = exposed([(0, 0)] * 3)
    moved = still.copy()
    moved[0, 30:60, 70:100] = 0.9  # what only the short and the long exposure show
    moved[2, 60:80, 20:40] = 0.02
    aligned, confidence, notes = optical_flow.confident_flow(moved, EXPOSURES)
    assert aligned.shape == moved.shape and aligned.dtype == np.float32 and confidence.shape == moved.shape[:3] and not notes
    np.testing.assert_array_equal(aligned[1], moved[1])
    np.testing.assert_array_equal(confidence[1], 1)
    for index, inside in ((0, np.s_[32:58, 72:98]), (2, np.s_[62:78, 22:38])):
        # Where the reference is clipped it says less than the exposure did.
        assert np.mean((aligned - still)[index][inside] ** 2) < 0.05 * np.mean((moved - still)[index][inside] ** 2)
        brought = tone.to_exposure(tone.to_radiance(moved[1], EXPOSURES[1]), EXPOSURES[index])
        nowhere = confidence[index] == 0
        assert nowhere.sum() > 100
        np.testing.assert_array_equal(aligned[index][nowhere], brought[nowhere])
        assert confidence[index].mean() > 0.8
    assert np.mean((aligned - still) ** 2) < 0.1 * np.mean((optical_flow.flow(moved, EXPOSURES) - still) ** 2)


def test_confident_flow_keeps_what_the_reference_has_lost():
    moved, still = exposed([(3, -4), (0, 0), (-2, 5)]), exposed([(0, 0)] * 3)
    aligned, confidence, _ = optical_flow.confident_flow(moved, EXPOSURES)
    inner = np.s_[16:-16, 16:-16]
    lost = (still[1] == 1)[inner]
    assert lost.sum() > 200 and confidence[0][inner].mean() > 0.9
    before, after = (np.mean((ldr[0] - still[0])[inner][lost] ** 2) for ldr in (moved, aligned))
    assert after < 0.25 * before


@pytest.mark.parametrize("size", [(12, 12), (97, 53)])
def test_confident_flow_leaves_a_still_bracket_alone(size):
    still = exposed([(0, 0)] * 3, *size)
    aligned, confidence, notes = optical_flow.confident_flow(still, EXPOSURES)
    np.testing.assert_array_equal(aligned, still)
    np.testing.assert_array_equal(confidence, 1)
    assert not notes


@pytest.mark.parametrize("level", [0, 0.5, 1])
def test_confident_flow_of_flat_pictures_says_so(level):
    flat = np.full((3, 21, 30, 3), level, np.float32)
    aligned, confidence, notes = optical_flow.confident_flow(flat, (1, 1.01, 1.02))  # so near that the pictures agree
    np.testing.assert_array_equal(aligned, flat)
    assert confidence.min() == 1
    assert notes[0] == "picture 1 of 3 is not aligned: the reference is flat or clipped, there is nothing to follow"
    assert len(notes) == 2


def test_confident_flow_of_a_clipped_reference():
    """What the short exposure shows as bright as the reference's limit stays, what it shows darker cannot be true."""
    ldr = np.ones((3, 24, 40, 3), np.float32)
    ldr[0, :, :20] = 0.7
    ldr[0, :, 20:] = 0.2
    aligned, confidence, notes = optical_flow.confident_flow(ldr, EXPOSURES)
    np.testing.assert_array_equal(aligned[0, :, :18], ldr[0, :, :18])
    np.testing.assert_allclose(aligned[0, :, 22:], 0.25 ** (1 / 2.2), rtol=1e-6)
    assert (confidence[0, :, 22:] == 0).all() and len(notes) == 2


@pytest.mark.parametrize("size", [(8, 8), (11, 200)])
def test_confident_flow_of_tiny_pictures(size):
    """Too small for the flow; tested all the same."""
    tiny = np.random.default_rng(0).random((3, *size, 3), np.float32)
    aligned, confidence, notes = optical_flow.confident_flow(tiny, EXPOSURES)
    assert "expected at least 12 x 12 pixels for optical flow" in notes[0] and confidence[0].mean() < 0.5
    assert np.isfinite(aligned).all() and aligned.min() >= 0 and aligned.max() <= 1
