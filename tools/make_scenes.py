"""Makes scenes from HDR pictures: of moving things, three exposures and the true radiance each, or brackets to be fused.

    python tools/make_scenes.py --hdr_dir=DIR[,DIR] --output=data/scenes --count=100 --exclude=Tree,forest,hall,venice
    python tools/make_scenes.py --hdr_dir=DIR[,DIR] --output=data/validation --count=8 --only=Tree,forest,hall,venice
    python tools/make_scenes.py --kind=bracket --hdr_dir=DIR[,DIR] --output=data/brackets --count=24 --only=Tree,forest

In and out (Kalantari's layout):

    hdr_dir/              data/scenes/
      bridge.exr            manifest.json
      desk.hdr              001/
      ...                     1.tif 2.tif 3.tif    16 bit, gamma 2.2, short to long
                              exposure.txt         stops, relative to the shortest exposure
                              HDRImg.hdr           radiance of the medium exposure, 1 where the shortest clips
                            002/ ...

Of kind "bracket" a scene is 1.png, 2.png, ..., square exposures of 8 bit from dark to bright, made as the records of
tools/make_tfrecord.py --kind=bracket are.

Interrupted, it goes on where it stopped when started again; a larger --count adds scenes.
"""

import dataclasses
import sys
from typing import Literal

from hdr_tf import cli


@dataclasses.dataclass(frozen=True)
class Config:
    """What to make, and from what."""

    # What to make: moving or still scenes for ESBN and SelfHDR, or brackets.
    kind: Literal["scene", "bracket"] = "scene"
    # Folder of .exr and .hdr files, or several with commas between them.
    hdr_dir: str = ""
    # Folder for the scenes; made if absent.
    output: str = ""
    # Number of scenes.
    count: int = 100
    # The same seed gives the same scenes.
    seed: int = 0
    # Size in pixels (scene).
    height: int = 1000
    width: int = 1500
    # Side in pixels (bracket).
    size: int = 256
    # Number of exposures: one number, or the least and the largest with a comma between them, 2 to 9 (bracket).
    exposures: str = "2"
    # Nothing moves between the exposures (scene).
    static: bool = False
    # Names (without suffix) of the only pictures to take, with commas between them.
    only: str = ""
    # Names of pictures to leave out, with commas between them.
    exclude: str = ""
    # Electrons of a saturated pixel, for the shot noise; inf for none (scene).
    full_well: float = 10_000
    # Standard deviation of the sensor's own noise, 1 for saturation (scene).
    read_noise: float = 5e-4
    # Number of processes; 0 for one per CPU.
    workers: int = 0


def main(config: Config) -> None:
    from hdr_tf.image.scene_sets import write_brackets, write_scenes

    for flag in ("hdr_dir", "output"):
        if not getattr(config, flag):
            raise ValueError(f"--{flag}: expected a folder, found nothing")
    folders, only, exclude = map(cli.words, (config.hdr_dir, config.only, config.exclude))
    chosen = {"seed": config.seed, "only": only, "exclude": exclude, "workers": config.workers}
    if config.kind == "bracket":
        exposures = cli.span(config.exposures, "--exposures")
        manifest, unreadable = write_brackets(config.output, folders, config.count, config.size, exposures, **chosen)
        what = f"brackets of {config.size} x {config.size}"
    else:
        size, noise = (config.height, config.width), {"full_well": config.full_well, "read_noise": config.read_noise}
        manifest, unreadable = write_scenes(config.output, folders, config.count, size, static=config.static, **noise, **chosen)
        what = f"scenes of {config.width} x {config.height}"
    for line in unreadable:
        print(f"left out: {line}", file=sys.stderr)
    print(f"{config.output}: {len(manifest['scenes'])} {what}")


if __name__ == "__main__":
    cli.run(main, Config)
