"""The editor's agent and its training: loss, schedules, checkpoints, a run from pairs to a policy, and its evaluation."""

import dataclasses
import importlib.util
import json

import keras
import numpy as np
import pytest

from hdr_tf import cli
from hdr_tf.editor import edits as editor_edits
from hdr_tf.editor import policy as editor_policy
from hdr_tf.editor.config import DqnConfig
from hdr_tf.editor.features import Features
from hdr_tf.io import image_files
from hdr_tf.models.dqn_editor import dqn_editor
from hdr_tf.synthesis import sources
from tests import helpers
from tools import evaluate_editor, plot_runs
from train import dqn_editor as script

if any(importlib.util.find_spec(package) is None for package in ("tf_agents", "tf_keras")):
    pytest.skip("TF-Agents is not installed: pip install 'hdr_tf[rl]'", allow_module_level=True)

from hdr_tf.rl import agent as rl
from hdr_tf.rl import demonstrations, environment, evaluation, pairs

# isort: split
# TF-Agents comes after hdr_tf.rl, which chooses its Keras.
import tensorflow as tf
from tf_agents.trajectories import policy_step, trajectory
from tf_agents.trajectories import time_step as ts

TINY = DqnConfig(hidden="8", batch=3, replay=20, first_training=4, target_steps=2)


def transitions(seed=0, count=6, length=5):
    """Steps of one episode, [1, ...] each; the last one ends it."""
    rng = np.random.default_rng(seed)
    observations, rewards = rng.normal(size=(count + 1, 1, length)).astype("float32"), rng.normal(0, 2, (count, 1))
    edits = rng.integers(6, size=(count, 1))
    rewards = np.concatenate([[[0]], rewards]).astype("float32")
    kinds = [ts.StepType.FIRST, *[ts.StepType.MID] * (count - 1), ts.StepType.LAST]
    steps = [
        ts.TimeStep(np.int32([kind]), rewards[number], np.float32([kind != ts.StepType.LAST]), observations[number])
        for number, kind in enumerate(kinds)
    ]
    return [(before, edit, after) for before, edit, after in zip(steps, edits, steps[1:], strict=False)]


def batch():
    """The transitions in the form on which TF-Agents trains: [B, 2, ...]."""
    frames = [trajectory.from_transition(b, policy_step.PolicyStep(e), a) for b, e, a in transitions()]
    frames = [tf.nest.map_structure(lambda x: np.asarray(x)[0], frame) for frame in frames]
    both = [
        tf.nest.map_structure(lambda *x: np.stack(x), *couple) for couple in zip(frames, [*frames[1:], frames[0]], strict=True)
    ]
    return tf.nest.map_structure(lambda *x: tf.constant(np.stack(x)), *both)


# Loss and schedules


@pytest.mark.parametrize(
    ("double", "duel", "loss"),
    [(False, False, "clipped"), (True, False, "clipped"), (False, True, "huber"), (False, False, "squared")],
)
def test_loss_follows_the_formula(double, duel, loss):
    tf.keras.utils.set_random_seed(0)  # with this one some errors are above 1 and others below
    agent = rl.build_agent(dataclasses.replace(TINY, double=double, duel=duel, loss=loss), 5)
    network, target = agent._q_network.model, agent._target_q_network.model
    for variable in target.weights:
        variable.assign(variable * 0.5)  # unlike the network
    squares, errors = sum(np.sum(np.square(variable)) for variable in network.weights), []
    for before, edit, after in transitions():
        values = np.asarray(target(after.observation))[0]
        chosen = np.argmax(np.asarray(network(after.observation))[0]) if double else values.argmax()
        aim = after.reward[0] + 0.95 * after.discount[0] * values[chosen]
        errors.append(aim - np.asarray(network(before.observation))[0, edit[0]])
    sizes = np.abs(errors)
    assert sizes.min() < 1 < sizes.max()
    each = {
        "clipped": np.minimum(sizes, 1) ** 2,
        "huber": np.where(sizes < 1, sizes**2 / 2, sizes - 0.5),
        "squared": sizes**2,
    }[loss]
    assert transitions()[-1][2].discount == 0  # nothing is expected after the end of an episode
    expected = each.mean() + 1e-4 * squares / 2
    assert float(agent.train(batch()).loss) == pytest.approx(expected, rel=1e-5)


def test_clipped_loss_has_no_gradient_beyond():
    q_values = tf.constant([0.0, 0.5, -0.5, 3.0])
    with tf.GradientTape() as tape:
        tape.watch(q_values)
        loss = rl.clipped_loss(tf.zeros(4), q_values)
    np.testing.assert_allclose(loss, [0, 0.25, 0.25, 1])
    np.testing.assert_allclose(tape.gradient(loss, q_values), [0, 1, -1, 0])


def test_epsilon():
    steps = (0, 9_999, 10_000, 39_999, 40_000, 80_000, 160_000, 319_999, 320_000, 10**7)
    assert [rl.epsilon(step) for step in steps] == [1, 1, 0.8, 0.8, 0.6, 0.4, 0.2, 0.2, 0.1, 0.1]
    assert [rl.epsilon(step, 0.02) for step in (199, 200, 6399, 6400)] == [1, 0.8, 0.2, 0.1]


def test_learning_rate():
    rate = rl.LearningRate(DqnConfig())
    steps, expected = (0, 4_999, 5_000, 14_999, 840_000, 10**7), (1e-5, 1e-5, 0.96e-5, 0.9216e-5, 1e-5 * 0.96**168, 1e-8)
    np.testing.assert_allclose([rate(step) for step in steps], expected, rtol=1e-4)
    scaled = rl.LearningRate(DqnConfig(schedule_scale=0.02))
    np.testing.assert_allclose([scaled(99), scaled(100)], [1e-5, 0.96e-5], rtol=1e-5)


@pytest.mark.parametrize("text", ["", "64,", "0", "a", "-3"])
def test_widths_are_numbers(text):
    with pytest.raises(ValueError, match=helpers.mentions("--hidden 128,64")):
        rl.hidden_widths(text)
    if text:
        with pytest.raises(ValueError, match=helpers.mentions("--demonstrations 1000,300")):
            rl.demonstrations(text)
    assert rl.demonstrations("") == () and rl.demonstrations("20,5") == (20, 5)


# Agent


def fill(learner):
    learner.start()
    for before, edit, after in transitions():
        learner.observe(before, edit, after)


def state(learner):
    """Everything that a checkpoint has to restore, by name."""
    agent = learner.agent
    variables = {
        **{f"q/{variable.path}": variable for variable in agent._q_network.model.weights},
        **{f"target/{variable.path}": variable for variable in agent._target_q_network.model.weights},
        **{f"optimizer/{number}": variable for number, variable in enumerate(agent._optimizer.variables)},
        **{f"replay/{number}": variable for number, variable in enumerate(learner._replay.variables())},
        "updates": agent._update_target._counter,
        "training_steps": agent.train_step_counter,
        "step": learner.step,
        "episode": learner.episode,
    }
    return {name: np.asarray(variable) for name, variable in variables.items()}


def test_a_fresh_agent_restores_every_weight(tmp_path):
    """TF-Agents on the wrong Keras writes checkpoints without Q weights, and nothing complains."""
    config = dataclasses.replace(TINY, run=str(tmp_path), learning_rate=1e-2)
    first = rl.Learner(config, 5)
    start = state(first)
    fill(first)
    for _ in range(3):
        first.train()
    first.step.assign(6)
    first.episode.assign(1)
    first.save()
    saved, second = state(first), rl.Learner(config, 5)
    fresh = state(second)
    assert second.restore() == 6
    restored = state(second)
    assert restored.keys() == saved.keys()
    for name, value in saved.items():
        np.testing.assert_array_equal(restored[name], value, err_msg=name)
    for name in start:  # training changed all that it should, and a fresh agent differs
        if name.startswith("q/"):
            assert (saved[name] != start[name]).any() and (fresh[name] != saved[name]).any(), name
    assert saved["training_steps"] == 3 and saved["updates"] == 3
    moments = [value for name, value in saved.items() if name.startswith("optimizer/") and value.size > 1]
    assert len(moments) == 8 and all(value.any() for value in moments)
    with pytest.raises(ValueError, match=helpers.mentions(f"{tmp_path}/checkpoints/ckpt-6")):
        rl.Learner(dataclasses.replace(config, hidden="9"), 5).restore()


@pytest.mark.parametrize("content", [b"", b"\xff\x00" * 40, b'model_checkpoint_path: "ckpt-2"\nall_model_checkp'])
def test_a_damaged_list_of_checkpoints_is_named(content, tmp_path):
    config = dataclasses.replace(TINY, run=str(tmp_path))
    learner = rl.Learner(config, 5)
    learner.step.assign(2)
    learner.save()
    listed = tmp_path / "checkpoints" / "checkpoint"
    listed.write_bytes(content)
    with pytest.raises(ValueError, match=helpers.mentions(str(listed))):
        rl.Learner(config, 5)
    listed.write_text('model_checkpoint_path: "ckpt-2"\n')  # as the message says
    assert rl.Learner(config, 5).restore() == 2


def test_target_follows_every_second_step():
    learner = rl.Learner(TINY, 5)
    fill(learner)
    networks = learner.agent._q_network.model, learner.agent._target_q_network.model

    def same():
        return all(np.array_equal(a, b) for a, b in zip(*(network.get_weights() for network in networks), strict=True))

    assert same()
    updated = []
    for _ in range(4):
        learner.train()
        updated.append(same())
    assert updated == [False, True, False, True]


def test_training_learns_what_an_edit_is_worth():
    """Edit 2 gains 1 and ends the episode, others lose 1."""
    config = dataclasses.replace(TINY, replay=200, batch=32, learning_rate=2e-2, first_training=60)
    learner, rng = rl.Learner(config, 5), np.random.default_rng(0)
    learner.start()
    for _ in range(100):
        x, edit = rng.normal(size=(2, 1, 5)).astype("float32"), rng.integers(6, size=1)
        reward = np.float32([1 if edit[0] == 2 else -1])
        learner.observe(ts.restart(x[0], 1), edit, ts.termination(x[1], reward))
    assert learner.can_train()
    losses = [float(learner.train()) for _ in range(150)]
    assert np.mean(losses[-20:]) < 0.3 * np.mean(losses[:20])
    learner.step.assign(10**6)  # one edit in ten is random
    edits = [learner.act(rng.normal(size=(1, 5)).astype("float32"))[0][0] for _ in range(100)]
    assert np.mean(np.array(edits) == 2) > 0.8


def test_random_edits_are_decided_by_seed_and_step():
    learner = rl.Learner(dataclasses.replace(TINY, environments=3), 5)
    learner.start()
    x = np.ones((3, 5), "float32")
    edits, q_values = learner.act(x)
    assert edits.shape == (3,) and edits.dtype == np.int64 and q_values.shape == (3, 6)
    np.testing.assert_array_equal(learner.act(x)[0], edits)
    drawn = []
    for step in range(200):
        learner.step.assign(step)
        drawn.extend(learner.act(x)[0])
    assert (np.bincount(drawn, minlength=6) > 60).all()  # of 600, all random, 100 each


def test_rewards_of_n_steps_are_added_up_to_the_end_of_the_episode():
    agent = rl.build_agent(dataclasses.replace(TINY, n_step=3, loss="squared", l2=0, discount=0.5), 5)
    steps = [*transitions(), *transitions(seed=1)]
    frames = [trajectory.from_transition(b, policy_step.PolicyStep(e), a) for b, e, a in steps]
    windows = [tf.nest.map_structure(lambda *x: np.concatenate(x), *frames[first : first + 4]) for first in range(6)]
    network, errors = agent._q_network.model, []
    for first in range(6):
        aim = 0.5**3 * np.asarray(network(steps[first + 3][0].observation)).max() if first < 3 else 0
        aim += sum(0.5**n * steps[first + n][2].reward[0] for n in range(min(3, 6 - first)))
        errors.append(aim - np.asarray(network(steps[first][0].observation))[0, steps[first][1][0]])
    loss = agent.train(tf.nest.map_structure(lambda *x: tf.constant(np.stack(x)), *windows)).loss
    assert float(loss) == pytest.approx(np.mean(np.square(errors)), rel=1e-5)


def test_a_random_edit_goes_on_until_the_episode_ends():
    learner = rl.Learner(dataclasses.replace(TINY, persistence=8), 5)
    learner.start()
    edits = []
    for step in range(60):
        learner.step.assign(step)
        edits.append(int(learner.act(np.ones((1, 5), "float32"))[0][0]))
    for start in range(0, 60, 20):
        assert [len(set(edits[start + low : start + high])) for low, high in ((0, 8), (8, 16), (16, 20))] == [1, 1, 1]
    assert len(set(edits)) > 2


def test_epsilon_is_the_share_of_random_edits_however_often_they_are_repeated():
    learner = rl.Learner(dataclasses.replace(TINY, persistence=4, replay=1000, environments=500), 5)
    learner.start()
    x, greedy = np.ones((500, 5), "float32"), []
    for step in range(40):
        learner.step.assign(300_000 + 1 + step)  # epsilon is 0.2; `act` takes these steps for one episode
        edits, q_values = learner.act(x)
        greedy.append(np.mean(edits == q_values.argmax(axis=1)))
    assert np.mean(greedy[10:]) == pytest.approx(0.8 + 0.2 / 6, abs=0.02)


def test_an_agent_that_stops_expects_nothing_bad_of_what_follows():
    for double in (False, True):
        keras.utils.set_random_seed(0)
        agent = rl.build_agent(dataclasses.replace(TINY, double=double, stops=True, loss="squared", l2=0), 5)
        network, errors, following = agent._q_network.model, [], []
        for variable in network.weights:  # so that all values of some observations are below 0
            variable.assign(variable - 0.2)
        agent._target_q_network.model.set_weights(network.get_weights())
        for before, edit, after in transitions():
            following.append(np.asarray(network(after.observation)).max())
            aim = after.reward[0] + 0.95 * after.discount[0] * max(following[-1], 0)
            errors.append(aim - np.asarray(network(before.observation))[0, edit[0]])
        assert min(following[:-1]) < 0 < max(following[:-1])
        assert float(agent.train(batch()).loss) == pytest.approx(np.mean(np.square(errors)), rel=1e-5)


def test_it_learns_from_demonstrations_what_every_edit_is_worth():
    config = dataclasses.replace(
        TINY, demonstrations="1", demonstration_steps=400, batch=64, n_step=5, learning_rate=1e-2, l2=0, hidden="16"
    )
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(50, 5)).astype("float32")
    rewards = np.float32(observations[:, :1] * np.linspace(-1, 1, 6))  # all six edits matter
    keras.utils.set_random_seed(0)
    learner = rl.Learner(dataclasses.replace(config, replay=40, first_training=10), 5)
    assert learner.epsilon(0) == learner.epsilon(10**6) == 0.1
    loss = learner.learn(observations, rewards)
    q_values = np.asarray(learner.q_network(observations))
    assert np.mean(np.square(q_values - rewards)) < 0.02 < 0.1 < np.var(rewards) and loss < 0.05
    np.testing.assert_array_equal(learner.agent._target_q_network.model(observations), q_values)
    assert int(learner.stage) == 1 and int(learner.step) == 0 and not learner.can_train()


@pytest.mark.parametrize("flags", [{"n_step": 0}, {"persistence": 0}])
def test_steps_are_at_least_one(flags):
    with pytest.raises(ValueError, match=helpers.mentions("--n_step --persistence 1")):
        rl.Learner(dataclasses.replace(TINY, **flags), 5)


def test_replay_must_hold_what_training_needs():
    with pytest.raises(ValueError, match=helpers.mentions("--replay 30 20")):
        rl.Learner(dataclasses.replace(TINY, first_training=30), 5)


def test_policy_saver_gives_the_same_edits(tmp_path):
    learner = rl.Learner(TINY, 5)
    learner.export(tmp_path / "policy")
    saved = tf.saved_model.load(str(tmp_path / "policy"))
    observations = np.random.default_rng(0).normal(0, 3, (40, 5)).astype("float32")
    edits = saved.action(ts.restart(tf.constant(observations), 40)).action
    expected = np.asarray(learner.q_network(observations)).argmax(axis=1)
    np.testing.assert_array_equal(edits, expected)
    assert len(set(expected)) > 1


# A run


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A folder with two images of known radiance."""
    folder = tmp_path_factory.mktemp("hdr")
    radiance = sources.relight(sources.sample_photo("motorcycle_left"), np.random.default_rng(0))
    image_files.write_radiance(folder / "garage.exr", radiance[:300, :300])
    image_files.write_radiance(folder / "held.exr", radiance[:300, -300:])
    return folder


FLAGS = {
    **{"features": "tiny", "history": True, "hidden": "16", "batch": 4, "replay": 100, "pairs": 2, "valid_pairs": 1},
    **{"first_training": 10, "target_steps": 7, "learning_rate": 1e-3, "exclude": "held", "steps": 80, "log_every": 40},
}


@pytest.fixture(scope="module")
def run(scene, tmp_path_factory):
    """The folder of a run of four episodes."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    script.main(script.Config(hdr_dir=str(scene), run=str(folder), **FLAGS))
    return folder


def test_a_run_leaves_its_folder(run):
    names = {"config.json", "checkpoints", "logs", "log.csv", "samples", "dqn_editor.weights.h5", "policy"}
    assert helpers.names(run) == names
    assert json.loads((run / "config.json").read_text())["hidden"] == "16"
    assert [path.name for path in sorted((run / "samples").iterdir())] == ["00000040.png", "00000080.png"]
    assert [row["step"] for row in helpers.log(run)] == ["40", "80"]
    for row in helpers.log(run):
        assert float(row["return"]) == pytest.approx(20 * float(row["reward"]), rel=1e-5)
        assert sum(float(row[f"edit_{number}"]) for number in range(6)) == pytest.approx(1)
        assert np.isfinite([float(row[name]) for name in ("loss", "q", "valid_return")]).all()
        assert float(row["steps_per_second"]) > 0 and float(row["epsilon"]) == 1
    policy = editor_policy.load_policy(run / "dqn_editor.weights.h5")
    assert policy.features.parts == ("tiny",) and policy.features.history
    saved = tf.saved_model.load(str(run / "policy"))
    observation = np.random.default_rng(0).normal(size=(9, policy.features.length)).astype("float32")
    edits = saved.action(ts.restart(tf.constant(observation), 9)).action
    np.testing.assert_array_equal(edits, np.asarray(policy.network(observation)).argmax(axis=1))
    tags = {
        value.tag
        for path in (run / "logs").iterdir()
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    }
    assert {"return", "reward", "q", "edits/0", "edits/5", "episode", "valid_return"} <= tags


@pytest.mark.slow
def test_a_run_stopped_early_continues_as_an_unbroken_one(run, scene, tmp_path, capsys):
    stopped = script.Config(hdr_dir=str(scene), run=str(tmp_path / "run"), **FLAGS | {"steps": 40})
    script.main(stopped)
    assert [row["step"] for row in helpers.log(tmp_path / "run")] == ["40"]
    script.main(dataclasses.replace(stopped, steps=80))
    assert helpers.mentioned("80", capsys.readouterr().out)
    for actual, expected in zip(helpers.log(tmp_path / "run"), helpers.log(run), strict=True):
        for name in expected.keys() - {"steps_per_second"}:
            assert float(actual[name]) == pytest.approx(float(expected[name]), rel=1e-4), name
    policies = [editor_policy.load_policy(folder / "dqn_editor.weights.h5") for folder in (run, tmp_path / "run")]
    for a, b in zip(*(policy.network.weights for policy in policies), strict=True):
        # Threads sum the rewards, so the last bit may differ. A step on another batch would be as large as the rate, 1e-3.
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-5, err_msg=a.path)
    with pytest.raises(ValueError, match=helpers.mentions("config.json features")):
        script.main(dataclasses.replace(stopped, features="lab"))


def test_demonstrations_are_rewards_of_all_edits(synthetic, tmp_path, monkeypatch):
    monkeypatch.setattr(editor_edits, "STEPS", 4)
    policy = editor_policy.Policy(dqn_editor(39, (2,)), Features(["pair"]))
    for variable in policy.network.weights:
        variable.assign(np.zeros(variable.shape))
    policy.network.get_layer("fc2").bias.assign([0, 0, 0.5, 0, 0, 0])
    arguments = {"pairs": synthetic, "reward": "reference", "policy": policy, "seed": 3}
    mixed = demonstrations.read_stage(tmp_path, 0, range(2), **arguments)
    own = demonstrations.read_stage(tmp_path, 1, range(1), **arguments)
    game = environment.EditorEnvironment(synthetic, policy.features, shuffle=False)
    for observations, rewards in (mixed, own):
        np.testing.assert_array_equal(observations[0], game.reset().observation)
        np.testing.assert_allclose(rewards[0], game.look_ahead(), atol=1e-6)
        game._episode = 0
    assert 2 <= len(mixed[0]) <= 8 and len(own[0]) == 4  # it never stops
    for observation in own[0][1:4]:
        np.testing.assert_array_equal(observation, game.step(2).observation)
    np.testing.assert_allclose(own[1][3], game.look_ahead(), atol=1e-6)
    assert helpers.names(tmp_path / "demonstrations") == {"0_000000.npz", "1_000000.npz"}
    (tmp_path / "demonstrations" / "1_000000.npz").unlink()
    again = demonstrations.read_stage(tmp_path, 1, range(1), **arguments | {"pairs": synthetic[:1]})
    np.testing.assert_array_equal(again[0], own[0])
    arguments["pairs"] = []  # nothing is made that has a file
    for actual, expected in zip(demonstrations.read_stage(tmp_path, 0, range(2), **arguments), mixed, strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.slow
def test_a_run_killed_among_its_demonstrations_continues_as_an_unbroken_one(scene, tmp_path, monkeypatch):
    flags = FLAGS | {"features": "pair", "steps": 40, "demonstrations": "2,1", "demonstration_steps": 30, "n_step": 3}

    def killed(*_):
        raise KeyboardInterrupt

    own = demonstrations._own
    for name in ("whole", "killed"):
        config = script.Config(hdr_dir=str(scene), run=str(tmp_path / name), **flags)
        if name == "killed":  # after the first stage
            monkeypatch.setattr(demonstrations, "_own", killed)
            with pytest.raises(KeyboardInterrupt):
                script.main(config)
            monkeypatch.setattr(demonstrations, "_own", own)
        script.main(config)
    runs = [tmp_path / name for name in ("whole", "killed")]
    for name in ("stage_0", "stage_1", "dqn_editor"):
        networks = [editor_policy.load_policy(run / f"{name}.weights.h5").network.get_weights() for run in runs]
        for actual, expected in zip(*networks, strict=True):
            np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-5, err_msg=name)
    assert [row["epsilon"] for row in helpers.log(runs[1])] == ["0.1"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"log_every": 30}, "--log_every 20 --environments 30 1"),
        ({"environments": 0}, "1 20 0"),
        ({"hdr_dir": ""}, "--hdr_dir --brackets"),
        ({"brackets": "brackets"}, "--hdr_dir --brackets"),
        ({"features": "smell"}, "vgg smell"),
        ({"hidden": "wide"}, "--hidden wide"),
        ({"demonstrations": "many"}, "--demonstrations many"),
        ({"reward": "beauty"}, "reference mef_ssim beauty"),
        ({"exclude": "attic"}, "attic"),
    ],
)
def test_bad_flags_leave_nothing(flags, message, scene, tmp_path):
    arguments = FLAGS | {"hdr_dir": str(scene), "run": str(tmp_path / "run"), "steps": 60, "log_every": 20} | flags
    with pytest.raises(ValueError, match=helpers.mentions(message)):
        script.main(script.Config(**arguments))
    assert not (tmp_path / "run").exists()


def test_brackets_without_reference(tmp_path):
    helpers.write_bracket(tmp_path / "brackets" / "a", helpers.bracket(), names=("a_A", "a_B"))
    flags = FLAGS | {"brackets": str(tmp_path / "brackets"), "exclude": "", "steps": 20, "log_every": 20}
    flags["run"] = str(tmp_path / "run")
    with pytest.raises(ValueError, match=helpers.mentions("a --reward=mef_ssim")):
        script.main(script.Config(**flags))
    script.main(script.Config(**flags, reward="mef_ssim"))
    assert (tmp_path / "run" / "dqn_editor.weights.h5").exists()


@pytest.mark.slow
def test_environments_in_processes(scene, tmp_path):
    flags = FLAGS | {"hdr_dir": str(scene), "run": str(tmp_path / "run"), "steps": 80, "log_every": 40, "environments": 2}
    script.main(script.Config(**flags))
    assert [row["step"] for row in helpers.log(tmp_path / "run")] == ["40", "80"]


# Evaluation


@pytest.fixture(scope="module")
def synthetic():
    radiance = sources.relight(sources.sample_photo("motorcycle_left"), np.random.default_rng(0))
    return [pairs.synthetic_pair(f"synthetic_{seed}", radiance, np.random.default_rng(seed)) for seed in range(2)]


def test_play_adds_up_the_rewards(synthetic):
    game = evaluation.make_environment(synthetic, "reference")
    total = evaluation.play(game, evaluation.constant(4))
    *_, last = editor_edits.run(synthetic[0].under, synthetic[0].over, [4] * 20)
    score = environment.score_by_reference(synthetic[0])
    first = editor_edits.start(synthetic[0].under, synthetic[0].over)
    assert total == pytest.approx(score(last.fused) - score(first.fused), abs=1e-4)  # none is clipped
    assert game.state.actions == (4,) * 20
    assert evaluation.play(game, lambda game: None) == 0 and game.pair.name == "synthetic_1"


def test_best_constant_edit_has_the_highest_mean_return(synthetic, monkeypatch):
    returns = iter([1, 5, 2, 2, 3.5, 4, 0, 0, -1, 8, 9, -9])  # two pairs for each edit
    monkeypatch.setattr(evaluation, "play", lambda game, player: next(returns))
    assert evaluation.best_constant(synthetic, "reference") == 2


def test_compare(synthetic):
    features = Features(["tiny"])
    network = dqn_editor(features.length, (2,))
    for variable in network.weights:
        variable.assign(np.zeros(variable.shape))
    network.get_layer("fc2").bias.assign([0, 0, 0, 0, 0.5, 0])
    players = {"policy": evaluation.by_policy(editor_policy.Policy(network, features)), **evaluation.simple_players(4)}
    scores = evaluation.compare(synthetic, players, "reference")
    json.dumps(scores)
    rows = scores["players"]
    assert list(rows) == ["policy", "none", "random", "brighter", "constant (darker)", "look_ahead"]
    assert rows["policy"]["return"]["values"] == pytest.approx(rows["constant (darker)"]["return"]["values"], abs=1e-5)
    assert rows["none"]["return"]["values"] == [0, 0] and rows["none"]["edits"]["mean"] == 0
    assert rows["brighter"]["edits"]["values"] == [20, 20]
    means = {name: row["return"]["mean"] for name, row in rows.items()}
    assert means["look_ahead"] >= max(0, means["none"], means["random"])
    for row in rows.values():
        for key in ("return", "mef_ssim", "ahead"):
            low, high = row[key]["interval"]
            assert low - 1e-12 <= row[key]["mean"] <= high + 1e-12
        assert 0 < row["mef_ssim"]["mean"] <= 1
    assert rows["none"]["ahead"]["mean"] == pytest.approx(means["policy"])
    text = evaluation.as_text(scores)
    assert all(helpers.mentioned(word, text) for word in ("look_ahead", "reference", "2"))


def test_intervals_are_of_pictures_and_not_of_pairs():
    """Two pictures of 50 pairs each, which do not differ within a picture: the mean of two draws is 0, 1/2 or 1."""
    values, pictures = np.repeat([0.0, 1.0], 50), ["dark"] * 50 + ["light"] * 50
    summary = evaluation._summary(values, pictures, np.random.default_rng(0))
    assert summary["mean"] == 0.5 and summary["interval"] == [0, 1]
    assert summary["by_picture"] == {"dark": 0, "light": 1}
    row = dict.fromkeys(("return", "ahead", "mef_ssim", "edits"), summary)
    scores = {"reward": "reference", "pairs": [str(i) for i in range(100)], "pictures": pictures, "players": {"none": row}}
    lines = evaluation.as_text(scores).splitlines()
    assert helpers.mentioned("100 2", lines[2]) and lines[-1].split() == ["light", "1.000"]


def test_the_tools_compare_and_draw(run, scene, tmp_path, capsys):
    output, curves = tmp_path / "scores.json", tmp_path / "curves.png"
    flags = {"hdr_dir": str(scene), "exclude": "held", "pairs": 1, "training_pairs": 1, "output": str(output)}
    evaluate_editor.main(evaluate_editor.Config(weights=str(run / "dqn_editor.weights.h5"), **flags))
    scores = json.loads(output.read_text())
    assert scores["pairs"] == ["held_0"] and len(scores["players"]) == 6
    assert str(run / "dqn_editor.weights.h5") in capsys.readouterr().out
    plot_runs.main(plot_runs.Config(runs=str(run), column="return,valid_return", output=str(curves)))
    image = image_files.read_image(curves).pixels
    assert image.shape == (600, 900, 3) and len(np.unique(image.reshape(-1, 3), axis=0)) > 3


def test_the_tools_refuse_what_is_missing(tmp_path):
    with pytest.raises(ValueError, match=helpers.mentions("--hdr_dir")):
        evaluate_editor.main(evaluate_editor.Config())
    with pytest.raises(OSError, match="log.csv"):
        plot_runs.main(plot_runs.Config(runs=str(tmp_path), output=str(tmp_path / "a.png")))


def test_flags_of_the_script():
    flags = {"features": "quality", "hidden": "128,64", "schedule_scale": 0.02, "brackets": "folder"}
    words = [f"--{name}={value}" for name, value in flags.items()]
    assert cli.parse(script.Config, [*words, "--double"]) == script.Config(**flags, double=True)
    assert cli.parse(script.Config, ["--stacks=folder"]) == script.Config(brackets="folder")
    original = script.Config()
    assert (original.batch, original.discount, original.replay) == (1, 0.95, 5000)
    assert (original.first_training, original.target_steps) == (1000, 500)
    assert original.features == "vgg,quality" and rl.hidden_widths(original.hidden) == (4096, 4096, 512)
