"""Serves a page on this machine on which exposures are dropped and a fused image or radiance is taken home.

    hdr-tf page
    hdr-tf page --port=8000 --open

It needs Gradio: pip install 'hdr_tf[page]'. Ctrl-C ends it.
"""

import dataclasses
import signal
import threading
import webbrowser

from hdr_tf.io import image_files


@dataclasses.dataclass(frozen=True)
class Config:
    """Where to serve the page."""

    host: str = "127.0.0.1"
    """sets the address to bind to; any other than this one lets other machines use the page, without a password"""
    port: int | None = None
    """sets the port; default: the first free one from 7860 on"""
    open: bool = False
    """opens the page in the browser"""
    max_pixels: int = image_files.MAX_PIXELS
    """refuses a larger image before it is decoded"""


def main(config: Config) -> int:
    try:
        from hdr_tf.page import app
    except ImportError as error:
        raise ValueError(f"the page needs Gradio ({error}): pip install 'hdr_tf[page]'") from error
    for name in ("SIGTERM", "SIGHUP"):  # the photographs that visitors left are removed however the server ends
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)
    with app.serve(config.host, config.port, config.max_pixels) as address:
        print(f"page: {address} (Ctrl-C ends it)", flush=True)
        if config.open:
            webbrowser.open(address)
        threading.Event().wait()
    return 0
