"""Flags of the editor's training."""

import dataclasses
from typing import Literal

from hdr_tf.training.config import RunConfig


@dataclasses.dataclass(frozen=True)
class DqnConfig(RunConfig):
    """Flags of the agent and its environment (hdr_tf/rl). The agent's defaults are the original program's, whose numbers of
    steps are for long runs; `schedule_scale` multiplies them all."""

    run: str = "runs/dqn_editor"  # folder of the run; an existing run is continued
    steps: int = 400_000  # number of edits after which the run ends; schedule_scale does not change it
    log_every: int = 1_000  # edits between two log rows, each with validation and a sample; a multiple of 20
    features: str = "vgg,quality"  # what the agent gets: vgg, quality, pair, lab_8k, lab, rgbl, tiny, tiny_28, commas between
    history: bool = False  # the agent also gets the edits that it has made so far
    vgg_weights: str = ""  # file of VGG16's weights; default: download
    reward: str = "reference"  # reference: closer to the reference image; mef_ssim: higher MEF-SSIM, needs no reference
    # Episodes of which the Q network first learns the rewards of all six edits, for example 1000,300: the first number mixes
    # looking ahead and random edits, each further one follows the policy. Random edits are then a tenth from the start.
    demonstrations: str = ""
    demonstration_steps: int = 4_000  # training steps after each number of demonstrations
    environments: int = 1  # number of episodes that run at the same time; several run in processes of their own
    hidden: str = "4096,4096,512"  # widths of the Q network's hidden layers
    duel: bool = False  # dueling network: separate columns for the state's value and the edits' advantages
    double: bool = False  # double DQN: the Q network chooses the best next edit, and the target network says what it is worth
    stops: bool = False  # what follows an edit is worth at least 0, since a policy stops when no edit is worth anything
    batch: int = 1  # transitions in a training step
    discount: float = 0.95  # factor on rewards after an edit, applied once for each edit in between
    n_step: int = 1  # number of actual rewards that are summed before the target network estimates the rest
    persistence: int = 1  # how many times in a row a random edit is made; the end of the episode stops it
    # Loss of the temporal-difference error: its square after clipping it to +-1, with no gradient beyond; Huber's; or its plain
    # square, the only one that is smallest at the mean, which matters if returns are far apart.
    loss: Literal["clipped", "huber", "squared"] = "clipped"
    l2: float = 1e-4  # weight of half the sum of all squared weights and biases in the loss
    learning_rate: float = 1e-5  # Adam's initial learning rate
    learning_rate_decay: float = 0.96  # factor of each decay of the learning rate
    learning_rate_steps: int = 5_000  # training steps between two decays
    learning_rate_floor: float = 1e-8  # smallest learning rate
    target_steps: int = 500  # training steps between two updates of the target network
    replay: int = 5_000  # capacity of the replay buffer in transitions
    first_training: int = 1_000  # number of edits before the first training step
    schedule_scale: float = 1.0  # scales learning_rate_steps, target_steps, first_training and the steps at which epsilon falls
