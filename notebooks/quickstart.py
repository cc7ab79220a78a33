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
# # segjax: the first half hour
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/segjax/blob/main/notebooks/quickstart.ipynb)
#
# Trains a network that labels street scenes, then another one on your own images, and predicts on a video. It runs from
# top to bottom in Colab and on any machine. Without a GPU the trainings are short, and the pictures rough.

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
import shlex
from pathlib import Path

import cv2
import jax
import numpy as np
from IPython.display import Image, display
from PIL import Image as Picture

from segjax import cli, visualize
from segjax.commands.train import train

GPU = jax.default_backend() != "cpu"
STEPS = int(os.environ.get("SEGJAX_NOTEBOOK_STEPS", 1560 if GPU else 400))  # of the first training

if GPU:
    print(f"jax runs on {jax.devices()[0].device_kind}.")
else:
    print(f"jax finds no GPU or TPU, so trainings are short ({STEPS} steps); in Colab: Runtime > Change runtime type.")


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
# ## The main job
#
# One recipe, four stages: a network learns how the frames of videos move, labels are propagated to neighbouring frames,
# Fast-SCNN trains on both, and is evaluated. The data is a street that is drawn from a seed, with the 19 classes of
# Cityscapes; nothing is downloaded. Run the cell again after an interruption: it resumes.

# %%
recipe = "vplr" if STEPS >= 100 else "vplr:debug"  # debug: tiny images, for the test of this notebook
durations = {
    "train_video.total_steps": max(STEPS // 8, 2),
    "train_video.eval_steps": STEPS,
    "train_video.log_steps": max(STEPS // 16, 1),
    "train.total_steps": STEPS,
    "train.eval_steps": max(STEPS // 4, 1),
    "train.checkpoint_steps": max(STEPS // 4, 1),
    "train.log_steps": max(STEPS // 20, 1),
    "propagate.sheet_rows": 2,
    "evaluate.worst": 3,
}
report = train(recipe, workdir="runs/street", overrides=durations)
print(f"mIoU {100 * report['evaluate']['miou']:.1f} % after {report['train']['steps']} steps")

# %% [markdown]
# Neighbouring frames with propagated labels: the real frame, the image and the label that were moved to it, and what is
# ignored, one frame after the labelled one.

# %%
show("runs/street/propagate/sheets/step+1.png")

# %% [markdown]
# The training, and the test images with the most errors.

# %%
show(visualize.curves("runs/street/train/metrics.jsonl"))

# %%
show("runs/street/evaluate/worst_1.png")

# %% [markdown]
# ## Your own images
#
# Images and masks are paired by name: `photos/a.jpg` and `labels/a.png`. The masks contain a number for each class. In
# Colab set `OWN = "drive"` for two folders on your Drive, or `"upload"` for two files, `photos.zip` and `labels.zip`.
# Otherwise a small sample is drawn here, with five classes.

# %%
OWN = ""  # "drive" or "upload"
images, masks = "photos", "labels"

if IN_COLAB and OWN == "drive":
    from google.colab import drive

    drive.mount("/content/drive")
    images, masks = "/content/drive/MyDrive/photos", "/content/drive/MyDrive/labels"
elif IN_COLAB and OWN == "upload":
    from google.colab import files

    for name in files.upload():  # photos.zip and labels.zip
        shutil.unpack_archive(name, Path(name).stem)
else:
    from data_builders.synthetic_street.generator import Settings, frames
    from segjax.media.writers import VideoWriter

    groups = np.array([0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4, 4, 4, 4, 4, 4, 4, 4])  # of the 19 classes of Cityscapes
    count, size = (48, dict(height=128, width=256)) if STEPS >= 100 else (6, dict(height=64, width=128))
    for folder in (images, masks):
        Path(folder).mkdir(exist_ok=True)
    for k in range(count):
        frame = next(frames(Settings(seed=1, **size), "train", k))
        mask = np.where(frame.label < 19, groups[frame.label.clip(0, 18)], 255).astype(np.uint8)
        Picture.fromarray(frame.image).save(f"{images}/{k:02d}.png")
        Picture.fromarray(mask).save(f"{masks}/{k:02d}.png")

# %% [markdown]
# `check_data` reads all files before a training does, and writes a label map: what each number means. Give the classes
# names and colours there.

# %%
segjax(f"check_data --images={images} --masks={masks} --output=check")

# %%
label_map = json.loads(Path("check/label_map.json").read_text())
names = {0: "ground", 1: "building", 2: "plants", 3: "sky", 4: "traffic"}
colours = {0: [128, 64, 128], 1: [90, 90, 90], 2: [107, 142, 35], 3: [70, 130, 180], 4: [220, 20, 60]}
for label in label_map["labels"] if not OWN else ():
    label.update(name=names.get(label["id"], "unlabelled"), color=colours.get(label["id"], [0, 0, 0]))
Path("check/label_map.json").write_text(json.dumps(label_map))

segjax(f"check_data --images={images} --masks={masks} --label_map=check/label_map.json --output=checked")
show("checked/overlay.png", width=560)

# %% [markdown]
# The training starts from the network above. Its classifier is new, because the classes are others.

# %%
durations = {
    "train.init.checkpoint": "runs/street/train",
    "train.crop.size": (128, 256) if STEPS >= 100 else (64, 64),
    "train.total_steps": max(STEPS // 4, 2),
    "train.eval_steps": STEPS,
    "train.checkpoint_steps": STEPS,
    "train.log_steps": max(STEPS // 20, 1),
    "evaluate.worst": 2,
}
recipe = f"vplr:own,net=fastscnn,images={images},masks={masks},label_map=check/label_map.json"
recipe += ",debug" * (STEPS < 100)
report = train(recipe, workdir="runs/own", overrides=durations)

# %%
show("runs/own/evaluate/worst_1.png")

# %% [markdown]
# ## A video
#
# `segjax demo` draws the predicted classes over each frame, `segjax predict` writes the masks. Here the video is a
# drive along another street; in its place give the path of yours: `--input=holiday.mp4`.

# %%
video = "drive.mp4"
if not OWN:
    with VideoWriter(video, fps=5) as written:
        for frame in frames(Settings(seed=2, frames=12, **size), "test", 0):
            written.write(frame.image)

segjax(f"demo --checkpoint=runs/own --input={video} --output=labelled.mp4")

# %%
reader, shown = cv2.VideoCapture("labelled.mp4"), []
while (found := reader.read())[0]:
    shown.append(cv2.cvtColor(found[1], cv2.COLOR_BGR2RGB))
show(np.concatenate(shown[2 :: max(len(shown) // 3, 1)][:3], axis=1))

# %% [markdown]
# ## Take the network with you
#
# One file has the weights and the classes; every command takes it as `--checkpoint`.

# %%
segjax("export_weights --checkpoint=runs/own --output=own.safetensors")
segjax(f"predict --checkpoint=own.safetensors --input={images} --output=predicted --write overlay ids")
print(f"{len(list(Path('predicted').rglob('*.png')))} pictures, {Path('own.safetensors').stat().st_size / 1e6:.1f} MB")

if IN_COLAB:
    from google.colab import files

    files.download("own.safetensors")
