"""The page itself: its API, what leaves the machine, and how it looks in Chromium. Needs the extra `page`."""

import os
import pathlib
import re
import shutil
import socket
import threading

import httpx
import numpy as np
import pytest
from PIL import Image

import hdr_tf
from hdr_tf.io import image_files
from tests import helpers

pytest.importorskip("gradio", reason="the page needs the extra `page`; .ci/extra page installs it")
from gradio_client import Client, handle_file  # noqa: E402

from hdr_tf.page import app  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
TIMES = (1 / 64, 1 / 16, 1 / 4)


@pytest.fixture(scope="module")
def hosts():
    """Where this process connects to while the page runs."""
    found, connect, look_up = set(), socket.socket.connect, socket.getaddrinfo

    def connected(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            found.add(address[0])
        return connect(self, address)

    def looked_up(host, *arguments, **named):
        found.add(host.decode() if isinstance(host, bytes) else host)
        return look_up(host, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connected)
        patch.setattr(socket, "getaddrinfo", looked_up)
        yield found


@pytest.fixture(scope="module")
def address(hosts):
    with app.serve() as address:
        yield address


@pytest.fixture(scope="module")
def bracket(tmp_path_factory):
    """Paths of three exposures."""
    return helpers.write_bracket(tmp_path_factory.mktemp("camera"), helpers.photographs((0.125, 0.5, 2.0)), TIMES)


@pytest.fixture
def visitor(address, tmp_path):
    return Client(address, download_files=tmp_path / "downloads", verbose=False)


def load(visitor, paths, task="fusion"):
    """Returns status line, notes, thumbnails and table."""
    status, notes, gallery, table, *_ = visitor.predict(list(map(handle_file, paths)), task, api_name="/load")
    return _text(status), notes, gallery, table


def run(visitor, table, task="fusion", model="pyramid", align="none"):
    """Returns status line, slider and files."""
    outputs = visitor.predict(task, model, align, False, _value(table), api_name="/run")
    status, slider, files = (next(output for output in outputs if test(output)) for test in (_is_line, _is_pair, _is_list))
    return _text(status), slider, files


def test_the_download_is_what_fuse_returns(visitor, bracket):
    status, _, gallery, table = load(visitor, bracket)
    print(status, gallery, table)
    outputs = visitor.predict("fusion", "pyramid", "none", False, table, api_name="/run")
    print(outputs)
    raise AssertionError
