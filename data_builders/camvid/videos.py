"""The raw videos of CamVid: the number of each frame of a file, and how it is read.

Three of the four are the camera's MXF files, whose pixels are not square; 01TP_extract.avi is a part of a longer video.
The number of a file's first frame is not documented, and decoders differ by one frame. So the stills are searched for
in the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from data_builders import trees
from segjax.data.image_files import IMAGE_SUFFIXES, image_size, read_image
from segjax.data.video import VideoSource
from segjax.data.video_file import VIDEO_SUFFIXES
from segjax.errors import UserError, did_you_mean

# published file -> (names of its stills, approximate number of its first frame)
VIDEOS = {
    "0005VD.MXF": ("Seq05VD_f{:05d}", 0),
    "0006R0.MXF": ("0006R0_f{:05d}", 0),
    "0016E5.MXF": ("0016E5_{:05d}", 0),
    "01TP_extract.avi": ("0001TP_{:06d}", 6660),
}
_STEMS = {Path(name).stem.lower(): about for name, about in VIDEOS.items()}
REACH = 40  # frames before and after the number above among which the first frame's number is searched
ALIKE = 30  # largest mean difference of pixels, 0..255, between a still and its frame; for other places it is about 50


def find_videos(folder: str | Path) -> dict[str, Path]:
    """Returns sequence -> video of a folder; {} if it contains images or nothing.

    Raises UserError for a video of another name, the same video twice, and videos beside images.
    """
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
    """The frames of CamVid's videos, with the numbers and the size of the stills.

    files: sequence -> video.
    stills: labelled records.

    Raises UserError for a file that cannot be decoded, or in which no frame resembles the stills.
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
        """Returns the frame at a position of a file, (h, w, 3) uint8 RGB, in the stills' size."""
        image = self._sources[path][place].image
        if image.shape[:2] != self._size:
            image = cv2.resize(image, self._size[::-1], interpolation=cv2.INTER_AREA)
        return image

    def _shift(self, path: Path, stills: Sequence[trees.Item], expected: int) -> int:
        """Returns the difference between the number of a video's first frame and `expected`.

        It is the one with which five stills are the most similar to their frames. Raises UserError if they are not
        similar with any.
        """
        length, shifts = len(self._sources[path]), range(-REACH, REACH + 1)
        inside = [x for x in stills if REACH <= x.frame - expected < length - REACH] or list(stills)
        sums, counts = np.zeros(len(shifts)), np.zeros(len(shifts), int)
        for still in inside[:: max(1, len(inside) // 5)][:5]:
            picture = small(read_image(still.image))
            for position, shift in reversed(list(enumerate(shifts))):  # in this order, positions in the file rise
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
    """Returns a reduced image for comparisons, (90, 120, 3) float32."""
    return cv2.resize(image, (120, 90), interpolation=cv2.INTER_AREA).astype(np.float32)
