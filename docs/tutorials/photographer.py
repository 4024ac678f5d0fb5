# %% [markdown]
# # For photographers: from a bracket to an image that screens show as HDR
#
# Three exposures of one scene become an image for every screen, radiance, and an Ultra HDR JPEG, in which phones, browsers and
# photo programs show the highlights brighter. The same is possible without a command line, on
# [a page in the browser](../page.md).
#
# This tutorial is a script (`docs/tutorials/photographer.py`, also for Jupyter by way of Jupytext). Lines in `run("...")` can
# just as well be typed into a terminal.

# %%
import io
import pathlib
import shlex
import subprocess

import numpy as np
from PIL import Image


def run(command):
    subprocess.run(shlex.split(command), check=True)


# %% [markdown]
# ## An image
#
# `--sample` stands for photographs of your own: it makes three exposures of a garage, three stops apart, and fuses them.

# %%
run("hdr-tf fuse --sample -o garage.png")

# %% [markdown]
# Next to `garage.png` are now `garage_exposure_1.png` to `garage_exposure_3.png`, dark to bright. With your own files it is
#
#     hdr-tf fuse IMG_1.jpg IMG_2.jpg IMG_3.jpg -o fused.jpg --align=auto
#
# where `--align=auto` is for a camera in the hand.
#
# ## Radiance
#
# Merging measures how bright everything was. It needs to know the exposures. Your camera writes them into EXIF; the samples
# have none, so we state them, in stops and in the order of the files.

# %%
EXPOSURES = "garage_exposure_1.png garage_exposure_2.png garage_exposure_3.png --exposures=-4,-1,2"
run(f"hdr-tf merge {EXPOSURES} --align=none -o garage.exr")

# %% [markdown]
# `garage.exr` is for programs that develop radiance, `garage_preview.png` shows it. `--align=none` says that nothing moved;
# without it, `merge` follows what moved.
#
# ## Ultra HDR
#
# `--hdr=ultrahdr` writes the same preview with a gain map. Lamps and sky, which the middle exposure clips, are up to 2.3 stops
# brighter on a screen that can show it; `--peak` and `--diffuse_white` change how bright and from where on.

# %%
run(f"hdr-tf merge {EXPOSURES} --align=none -o garage.jpg --hdr=ultrahdr")

# %% [markdown]
# Send `garage.jpg` to a phone, or open it in Chrome on a laptop with an HDR screen. Every other program shows an ordinary JPEG.
# How much of it is brighter says the gain map, which is the second image in the file:

# %%
image = Image.open("garage.jpg")
second = image._getmp()[0xB002][1]
begin = image.info["mpoffset"] + second["DataOffset"]
gain_map = np.asarray(Image.open(io.BytesIO(pathlib.Path("garage.jpg").read_bytes()[begin:])))
print(f"{image.size[0]} x {image.size[1]} pixels, of which {np.mean(gain_map > 0):.0%} are brighter on an HDR screen")
