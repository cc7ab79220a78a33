"""A user's own video with labels of some of its frames, as a table of frames and a way to read them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segjax.data.folders import list_images, split_frame
from segjax.data.image_files import IMAGE_SUFFIXES
from segjax.data.label_map import LabelMap
from segjax.data.sources import Record, Source, read_label
from segjax.data.threads import ordered_map
from segjax.data.video import VideoSource, frame_table, open_frames
from segjax.errors import UserError
from segjax.inference.clips import open_clips


@dataclasses.dataclass(frozen=True)
class LabelledVideo:
    """The frames of one video, in order; a `FrameTable`, and `read` reads some of them.

    names, sequences, frames, sizes, labelled: see `FrameTable`. source: of the frames, without labels. masks: frame
    number -> file of its label. problems: what was left out, one sentence each.
    """

    names: Sequence[str]
    sequences: Sequence[str]
    frames: np.ndarray
    sizes: np.ndarray
    labelled: np.ndarray
    source: Source
    masks: dict[int, Path]
    label_map: LabelMap
    problems: list[str]

    def read(self, records: Sequence[int]) -> dict[int, Record]:
        """Decodes frames, with their labels where there are any."""
        # a video file is read in order, by one; image files by all cores
        found = map if isinstance(self.source, VideoSource) else ordered_map
        frames = dict(zip(records, found(self.source.__getitem__, records)))
        for record, frame in frames.items():
            number = int(self.frames[record])
            if number in self.masks:
                size = frame.image.shape[:2]
                frame.label = read_label(self.masks[number], self.label_map, size, self.names[record])
        return frames


def open_labelled_video(
    video: str | os.PathLike, labels: str | os.PathLike, label_map: LabelMap | str | os.PathLike
) -> LabelledVideo:
    """Finds the frames and their labels.

    video: a video file, whose frames are numbered from 0, or a folder of frames with numbers in their names.
    labels: a folder of masks, or one mask, named by the number of their frame: 120.png, frame_000120.png.
    Labels of frames that do not exist are left out and listed. Raises UserError when none is left, a name holds no
    number, two masks are of one frame, or a mask has another size than its frame.
    """
    label_map = LabelMap.open(label_map)
    masks = find_masks(Path(labels).expanduser())
    source = open_frames(video)
    table, problems = frame_table(source), []
    for name in source.names:
        if split_frame(name)[1] is None:
            raise UserError(f"frame {name} of {video} has no number in its name; name frames such as 000120.png.")
    videos = sorted(set(table.sequences))
    if len(videos) != 1:
        raise UserError(f"{video} holds {len(videos)} videos ({', '.join(map(str, videos[:3]))}, ...); give one.")
    if isinstance(source, VideoSource):
        promised = len(open_clips(video)[0]) if Path(video).is_file() else 0
        if len(source) < promised - 2:  # headers are often wrong by a frame or two
            problems.append(f"{video} ends after {len(source)} of {promised} frames")
    known = set(map(int, table.frames))
    for number in sorted(set(masks) - known):
        path = masks.pop(number)
        problems.append(f"{path} is of frame {number}, which {video} does not have ({_range(table.frames)})")
    if not masks:
        raise UserError(f"no label in {labels} is of a frame of {video}: {problems[-1]}.")
    found = LabelledVideo(
        names=[str(name) for name in table.names],
        sequences=[str(name) for name in table.sequences],
        frames=np.asarray(table.frames),
        sizes=np.asarray(table.sizes),
        labelled=np.isin(table.frames, list(masks)),
        source=source,
        masks=masks,
        label_map=label_map,
        problems=problems,
    )
    # before anything is computed: all masks can be read, and are as large as their frames
    for record in np.flatnonzero(found.labelled):
        read_label(masks[int(found.frames[record])], label_map, tuple(found.sizes[record]), found.names[record])
    return found


def find_masks(path: Path) -> dict[int, Path]:
    """Frame number -> mask, of a folder of masks or one mask; UserError for names without number."""
    if path.is_file():
        files = {path.stem: path}
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            raise UserError(f"{path} is no mask; known types are {', '.join(IMAGE_SUFFIXES)}.")
    elif not path.is_dir():
        raise UserError(f"{path} does not exist; give the folder of the masks, or one mask.")
    else:
        files = list_images(path)
    masks: dict[int, Path] = {}
    for key, file in files.items():
        number = split_frame(key)[1]
        if number is None:
            raise UserError(f"{file} has no frame number in its name; name masks by their frame, such as 000120.png.")
        if number in masks:
            raise UserError(f"{masks[number]} and {file} are both of frame {number}; keep one of them.")
        masks[number] = file
    return masks


def _range(frames: np.ndarray) -> str:
    return f"{len(frames)} frames, {int(min(frames))} to {int(max(frames))}"
