"""The page itself: what its functions answer, what leaves the machine, and how it looks in Chromium. Needs the extra `page`."""

import concurrent.futures
import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

import hdr_tf
from hdr_tf.io import image_files
from tests import helpers

# First, because it tells the libraries below to call nobody.
app = pytest.importorskip("hdr_tf.page.app", reason="the page needs the extra `page`; .ci/extra page installs it")
gradio_client, httpx = map(pytest.importorskip, ("gradio_client", "httpx"))

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
TIMES = (1 / 64, 1 / 16, 1 / 4)
LOCAL = re.compile(r"127\.0\.0\.1|::1|localhost|0\.0\.0\.0")


@pytest.fixture(scope="module")
def hosts():
    """What this process looks up and connects to while the page runs."""
    found, connect, look_up = set(), socket.socket.connect, socket.getaddrinfo

    def connecting(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            found.add(address[0])
        return connect(self, address)

    def looking_up(host, *arguments, **named):
        found.add(host.decode() if isinstance(host, bytes) else host)
        return look_up(host, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connecting)
        patch.setattr(socket, "getaddrinfo", looking_up)
        yield found


@pytest.fixture(scope="module")
def address(hosts):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_IS_E2E_TEST", "1")  # notices every quarter of a second who has left
        with app.serve() as address:
            yield address


def test_the_command_serves_until_it_is_ended(tmp_path):
    """As a process of its own, since what libraries do to its logging once ended it without a word."""
    command, errors = [sys.executable, helpers.ROOT / "tools" / "page.py"], tmp_path / "errors"
    with errors.open("w") as file, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True) as process:
        found = re.fullmatch(r"page: (http://127\.0\.0\.1:\d+/) .*\n", process.stdout.readline())
        assert found and httpx.get(found[1]).status_code == 200
        process.terminate()
        assert process.wait(30) == -signal.SIGINT  # as Ctrl-C ends every command
    assert len(errors.read_text().splitlines()) == 1


@pytest.fixture
def bracket(tmp_path):
    """Paths of three exposures."""
    return helpers.write_bracket(tmp_path / "camera", helpers.photographs((0.125, 0.5, 2.0)), TIMES)


class Visitor:
    """A tab of a browser without the browser."""

    def __init__(self, address, folder):
        self.client = gradio_client.Client(address, download_files=folder, verbose=False)
        self.rows = None

    def load(self, paths, task="fusion"):
        """Returns the status line."""
        status, _, _, table, *_ = self.client.predict(list(map(gradio_client.handle_file, paths)), task, api_name="/load")
        self.rows = table["value"]["data"]
        return status

    def run(self, task="fusion", model="pyramid", align="none"):
        """Returns the status line, the two images of the slider, and the downloads."""
        table = {"headers": ["File", "Stops", "Time", "Aperture", "ISO"], "data": self.rows, "metadata": None}
        status, _, _, pair, files, *_ = self.client.predict(task, model, align, False, table, api_name="/run")
        return status, pair, files


@pytest.fixture
def visitor(address, tmp_path):
    return Visitor(address, tmp_path / "downloads")


def served():
    """The files that the server keeps. (Gradio also makes an empty one for each upload.)"""
    found = set()
    for folder, _, names in os.walk(os.environ["GRADIO_TEMP_DIR"]):
        for path in (pathlib.Path(folder, name) for name in names):
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                found |= {path} if path.stat().st_size else set()
    return found


def test_the_download_is_what_fuse_returns(visitor, bracket):
    assert visitor.load(bracket[::-1]) == ""
    assert [row[:3] for row in visitor.rows] == [["a.png", -2, "1/64 s"], ["b.png", 0, "1/16 s"], ["c.png", 2, "1/4 s"]]
    status, pair, files = visitor.run()
    assert "error" not in status and [pathlib.Path(name).name for name in files] == [
        "a_fused.png",
        "a_fused.tif",
        "a_fused.jpg",
    ]
    assert np.array_equal(image_files.read_image(files[0]).pixels, hdr_tf.fuse(bracket))
    before, after = (image_files.read_image(path).pixels for path in pair)
    assert before.shape == after.shape == (56, 64, 3) and before.mean() != after.mean()


def test_a_folder_of_photographs_and_other_files(visitor, bracket, tmp_path):
    (tmp_path / "camera" / "notes.txt").write_text("of the day")
    files = list(map(gradio_client.handle_file, [*bracket, str(tmp_path / "camera" / "notes.txt")]))
    picked, status = visitor.client.predict(files, api_name="/pick")
    assert [pathlib.Path(path).name for path in picked] == ["a.png", "b.png", "c.png"] and status == ""
    assert "error" in visitor.client.predict(files[-1:], api_name="/pick")[1]


def test_radiance_of_changed_stops(visitor, bracket):
    visitor.load(bracket, "radiance")
    for row, stop in zip(visitor.rows, (-2.2, 0, 1.8), strict=True):
        row[1] = stop
    status, _, files = visitor.run("radiance", "merge_classical", "none")
    assert "error" not in status
    expected = hdr_tf.merge(bracket, (-2.2, 0, 1.8), "merge_classical", align="none")
    assert np.array_equal(image_files.read_radiance(files[0]), expected)
    visitor.rows[0][1] = None
    assert helpers.mentioned("a.png stops", visitor.run("radiance", "merge_classical", "none")[0])


def test_a_broken_file_gives_the_line_of_the_command(visitor, bracket, tmp_path):
    path = pathlib.Path(bracket[1])
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError) as error:
        hdr_tf.fuse(bracket)
    status = visitor.load(bracket)
    assert "error" in status and f">{error.value}<".replace(f"{path.parent}/", "") in status
    assert visitor.rows == []


def test_names_are_text(visitor, bracket, tmp_path):
    path = pathlib.Path(bracket[1]).rename(tmp_path / "camera" / "<b>&.png")
    path.write_bytes(b"nothing")
    status = visitor.load([bracket[0], str(path)])
    assert "error" in status and "<b>" not in status


def test_two_visitors_at_once_do_not_mix(address, tmp_path):
    def visit(seed):
        images = helpers.photographs((0.125, 0.5, 2.0), seed=seed)
        paths = helpers.write_bracket(tmp_path / f"camera{seed}", images, TIMES)  # with the same names
        visitor = Visitor(address, tmp_path / f"downloads{seed}")
        visitor.load(paths)
        _, _, files = visitor.run()
        return image_files.read_image(files[0]).pixels, hdr_tf.fuse(paths)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = list(pool.map(visit, range(4)))
    assert all(np.array_equal(*result) for result in results)
    assert not np.array_equal(results[0][0], results[1][0])


def test_files_go_with_their_visitor(address, bracket, tmp_path):
    first, second = (Visitor(address, tmp_path / name) for name in ("first", "second"))
    before = served()
    for visitor in (first, second):  # Gradio keeps equal uploads once
        visitor.load(bracket)
    both = served()
    first.run()
    assert len(served() - both) == 3 + 2
    first.client.close()
    wait_until_gone(both)
    assert "error" not in second.run()[0]
    second.client.close()
    wait_until_gone(before)


def wait_until_gone(paths):
    """Waits until the server keeps none but these files."""
    end = time.monotonic() + 30
    while not served() <= paths and time.monotonic() < end:
        time.sleep(0.1)
    assert served() <= paths


def test_nothing_leaves_the_machine(visitor, bracket, hosts):
    visitor.load(bracket)
    visitor.run()
    assert hosts and all(LOCAL.fullmatch(host) for host in hosts)


def test_the_html_fetches_nothing_from_elsewhere(address):
    answer = httpx.get(address)
    fetched = re.findall(r"""(?:\bsrc|<link[^>]*\bhref|url\(|@import)\s*[=(]?\s*["']?(?:https?:)?//([^/"'\s)]+)""", answer.text)
    assert {host.partition(":")[0] for host in fetched} <= {"127.0.0.1"}
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'self'") and "http" not in policy
    assert answer.status_code == 200 and httpx.get(address, headers={"Host": "elsewhere.example"}).status_code == 400


def test_an_open_address_is_warned_about(warnings, monkeypatch):
    monkeypatch.setattr(app.gr.Blocks, "launch", lambda *_, **named: launched.append(named) or (None, "address", None))
    launched = []
    for host in ("127.0.0.1", "0.0.0.0"):
        with app.serve(host):
            assert len(warnings) == len(launched) - 1
    assert "0.0.0.0" in warnings[0] and [named["server_name"] for named in launched] == ["127.0.0.1", "0.0.0.0"]


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 390])
def test_the_page_in_a_browser(address, bracket, tmp_path, width):
    """A visitor fuses and sees the slider with both images decoded; nothing is wider than the window or fetched from elsewhere;
    the three screenshots show something; leaving removes the files."""
    required = os.environ.get("HDR_TF_BROWSER") == "required"
    if CHROMIUM is None:
        (pytest.fail if required else pytest.skip)("there is no Chromium; .ci/extra page installs it")
    playwright = pytest.importorskip("playwright.sync_api", reason=".ci/extra page installs it")
    before, asked = served(), set()
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("request", lambda request: asked.add(request.url))
        page.goto(address)
        pictures = [look(page, page.get_by_text("Drop 2 to 9"))]
        page.set_input_files("input[type=file]", bracket)
        fuse = page.get_by_role("button", name="Fuse", exact=True)
        pictures.append(look(page, fuse))
        fuse.click()
        pictures.append(look(page, page.locator(".line.done")))
        slider = page.locator("#slider img")
        slider.nth(1).wait_for()
        page.wait_for_function("[...document.querySelectorAll('#slider img')].every(image => image.naturalWidth == 64)")
        with page.expect_download() as download:
            page.locator("#downloads a").first.click()
        download.value.save_as(tmp_path / "taken.png")
        assert np.array_equal(image_files.read_image(tmp_path / "taken.png").pixels, hdr_tf.fuse(bracket, align="auto"))
        page.close()
        browser.close()
    assert slider and len({picture.shape for picture in pictures}) == 3 and min(picture.std() for picture in pictures) > 5
    assert {url.split("/")[2] for url in asked if not url.startswith(("data:", "blob:"))} == {address.split("/")[2]}
    wait_until_gone(before)


def look(page, expected):
    """Waits for an element and returns a screenshot of the whole page, which is not wider than the window."""
    expected.wait_for(timeout=120_000)
    page.wait_for_timeout(1000)
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    picture = np.frombuffer(page.screenshot(full_page=True), np.uint8)
    return cv2.imdecode(picture, cv2.IMREAD_COLOR)
