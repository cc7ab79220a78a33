"""The raw videos of CamVid: which frame of a file has which number, and how it is read.

Three of the four are MXF files as the camera wrote them, whose pixels are not square; 01TP_extract.avi is a part of a
longer one. Where the numbers of the stills begin in a file is not written anywhere, and decoders differ by a frame:
so the stills themselves are looked for in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from data_builders import trees
from segjax.data.image_files import IMAGE_SUFFIXES, image_size, read_image
from segjax.data.video import VIDEO_SUFFIXES, VideoSource
from segjax.errors import UserError, did_you_mean

# published file -> (names of its stills, number of its first frame, give or take a few)
VIDEOS = {
    "0005VD.MXF": ("Seq05VD_f{:05d}", 0),
    "0006R0.MXF": ("0006R0_f{:05d}", 0),
    "0016E5.MXF": ("0016E5_{:05d}", 0),
    "01TP_extract.avi": ("0001TP_{:06d}", 6660),
}
_STEMS = {Path(name).stem.lower(): about for name, about in VIDEOS.items()}
REACH = 40  # the first frame's number is looked for so far before and after the one above
ALIKE = 30  # mean difference of the pixels, 0..255, up to which a frame may be a still; those of other places have 50


def find_videos(folder: str | Path) -> dict[str, Path]:
    """Sequence -> video of a folder, {} where it holds images or nothing; UserError for a video of another name."""
    folder = Path(folder).expanduser()
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    found: dict[str, Path] = {}
    for path in files:
        if path.stem.lower() not in _STEMS:
            raise UserError(f"{path} is no video of CamVid.{did_you_mean(path.name, VIDEOS)}")
        sequence = _STEMS[path.stem.lower()][0].partition("_")[0]
        if sequence in found:
            raise UserError(f"{found[sequence]} and {path} are the same video; keep one of them in frames_dir")
        found[sequence] = path
    if files and any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.rglob("*")):
        raise UserError(f"frames_dir {folder} holds both videos and images; keep the videos or their frames")
    return found


class Videos:
    """The frames of CamVid's videos, numbered as the stills and of the stills' size.

    Raises UserError for a file that cannot be decoded, and where no frame of it looks like the stills.
    """

    def __init__(self, files: Mapping[str, Path], stills: Sequence[trees.Item]):
        self._sources = {path: VideoSource([path]) for path in files.values()}
        self._size = image_size(stills[0].image)
        self.frames: dict[tuple[str, int], trees.Item] = {}
        for sequence, path in files.items():
            pattern, expected = _STEMS[path.stem.lower()]
            mine = [still for still in stills if still.sequence == sequence]
            first = expected + self._shift(path, mine, expected) if mine else expected
            for place in range(len(self._sources[path])):
                number = first + place
                if number >= 0:
                    name = pattern.format(number)
                    self.frames[sequence, number] = trees.Item(name, path, None, sequence, number, place=place)

    def read(self, path: Path, place: int) -> np.ndarray:
        """A frame of a file, uint8 (h, w, 3) RGB of the stills' size."""
        image = self._sources[path][place].image
        if image.shape[:2] != self._size:
            image = cv2.resize(image, self._size[::-1], interpolation=cv2.INTER_AREA)
        return image

    def _shift(self, path: Path, stills: Sequence[trees.Item], expected: int) -> int:
        """The difference to `expected` of the number of a video's first frame: what makes five stills look alike."""
        length, shifts = len(self._sources[path]), range(-REACH, REACH + 1)
        inside = [x for x in stills if REACH <= x.frame - expected < length - REACH] or list(stills)
        sums, counts = np.zeros(len(shifts)), np.zeros(len(shifts), int)
        for still in inside[:: max(1, len(inside) // 5)][:5]:
            picture = small(read_image(still.image))
            for position, shift in reversed(list(enumerate(shifts))):  # so that the places in the file rise
                place = still.frame - expected - shift
                if 0 <= place < length:
                    sums[position] += np.abs(picture - small(self.read(path, place))).mean()
                    counts[position] += 1
        distances = np.where(counts == counts.max(), sums / np.maximum(counts, 1), np.inf)
        best = int(distances.argmin())
        if not counts.max() or distances[best] > ALIKE:
            raise UserError(
                f"no frame of {path} near the numbers of its stills looks like them, such as {inside[0].image}; "
                "the video is cut or another one, copy it again"
            )
        return shifts[best]


def small(image: np.ndarray) -> np.ndarray:
    """A picture made so small, float32 (90, 120, 3), that pictures can be compared."""
    return cv2.resize(image, (120, 90), interpolation=cv2.INTER_AREA).astype(np.float32)
