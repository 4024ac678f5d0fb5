"""The page on Gradio: what it shows, and which function of `session.Session` each event calls.

No request leaves the machine: Gradio's analytics are off, the fonts are those of the system, and a content security policy
keeps the browser to this server. Files of a visitor lie in a folder of their own below `GRADIO_TEMP_DIR`, where Gradio serves
them from, and are removed when the visitor leaves the page or the server ends.
"""

import contextlib
import html
import logging as stdlib_logging
import math
import os
import pathlib
import secrets
import tempfile
import time
from collections.abc import Iterator

from absl import logging
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from hdr_tf import cli, systems
from hdr_tf.io import image_files
from hdr_tf.page.session import ALIGNMENTS, FEWEST, MOST, CancelledError, Choice, Session, models

os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}

import gradio as gr  # reads these variables when it is imported

LOCAL = ("127.0.0.1", "localhost")
POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; form-action 'self'; frame-ancestors 'self'"
CSS = """
.gradio-container { max-width: 1100px !important; margin: 0 auto !important; width: 100% !important; }
.line { padding: .5rem .75rem; border-left: 4px solid var(--border-color-primary); overflow-wrap: anywhere; }
.line.error { border-color: #c0392b; color: #c0392b; font-weight: 600; }
.line.done { border-color: #1e8449; }
.notes { font-size: .9rem; overflow-wrap: anywhere; }
.legend span { display: inline-block; margin: 0 1rem .25rem 0; }
.legend i { display: inline-block; width: 1em; height: 1em; margin-right: .4em; vertical-align: -.15em; }
.legend i { border: 1px solid var(--body-text-color); }
.histogram { width: 100%; max-width: 640px; height: auto; }
.histogram rect { fill: var(--color-accent); }
.histogram text { fill: var(--body-text-color); font: 11px sans-serif; text-anchor: middle; }
#thumbnails .fixed-height { min-height: 0; }
#thumbnails .grid-container { grid-template-columns: repeat(auto-fit, minmax(100px, 1fr)) !important; }
#downloads .stem { white-space: normal; overflow-wrap: anywhere; }
#downloads .label-clear-button { display: none; }
"""
_HEADERS = ["File", "Stops", "Time", "Aperture", "ISO"]


@contextlib.contextmanager
def serve(host: str = "127.0.0.1", port: int | None = None, max_pixels: int = image_files.MAX_PIXELS) -> Iterator[str]:
    """Serves the page while this context lasts; yields its address.

    Args:
        host: address to bind to.
        port: None for the first free one from 7860 on.
        max_pixels: a larger image is refused before it is decoded.

    Raises:
        OSError: the port is taken.
    """
    if host not in LOCAL:
        logging.warning("%s: whoever reaches this machine can use the page and its memory; there is no password", host)
    stdlib_logging.getLogger("httpx").setLevel(stdlib_logging.WARNING)  # Gradio asks its own server whether it runs
    middleware = [Middleware(_Policy)]
    if host in LOCAL:  # no other site's name may lead a browser here
        middleware.append(Middleware(TrustedHostMiddleware, allowed_hosts=[*LOCAL]))
    with tempfile.TemporaryDirectory(prefix="hdr_tf_page_") as folder, _uploads_in(folder):
        page = build(pathlib.Path(folder), max_pixels)
        *_, address, _ = page.launch(
            server_name=host,
            server_port=port,
            share=False,
            inline=False,
            quiet=True,
            prevent_thread_lock=True,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            run_history=False,
            footer_links=[],
            app_kwargs={"middleware": middleware},
            theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
            css=CSS,
        )
        try:
            yield address
        finally:
            page.close(verbose=False)


@contextlib.contextmanager
def _uploads_in(folder):
    """Tells Gradio where uploads go; a page that this process serves already goes on with its own folder afterwards."""
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = folder
    try:
        yield
    finally:
        del os.environ["GRADIO_TEMP_DIR"]
        if before is not None:
            os.environ["GRADIO_TEMP_DIR"] = before


class _Policy:
    """Adds the content security policy to every answer."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def with_policy(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY.encode())]
            await send(message)

        await self.app(scope, receive, with_policy if scope["type"] == "http" else send)


class _Visitors:
    """The sessions by the hash that Gradio gives each tab of a browser, and the uploads of each."""

    def __init__(self, folder, max_pixels):
        self.folder, self.max_pixels = folder, max_pixels
        self.sessions: dict[str, Session] = {}
        self.uploads: dict[str, dict[pathlib.Path, int]] = {}  # by path, with the inode

    def session(self, request) -> Session:
        name = request.session_hash
        if name not in self.sessions:
            self.sessions[name] = Session(self.folder / secrets.token_hex(16), self.max_pixels)
        return self.sessions[name]

    def keep(self, request, uploads):
        """Notes the uploads of a visitor. Gradio keeps equal ones of several visitors once; a later one replaces it."""
        found = {path: path.stat().st_ino for path in map(pathlib.Path, uploads)}
        self.uploads.setdefault(request.session_hash, {}).update(found)

    def leave(self, request: gr.Request):
        """Removes the files of a visitor, but no upload that another one has."""
        for path, inode in self.uploads.pop(request.session_hash, {}).items():
            with contextlib.suppress(OSError):
                if path.stat().st_ino == inode and not any(path in others for others in self.uploads.values()):
                    path.unlink()
        if session := self.sessions.pop(request.session_hash, None):
            session.close()


def build(folder: pathlib.Path, max_pixels: int) -> gr.Blocks:
    """Returns the page, whose visitors' files lie in a folder."""
    visitors = _Visitors(folder, max_pixels)

    def load(uploads, task, request: gr.Request):
        session = visitors.session(request)
        error = ""
        try:
            visitors.keep(request, uploads or ())
            if uploads:
                session.load(uploads)
            else:
                session.clear()
        except (ValueError, OSError) as found:
            error = cli.one_line(found)
        exposures = session.exposures
        thumbnails = [(session.show(f"{i}_exposure", item.shown), item.path.name) for i, item in enumerate(exposures)]
        return {
            status: _line(error, "error") if error else "",
            notes: _notes(session.notes),
            gallery: gr.Gallery(thumbnails, visible=bool(exposures), columns=len(exposures) or 1),
            table: gr.Dataframe(_rows(session), visible=bool(exposures), row_count=len(exposures)),
            settings: gr.Column(visible=bool(exposures)),
            results: gr.Column(visible=False),
            **choose_task(task, request),
        }

    def pick(found, request: gr.Request):
        visitors.keep(request, found)
        photographs = image_files.photographs(map(pathlib.Path, found))
        if not photographs:
            return gr.skip(), _line(f"expected a folder of photographs, found {len(found)} other files", "error")
        return list(map(str, photographs)), ""

    def choose_task(task, request: gr.Request):
        names = models(task, len(visitors.session(request).exposures) or 3)
        return {
            model: gr.Dropdown(names, value=names[0], info=_about(names[0])),
            align: gr.Dropdown(_alignments(task), value=next(iter(ALIGNMENTS[task]))),
            crop: gr.Checkbox(visible=task == "fusion"),
            start: gr.Button("Fuse" if task == "fusion" else "Merge"),
        }

    def choose_model(name):
        system = systems.find(name)
        return gr.Dropdown(info=_about(name)), gr.Dropdown(interactive=system.task == "fusion" or system.exposures != (3, 3))

    def run(task, model, align, crop, rows, request: gr.Request) -> Iterator[dict]:
        session, began = visitors.session(request), time.monotonic()
        working = {start: gr.Button(visible=False), cancel: gr.Button(visible=True), results: gr.Column(visible=False)}
        idle = {start: gr.Button(visible=True), cancel: gr.Button(visible=False)}
        yield {status: _line("starting"), **working}
        stages = []
        try:
            for stage in session.run(Choice(task, model, align, crop, _stops(rows, _rows(session)))):
                if stage not in stages:
                    stages.append(stage)
                yield {status: _line(f"{' → '.join(stages)} ({time.monotonic() - began:.0f} s)")}
        except CancelledError:
            yield {status: _line("cancelled"), **idle}
        except (ValueError, OSError) as error:
            yield {status: _line(cli.one_line(error), "error"), **idle}
        except Exception as error:  # a fault of ours, whose trace is for the terminal
            logging.exception("%s", error)
            yield {status: _line(f"{type(error).__name__}: {cli.one_line(error)}", "error"), **idle}
        else:
            done = "fused" if task == "fusion" else "merged"
            yield {status: _line(f"{done} in {time.monotonic() - began:.1f} s", "done"), **idle, **shown(session)}

    def shown(session):
        result = session.result
        names = list(result.compared)
        middle, radiance = names[(len(names) - 2) // 2], result.radiance is not None
        return {
            results: gr.Column(visible=True),
            compared: gr.Dropdown(names, value=middle),
            slider: _pair(session, middle),
            files: list(map(str, result.files)),
            notes: _notes(session.notes + result.notes),
            steps: gr.Image(
                None if result.steps is None else session.show("steps", result.steps), visible=result.steps is not None
            ),
            light: gr.Column(visible=radiance),
            exposure: gr.Slider(value=0),
            at_exposure: session.show("at_0", session.at_exposure(0)) if radiance else None,
            histogram: _histogram(session.histogram()) if radiance else "",
            origin: gr.Column(visible=result.exposure_map is not None),
            exposure_map: None if result.exposure_map is None else session.show("map", result.exposure_map),
            legend: _legend(result.legend),
        }

    def compare(name, request: gr.Request):
        session = visitors.session(request)
        return _pair(session, name) if session.result and name in session.result.compared else gr.skip()

    def expose(stops, request: gr.Request):
        session = visitors.session(request)
        if session.result is None or session.result.radiance is None:
            return gr.skip()
        return session.show(f"at_{stops:g}", session.at_exposure(stops))

    def stop(request: gr.Request):
        visitors.session(request).cancel()
        return _line("cancelled"), gr.Button(visible=True), gr.Button(visible=False)

    with gr.Blocks(analytics_enabled=False, title="hdr_tf") as page:
        gr.Markdown(
            "# Exposures in, one image out\nEverything happens on this machine. Files are removed when you leave the page."
        )
        uploads = gr.File(label=f"Drop {FEWEST} to {MOST} exposures of one scene", file_count="multiple", height=150)
        folder_button = gr.UploadButton("Or pick a folder of them", file_count="directory", size="sm")
        gallery = gr.Gallery(
            label="Dark to bright",
            elem_id="thumbnails",
            height="auto",
            object_fit="contain",
            visible=False,
            interactive=False,
            buttons=[],
        )
        table = gr.Dataframe(
            headers=_HEADERS,
            datatype=["str", "number", "str", "str", "str"],
            type="array",
            label="What EXIF says; stops can be changed",
            column_count=len(_HEADERS),
            static_columns=[0, 2, 3, 4],
            interactive=True,
            visible=False,
            buttons=[],
        )
        with gr.Column(visible=False) as settings:
            task = gr.Radio(
                [("Fuse for display", "fusion"), ("Merge to radiance (HDR)", "radiance")], value="fusion", label="Task"
            )
            with gr.Row():
                model = gr.Dropdown(
                    models("fusion", 3), value=models("fusion", 3)[0], label="Model", info=_about("pyramid"), min_width=300
                )
                align = gr.Dropdown(_alignments("fusion"), value="auto", label="Alignment", min_width=300)
            crop = gr.Checkbox(False, label="Crop what not every aligned image covers")
            start = gr.Button("Fuse", variant="primary")
        cancel = gr.Button("Cancel", variant="stop", visible=False)
        status = gr.HTML()
        with gr.Column(visible=False) as results:
            compared = gr.Dropdown([], label="Compare the result (right) with")
            slider = gr.ImageSlider(
                label="Before and after", elem_id="slider", interactive=False, buttons=["fullscreen"], max_height=700
            )
            steps = gr.Image(label="Steps, with their Q values", interactive=False, visible=False, buttons=["fullscreen"])
            files = gr.File(label="Download", file_count="multiple", interactive=False, elem_id="downloads")
            with gr.Column(visible=False) as light:
                exposure = gr.Slider(-8, 8, 0, step=0.5, label="Exposure of the radiance, in stops from the reference")
                at_exposure = gr.Image(label="Radiance at this exposure", interactive=False, buttons=["fullscreen"])
                histogram = gr.HTML(label="Pixels by stops from the reference's clip", show_label=True, container=True)
                with gr.Column() as origin:
                    exposure_map = gr.Image(
                        label="Which exposure a pixel comes from", interactive=False, buttons=["fullscreen"]
                    )
                    legend = gr.HTML()
        notes = gr.HTML()

        chosen = [model, align, crop, start]
        running = gr.on(
            start.click,
            run,
            [task, model, align, crop, table],
            [status, notes, start, cancel, results, compared, slider, files, steps, light, exposure, at_exposure, histogram]
            + [origin, exposure_map, legend],
            show_progress="hidden",
            api_name="run",
        )
        loaded = [status, notes, gallery, table, settings, results, *chosen]
        folder_button.upload(pick, folder_button, [uploads, status], show_progress="hidden", api_name="pick")
        uploads.change(load, [uploads, task], loaded, cancels=[running], api_name="load")
        task.change(choose_task, task, chosen, show_progress="hidden", api_name=False)
        model.change(choose_model, model, [model, align], show_progress="hidden", api_name=False)
        compared.input(compare, compared, slider, api_name="compare")
        exposure.release(expose, exposure, at_exposure, api_name="expose")
        cancel.click(stop, None, [status, start, cancel], cancels=[running], queue=False, api_name="cancel")
        page.unload(visitors.leave)
    return page


def _pair(session, name):
    before = list(session.result.compared).index(name)
    return session.show(f"{before}_before", session.result.compared[name]), session.show("result", session.result.shown)


def _about(name):
    system = systems.SYSTEMS[name]
    return f"{system.description} ({system.paper})"


def _alignments(task):
    return [(label, name) for name, label in ALIGNMENTS[task].items()]


def _rows(session):
    rows = []
    for item, stop in zip(session.exposures, session.stops(), strict=True):
        seconds, aperture, iso = item.settings
        time = "" if seconds is None else f"{seconds:.3g} s" if seconds > 0.3 else f"1/{1 / seconds:.0f} s"
        listed = [time, "" if aperture is None else f"f/{aperture:.3g}", "" if iso is None else f"{iso:.0f}"]
        rows.append([item.path.name, None if stop is None else round(stop, 2), *listed])
    return rows


def _stops(rows, known):
    """The stops by file name that a visitor changed, None for those of EXIF."""
    found = {row[0]: _number(row[0], row[1]) for row in rows}
    if found == {row[0]: row[1] for row in known} or all(stop is None for stop in found.values()):
        return None
    missing = [name for name, stop in found.items() if stop is None]
    if missing:
        raise ValueError(f"{missing[0]}: expected the stops of every image or of none, found none")
    return found


def _number(name, value):
    if value is None or value == "" or isinstance(value, float) and math.isnan(value):
        return None
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"{name}: expected stops, a number, found {value!r}") from None


def _line(text, kind=""):
    return f'<div class="line {kind}" role="status">{html.escape(text)}</div>'


def _notes(lines):
    return f'<ul class="notes">{"".join(f"<li>{html.escape(line)}</li>" for line in lines)}</ul>' if lines else ""


def _legend(entries):
    listed = (f'<span><i style="background:{colour}"></i>{html.escape(name)}</span>' for name, colour in entries)
    return f'<div class="legend">{"".join(listed)}</div>' if entries else ""


def _histogram(bins):
    """An SVG of (stops, share) bars, with a number under every fourth stop."""
    if not bins:
        return ""
    width, height, most = 320 / len(bins), 80, max(share for _, share in bins)
    shapes = []
    for i, (stop, share) in enumerate(bins):
        left, tall = i * width, height * share / most
        size = f'x="{left:.1f}" y="{height - tall:.1f}" width="{width * 0.9:.1f}" height="{tall:.1f}"'
        shapes.append(f"<rect {size}><title>{stop:+g} stops: {share:.1%}</title></rect>")
        if stop % 4 == 0:
            shapes.append(f'<text x="{left:.1f}" y="{height + 12}">{stop:+g}</text>')
    label = "Share of pixels by stops from the reference's clip"
    return f'<svg class="histogram" viewBox="-12 0 344 96" role="img" aria-label="{label}">{"".join(shapes)}</svg>'
