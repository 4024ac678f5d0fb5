"""Writes synthetic scenes or brackets from HDR images: moving scenes with their true radiance, or still brackets to fuse.

    hdr-tf scenes --hdr_dir=DIR[,DIR] --output=data/scenes --count=100 --exclude=Tree,forest,hall,venice
    hdr-tf scenes --hdr_dir=DIR[,DIR] --output=data/validation --count=8 --only=Tree,forest,hall,venice
    hdr-tf scenes --hdr_dir=DIR[,DIR] --output=data/varied --count=100 --exposures=2,7 --motion=varied
    hdr-tf scenes --kind=bracket --hdr_dir=DIR[,DIR] --output=data/brackets --count=24 --only=Tree,forest

Input and output (Kalantari's layout):

    hdr_dir/              data/scenes/
      bridge.exr            manifest.json
      desk.hdr              001/
      ...                     1.tif 2.tif 3.tif    16 bit, gamma 2.2, short to long
                              exposure.txt         stops, relative to the shortest exposure
                              HDRImg.hdr           radiance of the reference, 1 where the shortest clips
                              reference.txt        2.tif: the reference, unless it is the middle one of three
                            002/ ...

With --kind=bracket a scene is 1.png, 2.png, ..., square 8-bit exposures from dark to bright, simulated in the same way as the
records of `hdr-tf records --kind=bracket`. Next to them are the radiance that they show, radiance.exr, and camera.json:
with these, `hdr-tf evaluate` scores colours.

After an interruption the same command continues where it stopped; a larger --count adds scenes.
"""

import dataclasses
import sys
from typing import Literal

from hdr_tf import cli


@dataclasses.dataclass(frozen=True)
class Config:
    """What to write, and from what."""

    RENAMED = {"workers": "num_processes"}

    # What to write: moving or still scenes for ESBN and SelfHDR, or brackets.
    kind: Literal["scene", "bracket"] = "scene"
    hdr_dir: str = ""  # Folder of .exr and .hdr files, or several separated by commas.
    output: str = ""  # Folder for the scenes; created.
    count: int = 100  # Number of scenes.
    seed: int = 0  # The same seed gives the same scenes.
    height: int = 1000  # Height in pixels (scene).
    width: int = 1500  # Width in pixels (scene).
    size: int = 256  # Side in pixels (bracket).
    # Number of exposures, 2 to 9, or the least and the largest separated by a comma; without it 3 (scene) or 2 (bracket).
    exposures: str = ""
    # Contrast curves of the simulated cameras; skewed ones are closer to photographs (bracket).
    curves: Literal["symmetric", "skewed"] = "symmetric"
    static: bool = False  # Nothing moves between the exposures (scene).
    motion: Literal["rigid", "varied"] = (
        "rigid"  # What moves: rigid pieces, or also people, branches, nearer layers ... (scene).
    )
    only: str = ""  # Names (without suffix) of the only images to use, separated by commas.
    exclude: str = ""  # Names of images to leave out, separated by commas.
    full_well: float = 10_000  # Electrons of a saturated pixel, for the shot noise; inf for none (scene).
    read_noise: float = 5e-4  # Standard deviation of the sensor's own noise, 1 for saturation (scene).
    shift: float = 1 / 75  # Largest shift of the camera between exposures, as a part of the width (scene).
    rotation: float = 1  # Largest turn of the camera between exposures, in degrees (scene).
    piece_shift: float = 0.05  # Largest shift of what moves in the scene, as a part of the width (scene).
    num_processes: int = 0  # Number of processes; 0 for one per CPU.


def main(config: Config) -> None:
    from hdr_tf.synthesis.writer import write_brackets, write_scenes

    for flag in ("hdr_dir", "output"):
        if not getattr(config, flag):
            raise ValueError(f"--{flag}: expected a folder, found nothing")
    folders, only, exclude = map(cli.words, (config.hdr_dir, config.only, config.exclude))
    chosen = {"seed": config.seed, "only": only, "exclude": exclude, "num_processes": config.num_processes}
    exposures = cli.span(config.exposures or ("2" if config.kind == "bracket" else "3"), "--exposures")
    if config.kind == "bracket":
        chosen["curves"] = config.curves
        manifest, unreadable = write_brackets(config.output, folders, config.count, config.size, exposures, **chosen)
        what = f"brackets of {config.size} x {config.size}"
    else:
        size = config.height, config.width
        names = "static", "full_well", "read_noise", "shift", "rotation", "piece_shift", "motion"
        chosen |= {name: getattr(config, name) for name in names}
        manifest, unreadable = write_scenes(config.output, folders, config.count, size, exposures=exposures, **chosen)
        what = f"scenes of {config.width} x {config.height}"
    for line in unreadable:
        print(f"left out: {line}", file=sys.stderr)
    print(f"{config.output}: {len(manifest['scenes'])} {what}")
