"""A user's own video with labels of some of its frames: a table of the frames, and a reader."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from segjax.data.chains import FrameTable
from segjax.data.folders import some, split_frame
from segjax.data.label_map import LabelMap
from segjax.data.sources import Record, Source, read_label
from segjax.data.threads import ordered_map
from segjax.data.video import VideoSource, frame_table, open_frames
from segjax.errors import UserError
from segjax.media.clips import open_clips
from segjax.media.masks import by_number, list_masks


@dataclasses.dataclass(frozen=True)
class OneVideo:
    """The frames of one video.

    path: as written by the user.
    source: of the frames, without labels.
    table: see `FrameTable`.
    problems: skipped frames, one sentence each.
    """

    path: str
    source: Source
    table: FrameTable
    problems: tuple[str, ...] = ()

    @property
    def order(self) -> np.ndarray:
        """Records in the order of their frame numbers, int (n,)."""
        return np.argsort(self.table.frames, kind="stable")


@dataclasses.dataclass(frozen=True)
class LabelledVideo:
    """The frames of one video and the labels of some of them; a `FrameTable`.

    names, sequences, frames, sizes, labelled: see `FrameTable`.
    source: of the frames, without labels.
    masks: frame number -> file of its label.
    label_map: of the masks.
    problems: skipped labels and assumptions, one sentence each.
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
        """Returns record -> frame, with its label if it has one.

        Raises UserError for a frame or a mask that cannot be read, and a mask of another size than its frame.
        """
        # one thread reads a video file in order, because seeking is slow; all cores read image files
        found = map if isinstance(self.source, VideoSource) else ordered_map
        frames = dict(zip(records, found(self.source.__getitem__, records)))
        for record, frame in frames.items():
            number = int(self.frames[record])
            if number in self.masks:
                size = frame.image.shape[:2]
                frame.label = read_label(self.masks[number], self.label_map, size, self.names[record])
        return frames


def open_video(video: str | os.PathLike) -> OneVideo:
    """Opens a video file, whose frames are numbered from 0, or a folder of frames with numbers in their names.

    Raises UserError for a path that cannot be opened, a frame without number, and a folder with several videos.
    """
    source = open_frames(video)
    table, problems = frame_table(source), []
    for name in source.names:
        if split_frame(name)[1] is None:
            raise UserError(f"frame {name} of {video} has no number in its name; name frames such as 000120.png.")
    videos = sorted(set(table.sequences))
    if len(videos) != 1:
        raise UserError(f"{video} holds {len(videos)} videos ({some(videos)}); give one.")
    if isinstance(source, VideoSource):
        promised = len(open_clips(video)[0]) if Path(video).is_file() else 0
        if len(source) < promised - 2:  # headers are often wrong by a frame or two
            problems.append(f"{video} ends after {len(source)} of {promised} frames")
    return OneVideo(str(video), source, table, tuple(problems))


def open_labelled_video(
    video: OneVideo | str | os.PathLike,
    labels: str | os.PathLike,
    label_map: LabelMap | str | os.PathLike,
    *,
    every: int = 0,
) -> LabelledVideo:
    """Opens a video together with the labels of some of its frames.

    Labels of frames that do not exist are skipped and listed in `problems`.

    video: see `open_video`.
    labels: folder of masks, or one mask. Masks are named by the number of their frame: 120.png, frame_000120.png. A
        single mask without number belongs to the first frame.
    label_map: of the masks; a label map, its file, or the name of a class table.
    every: N > 0 uses the labels of the first frame and of each Nth frame after it. Masks without numbers then belong to
        these frames, in the order of their names. 0 uses all labels.

    Raises UserError if no label is left, two masks belong to one frame, some masks have no number, a mask cannot be
    read or has another size than its frame, or the video or the label map cannot be opened.
    """
    label_map = LabelMap.open(label_map)
    files = list_masks(Path(labels).expanduser())
    clip = video if isinstance(video, OneVideo) else open_video(video)
    masks, problems = match_masks(files, clip, every=every)
    if not masks:
        raise UserError(f"no label in {labels} is of a frame of {clip.path}: {problems[-1]}.")
    table = clip.table
    found = LabelledVideo(
        names=[str(name) for name in table.names],
        sequences=[str(name) for name in table.sequences],
        frames=np.asarray(table.frames),
        sizes=np.asarray(table.sizes),
        labelled=np.isin(table.frames, list(masks)),
        source=clip.source,
        masks=masks,
        label_map=label_map,
        problems=[*clip.problems, *problems],
    )
    # reads every mask once now, so that a bad one is reported before anything is computed
    for record in np.flatnonzero(found.labelled):
        read_label(masks[int(found.frames[record])], label_map, tuple(found.sizes[record]), found.names[record])
    return found


def match_masks(files: Mapping[str, Path], clip: OneVideo, *, every: int = 0) -> tuple[dict[int, Path], list[str]]:
    """Returns (frame number -> mask, skipped masks and assumptions, one sentence each).

    files: name -> mask.
    clip: see `open_video`.
    every: see `open_labelled_video`.

    Raises UserError for masks without number, and two masks of one frame.
    """
    frames = np.asarray(clip.table.frames)[clip.order]
    known, kept = set(frames.tolist()), frames[:: max(every, 1)].tolist()
    problems = []
    if (every or len(files) == 1) and all(split_frame(name)[1] is None for name in files):
        in_order = list(files.values())
        if not every:
            problems.append(f"{in_order[0]} has no frame number in its name: taken as frame {frames[0]}")
        problems += [
            f"{file} is of no frame: {clip.path} has {len(frames)}, and --every={every} takes {len(kept)} labels"
            for file in in_order[len(kept) :]
        ]
        return dict(zip(kept, in_order)), problems
    masks = by_number(files, remedy="" if every else ", or say that they are of --every=Nth frame")
    for number in sorted(set(masks) - known):
        what = f"{len(frames)} frames, {frames[0]} to {frames[-1]}"
        problems.append(f"{masks.pop(number)} is of frame {number}, which {clip.path} does not have ({what})")
    if left := sorted(set(masks) - set(kept)):
        problems.append(f"--every={every} leaves out {len(left)} labels, of frames {some(left)}")
    return {number: file for number, file in masks.items() if number in set(kept)}, problems
