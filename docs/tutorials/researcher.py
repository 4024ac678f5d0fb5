# %% [markdown]
# # For researchers: from synthetic scenes to a trained network and its card
#
# This tutorial makes data, trains the default network, `pyramid`, for two minutes on two CPU cores, scores it against the
# bundled weights and OpenCV, and writes a card that says what was done. It needs a clone of the repository with the extra
# `train` (`pip install -e ".[train]"`) and runs in its root: training scripts are not in the package.

# %%
import hashlib
import json
import os
import pathlib
import shlex
import subprocess
import sys

STEPS = int(os.environ.get("STEPS", "300"))  # two minutes; the bundled weights have 6000


def run(command):
    subprocess.run(shlex.split(command), check=True)


# %% [markdown]
# ## Scenes to validate on
#
# Radiance of a scene is what all synthetic data begins with. Use real HDR images where you have them; here it is merged from
# the sample exposures.

# %%
run("hdr-tf fuse --sample -o data/garage.png")
exposures = " ".join(f"data/garage_exposure_{number}.png" for number in (1, 2, 3))
run(f"hdr-tf merge {exposures} --exposures=-4,-1,2 --align=none -o data/radiance/garage.exr")
run("hdr-tf scenes --kind=bracket --hdr_dir=data/radiance --count=4 --exposures=3 --output=data/validation --num_processes=1")

# %% [markdown]
# `data/validation` has four brackets of 256 x 256 pixels, each by another simulated camera, with the radiance that they show.
#
# ## Records to train on
#
# Photographs that scikit-image contains, under synthetic light. The garage is one of them, so this validation is not a blind
# one: with HDR images of your own, `--only` and `--exclude` keep them apart, see [records](../records.md).

# %%
COUNT = max(8, STEPS // 4)
run(f"hdr-tf records --kind=bracket --photos --exposures=4 --count={COUNT} --shards=2 --output=data/train --num_processes=1")

# %% [markdown]
# ## Training
#
# The run folder holds checkpoints, logs and samples. If the command is killed, type it again: it continues. `hdr-tf plot` and
# `tensorboard --logdir=runs` show the curves.

# %%
TRAINING = f"train/pyramid.py --data=data/train --run=runs/pyramid --steps={STEPS} --log_every={max(1, STEPS // 10)}"
run(f"{sys.executable} {TRAINING}")

# %% [markdown]
# ## Scores
#
# The report (`scores/bundled/report.html`) defines every score and compares two results of a scene.

# %%
run("hdr-tf evaluate --model=pyramid,mertens --scenes=data/validation --output=scores/bundled")
run("hdr-tf evaluate --model=pyramid --weights=runs/pyramid --scenes=data/validation --output=scores/own")


def mean_of(folder, model):
    return json.loads(pathlib.Path(folder, "scores.json").read_text())["means"][model]["mef_ssim"]


rows = {"own weights": ("scores/own", "pyramid"), "bundled weights": ("scores/bundled", "pyramid")}
rows["OpenCV's Mertens fusion"] = "scores/bundled", "mertens"
table = [f"| {name} | {mean_of(*place):.4f} |" for name, place in rows.items()]
print("\n".join(table))

# %% [markdown]
# ## The card
#
# A card says what the weights are, how they were made and what they score, so that the figures can be reproduced.

# %%
weights = pathlib.Path("runs/pyramid/pyramid.weights.h5")
card = f"""# {weights.name}

SHA-256 `{hashlib.sha256(weights.read_bytes()).hexdigest()}`

Trained on {COUNT} synthetic brackets of scikit-image's photographs (seed 0):

    python {TRAINING}

| 4 synthetic brackets of the garage, which is among the training images | MEF-SSIM |
| --- | --- |
{chr(10).join(table)}
"""
weights.with_name("pyramid.md").write_text(card)
print(card)
