"""`hdr-tf fuse` as a person runs it: what it prints where."""

import os
import pty
import subprocess
import sys

import pytest

from hdr_tf.io import image_files
from tests import helpers

COMMAND = [sys.executable, "-m", "hdr_tf.commands", "fuse"]


def fuse(*words):
    return helpers.run_python("-m", "hdr_tf.commands", "fuse", *map(str, words), check=True, cwd=helpers.ROOT)


def test_nothing_but_the_sorting_line_is_written_to_stderr(tmp_path):
    assert fuse("--sample", "-o", tmp_path / "sample.png").stderr == ""
    dark, bright = helpers.bracket()
    photographs = [
        helpers.write_photograph(tmp_path / f"{name}.jpg", image, time)
        for name, image, time in (("b", bright, 0.1), ("a", dark, 0.01))
    ]
    assert fuse(*photographs, "-o", tmp_path / "fused.jpg").stderr == ""
    plain = [tmp_path / "2.png", tmp_path / "1.png"]
    for path, image in zip(plain, (bright, dark), strict=True):
        image_files.write_image(path, image)
    lines = fuse(*plain, "-o", tmp_path / "fused.png").stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("INFO: ") and lines[0].endswith(": 1.png, 2.png")


@pytest.mark.slow
def test_progress_is_shown_on_a_terminal_and_stdout_stays_clean(tmp_path):
    terminal, stderr = pty.openpty()
    command = [*COMMAND, "--sample", "-o", str(tmp_path / "sample.png")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=helpers.ROOT) as process:
        os.close(stderr)
        drawn = b""
        while True:
            try:
                part = os.read(terminal, 4096)
            except OSError:  # the other end is closed
                break
            drawn += part
        printed = process.stdout.read()
    os.close(terminal)
    assert process.returncode == 0
    assert all(word in drawn for word in (b"loading pyramid", b"fusing"))
    assert [line.split(":")[0] for line in printed.splitlines()] == ["exposures", "fused"]
