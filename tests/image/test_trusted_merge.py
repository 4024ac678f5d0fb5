"""The classical merge of moving exposures: still scenes, noise, ghosts, the fill, extremes; and the flow that moves them."""

import cv2
import numpy as np
import pytest

from hdr_tf.image import noise as noise_model
from hdr_tf.image import optical_flow, tone, trusted_merge
from hdr_tf.radiance.merge_classical import MergeClassical
from tests import helpers

NOISE = noise_model.Noise(gain=2e-4, read=5e-4, step=1 / 65535)
STOPS = (-2.0, 0.0, 2.0)
BOX = np.s_[30:66, 40:80]  # where things differ


def texture(height=96, width=120, seed=0, low=0.02, high=0.6):
    """A smooth random texture, of each channel its own."""
    small = np.random.default_rng(seed).random((height // 6, width // 6, 3), np.float32)
    return low + (high - low) * np.clip(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)


def photograph(radiance, stop=0.0, seed=0, noise=NOISE):
    """An exposure with noise, uint16."""
    signal = np.float32(radiance) * 2**stop
    signal = signal + np.sqrt(noise.variance(signal)) * np.random.default_rng(seed).standard_normal(signal.shape)
    return np.uint16(np.rint(65535 * np.clip(signal, 0, 1) ** (1 / tone.DISPLAY_GAMMA)))


def merged(images, stops, reference=None, fill=True, denoise=0.0, noise=NOISE, inside=optical_flow.MOVED):
    """The radiance and the source of images that lie on each other."""
    reference = (len(images) - 1) // 2 if reference is None else reference
    inside = [np.full(image.shape[:2], inside, np.uint8) for image in images]
    exposures = 2.0 ** (np.array(stops) - stops[reference])
    registered = optical_flow.Registered(list(images), inside, {})
    return trusted_merge.merge(registered, exposures, reference, noise, fill, denoise)


def rms(values):
    return np.sqrt(np.mean(np.square(values, dtype=np.float64)))


@pytest.mark.parametrize("stops", [(0, 3), STOPS, (-3, -1.5, 0, 1.5, 3), tuple(range(-4, 5))], ids=len)
@pytest.mark.parametrize("denoise", [0, 1])
def test_a_still_scene_is_the_truth_within_its_noise(stops, denoise):
    truth = texture(high=3.0 if stops[0] < -1 else 0.8)
    stops = np.array(stops, np.float64)
    images = [photograph(truth, stop, seed) for seed, stop in enumerate(stops)]
    reference = (len(stops) - 1) // 2
    radiance, source = merged(images, stops, denoise=denoise)
    assert radiance.shape == truth.shape and radiance.dtype == np.float32 and source.max() < len(stops)
    scale = 2 ** stops[reference]
    # Where the reference is not clipped, the merge has its noise: shorter exposures that count where it is bright raise it by a
    # fifth at most, longer ones lower it.
    well = truth.max(axis=2) * scale < 0.8
    alone = tone.to_radiance(images[reference] / np.float32(65535), 1)
    assert rms((radiance - truth * scale)[well]) <= 1.25 * rms((alone - truth * scale)[well])
    # Elsewhere the shorter ones tell, with the noise of the shortest in the worst case.
    short = 2 ** (stops[0] - stops[reference])
    limit = 1.1 * np.sqrt(NOISE.variance(truth * scale * short)) / short
    assert well.all() or rms(((radiance - truth * scale) / limit)[~well]) <= 1


@pytest.mark.parametrize("stops", [(0, 3), STOPS, (-3, -1.5, 0, 1.5, 3)], ids=len)
def test_what_did_not_move_is_merged_as_is_best_for_noise(stops):
    """Saturated colours, so that dark channels stand beside clipped ones; the best weights come from the true signal."""
    truth = texture(high=3.0 if stops[0] < -1 else 0.8) * np.float32([1, 0.2, 0.03])
    images = [photograph(truth, stop, seed) for seed, stop in enumerate(stops)]
    weight = total = 0
    for image, stop in zip(images, stops, strict=True):
        signal = np.minimum(truth * 2.0**stop, 1)
        usable = (signal.max(axis=2, keepdims=True) < 0.8) | (signal < 0.2)  # dark channels also beside clipped ones
        share = usable * 4.0**stop / NOISE.variance(signal)
        weight, total = weight + share, total + share * tone.to_radiance(image / np.float32(65535), 1) / 2**stop
    reference = (len(stops) - 1) // 2
    radiance, _ = merged(images, stops, inside=optical_flow.UNMOVED)
    known = weight > 0
    error = (radiance / 2 ** stops[reference] - truth)[known], (total[known] / weight[known] - truth[known])
    deviation = weight[known] ** -0.5
    assert known.mean() > 0.9 and rms(error[0] / deviation) <= 1.03 * rms(error[1] / deviation)


@pytest.mark.parametrize("count", [2, 3, 5, 9])
def test_equal_exposures_are_averaged(count):
    truth = texture(high=0.5)
    images = [photograph(truth, 0, seed) for seed in range(count)]
    radiance, _ = merged(images, np.zeros(count))
    alone = tone.to_radiance(images[0] / np.float32(65535), 1)
    assert rms(radiance - truth) <= 1.15 / np.sqrt(count) * rms(alone - truth)


@pytest.mark.parametrize("where", [0, 1, 2])
@pytest.mark.parametrize(
    "aligned", [None, optical_flow.MOVED, optical_flow.UNMOVED], ids=["as photographs", "in register", "unmoved"]
)
def test_an_object_in_a_single_exposure_does_not_show(where, aligned):
    """A bright and a dark thing that one exposure alone shows, or that the reference (1) alone shows."""
    background = texture()
    changed = background.copy()
    changed[BOX] = texture(seed=1)[BOX] * 1.5 + 0.2
    changed[70:90, 20:40] = 0.01
    views = [changed if number == where else background for number in range(3)]
    images = [photograph(view, stop, seed) for seed, (view, stop) in enumerate(zip(views, STOPS, strict=True))]
    if aligned is None:
        radiance = MergeClassical().reconstruct(images, 2.0 ** np.array(STOPS), 1, denoise=0, noise=NOISE).radiance
    else:
        radiance, _ = merged(images, STOPS, inside=aligned)
    alone = tone.to_radiance(images[1] / np.float32(65535), 1)
    for place in (BOX, np.s_[70:90, 20:40]):
        assert rms((radiance - views[1])[place]) <= 1.5 * rms((alone - views[1])[place])
    assert rms(radiance - views[1]) <= 1.1 * rms(alone - views[1])


def test_highlights_without_a_witness_are_continued_at_least_as_bright_as_the_clip():
    truth = texture(low=0.1, high=0.3)
    truth[10:80, 20:100] = 3.0
    other = truth.copy()
    other[BOX] = 0.1  # where the reference is white, the short exposure shows something dark
    images = [photograph(other, -2, 0), photograph(truth, 0, 1)]
    radiance, source = merged(images, (-2.0, 0.0), reference=1)
    inner = np.s_[33:63, 43:77]
    assert (source[inner] == 2).all() and (radiance[inner] >= 0.99).all()
    assert 2 < np.median(radiance[inner]) < 3.2  # 3 around it
    assert (source[:5] < 2).all() and (source[12:26, 25:95] == 0).all()
    plain, source = merged(images, (-2.0, 0.0), reference=1, fill=False)
    np.testing.assert_allclose(plain[inner], 1, atol=0.01)
    assert source.max() < 2


@pytest.mark.parametrize("inside", [optical_flow.MOVED, optical_flow.UNMOVED])
def test_black_that_a_camera_has_crushed_comes_from_the_long_exposure(inside):
    """No exposure shows values below 0.004, so the reference has black there; what differs more than that is refused."""
    error, crushed = 0.002, 0.004
    truth = texture(low=2e-4, high=6e-3)
    images = [photograph(np.where(truth * 2**stop < crushed, 0, truth), stop, seed) for seed, stop in enumerate(STOPS)]
    result, _ = merged(images, STOPS, noise=NOISE._replace(dark_error=error), inside=inside)
    alone = tone.to_radiance(images[1] / np.float32(65535), 1)
    dark = (truth > 1.5 * crushed / 4) & (truth < crushed)
    assert rms((result - truth)[dark]) < 0.25 * rms((alone - truth)[dark])
    images[2][BOX] = photograph(truth[BOX] + 0.1, 2)
    result, _ = merged(images, STOPS, noise=NOISE._replace(dark_error=error), inside=inside)
    assert rms((result - truth)[BOX]) <= 1.1 * rms((alone - truth)[BOX])


def test_the_difference_to_a_darker_reference_leaves_out_its_error_near_black():
    values = np.arange(0, 65536, 97, dtype=np.uint16)[None, :, None].repeat(3, axis=2)
    for exposure in (0.25, 1, 4):
        other = optical_flow.brighten(values, exposure)  # as the exposure shows it
        none = optical_flow.difference(other, values, exposure)
        with_little = optical_flow.difference(other, values, exposure, dark_error=1e-12)
        np.testing.assert_allclose(with_little, none, atol=1)  # rounding of a level
        assert none.max() <= (3 if exposure < 1 else 0)
        black = np.zeros_like(values)
        seen = optical_flow.difference(black, values, exposure, dark_error=0.002)
        # Up to twice the error the reference says nothing to a longer exposure. A shorter one that is black shows less than it.
        light, limit = tone.to_radiance(values / np.float32(65535), 1), 0.004 if exposure > 1 else 0
        assert not seen[light < 0.99 * limit].any() and seen[light > 1.01 * limit].all()


@pytest.mark.parametrize("size", [(8, 8), (13, 17), (40, 300)], ids=str)
@pytest.mark.parametrize("level", [0, 9000, 65535])
@pytest.mark.parametrize("noise", [noise_model.Noise(), NOISE], ids=["none", "some"])
def test_flat_black_and_white_images(size, level, noise):
    images = [np.full((*size, 3), level, np.uint16)] * 3
    radiance, _ = merged(images, STOPS, denoise=1.0, noise=noise)
    assert np.isfinite(radiance).all() and (radiance >= 0).all() and radiance.shape == (*size, 3)
    if level == 65535:  # the shortest exposure is clipped: four times as bright, or more
        np.testing.assert_allclose(radiance, 4, rtol=1e-3)
    result = MergeClassical().reconstruct(images, (1, 4, 16), 1)
    assert np.isfinite(result.radiance).all() and result.radiance.shape == (*size, 3)


@pytest.mark.parametrize("inside", [optical_flow.MOVED, optical_flow.UNMOVED])
def test_bands_make_no_difference(inside, monkeypatch):
    truth = texture(high=3.0)
    images = [photograph(truth, stop, seed) for seed, stop in enumerate(STOPS)]
    images[2] = np.roll(images[2], 2, axis=1)
    whole = merged(images, STOPS, denoise=1.0, inside=inside)
    monkeypatch.setattr("hdr_tf.image.tiling.BAND", 1000)
    for part, expected in zip(merged(images, STOPS, denoise=1.0, inside=inside), whole, strict=True):
        np.testing.assert_array_equal(part, expected)


# The flow


def shifted(shift, height=96, width=120):
    """Two views of a texture, the second one `shift` (x, y) further right and down, and the true flow to it."""
    large = texture(height + 40, width + 40, low=0.05, high=0.4)
    x, y = shift
    return large[20 : 20 + height, 20 : 20 + width], large[20 - y : 20 - y + height, 20 - x : 20 - x + width]


@pytest.mark.parametrize("stop", [-2.0, 0.0, 1.0])
@pytest.mark.parametrize("shift", [(3, 0), (-2, 4)])
def test_a_known_shift_is_taken_back(shift, stop):
    still, moved = shifted(shift)
    images = [helpers.expose(still, [0])[0], helpers.expose(moved, [stop])[0]]
    result = optical_flow.register(images, [1, 2.0**stop], 0)
    expected = helpers.expose(still, [stop])[0]
    assert result.images[0] is images[0] and (result.inside[0] == optical_flow.UNMOVED).all()
    middle = np.s_[12:-12, 12:-12]
    error = np.float32(result.images[1][middle]) - expected[middle]
    before = np.float32(images[1][middle]) - expected[middle]
    assert rms(error) < 0.1 * rms(before)
    assert result.images[1].dtype == np.uint16 and not result.notes


def test_inside_is_where_the_other_image_shows_something():
    still, moved = shifted((-8, 0))  # what is at column 0 of the reference lies 8 columns outside
    images = [helpers.expose(still, [0])[0], helpers.expose(moved, [0])[0]]
    inside = optical_flow.register(images, [1, 1], 0).inside[1]
    assert inside.dtype == np.uint8 and set(np.unique(inside)) == {optical_flow.OUTSIDE, optical_flow.MOVED}
    assert inside[10:-10, 12:].mean() > 0.98 and inside[10:-10, :5].mean() < 0.02


def test_a_margin_of_one_pixel_is_inside():
    still, moved = shifted((0, 0))
    large = texture(130, 160, low=0.05, high=0.4)
    still = large[20:116, 20:140]
    moved = cv2.warpAffine(large, np.float32([[1, 0, 0.6], [0, 1, 0.4]]), (160, 130), flags=cv2.INTER_CUBIC)[20:116, 20:140]
    images = [helpers.expose(still, [0])[0], helpers.expose(np.maximum(moved, 0), [0])[0]]
    assert optical_flow.register(images, [1, 1], 0).inside[1].mean() > 0.98


def test_without_motion_of_the_camera_only_what_moved_is_moved():
    """A piece moves by 4 pixels over a noisy scene; everything else stays as it is, to the bit."""
    scene, piece = texture(160, 200, low=0.05, high=0.4), texture(60, 60, seed=1, low=0.05, high=0.4)
    views = [scene.copy(), scene.copy()]
    for view, left in zip(views, (60, 64), strict=True):
        view[50:110, left : left + 60] = piece
    images = [photograph(view, seed=seed) for seed, view in enumerate(views)]
    result = optical_flow.register(images, [1, 1], 0).images[1]
    np.testing.assert_array_equal(result[:, :40], images[1][:, :40])
    np.testing.assert_array_equal(result[:30], images[1][:30])
    middle = np.s_[60:100, 70:110]
    errors = [rms(np.float32(x[middle]) - images[0][middle]) for x in (result, images[1])]
    assert errors[0] < 0.3 * errors[1]


def test_images_stay_where_they_are_on_a_tripod():
    still, moved = shifted((3, 0))
    images = [helpers.expose(moved, [-1])[0], helpers.expose(still, [0])[0]]
    result = optical_flow.register(images, [0.5, 1], 1, align=False)
    assert all(one is other for one, other in zip(result.images, images, strict=True))
    assert all((inside == optical_flow.UNMOVED).all() for inside in result.inside) and result.notes == {}


@pytest.mark.parametrize("size", [(8, 8), (40, 40)], ids=str)
def test_what_cannot_be_aligned_stays_and_is_named(size):
    images = [np.full((*size, 3), 65535, np.uint16), np.full((*size, 3), 30000, np.uint16)]
    result = optical_flow.register(images, [1, 0.25], 0)
    np.testing.assert_array_equal(result.images[1], images[1])
    assert list(result.notes) == [1]


@pytest.mark.parametrize("ratio", [0.25, 1, 4])
def test_brightening_is_a_longer_exposure(ratio):
    image = helpers.expose(texture(), [0])[0]
    expected = tone.to_exposure(tone.to_radiance(image / np.float32(65535), 1), ratio)
    np.testing.assert_allclose(optical_flow.brighten(image, ratio), 65535 * expected, atol=1.5)
    np.testing.assert_allclose(optical_flow.brighten(image, ratio, np.uint8), 255 * expected, atol=0.6)
