"""The editor's agent: a deep Q network (DQN) that TF-Agents trains.

Mnih et al., "Human-level control through deep reinforcement learning", Nature 518, 2015; double DQN: van Hasselt et al., AAAI
2016. Loss, optimizer, schedules and sizes are those of bigmms/reinforcement_learning_hdr (375578f, agent_test.py), whose
training loop was not published.

The replay buffer holds edits only, and no steps between episodes: the last edit of an episode is followed by the first edit of
another one, whose value is excluded by the discount of 0.
"""

import contextlib
import dataclasses
import functools
import os
import pathlib

import keras
import numpy as np
import tensorflow as tf
from tf_agents.agents.dqn import dqn_agent
from tf_agents.networks import network
from tf_agents.policies import policy_saver
from tf_agents.replay_buffers import tf_uniform_replay_buffer
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import policy_step, trajectory
from tf_agents.trajectories import time_step as ts
from tf_agents.utils import common

from hdr_tf.editor.config import DqnConfig
from hdr_tf.editor.edits import EDITS, STEPS
from hdr_tf.models.dqn_editor import dqn_editor
from hdr_tf.training import run_folder

EPSILONS = ((10_000, 1.0), (40_000, 0.8), (80_000, 0.6), (160_000, 0.4), (320_000, 0.2))  # (end in edits, share until then)
LAST_EPSILON = 0.1


def epsilon(step: int, scale: float = 1.0) -> float:
    """Returns the share of random edits, 0..1, after `step` edits; `scale` multiplies the steps at which the share falls."""
    return next((share for end, share in EPSILONS if step < end * scale), LAST_EPSILON)


class LearningRate(tf.keras.optimizers.schedules.LearningRateSchedule):
    """Decays by a factor at regular intervals, down to a floor; see `DqnConfig`."""

    def __init__(self, config: DqnConfig):
        self._config = config

    def __call__(self, step):
        config = self._config
        decays = tf.floor(tf.cast(step, tf.float32) / _scaled(config.learning_rate_steps, config))
        return tf.maximum(config.learning_rate_floor, config.learning_rate * config.learning_rate_decay**decays)

    def get_config(self):
        return dataclasses.asdict(self._config)


def _scaled(steps, config):
    return max(1, round(steps * config.schedule_scale))


def clipped_loss(target: tf.Tensor, q_values: tf.Tensor) -> tf.Tensor:
    """Returns the square of each error after clipping it to -1..1; larger errors have no gradient."""
    return tf.square(tf.clip_by_value(target - q_values, -1, 1))


LOSSES = {"clipped": clipped_loss, "huber": common.element_wise_huber_loss, "squared": common.element_wise_squared_loss}


class QNetwork(network.Network):
    """A Keras 3 model for TF-Agents, which only knows Keras 2: its variables as tf.Variable, and the L2 regularisation as
    `losses`."""

    def __init__(self, model: keras.Model, input_tensor_spec: tf.TensorSpec, l2: float = 0.0, name: str = "QNetwork"):
        super().__init__(input_tensor_spec, (), name)
        self.model, self._l2 = model, l2

    def call(self, observation, step_type=None, network_state=(), training=False):
        return self.model(observation, training=training), network_state

    @property
    def variables(self):
        return [variable.value for variable in self.model.variables]

    @property
    def trainable_variables(self):
        return [variable.value for variable in self.model.trainable_variables]

    weights, trainable_weights = variables, trainable_variables

    @property
    def losses(self):
        return [self._l2 * tf.nn.l2_loss(variable) for variable in self.trainable_variables]


class _Stopping:
    """Makes what follows an edit worth at least 0: there the policy would stop, though episodes of the training go on."""

    def _compute_next_q_values(self, next_time_steps, info):
        return tf.maximum(super()._compute_next_q_values(next_time_steps, info), 0)


class StoppingDqnAgent(_Stopping, dqn_agent.DqnAgent):
    pass


class StoppingDdqnAgent(_Stopping, dqn_agent.DdqnAgent):
    pass


AGENTS = {  # by --double and --stops
    (False, False): dqn_agent.DqnAgent,
    (True, False): dqn_agent.DdqnAgent,
    (False, True): StoppingDqnAgent,
    (True, True): StoppingDdqnAgent,
}


def hidden_widths(text: str) -> tuple[int, ...]:
    """Returns the widths in "4096,4096,512"; ValueError for anything else."""
    return _numbers("--hidden", "widths of layers as in 128,64", text)


def demonstrations(text: str) -> tuple[int, ...]:
    """Returns the numbers of episodes in "1000,300", none of an empty text; ValueError for anything else."""
    return _numbers("--demonstrations", "numbers of episodes as in 1000,300", text) if text else ()


def _numbers(flag, expected, text):
    words = text.split(",")
    if not all(word.isdecimal() and int(word) for word in words):
        raise ValueError(f"{flag}: expected {expected}, found {text!r}")
    return tuple(map(int, words))


def build_agent(config: DqnConfig, features: int) -> dqn_agent.DqnAgent:
    """Builds the agent for observations of `features` values; its target network equals its network."""
    observation = tf.TensorSpec([features], tf.float32, "features")
    build = functools.partial(dqn_editor, features, hidden_widths(config.hidden), config.duel)
    q_network, target = (QNetwork(build(name=name), observation, config.l2, name) for name in ("dqn_editor", "target"))
    optimizer = tf.keras.optimizers.Adam(LearningRate(config), epsilon=1e-8)
    agent = AGENTS[config.double, config.stops](
        ts.time_step_spec(observation),
        tensor_spec.BoundedTensorSpec([], tf.int64, 0, len(EDITS) - 1, "edit"),
        q_network,
        optimizer,
        target_q_network=target,
        target_update_period=_scaled(config.target_steps, config),
        td_errors_loss_fn=LOSSES[config.loss],
        gamma=config.discount,
        n_step_update=config.n_step,
        train_step_counter=tf.Variable(0, dtype=tf.int64, name="training_steps"),
    )
    agent.initialize()
    optimizer.build(q_network.trainable_variables)  # creates its moments before a checkpoint is read
    return agent


class Learner:
    """The agent with its replay buffer and counters, all of which its checkpoints hold.

    `step` counts edits, `episode` counts the episodes of each environment, and `stage` the numbers in --demonstrations from
    which the agent has learned.
    """

    def __init__(self, config: DqnConfig, features: int):
        """Args: flags of the agent, and the length of the observation."""
        if min(config.n_step, config.persistence) < 1:
            raise ValueError(
                f"expected --n_step and --persistence to be at least 1, found {config.n_step} and {config.persistence}"
            )
        self._config, count = config, config.environments
        self._first_training = max(_scaled(config.first_training, config), (config.n_step + 1) * count)
        if config.replay // count * count < self._first_training:
            raise ValueError(
                f"expected --replay to hold the {self._first_training} edits before training begins, found {config.replay}"
            )
        self.agent = build_agent(config, features)
        self.q_network, self._target = (net.model for net in (self.agent._q_network, self.agent._target_q_network))
        self._replay = tf_uniform_replay_buffer.TFUniformReplayBuffer(
            self.agent.collect_data_spec, batch_size=count, max_length=config.replay // count
        )
        self.step, self.episode = (tf.Variable(0, dtype=tf.int64, name=name) for name in ("step", "episode"))
        self.stage = tf.Variable(0, dtype=tf.int64, name="stage")
        self._random, self._repeats = np.zeros((2, count), np.int64)  # random edits, and how often each is still to come
        self.checkpoint = tf.train.Checkpoint(
            q_network=self.q_network,
            target=self._target,
            agent=self.agent,
            replay=self._replay,
            step=self.step,
            episode=self.episode,
        )
        if config.demonstrations:  # checkpoints of older runs have no stage
            self.checkpoint.stage = self.stage
        self._manager = self._manage(pathlib.Path(config.run) / "checkpoints")

    def _manage(self, folder):
        """The manager of the checkpoints in a folder. TensorFlow ignores a list of them that is damaged, and the run would
        begin anew over what is there."""
        listed, manager = folder / "checkpoint", None
        with contextlib.suppress(ValueError):  # empty, or no text
            manager = tf.train.CheckpointManager(self.checkpoint, str(folder), run_folder.KEPT_CHECKPOINTS)
        if manager is None or listed.exists() and not manager.latest_checkpoint:
            raise ValueError(
                f"{listed}: expected TensorFlow's list of checkpoints, found something else; to continue from ckpt-STEP in "
                'that folder, write the line model_checkpoint_path: "ckpt-STEP" into it'
            )
        return manager

    def restore(self) -> int:
        """Reads the last checkpoint of the run and returns its step; 0 if there is no checkpoint."""
        if path := self._manager.latest_checkpoint:
            try:
                self.checkpoint.restore(path).assert_consumed()
            except Exception as error:  # TensorFlow's own errors, and whatever its reader in C++ raises of a damaged file
                found = (str(error).splitlines() or [type(error).__name__])[0]
                raise ValueError(f"{path}: expected a checkpoint of this agent, found {found}") from error
        return int(self.step)

    def save(self) -> None:
        """Writes a checkpoint and removes old checkpoints."""
        self._manager.save(int(self.step) or int(self.stage))

    def start(self) -> None:
        """Compiles `q_values`, `observe` and `train` again. The seed and the step decide which transitions are drawn from then
        on, so a run that calls this at every checkpoint continues exactly as an unbroken one."""
        tf.random.set_seed(self._config.seed + int(self.step))

        def q_values(observation):
            """Returns the Q values, [N, 6], of observations [N, features]."""
            return self.q_network(observation, training=False)

        def observe(step, action, after):
            """Stores one transition of every environment: time step, edits int64 [N], next time step."""
            self._replay.add_batch(trajectory.from_transition(step, policy_step.PolicyStep(action), after))

        def train():
            """Makes a training step on transitions from the replay buffer and returns the loss."""
            return self.agent.train(self._replay.get_next(self._config.batch, num_steps=self._config.n_step + 1)[0]).loss

        self.q_values, self.observe, self.train = map(tf.function, (q_values, observe, train))

    def learn(self, observations: np.ndarray, rewards: np.ndarray) -> float:
        """Makes `demonstration_steps` training steps on demonstrations, see hdr_tf/rl/demonstrations.py: observations
        [N, features] and the rewards of the edits [N, 6]. Returns the mean loss of the last tenth of the steps."""
        tf.random.set_seed(self._config.seed + int(self.stage))
        count, n_step = len(observations), self._config.n_step
        # A draw is n_step + 1 transitions in a row, of which the first one counts: the others come after its end.
        order = np.arange(rewards.shape[1] + n_step) % rewards.shape[1]
        replay = tf_uniform_replay_buffer.TFUniformReplayBuffer(self.agent.collect_data_spec, count, max_length=len(order))
        before = ts.restart(tf.constant(observations), count)
        for edit in order:
            after = ts.termination(before.observation, tf.constant(rewards[:, edit]))
            action = policy_step.PolicyStep(tf.fill([count], tf.constant(edit, tf.int64)))
            replay.add_batch(trajectory.from_transition(before, action, after))

        @tf.function
        def train():
            return self.agent.train(replay.get_next(self._config.batch, num_steps=n_step + 1)[0]).loss

        losses = [float(train()) for _ in range(self._config.demonstration_steps)]
        for variable, source in zip(self._target.variables, self.q_network.variables, strict=True):
            variable.assign(source)
        self.stage.assign_add(1)
        return float(np.mean(losses[-max(1, len(losses) // 10) :]))

    def epsilon(self, step: int) -> float:
        """Returns the share of random edits after `step` edits; demonstrations leave nothing to begin with."""
        return LAST_EPSILON if self._config.demonstrations else epsilon(step, self._config.schedule_scale)

    def can_train(self) -> bool:
        """Returns whether the replay buffer holds the edits that the first training step needs."""
        return int(self._replay.num_frames()) >= self._first_training

    def act(self, observation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Chooses the next edit of every environment for observations [N, features], at random with a probability of epsilon.
        Returns the edits, int64 [N], and the Q values, float32 [N, 6].

        `persistence` repeats a random edit, at most until the episode ends (after Dabney, Ostrovski, Barreto,
        "Temporally-extended epsilon-greedy exploration", ICLR 2021). Random edits then begin less often, so that epsilon
        remains their share.
        """
        q_values, step, persistence = self.q_values(observation).numpy(), int(self.step), self._config.persistence
        rng, count = np.random.default_rng((self._config.seed, step)), len(q_values)
        if step % (STEPS * count) == 0:
            self._repeats[:] = 0
        share = self.epsilon(step)
        begins = (rng.random(count) < share / (persistence - share * (persistence - 1))) & (self._repeats == 0)
        self._random = np.where(begins, rng.integers(q_values.shape[1], size=count), self._random)
        self._repeats = np.where(begins, persistence, self._repeats)
        explore = self._repeats > 0
        self._repeats -= explore
        return np.where(explore, self._random, q_values.argmax(axis=1)), q_values

    def export(self, folder: str | os.PathLike) -> None:
        """Writes the greedy policy with TF-Agents' PolicySaver, as a SavedModel with the signature `action`."""
        policy_saver.PolicySaver(self.agent.policy, train_step=self.agent.train_step_counter).save(str(folder))
