"""The environment of the editor's agent: specs, episodes, rewards, batches, pairs; and Keras 2 together with Keras 3."""

import functools
import importlib.util
import signal

import cv2
import numpy as np
import pytest
from skimage.color import rgb2lab

from hdr_tf import losses
from hdr_tf.editor import edits
from hdr_tf.editor.config import DqnConfig
from hdr_tf.editor.features import Features
from hdr_tf.image import exposure_fusion
from hdr_tf.io import image_files
from hdr_tf.synthesis import camera, sources
from tests import helpers

if any(importlib.util.find_spec(package) is None for package in ("tf_agents", "tf_keras")):
    pytest.skip("TF-Agents is not installed: pip install 'hdr_tf[rl]'", allow_module_level=True)

from hdr_tf.rl import environment as rl
from hdr_tf.rl import pairs

# isort: split
# TF-Agents comes after hdr_tf.rl, which chooses its Keras.
from tf_agents.environments import batched_py_environment, utils


@functools.cache
def radiance():
    return sources.relight(sources.sample_photo("motorcycle_left"), np.random.default_rng(0))


@functools.cache
def synthetic(seed=0):
    return pairs.synthetic_pair(f"synthetic_{seed}", radiance(), np.random.default_rng(seed))


@pytest.fixture
def three_steps(monkeypatch):
    """Makes episodes short."""
    monkeypatch.setattr(edits, "STEPS", 3)


def make(reward="reference", parts=("tiny",), **arguments):
    return rl.EditorEnvironment([synthetic(0), synthetic(1)], Features(list(parts)), reward, **arguments)


@pytest.mark.parametrize("reward", ["reference", "mef_ssim"])
def test_specs(reward, three_steps):
    utils.validate_py_environment(make(reward), episodes=3)


def test_episodes_have_20_edits_and_the_next_one_begins_by_itself():
    environment = make(shuffle=False)
    step = environment.reset()
    assert step.is_first() and environment.pair.name == "synthetic_0"
    for count in range(1, 21):
        assert not step.is_last()
        step = environment.step(count % 6)
        assert environment.state.actions == tuple(number % 6 for number in range(1, count + 1))
    assert step.is_last() and step.discount == 0
    assert environment.step(0).is_first() and environment.pair.name == "synthetic_1"


def test_observation_is_of_the_virtual_exposure():
    environment = make(parts=("quality", "tiny"))
    environment.reset()
    observation = environment.step(5).observation
    state = edits.start(environment.pair.under, environment.pair.over).edit(5)
    assert observation.dtype == np.float32
    np.testing.assert_array_equal(observation, Features(["quality", "tiny"])(state))


def distance(fused, pair, lab=lambda image: cv2.cvtColor(np.float32(image), cv2.COLOR_RGB2LAB)):
    return np.sqrt(np.float64((lab(fused) - lab(pair.reference / 255)) ** 2).sum(axis=2)).mean()


def test_reward_of_a_reference():
    environment = make(shuffle=False)
    environment.reset()
    pair, state = environment.pair, environment.state
    for action in (5, 4, 1):
        step, after = environment.step(action), state.edit(action)
        expected = (distance(state.fused, pair) - distance(after.fused, pair)) / 10
        assert step.reward == pytest.approx(expected, abs=1e-5)  # float32 Lab
        exact = (distance(state.fused, pair, rgb2lab) - distance(after.fused, pair, rgb2lab)) / 10
        assert step.reward == pytest.approx(exact, abs=1.2e-3)  # OpenCV's Lab is a table
        state = after


def test_reward_of_mef_ssim():
    environment = make("mef_ssim", shuffle=False)
    environment.reset()
    pair, state = environment.pair, environment.state
    for action in (5, 4, 1):
        step, after = environment.step(action), state.edit(action)
        scores = [100 * losses.mef_ssim_score([pair.under, pair.over], 255 * x.fused) for x in (state, after)]
        assert step.reward == pytest.approx(np.clip(scores[1] - scores[0], -1, 2), abs=1e-5)
        assert environment.score == pytest.approx(scores[1], abs=1e-11)
        state = after


def test_mef_ssim_of_odd_sides():
    """A halved side of 111 or 75 pixels is odd."""
    under, over = (cv2.GaussianBlur(image, (0, 0), 2) for image in helpers.noise(2, 111, 75, 3))
    fused = np.float32(0.5 * under / 255 + 0.5 * over / 255)
    expected = 100 * losses.mef_ssim_score([under, over], 255 * fused)
    assert rl.score_by_mef_ssim(pairs.Pair("odd", under, over))(fused) == pytest.approx(expected, abs=1e-11)


def test_rewards_are_clipped():
    pair = pairs.Pair("far", synthetic().under, synthetic().over, np.zeros_like(synthetic().under))
    environment = rl.EditorEnvironment([pair], Features(["tiny"]))
    for score, reward in ((-100.0, 2), (100.0, -1)):
        environment.reset()
        environment.score = score
        assert environment.step(5).reward == reward


def test_look_ahead_is_the_reward_of_each_edit_and_makes_none():
    environment = make(shuffle=False)
    environment.reset()
    environment.step(3)
    rewards = environment.look_ahead()
    assert environment.state.actions == (3,)
    for action in range(6):
        other = make(shuffle=False)
        other.reset()
        other.step(3)
        assert other.step(action).reward == rewards[action]


def test_seed_and_number_of_an_episode_decide_its_pair():
    def names(count, **arguments):
        environment = make(**arguments)
        return [(environment.reset(), environment.pair.name)[1] for _ in range(count)]

    first = names(6, seed=3)
    assert set(first) == {"synthetic_0", "synthetic_1"} and first != names(6, seed=4)
    assert names(4, seed=3, episode=2) == first[2:]


def test_batch_in_one_process(three_steps):
    environment = batched_py_environment.BatchedPyEnvironment([make(seed=seed) for seed in range(3)])
    utils.validate_py_environment(environment, episodes=2)
    assert environment.step(np.array([0, 5, 3])).observation.shape == (3, 768)
    environment.close()


@pytest.mark.slow
def test_batch_in_processes_with_tensorflow_on_both_sides():
    def time_out(*_):
        raise TimeoutError("two environments in processes of their own did not answer")

    config, features = DqnConfig(features="tiny", reward="mef_ssim", environments=2), Features(["tiny"])
    here = rl.EditorEnvironment([synthetic()], features, "mef_ssim")
    here.reset()
    expected = [here.step(action) for action in (5, 1)]  # TensorFlow computes in this process first
    previous = signal.signal(signal.SIGALRM, time_out)
    signal.alarm(500)
    try:
        environment = rl.make_batch(config, [synthetic()], features)
        environment.reset()
        for action, step in zip((5, 1), expected, strict=True):
            actual = environment.step(np.array([action, action]))
            np.testing.assert_array_equal(actual.observation, [step.observation] * 2)
            np.testing.assert_allclose(actual.reward, [step.reward] * 2, atol=1e-4)  # sums in another order
        environment.close()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"reward": "beauty"}, "reference mef_ssim 1 beauty"), ({"pairs": []}, "1 0")],
)
def test_impossible_environments_are_refused(arguments, message):
    arguments = {"pairs": [synthetic()], "features": Features(["tiny"])} | arguments
    with pytest.raises(ValueError, match=helpers.mentions(message)):
        rl.EditorEnvironment(**arguments)


def test_a_pair_without_reference_is_named():
    pair = pairs.Pair("church", synthetic().under, synthetic().over)
    with pytest.raises(ValueError, match=helpers.mentions("church --reward=mef_ssim")):
        rl.EditorEnvironment([pair], Features(["tiny"])).reset()
    rl.EditorEnvironment([pair], Features(["tiny"]), "mef_ssim").reset()


@pytest.mark.parametrize("level", [0, 255])
@pytest.mark.parametrize("reward", ["reference", "mef_ssim"])
def test_flat_pairs_give_finite_rewards(reward, level):
    flat = np.full((224, 224, 3), level, np.uint8)
    environment = rl.EditorEnvironment([pairs.Pair("flat", flat, flat, flat)], Features(["quality"]), reward)
    environment.reset()
    for action in range(6):
        step = environment.step(action)
        assert np.isfinite(step.reward) and np.isfinite(step.observation).all()


# Keras 2 for TF-Agents


@pytest.mark.slow
def test_keras_2_is_asked_for_in_time_or_refused():
    early = helpers.run_python(
        "-c", "import keras, hdr_tf.rl, tensorflow as tf; print(keras.__version__, tf.keras.Model.__module__)"
    )
    assert early.stdout.startswith("3.") and " tf_keras." in early.stdout, early.stderr
    late = helpers.run_python("-c", "import tensorflow as tf; tf.keras.Model; import hdr_tf.rl")
    assert late.returncode and helpers.mentioned("ImportError: hdr_tf.rl tf.keras 2 3 TF_USE_LEGACY_KERAS=1", late.stderr)


def test_missing_packages_are_named_before_anything_is_set():
    program = (
        "import importlib.util, os; find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'tf_agents' else find(name, *rest)\n"
        "try: import hdr_tf.rl\n"
        "except ImportError as error: print(error, os.environ.get('TF_USE_LEGACY_KERAS'))"
    )
    finished = helpers.run_python("-c", program)
    assert helpers.mentioned("tf_agents hdr_tf[rl]", finished.stdout) and finished.stdout.endswith(" None\n"), finished.stderr


# Pairs


def test_synthetic_pairs_are_decided_by_seed_and_number(tmp_path):
    path = tmp_path / "garage.exr"
    image_files.write_radiance(path, radiance())
    synthetic_pairs = pairs.SyntheticPairs([path], 2)
    first, second = synthetic_pairs  # iteration ends
    again, other = pairs.SyntheticPairs([path], 2)[1], pairs.SyntheticPairs([path], 2, seed=1)[1]
    assert len(synthetic_pairs) == 2 and (first.name, second.name) == ("garage_0", "garage_1")
    for name in ("under", "over", "reference"):
        image = getattr(second, name)
        assert image.shape == (224, 224, 3) and image.dtype == np.uint8
        # OpenCV's Mertens fusion rounds differently with where its arrays lie in memory.
        assert cv2.absdiff(image, getattr(again, name)).max() <= (name == "reference")
        assert (image != getattr(first, name)).any() and (image != getattr(other, name)).any()
    assert synthetic_pairs[1] is second
    assert second.under.mean() < second.over.mean()


def bracket(size=(60, 80)):
    exposures = camera.bracket(radiance()[: size[0] * 4 : 4, : size[1] * 4 : 4], (-3, 0, 3), np.random.default_rng(0))
    return list(exposures)


def test_pairs_of_a_folder(tmp_path):
    dark, middle, bright = bracket()
    for name, images in {"hall": [bright, dark, middle], "pair": [bright, dark], "odd": [dark, middle[1:]]}.items():
        (tmp_path / name).mkdir()
        for number, image in enumerate(images):
            image_files.write_image(tmp_path / name / f"{number}.png", image)
    image_files.write_image(tmp_path / "stacked.png", np.concatenate([bright, dark]))
    image_files.write_image(tmp_path / "alone.png", middle[:, :79])

    every, lines = pairs.read_pairs(tmp_path, references=False)
    assert [pair.name for pair in every] == ["hall", "pair", "stacked"]
    for pair in every:  # the darker one first, whatever their order
        np.testing.assert_array_equal(pair.under, edits.shrink(dark))
        np.testing.assert_array_equal(pair.over, edits.shrink(bright))
    small = [edits.shrink(image) for image in (dark, middle, bright)]
    np.testing.assert_array_equal(every[0].reference, exposure_fusion.mertens_reference(small))
    assert every[1].reference is None and every[2].reference is None
    assert len(lines) == 2
    assert helpers.mentioned("alone.png", lines[0]) and helpers.mentioned("odd/1.png odd/0.png 80 x 60 80 x 59", lines[1])

    with_reference, lines = pairs.read_pairs(tmp_path)
    assert [pair.name for pair in with_reference] == ["hall"] and len(lines) == 4
    assert any(helpers.mentioned("pair 2 --reward=mef_ssim", line) for line in lines)


def test_a_folder_without_pairs_is_refused(tmp_path):
    image_files.write_image(tmp_path / "alone.png", np.zeros((30, 41, 3), np.uint8))
    with pytest.raises(ValueError, match=helpers.mentions("alone.png")):
        pairs.read_pairs(tmp_path)
    with pytest.raises(ValueError, match=helpers.mentions(str(tmp_path / "none"))):
        pairs.read_pairs(tmp_path / "none")


def test_shrink_is_pillows_and_takes_any_image():
    image = np.random.default_rng(0).integers(0, 256, (300, 500, 3), np.uint8)
    small = edits.shrink(image)
    assert small.shape == (224, 224, 3) and abs(small.mean() - image.mean()) < 1
    np.testing.assert_array_equal(edits.shrink(image.astype(np.uint16) * 257), small)
    np.testing.assert_array_equal(edits.shrink(image[..., 0]), np.dstack([small[..., 0]] * 3))


def test_mertens_of_equal_exposures_is_the_exposure():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert np.abs(exposure_fusion.mertens_reference([image] * 3).astype(int) - image).max() <= 1


def test_processes_of_environments_hide_gpus(monkeypatch):
    """Before anything else: afterwards TensorFlow would have begun."""
    calls = []
    monkeypatch.setattr(rl.device, "hide_gpus", lambda: calls.append("hide"))
    for name in ("set_intra_op_parallelism_threads", "set_inter_op_parallelism_threads"):
        monkeypatch.setattr(rl.tf.config.threading, name, lambda count: calls.append(count))
    monkeypatch.setattr(rl.cv2, "setNumThreads", lambda count: None)
    config = DqnConfig(features="quality", history=False)
    rl._make_on_one_core(config, [synthetic()], 0, 0)
    assert calls == ["hide", 1, 1]
