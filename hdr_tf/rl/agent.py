"""The editor's agent: a deep Q network (DQN) that TF-Agents trains.

    QNetwork       a Keras 3 model (hdr_tf/models/dqn_editor.py) as TF-Agents, which knows Keras 2 only, takes networks
    build_agent    DqnAgent or DdqnAgent out of `training.DqnConfig`, which documents every number
    epsilon        share of random edits by step
    Learner        agent, replay buffer and checkpoints, for the loop in train/dqn_editor.py

Mnih et al., "Human-level control through deep reinforcement learning", Nature 518, 2015; double DQN: van Hasselt et al., AAAI
2016. Loss, optimizer, schedules and sizes are those of bigmms/reinforcement_learning_hdr (375578f, agent_test.py), whose
training loop was not published.

The buffer holds edits alone, no steps between two episodes: behind the last edit of an episode stands the first of another one,
whose value the discount 0 keeps out.
"""

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

from hdr_tf import training
from hdr_tf.image import editing
from hdr_tf.models.dqn_editor import dqn_editor

EPSILONS = ((10_000, 1.0), (40_000, 0.8), (80_000, 0.6), (160_000, 0.4), (320_000, 0.2))  # before which step, how many
LAST_EPSILON = 0.1


def epsilon(step: int, scale: float = 1.0) -> float:
    """Returns the share of random edits at a step, counted in edits; `scale` multiplies the steps at which it falls."""
    return next((share for end, share in EPSILONS if step < end * scale), LAST_EPSILON)


class LearningRate(tf.keras.optimizers.schedules.LearningRateSchedule):
    """Falls by a factor every so many training steps, to a floor."""

    def __init__(self, config: training.DqnConfig):
        super().__init__()
        self._config = config

    def __call__(self, step):
        config = self._config
        decays = tf.floor(tf.cast(step, tf.float32) / _scaled(config.learning_rate_steps, config))
        return tf.maximum(config.learning_rate_floor, config.learning_rate * config.learning_rate_decay**decays)

    def get_config(self):
        return dataclasses.asdict(self._config)


def _scaled(steps, config):
    return max(1, round(steps * config.schedule_scale))


def clipped_loss(target: tf.Tensor, found: tf.Tensor) -> tf.Tensor:
    """Square of the error clipped to -1 .. 1, which has no gradient beyond; of each element."""
    return tf.square(tf.clip_by_value(target - found, -1, 1))


LOSSES = {"clipped": clipped_loss, "huber": common.element_wise_huber_loss, "squared": common.element_wise_squared_loss}


class QNetwork(network.Network):
    """A Keras 3 model whose variables TF-Agents finds, as tf.Variable, and whose L2 it adds to the loss."""

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


def hidden_widths(text: str) -> tuple[int, ...]:
    """Returns the widths in "4096,4096,512"; ValueError for anything else."""
    words = text.split(",")
    if not all(word.isdecimal() and int(word) for word in words):
        raise ValueError(f"--hidden: expected widths of layers as in 128,64, found {text!r}")
    return tuple(map(int, words))


def build_agent(config: training.DqnConfig, features: int) -> dqn_agent.DqnAgent:
    """Builds the agent, its target network equal to its network.

    Args:
        config: see there.
        features: length of the observation.
    """
    observation = tf.TensorSpec([features], tf.float32, "features")
    edits = tensor_spec.BoundedTensorSpec([], tf.int64, 0, len(editing.EDITS) - 1, "edit")
    build = functools.partial(dqn_editor, features, hidden_widths(config.hidden), config.duel)
    q_network, target = (QNetwork(build(name=name), observation, config.l2, name) for name in ("dqn_editor", "target"))
    optimizer = tf.keras.optimizers.Adam(LearningRate(config), epsilon=1e-8)
    agent = (dqn_agent.DdqnAgent if config.double else dqn_agent.DqnAgent)(
        ts.time_step_spec(observation),
        edits,
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
    optimizer.build(q_network.trainable_variables)  # its moments exist before a checkpoint is read
    return agent


class Learner:
    """The agent with its replay buffer and counters, all of them in its checkpoints.

    `step` counts edits, `episode` those of each environment. What `start` compiles draws from the replay buffer as the seed and
    the step decide: called at every checkpoint, it lets a killed run go on exactly as an unbroken one.
    """

    def __init__(self, config: training.DqnConfig, features: int, environments: int = 1):
        """Args: flags; length of the observation; number of environments that act at once."""
        if min(config.n_step, config.persistence) < 1:
            found = f"{config.n_step} and {config.persistence}"
            raise ValueError(f"expected --n_step and --persistence to be 1 and more, found {found}")
        self._config = config
        self._first = max(_scaled(config.first_training, config), (config.n_step + 1) * environments)
        if config.replay // environments * environments < self._first:
            raise ValueError(f"expected --replay to hold the {self._first} edits before training begins, found {config.replay}")
        self.agent = build_agent(config, features)
        self.q_network, target = (net.model for net in (self.agent._q_network, self.agent._target_q_network))
        self._replay = tf_uniform_replay_buffer.TFUniformReplayBuffer(
            self.agent.collect_data_spec, batch_size=environments, max_length=config.replay // environments
        )
        self.step, self.episode = (tf.Variable(0, dtype=tf.int64, name=name) for name in ("step", "episode"))
        self._random, self._left = np.zeros((2, environments), np.int64)  # random edits, and how often they are still to come
        self.checkpoint = tf.train.Checkpoint(
            q_network=self.q_network,
            target=target,
            agent=self.agent,
            replay=self._replay,
            step=self.step,
            episode=self.episode,
        )
        self._manager = tf.train.CheckpointManager(
            self.checkpoint, str(pathlib.Path(config.run) / "checkpoints"), training.KEPT_CHECKPOINTS
        )

    def restore(self) -> int:
        """Reads the last checkpoint of the run, all of it, and returns its step; 0 without one.

        Raises:
            ValueError: the checkpoint is damaged or of another agent.
        """
        if path := self._manager.latest_checkpoint:
            try:
                self.checkpoint.restore(path).assert_consumed()
            except (tf.errors.OpError, AssertionError, ValueError) as error:
                raise ValueError(f"{path}: expected a checkpoint of this agent, found {str(error).splitlines()[0]}") from error
        return int(self.step)

    def save(self) -> None:
        """Writes a checkpoint and removes old ones."""
        self._manager.save(int(self.step))

    def start(self) -> None:
        """Compiles `q_values`, `observe` and `train` anew."""
        tf.random.set_seed(self._config.seed + int(self.step))
        network, replay, agent = self.q_network, self._replay, self.agent
        batch, n_step = self._config.batch, self._config.n_step

        @tf.function
        def q_values(observation):
            """[N, features] to [N, 6]."""
            return network(observation, training=False)

        @tf.function
        def observe(step, action, after):
            """Stores a transition of every environment: time step, edits int64 [N], next time step."""
            replay.add_batch(trajectory.from_transition(step, policy_step.PolicyStep(action), after))

        @tf.function
        def train():
            """A training step on transitions of the buffer; returns the loss."""
            return agent.train(replay.get_next(batch, num_steps=n_step + 1)[0]).loss

        self.q_values, self.observe, self.train = q_values, observe, train

    def can_train(self) -> bool:
        """Whether the buffer holds as many edits as the first training step waits for."""
        return int(self._replay.num_frames()) >= self._first

    def act(self, observation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the edits that are next, int64 [N], some at random, and the Q values [N, 6].

        With `persistence` a random edit is repeated as often, but not in another episode (after Dabney, Ostrovski, Barreto,
        "Temporally-extended epsilon-greedy exploration", ICLR 2021), and begins so much more seldom that epsilon stays the
        share of random edits.
        """
        q_values, step, repeats = self.q_values(observation).numpy(), int(self.step), self._config.persistence
        rng, count = np.random.default_rng((self._config.seed, step)), len(q_values)
        if step % (editing.STEPS * count) == 0:
            self._left[:] = 0
        share = epsilon(step, self._config.schedule_scale)
        begins = (rng.random(count) < share / (repeats - share * (repeats - 1))) & (self._left == 0)
        self._random = np.where(begins, rng.integers(q_values.shape[1], size=count), self._random)
        self._left = np.where(begins, repeats, self._left)
        explore = self._left > 0
        self._left -= explore
        return np.where(explore, self._random, q_values.argmax(axis=1)), q_values

    def export(self, folder: str | os.PathLike) -> None:
        """Writes the greedy policy by TF-Agents' PolicySaver: a SavedModel with the signature `action`."""
        policy_saver.PolicySaver(self.agent.policy, train_step=self.agent.train_step_counter).save(str(folder))
