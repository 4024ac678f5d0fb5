"""The environment of the editor's agent: specs, episodes, rewards, data, several at once; and Keras 2 beside Keras 3."""

import functools
import importlib.util
import os
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
from skimage.color import rgb2lab

from hdr_tf import losses
from hdr_tf.features import Features
from hdr_tf.image import editing, exposure_fusion, files, pairs, synthesis

if any(importlib.util.find_spec(package) is None for package in ("tf_agents", "tf_keras")):
    pytest.skip("TF-Agents is not installed: pip install 'hdr_tf[rl]'", allow_module_level=True)

from hdr_tf.rl import environment as rl

# isort: split
# TF-Agents comes after hdr_tf.rl, which chooses its Keras.
from tf_agents.environments import batched_py_environment, utils


@functools.cache
def radiance():
    return synthesis.relight(synthesis.sample_photo("motorcycle_left"), np.random.default_rng(0))


@functools.cache
def made(seed=0):
    return pairs.made_pair(f"made_{seed}", radiance(), np.random.default_rng(seed))


def make(reward="reference", parts=("tiny",), steps=3, **arguments):
    return rl.EditorEnvironment([made(0), made(1)], Features(list(parts)), reward, steps, **arguments)


@pytest.mark.parametrize("reward", ["reference", "mef_ssim"])
def test_specs(reward):
    utils.validate_py_environment(make(reward), episodes=3)


def test_episodes_have_20_edits_and_the_next_one_begins_by_itself():
    environment = make(steps=editing.STEPS, shuffle=False)
    step = environment.reset()
    assert step.is_first() and environment.pair.name == "made_0"
    for count in range(1, 21):
        assert not step.is_last()
        step = environment.step(count % 6)
        assert environment.state.actions == tuple(number % 6 for number in range(1, count + 1))
    assert step.is_last() and step.discount == 0
    assert environment.step(0).is_first() and environment.pair.name == "made_1"


def test_observation_is_of_the_virtual_exposure():
    environment = make(parts=("quality", "tiny"))
    environment.reset()
    observation = environment.step(5).observation
    state = editing.start(environment.pair.under, environment.pair.over).edit(5)
    assert observation.dtype == np.float32
    np.testing.assert_array_equal(observation, Features(["quality", "tiny"])(state))


def distance(fused, pair):
    return np.sqrt(((rgb2lab(fused) - rgb2lab(pair.reference / 255)) ** 2).sum(axis=2)).mean()


def test_reward_of_a_reference():
    environment = make(shuffle=False)
    environment.reset()
    pair, state = environment.pair, environment.state
    for action in (5, 4, 1):
        step, after = environment.step(action), state.edit(action)
        expected = (distance(state.fused, pair) - distance(after.fused, pair)) / 10
        assert step.reward == pytest.approx(expected, abs=1e-5)  # float32 Lab
        state = after


def test_reward_of_mef_ssim():
    environment = make("mef_ssim", shuffle=False)
    environment.reset()
    pair, state = environment.pair, environment.state
    for action in (5, 4, 1):
        step, after = environment.step(action), state.edit(action)
        scores = [100 * losses.mef_ssim_score([pair.under, pair.over], 255 * x.fused) for x in (state, after)]
        assert step.reward == pytest.approx(np.clip(scores[1] - scores[0], -1, 2), abs=1e-5)
        state = after


def test_rewards_are_clipped():
    pair = pairs.Pair("far", made().under, made().over, np.zeros_like(made().under))
    environment = rl.EditorEnvironment([pair], Features(["tiny"]))
    for score, reward in ((-100.0, 2), (100.0, -1)):
        environment.reset()
        environment.score = score
        assert environment.step(5).reward == reward


def test_look_ahead_is_what_each_edit_would_give_and_takes_none():
    environment = make()
    environment.reset()
    environment.step(3)
    ahead, here = environment.look_ahead(), environment.get_state()
    for action in range(6):
        environment.set_state(here)
        assert environment.state.actions == (3,)
        assert environment.step(action).reward == ahead[action]
    environment.set_state(here)
    assert environment.step(0).reward == ahead[0] and environment.step(0).is_last()


def test_order_of_the_pairs_is_that_of_the_seed_and_goes_on():
    def names(environment, count):
        return [(environment.reset(), environment.pair.name)[1] for _ in range(count)]

    first = names(make(seed=3), 6)
    assert set(first) == {"made_0", "made_1"} and first != names(make(seed=4), 6)
    resumed = make(seed=3)
    resumed.episode = 2
    assert names(resumed, 4) == first[2:]


def test_batch_in_one_process():
    environment = batched_py_environment.BatchedPyEnvironment([make(seed=seed) for seed in range(3)])
    utils.validate_py_environment(environment, episodes=2)
    assert environment.step(np.array([0, 5, 3])).observation.shape == (3, 768)
    environment.close()


def make_apart(seed):
    """In a process of its own, where TensorFlow computes the score."""
    return rl.EditorEnvironment([made()], Features(["tiny"]), "mef_ssim", seed=seed)


@pytest.mark.slow
def test_batch_in_processes_with_tensorflow_on_both_sides():
    def too_long(*_):
        raise TimeoutError("two environments in processes of their own did not answer")

    here = rl.EditorEnvironment([made()], Features(["tiny"]), "mef_ssim")
    here.reset()
    expected = [here.step(action) for action in (5, 1)]  # TensorFlow computes in this process first
    previous = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(500)
    try:
        environment = rl.in_processes([functools.partial(make_apart, seed) for seed in range(2)])
        environment.reset()
        for action, step in zip((5, 1), expected, strict=True):
            found = environment.step(np.array([action, action]))
            np.testing.assert_array_equal(found.observation, [step.observation] * 2)
            np.testing.assert_allclose(found.reward, [step.reward] * 2, atol=1e-4)  # sums in another order
        environment.close()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reward": "beauty"}, "a reward out of reference, mef_ssim, found 1 pairs, 20 steps and 'beauty'"),
        ({"steps": 21}, "1 to 20 steps .* 21 steps"),
        ({"pairs": []}, "a pair or more, .* found 0 pairs"),
    ],
)
def test_impossible_environments_are_refused(arguments, message):
    arguments = {"pairs": [made()], "features": Features(["tiny"])} | arguments
    with pytest.raises(ValueError, match=message):
        rl.EditorEnvironment(**arguments)


def test_a_pair_without_reference_is_named():
    pair = pairs.Pair("church", made().under, made().over)
    with pytest.raises(ValueError, match="church: expected a pair with a reference, found none; --reward=mef_ssim"):
        rl.EditorEnvironment([pair], Features(["tiny"])).reset()
    rl.EditorEnvironment([pair], Features(["tiny"]), "mef_ssim").reset()


@pytest.mark.parametrize("level", [0, 255])
@pytest.mark.parametrize("reward", ["reference", "mef_ssim"])
def test_flat_pairs_give_finite_rewards(reward, level):
    flat = np.full((224, 224, 3), level, np.uint8)
    environment = rl.EditorEnvironment([pairs.Pair("flat", flat, flat, flat)], Features(["quality"]), reward, 6)
    environment.reset()
    for action in range(6):
        step = environment.step(action)
        assert np.isfinite(step.reward) and np.isfinite(step.observation).all()


def test_rendered_is_the_fused_picture():
    environment = make()
    environment.reset()
    np.testing.assert_array_equal(environment.render(), np.uint8(environment.state.fused * 255))


# Keras 2 for TF-Agents


def run(program):
    unset = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, env=unset)


@pytest.mark.slow
def test_keras_2_is_asked_for_in_time_or_refused():
    early = run("import keras, hdr_tf.rl, tensorflow as tf; print(keras.__version__, tf.keras.Model.__module__)")
    assert early.stdout.startswith("3.") and " tf_keras." in early.stdout, early.stderr
    late = run("import tensorflow as tf; tf.keras.Model; import hdr_tf.rl")
    assert late.returncode and "ImportError: hdr_tf.rl: expected tf.keras to be Keras 2, found Keras 3" in late.stderr
    assert "import hdr_tf.rl before" in late.stderr and "TF_USE_LEGACY_KERAS=1 before Python starts" in late.stderr


def test_missing_packages_are_named_before_anything_is_set():
    program = (
        "import importlib.util, os; find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'tf_agents' else find(name, *rest)\n"
        "try: import hdr_tf.rl\n"
        "except ImportError as error: print(error, os.environ.get('TF_USE_LEGACY_KERAS'))"
    )
    found = run(program)
    assert "the package tf_agents, found none; pip install 'hdr_tf[rl]' None" in found.stdout, found.stderr


def test_inference_needs_none_of_it():
    program = (
        "import sys, os; from hdr_tf import features; from hdr_tf.image import pairs\n"
        "features.Features(['quality'])\n"
        "print([name for name in ('tensorflow', 'tf_agents', 'tf_keras') if name in sys.modules],"
        " 'TF_USE_LEGACY_KERAS' in os.environ)"
    )
    assert run(program).stdout.strip() == "[] False"


# Pairs


def test_made_pairs_are_decided_by_seed_and_number(tmp_path):
    path = tmp_path / "garage.exr"
    files.write_radiance(path, radiance())
    made_pairs = pairs.MadePairs([path], 2)
    first, second = made_pairs  # ends by itself
    again, other = made_pairs[1], pairs.MadePairs([path], 2, seed=1)[1]
    assert len(made_pairs) == 2 and (first.name, second.name) == ("garage_0", "garage_1")
    for name in ("under", "over", "reference"):
        picture = getattr(second, name)
        assert picture.shape == (224, 224, 3) and picture.dtype == np.uint8
        # OpenCV's Mertens fusion rounds differently with where its arrays lie in memory.
        assert cv2.absdiff(picture, getattr(again, name)).max() <= (name == "reference")
        assert (picture != getattr(first, name)).any() and (picture != getattr(other, name)).any()
    assert second.under.mean() < second.over.mean()


def bracket(size=(60, 80)):
    exposures = synthesis.bracket(radiance()[: size[0] * 4 : 4, : size[1] * 4 : 4], (-3, 0, 3), np.random.default_rng(0))
    return list(exposures)


def test_pairs_of_a_folder(tmp_path):
    dark, middle, bright = bracket()
    for name, pictures in {"hall": [bright, dark, middle], "pair": [bright, dark], "odd": [dark, middle[1:]]}.items():
        (tmp_path / name).mkdir()
        for number, picture in enumerate(pictures):
            files.write_picture(tmp_path / name / f"{number}.png", picture)
    files.write_picture(tmp_path / "stacked.png", np.concatenate([bright, dark]))
    files.write_picture(tmp_path / "alone.png", middle[:, :79])

    found, lines = pairs.read_pairs(tmp_path, references=False)
    assert [pair.name for pair in found] == ["hall", "pair", "stacked"]
    for pair in found:  # the darker one first, whatever their order
        np.testing.assert_array_equal(pair.under, editing.shrink(dark))
        np.testing.assert_array_equal(pair.over, editing.shrink(bright))
    small = [editing.shrink(picture) for picture in (dark, middle, bright)]
    np.testing.assert_array_equal(found[0].reference, exposure_fusion.mertens_reference(small))
    assert found[1].reference is None and found[2].reference is None
    assert len(lines) == 2
    assert "alone.png: expected a picture that holds two exposures as its halves" in lines[0]
    assert "expected pictures of one size" in lines[1]

    found, lines = pairs.read_pairs(tmp_path)
    assert [pair.name for pair in found] == ["hall"] and len(lines) == 4
    assert any("three or more exposures of pair, to make a reference of, found 2; --reward=mef_ssim" in line for line in lines)


def test_a_folder_without_pairs_is_refused(tmp_path):
    files.write_picture(tmp_path / "alone.png", np.zeros((30, 41, 3), np.uint8))
    with pytest.raises(ValueError, match="alone.png: expected a picture that holds two exposures"):
        pairs.read_pairs(tmp_path)
    with pytest.raises(ValueError, match="expected a folder of scenes, found none"):
        pairs.read_pairs(tmp_path / "none")


def test_shrink_is_pillows_and_takes_any_picture():
    picture = np.random.default_rng(0).integers(0, 256, (300, 500, 3), np.uint8)
    small = editing.shrink(picture)
    assert small.shape == (224, 224, 3) and abs(small.mean() - picture.mean()) < 1
    np.testing.assert_array_equal(editing.shrink(picture.astype(np.uint16) * 257), small)
    np.testing.assert_array_equal(editing.shrink(picture[..., 0]), np.dstack([small[..., 0]] * 3))


def test_mertens_of_equal_exposures_is_the_exposure():
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert np.abs(exposure_fusion.mertens_reference([picture] * 3).astype(int) - picture).max() <= 1
