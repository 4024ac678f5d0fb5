"""Makes scenes of moving things, three exposures and the true radiance each, from HDR pictures.

    python tools/make_scenes.py --hdr_dir=DIR[,DIR] --output=data/scenes --count=100 --exclude=Tree,forest,hall,venice
    python tools/make_scenes.py --hdr_dir=DIR[,DIR] --output=data/validation --count=8 --only=Tree,forest,hall,venice

In and out (Kalantari's layout):

    hdr_dir/              data/scenes/
      bridge.exr            manifest.json
      desk.hdr              001/
      ...                     1.tif 2.tif 3.tif    16 bit, gamma 2.2, short to long
                              exposure.txt         stops, relative to the shortest exposure
                              HDRImg.hdr           radiance of the medium exposure, 1 where the shortest clips
                            002/ ...

Interrupted, it goes on where it stopped when started again; a larger --count adds scenes.
"""

import dataclasses
import sys

from hdr_tf import cli


@dataclasses.dataclass(frozen=True)
class Config:
    """What to make, and from what."""

    # Folder of .exr and .hdr files, or several with commas between them.
    hdr_dir: str = ""
    # Folder for the scenes; made if absent.
    output: str = ""
    # Number of scenes.
    count: int = 100
    # The same seed gives the same scenes.
    seed: int = 0
    # Size in pixels.
    height: int = 1000
    width: int = 1500
    # Nothing moves between the exposures.
    static: bool = False
    # Names (without suffix) of the only pictures to take, with commas between them.
    only: str = ""
    # Names of pictures to leave out, with commas between them.
    exclude: str = ""
    # Electrons of a saturated pixel, for the shot noise; inf for none.
    full_well: float = 10_000
    # Standard deviation of the sensor's own noise, 1 for saturation.
    read_noise: float = 5e-4
    # Number of processes; 0 for one per CPU.
    workers: int = 0


def main(config: Config) -> None:
    from hdr_tf.image.scene_sets import write_scenes

    for flag in ("hdr_dir", "output"):
        if not getattr(config, flag):
            raise ValueError(f"--{flag}: expected a folder, found nothing")
    folders, only, exclude = map(cli.words, (config.hdr_dir, config.only, config.exclude))
    manifest, unreadable = write_scenes(
        config.output,
        folders,
        config.count,
        (config.height, config.width),
        config.seed,
        config.static,
        only,
        exclude,
        config.full_well,
        config.read_noise,
        config.workers,
    )
    for line in unreadable:
        print(f"left out: {line}", file=sys.stderr)
    print(f"{config.output}: {len(manifest['scenes'])} scenes of {config.width} x {config.height}")


if __name__ == "__main__":
    cli.run(main, Config)
