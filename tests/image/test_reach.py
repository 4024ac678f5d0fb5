"""Images that do not reach everywhere show what the others show there, at their own brightness."""

import numpy as np
import pytest

from hdr_tf.image import align, reach, tone

SCENE = np.random.default_rng(0).uniform(0.02, 1, (40, 60, 3))


def hole(columns, shape=(40, 60)):
    reached = np.ones(shape, bool)
    reached[:, columns] = False
    return reached


def exposures(dtype, gains=(0.3, 1.0)):
    return [np.rint(np.iinfo(dtype).max * np.clip(SCENE * gain, 0, 1)).astype(dtype) for gain in gains]


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_holes_show_the_other_at_the_images_brightness(dtype, gray):
    whole = [image[..., 0] if gray else image for image in exposures(dtype)]
    masks = [hole(slice(0, 9)), hole(slice(50, 60))]
    for content in (0, 77, np.iinfo(dtype).max):  # what stands in the hole does not matter
        images = [image.copy() for image in whole]
        for image, mask in zip(images, masks, strict=True):
            image[~mask] = content
        filled = reach.fill(images, masks)
        for image, expected, mask in zip(filled, whole, masks, strict=True):
            np.testing.assert_array_equal(image[mask], expected[mask])
            error = np.abs(np.float64(image) - expected) / np.iinfo(dtype).max
            assert error.max() < 0.012, error.max()
        assert (images[0][~masks[0]] == content).all()  # the given images stay


def test_holes_of_known_exposures_are_exact():
    radiance = SCENE[..., :3] * 0.2
    images = [np.rint(65535 * tone.to_exposure(radiance, 2.0**stop)).astype(np.uint16) for stop in (-2, 0, 2)]
    masks = [None, hole(slice(0, 30)), hole(slice(20, 60))]
    damaged = [images[0], *(images[i] * np.uint16(1) * masks[i][..., None] for i in (1, 2))]
    filled = reach.fill(damaged, masks, [0.25, 1, 4])
    for image, expected in zip(filled, images, strict=True):
        np.testing.assert_allclose(image / 65535.0, expected / 65535.0, atol=1e-4)


def test_what_no_image_reaches_goes_on():
    images, masks = exposures(np.uint8), [hole(slice(0, 6)), hole(slice(0, 3))]
    filled = reach.fill(images, masks)
    for image in filled:
        np.testing.assert_array_equal(image[:, :3], image[:, 3:4].repeat(3, 1))
    np.testing.assert_array_equal(reach.union(masks), masks[1])
    np.testing.assert_array_equal(reach.common(masks), masks[0])
    assert reach.union([None, masks[0]]) is None and reach.common([None, None]) is None
    apart = [hole(slice(0, 30)), hole(slice(30, 60))]  # nothing to measure the brightness in
    filled = reach.fill(images, apart)
    np.testing.assert_array_equal(filled[0][:, :30], images[1][:, :30])
    assert reach.union(apart) is None


@pytest.mark.parametrize("shape", [(60, 80), (700, 500)])
def test_the_largest_rectangle_of_a_mask_with_gaps(shape):
    mask = np.ones(shape, bool)
    row, column = shape[0] // 3, shape[1] // 4
    mask[row : row + 2, column : column + 3] = False
    rows, columns = align.largest_rectangle(mask)
    assert (rows, columns) == (slice(row + 2, shape[0]), slice(0, shape[1])) or mask[rows, columns].sum() >= (
        (shape[0] - row - 2) * shape[1]
    )
    assert mask[rows, columns].all()


def test_masks_move_with_their_images(monkeypatch):
    monkeypatch.setattr(align, "_find_shift", lambda *_: ((5, 0), None))
    masks = [hole(slice(0, 12)), np.ones((40, 60), bool)]
    moved = align.align(exposures(np.uint8), "mtb", 1, masks=masks)
    assert not masks[0][:, :17].any() and masks[0][:, 17:].all() and masks[1].all()
    np.testing.assert_array_equal(moved[0][:, 5:], exposures(np.uint8)[0][:, :-5])
    masks = [hole(slice(0, 12)), np.ones((40, 60), bool)]
    cropped = align.align(exposures(np.uint8), "mtb", 1, crop=True, masks=masks)
    assert [image.shape for image in cropped] == [(40, 43, 3)] * 2 and all(mask.shape == (40, 43) for mask in masks)
