"""The page of `hdr-tf page`: exposures in, a fused image or radiance out, in the browser of this machine.

session.py    what one visitor's files become; knows nothing of the browser
app.py        the page itself, on Gradio (extra `page`)
"""
