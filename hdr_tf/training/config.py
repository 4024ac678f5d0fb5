"""Flags that training scripts share: frozen dataclasses that a script's own `Config` extends."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Flags of every training script."""

    run: str = "runs/new"  # folder of the run; an existing run continues
    steps: int = 10_000  # number of steps after which the run ends
    seed: int = 0  # seed of weights, data order and augmentation
    log_every: int = 250  # steps between log rows and samples
    checkpoint_every: int = 0  # steps between checkpoints, a multiple of log_every; 0: the same as log_every


@dataclasses.dataclass(frozen=True)
class TrainingConfig(RunConfig):
    """Flags of the training scripts that end in `loop.fit`."""

    data: str = ""  # folder of records, of the kind that the description of the script names
    strategy: Literal["none", "mirrored", "multi_worker"] = "none"  # share each batch among accelerators, or among machines
    jit: bool = False  # compile the step with XLA
    deterministic: Literal["auto", "on", "off"] = "auto"  # a killed run ends exactly as an unbroken one; auto: without --jit
    mixed_precision: bool = False  # compute with 16 bits: bfloat16, or float16 on a GPU that lacks it
    tf32: bool = False  # let NVIDIA GPUs round the factors of float32 products to 10 bits


@dataclasses.dataclass(frozen=True)
class PatchTrainingConfig(TrainingConfig):
    """Flags of the scripts that train on patches of scenes (`loop.patches`), with the defaults of train/esbn_fusion.py."""

    steps: int = 300_000  # number of steps after which the run ends
    log_every: int = 1_000  # steps between log rows and samples
    checkpoint_every: int = 10_000  # steps between checkpoints
    batch: int = 4  # patches in a step
    patch: int = 256  # side of a patch in pixels
    learning_rate: float = 1e-4  # learning rate of the first step
    schedule: Literal["step", "cosine"] = "step"  # a tenth after step 200,000, or a cosine that ends at a hundredth
    depth: Literal[8, 16] = 8  # bits of the images: the original reads 16-bit files as 8 bit
    resize: bool = True  # scale each patch down to 250 of 256 pixels and up again, as the original does
    shuffle_scenes: int = 8  # scenes in memory at a time


@dataclasses.dataclass(frozen=True)
class SsimTrainingConfig(TrainingConfig):
    """Flags of the scripts whose loss is a mean squared error and 1 - MS-SSIM, with the defaults of train/densefuse.py."""

    patch: int = 256  # side of an image in pixels
    learning_rate: float = 1e-4  # learning rate of the first step
    schedule: Literal["constant", "cosine"] = "constant"  # cosine: rises over a fiftieth of the run, then falls to a hundredth
    optimizer: Literal["adam", "kfac"] = "adam"  # as the original, or natural gradient, at rates about 1e-2
    weights: str = ""  # start from the weights in this file
    ssim_weight: float = 100  # weight of 1 - MS-SSIM in the loss


def check_steps(config: RunConfig) -> None:
    """Raises ValueError if the numbers of steps do not divide each other."""
    if config.log_every < 1 or config.steps < 1 or config.steps % config.log_every:
        raise ValueError(f"expected --steps to be a multiple of --log_every, found {config.steps} and {config.log_every}")
    if config.checkpoint_every < 0 or config.checkpoint_every % config.log_every:
        found = f"{config.checkpoint_every} and {config.log_every}"
        raise ValueError(f"expected --checkpoint_every to be a multiple of --log_every, found {found}")
