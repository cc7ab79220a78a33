# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # segjax: more labels from your own video
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/segjax/blob/main/notebooks/own_video.ipynb)
#
# A few frames of a video are labelled. Their labels are propagated to the frames around them, a network trains on all,
# and labels another video by itself. It runs from top to bottom in Colab and on any machine; without a GPU the training
# is short.

# %% [markdown]
# ## Install

# %%
import os
import shutil
import subprocess
import sys

IN_COLAB = "google.colab" in sys.modules

if IN_COLAB:
    device = "gpu" if shutil.which("nvidia-smi") else "tpu" if os.path.exists("/dev/vfio/0") else "cpu"
    jax_for = {"gpu": "jax[cuda12]", "tpu": "jax[tpu]", "cpu": "jax"}[device]
    segjax_source = "git+https://github.com/OWNER/segjax"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", segjax_source, jax_for], check=True)

# %%
import io
import json
import re
import shlex
from pathlib import Path

import cv2
import jax
import numpy as np
from IPython.display import Image, display
from PIL import Image as Picture

from segjax import cli
from segjax.commands.train import train

GPU = jax.default_backend() != "cpu"
STEPS = int(os.environ.get("SEGJAX_NOTEBOOK_STEPS", 600 if GPU else 300))

if GPU:
    print(f"jax runs on {jax.devices()[0].device_kind}.")
else:
    print(f"jax finds no GPU or TPU, so the training is short: {STEPS} steps. In Colab: Runtime > Change runtime type.")


def segjax(line):
    """Runs the command `segjax ...` in this process, which holds the GPU."""
    assert cli.main(shlex.split(line)) == 0


def show(picture, *, width=800):
    """Shows a picture that segjax has written, or an array of RGB."""
    picture = Picture.fromarray(picture) if isinstance(picture, np.ndarray) else Picture.open(picture).convert("RGB")
    picture.thumbnail((width, 10_000))
    picture.save(shown := io.BytesIO(), "JPEG", quality=75)
    display(Image(shown.getvalue()))


# %% [markdown]
# ## The video and its labels
#
# Masks are named by the number of their frame: `labels/10.png` is the mask of frame 10, and its numbers are the ids in
# `label_map.json`. In Colab set `OWN = "drive"` for files on your Drive, or `"upload"` for `drive.mp4`, `other.mp4`,
# `label_map.json` and `labels.zip`. Otherwise two videos are drawn here, one of four drives and one of another. Of the
# first one, every tenth frame is labelled.

# %%
OWN = ""  # "drive" or "upload"
video, other, labels, label_map = "drive.mp4", "other.mp4", "labels", "label_map.json"

if IN_COLAB and OWN == "drive":
    from google.colab import drive

    drive.mount("/content/drive")
    video, other, labels, label_map = (f"/content/drive/MyDrive/{name}" for name in (video, other, labels, label_map))
elif IN_COLAB and OWN == "upload":
    from google.colab import files

    files.upload()
    shutil.unpack_archive("labels.zip", labels)
else:
    from data_builders.synthetic_street.generator import Settings, frames
    from segjax.media.writers import VideoWriter

    drives = 4 if STEPS >= 100 else 1
    size = dict(height=160, width=320, frames=21) if STEPS >= 100 else dict(height=64, width=128, frames=11)
    classes = ["ground", "building", "plants", "sky", "traffic"]
    groups = np.array([0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4, 4, 4, 4, 4, 4, 4, 4])  # of the 19 classes of Cityscapes
    colours = [[128, 64, 128], [90, 90, 90], [107, 142, 35], [70, 130, 180], [220, 20, 60]]
    entries = [dict(id=k, name=name, train_id=k, color=colours[k]) for k, name in enumerate(classes)]
    entries.append(dict(id=255, name="unlabelled", train_id=255, color=[0, 0, 0]))
    Path(label_map).write_text(json.dumps(dict(coding="id", labels=entries)))
    Path(labels).mkdir(exist_ok=True)
    truth = []
    with VideoWriter(video, fps=10) as written:
        for frame in (frame for drive in range(drives) for frame in frames(Settings(seed=7, **size), "test", drive)):
            written.write(frame.image)
            truth.append(np.where(frame.label < 19, groups[frame.label.clip(0, 18)], 255).astype(np.uint8))
            if frame.frame % 10 == 5:
                Picture.fromarray(truth[-1]).save(f"{labels}/{len(truth) - 1}.png")
    with VideoWriter(other, fps=10) as written:
        for frame in frames(Settings(seed=7, **{**size, "frames": 12}), "test", 4):
            written.write(frame.image)

print(f"{len(list(Path(labels).glob('*.png')))} frames are labelled.")

# %% [markdown]
# ## Propagate the labels
#
# Optical flow moves each label to the five frames before and after it, but not across a cut. Pixels whose flow there
# and back disagrees are ignored: they have no colour below.

# %%
segjax(f"propagate --video={video} --labels={labels} --label_map={label_map} --steps=5 --output=more")


# %% [markdown]
# A label one, three and five frames later.


# %%
def beside(pictures):
    """Returns pictures of one size as one picture, with gaps."""
    gap = np.full((pictures[0].shape[0], 6, 3), 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (picture, gap)][:-1], axis=1)


first = min(path.stem for path in Path("more/overlay").glob("*+1.png")).removesuffix("+1")
show(beside([cv2.imread(f"more/overlay/{first}+{step}.png")[..., ::-1] for step in (1, 3, 5)]))

# %% [markdown]
# The drawn street has a true label for every frame. So we can count how many pixels the propagated labels have right.

# %%
if not OWN:
    right = {}
    for path in Path("more/masks").glob("*.png"):
        if found := re.search(r"(\d+)([+-]\d+)", path.stem):
            mask, true = np.asarray(Picture.open(path)), truth[int(found[1]) + int(found[2])]
            counted = (mask != 255) & (true != 255)
            right.setdefault(abs(int(found[2])), []).append(100 * (mask == true)[counted].mean())
    for step, shares in sorted(right.items()):
        print(f"at a distance of {step} frames {np.mean(shares):.1f} % of the pixels are right")

# %% [markdown]
# ## Train on them
#
# The result is a folder of images and masks, like any other. Some of its frames are held out, but they resemble the
# others: the score of a network needs another drive.

# %%
recipe = "vplr:own,net=fastscnn,images=more/images,masks=more/masks,label_map=more/label_map.json"
recipe += ",debug" * (STEPS < 100)  # tiny images, for the test of this notebook
durations = {
    "train.total_steps": STEPS,
    "train.eval_steps": STEPS,
    "train.checkpoint_steps": STEPS,
    "train.log_steps": max(STEPS // 10, 1),
    "train.crop.size": (128, 256) if STEPS >= 100 else (64, 64),
    "train.optimizer.lr": 0.045,  # from scratch
    "train.optimizer.schedule": dict(kind="poly", power=0.9, per="step", warmup_steps=min(20, STEPS // 2)),
}
report = train(recipe, workdir="runs/video", overrides=durations)

# %% [markdown]
# ## Let it label another video
#
# `pseudo_label` writes a dataset with the pixels of which the network is sure. Look at it, then train on it and on the
# real labels: `train.extra.pseudo.stage=pseudo`.

# %%
segjax(f"pseudo_label --checkpoint=runs/video --images={other} --every=5 --threshold=0.8 --output=pseudo")

# %%
for path in sorted(Path("pseudo/sheets").glob("*.png"))[:1]:
    show(path)

# %% [markdown]
# And the same video as a picture for people.

# %%
segjax(f"demo --checkpoint=runs/video --input={other} --output=labelled.mp4")

# %%
reader, shown = cv2.VideoCapture("labelled.mp4"), []
while (found := reader.read())[0]:
    shown.append(cv2.cvtColor(found[1], cv2.COLOR_BGR2RGB))
show(beside(shown[2 :: max(len(shown) // 3, 1)][:3]))
