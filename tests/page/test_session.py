"""What a visitor's files become, without the browser."""

import threading

import numpy as np
import pytest

import hdr_tf
from hdr_tf import systems
from hdr_tf.image import exposure_fusion
from hdr_tf.io import image_files
from hdr_tf.page import session as sessions
from hdr_tf.page.session import CancelledError, Choice, Session
from tests import helpers

TIMES = (1 / 4, 1 / 64, 1 / 16)


@pytest.fixture
def files(tmp_path):
    """Paths of a bracket, not in the order of their exposures."""
    return helpers.write_bracket(tmp_path / "camera", helpers.photographs((2.0, 0.125, 0.5)), TIMES)


@pytest.fixture
def session(tmp_path, files):
    session = Session(tmp_path / "session")
    session.load(files)
    yield session
    session.close()


def run(session, *choice, **named):
    stages = list(session.run(Choice(*choice, **named)))
    return session.result, stages


def test_a_bracket_is_sorted_and_described(session):
    assert [item.path.name for item in session.exposures] == ["b.png", "c.png", "a.png"]
    assert [item.settings for item in session.exposures] == [(1 / 64, None, None), (1 / 16, None, None), (1 / 4, None, None)]
    assert session.stops() == [-2, 0, 2]
    assert session.exposures[0].shown.shape == (56, 64, 3)


def test_without_exif_there_are_no_stops(tmp_path):
    session = Session(tmp_path / "session")
    session.load(helpers.write_bracket(tmp_path / "camera", helpers.photographs((2.0, 0.125)), names="ab"))
    assert [item.path.name for item in session.exposures] == ["b.tif", "a.tif"] and session.stops() == [None, None]


@pytest.mark.parametrize("align", ["none", "auto", pytest.param("deghost", marks=pytest.mark.slow)])
def test_fused_is_what_fuse_returns(session, files, align):
    result, stages = run(session, "fusion", "pyramid", align)
    expected = hdr_tf.fuse(files, **({"deghost": True} if align == "deghost" else {"align": align}))
    assert [path.name for path in result.files] == ["a_fused.png", "a_fused.tif", "a_fused.jpg"]
    png, tiff, jpeg = (image_files.read_image(path) for path in result.files)
    assert np.array_equal(png.pixels, expected) and png.exposure == 1 / 16
    assert tiff.pixels.dtype == np.uint16 and np.array_equal(tiff.pixels, expected * np.uint16(257))
    assert jpeg.pixels.shape == expected.shape and {"reading", "fusing", "writing"} <= set(stages)


def test_a_result_is_compared_with_the_exposures_and_opencv(session):
    result, _ = run(session, align="none")
    *exposures, mertens = result.compared.values()
    assert list(result.compared) == ["b.png", "c.png", "a.png", sessions.MERTENS]
    assert np.array_equal(exposures, [item.shown for item in session.exposures])
    assert np.array_equal(mertens, exposure_fusion.mertens_reference(np.stack(exposures)))


def test_steps_of_the_editor_are_shown(tmp_path, files):
    session = Session(tmp_path / "session")
    session.load(files[:2])
    result, _ = run(session, "fusion", "dqn_editor", "none")
    assert result.steps.shape[1] > result.shown.shape[1]
    assert np.array_equal(image_files.read_image(result.files[0]).pixels, hdr_tf.fuse(files[:2], model="dqn_editor"))


@pytest.mark.parametrize("stops", [None, {"a.png": 3.0, "b.png": -1.0, "c.png": 1.0}])
def test_merged_is_what_merge_returns(tmp_path, session, files, stops):
    result, _ = run(session, "radiance", "merge_classical", "none", stops=stops)
    expected = hdr_tf.merge(files, stops and list(stops.values()), "merge_classical", align="none")
    assert [path.name for path in result.files] == [f"a_{name}" for name in ENDINGS]
    assert np.array_equal(image_files.read_radiance(result.files[0]), expected)
    radiance_hdr = image_files.read_radiance(result.files[1])
    assert np.abs(radiance_hdr - expected).max() <= expected.max() / 128
    assert image_files.read_radiance_header(result.files[1]) == image_files.read_radiance_header(result.files[0])
    image_files.write_image(tmp_path / "plain.jpg", image_files.read_image(result.files[3]).pixels)
    base = image_files.read_image(result.files[2]).pixels
    assert np.array_equal(base, image_files.read_image(tmp_path / "plain.jpg").pixels)
    assert b'hdrgm:GainMapMax="2.300448"' in result.files[2].read_bytes()
    assert np.array_equal(result.radiance, expected)
    assert [name for name, _ in result.legend[:3]] == ["b.png", "c.png", "a.png"]
    assert result.exposure_map.shape == result.shown.shape == expected.shape


ENDINGS = ("merged.exr", "merged.hdr", "merged.jpg", "merged_preview.png", "exposure_map.png")


def test_the_exposure_of_radiance(tmp_path):
    """At 0 stops, radiance looks as the reference."""
    images = helpers.expose(helpers.smooth_scene(56, 64) ** 3, (2, -2, 0), np.uint8)
    session = Session(tmp_path / "session")
    session.load(helpers.write_bracket(tmp_path / "camera", images, TIMES))
    run(session, "radiance", "merge_classical", "none")
    shown = images[2] < 250
    assert np.abs(session.at_exposure(0)[shown] - np.float32(images[2][shown])).max() <= 1
    assert session.at_exposure(1).dtype == np.uint8 and session.at_exposure(1).mean() > session.at_exposure(0).mean()
    shares = session.histogram()
    assert 0.9 < sum(share for _, share in shares) <= 1 and all(stop % 0.5 == 0 for stop, _ in shares)


BROKEN = "a.png b.png: different sizes", "a.png: broken", "a.png a_2.png: the same image", "1 image"


@pytest.mark.parametrize("fault", BROKEN)
def test_what_does_not_fit_is_one_line(tmp_path, files, fault):
    names, _, what = fault.partition(": ")
    if what == "different sizes":
        helpers.write_photograph(tmp_path / "camera" / "b.png", helpers.photographs((1.0,), height=60)[0])
    elif what == "broken":
        (tmp_path / "camera" / "a.png").write_bytes((tmp_path / "camera" / "a.png").read_bytes()[:300])
    elif what == "the same image":
        files = [files[0], files[0]]
    else:
        names, files = "2 9 1", files[:1]
    session = Session(tmp_path / "session")
    with pytest.raises(ValueError, match=helpers.mentions(names)) as error:
        session.load(files)
    assert str(tmp_path) not in str(error.value) and not session.exposures
    with pytest.raises(ValueError, match="found none"):
        list(session.run(Choice()))


def test_a_large_image_is_refused(tmp_path, files):
    with pytest.raises(ValueError, match=helpers.mentions("a.png")):
        Session(tmp_path / "session", max_pixels=1000).load(files)


def test_an_error_of_a_run_names_files(tmp_path):
    session = Session(tmp_path / "session")
    session.load(helpers.write_bracket(tmp_path / "camera", helpers.photographs((2.0, 0.125)), names="ab"))
    with pytest.raises(ValueError, match=helpers.mentions("a.tif --exposures")) as error:
        run(session, "radiance", "merge_classical", "none")
    assert str(tmp_path) not in str(error.value) and session.result is None


def test_cancelled_work_ends_at_the_next_stage(session):
    stages = []
    with pytest.raises(CancelledError):
        for stage in session.run(Choice()):
            stages.append(stage)
            session.cancel()
    assert "writing" not in stages and session.result is None
    assert run(session, align="none")[0] is session.result  # and the next run is not


def test_files_are_removed_at_the_end(session, files):
    result, _ = run(session, align="none")
    before = result.files[0]
    after = run(session, align="none")[0].files[0]
    assert after.exists() and not before.exists() and after != before
    session.close()
    assert not session.folder.exists()
    with pytest.raises(CancelledError):
        session.load(files)


def test_a_session_hears_only_its_own_thread(session, warnings):
    other = threading.Thread(target=lambda: run(other_session, align="none"))
    other_session = Session(session.folder.with_name("other"))
    names = helpers.write_bracket(session.folder.with_name("others"), helpers.photographs((1.0, 0.25), seed=3), names="xy")
    other_session.load(names)
    other.start()
    result, _ = run(session, align="none")
    other.join()
    assert not any("x.tif" in note for note in result.notes)
    assert other_session.result.files[0].name == "x_fused.png"
    other_session.close()


def test_models_are_those_that_take_so_many_exposures():
    two, three, nine = ({*sessions.models("fusion", count), *sessions.models("radiance", count)} for count in (2, 3, 9))
    assert two - three == {"dqn_editor"} and {"esbn", "ahdrnet"} <= three & nine and not {"esbn", "ahdrnet"} & two
    assert all(systems.SYSTEMS[name].bundled for name in two | three | nine)
    assert sessions.models("fusion", 3)[0] == "pyramid" and sessions.models("radiance", 2)[0] == "merge"
