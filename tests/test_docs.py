"""Every command in docs/ runs, as typed but for sizes and counts, and every link leads somewhere."""

import importlib
import re
import shlex

import cv2
import numpy as np
import pytest

from hdr_tf import cli
from hdr_tf.io import image_files
from tests import helpers

DOCS = helpers.ROOT / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))

TRAINING = "--steps=1 --log_every=1 "
SCENES = TRAINING + "--checkpoint_every=1 --batch=1 --patch=32 --shuffle_scenes=1 "
TINY = {  # flags after those of the page, which they overrule
    "hdr-tf scenes": "--count=1 --height=64 --width=80 --num_processes=1",
    "hdr-tf records": "--size=64 --patch=32 --shards=1 --num_processes=1",
    "hdr-tf evaluate_editor": "--pairs=1",
    "train/pyramid.py": TRAINING,
    "train/merge.py": TRAINING + "--batch=1",
    "train/deepfuse.py": TRAINING + "--batch=1 --patch=32",
    "train/densefuse.py": TRAINING + "--patch=32",
    "train/hyperp_mb.py": TRAINING + "--patch=32",
    "train/esbn_align.py": SCENES + "--filters=4",
    "train/esbn_fusion.py": SCENES + "--filters=4 --growth=2",
    "train/esbn_end_to_end.py": SCENES + "--filters=4 --growth=2 --align_filters=4",
    "train/selfhdr.py": TRAINING + "--batch=1 --patch=32 --shuffle_scenes=1",
    "train/dqn_editor.py": "--hidden=4 --replay=20 --first_training=4 --pairs=2 --valid_pairs=1 --steps=20 --log_every=20 "
    "--demonstrations=1,1 --demonstration_steps=2",
}


def commands(page):
    blocks = re.findall(r"^```bash\n(.*?)^```$", (DOCS / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith(("hdr-tf ", "python "))]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What the pages take for granted, in the current folder: radiance, exposures, brackets, triplets and photographs."""
    y, x = np.mgrid[0:1:72j, 0:1:96j]
    wave = np.stack([1.1 + np.sin(9 * x + 4 * y + i) * np.cos(7 * y - i * x) for i in range(3)], axis=-1)
    exposures = [np.uint8(np.clip(wave * gain * 120, 0, 255)) for gain in (0.25, 1, 4)]
    paths = {
        "A.jpg B.jpg C.jpg": exposures,
        "brackets/church/1.jpg brackets/church/2.jpg brackets/church/3.jpg": exposures,
        "triplets/input1/a.png triplets/target/a.png triplets/input2/a.png": exposures,
        "photographs/a.png photographs/b.png": exposures[1:],
    }
    for names, images in paths.items():
        for name, image in zip(names.split(), images, strict=True):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            image_files.write_image(tmp_path / name, cv2.resize(image, (96, 72)))
    (tmp_path / "hdr").mkdir()
    for name in ("room", "garden"):
        image_files.write_radiance(tmp_path / "hdr" / f"{name}.exr", np.float32(wave**4))
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_the_commands_of_a_page_run(page, folder):
    for line in commands(page):
        program, script, *words = shlex.split(line)
        name = script if program == "python" else f"{program} {script}"
        words += shlex.split(TINY.get(name, "")) + ["--count=2"] * (name == "hdr-tf records" and "--count" in line)
        room = "hdr_tf.commands." if program == "hdr-tf" else ""
        module = importlib.import_module(room + script.removesuffix(".py").replace("/", "."))
        assert module.main(cli.parse(module.Config, words)) in (None, 0), line


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)\)", (DOCS / page).read_text())
    assert all((DOCS / link).exists() for link in links if "://" not in link), links
