"""The video of `segjax demo`: panels of the predictions of one network or several, and of the truth if it is known."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from segjax import visualize
from segjax.errors import UserError
from segjax.inference.demo_layout import Layout
from segjax.inference.labels import Labels
from segjax.media.frame_batches import FilledBatches, ahead, in_order, predictions
from segjax.media.writers import VideoWriter
from segjax.typing import Array


@dataclasses.dataclass(frozen=True)
class DemoFrame:
    """A frame to show.

    name: for errors.
    image: uint8 (h, w, 3).
    truth: train ids (h, w), None if the frame has none.
    """

    name: str
    image: np.ndarray
    truth: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class DemoReport:
    """Result of a demo.

    path: the video.
    frames: number of its frames.
    labelled: number of its frames with a truth.
    seconds: wall time, the compilation included.
    """

    path: Path
    frames: int
    labelled: int
    seconds: float


def write_demo(
    label: Callable[[Array], Sequence[Labels]],
    frames: Iterable[DemoFrame],
    output: str | os.PathLike,
    *,
    fps: float,
    palette: np.ndarray,
    class_names: Sequence[str],
    networks: Sequence[str] = ("prediction",),
    truth: bool = False,
    batch: int = 1,
    alpha: float = 0.5,
    width: int = 1024,
    progress: Callable[[int], None] | None = None,
) -> DemoReport:
    """Writes an mp4 of all frames, in order, with a legend of the classes below.

    Its panels, from left to right: the plain image if there are several networks; for each network its classes over the
    image and, if the labels contain it, their entropy; the truth. The first frame sets the size of the video; other
    frames are fitted into it. Memory does not grow with the number of frames.

    label: images uint8 (b, h, w, 3) -> Labels of each network.
    frames: to show.
    output: path of the video.
    fps: frames per second.
    palette: uint8 (k, 3).
    class_names: of the legend.
    networks: titles of their panels.
    truth: whether the last panel shows the truth, or the plain image for frames without one.
    batch: frames of one size per call of `label`.
    alpha: share of the class colour.
    width: of one panel, pixels; larger frames are reduced.
    progress: called with the number of frames written so far.

    Raises UserError if `output` is no mp4 file or cannot be written, there is no frame, or the network does not accept
    a frame.
    """
    output = Path(output)
    if output.suffix.lower() != ".mp4":
        raise UserError(f"--output={output} must be the name of an mp4 file, for example {output.with_suffix('.mp4')}")
    run, begin, count, labelled = FilledBatches(label, batch), time.perf_counter(), 0, 0
    layout: Layout | None = None

    def refused(group: Sequence[DemoFrame], error: UserError) -> None:  # by the network, for its size
        raise UserError(f"frame {group[0].name}: {error}")

    with VideoWriter(output, fps=fps) as video, contextlib.closing(ahead(frames, depth=2 * batch)) as read:
        for group, found in predictions(run, in_order(read, batch), on_error=refused):
            for row, frame in enumerate(group):
                panels = _panels(frame, [Labels(*_row(one, row)) for one in found], networks, palette, alpha)
                if truth:
                    panels.append(("truth", _truth(frame, palette, alpha)))
                layout = layout or Layout.of(
                    frame.image.shape[:2],
                    width,
                    [title for title, _ in panels],
                    class_names,
                    palette,
                    entropy=any(one.entropy is not None for one in found),
                )
                video.write(layout.compose([picture for _, picture in panels]))
                count, labelled = count + 1, labelled + (frame.truth is not None)
                if progress:
                    progress(count)
    if not count:
        raise UserError(f"there is no frame to show in {output}; give a video or a folder of images that can be read")
    return DemoReport(output, count, labelled, time.perf_counter() - begin)


def _panels(
    frame: DemoFrame, labels: Sequence[Labels], networks: Sequence[str], palette: np.ndarray, alpha: float
) -> list[tuple[str, np.ndarray]]:
    """Returns (title, picture) of each panel but the truth; labels: of the frame, by each network."""
    several = len(labels) > 1
    panels = [("image", frame.image)] if several else []
    for name, one in zip(networks, labels):
        panels.append((name, visualize.overlay(frame.image, one.ids, palette, alpha=alpha)))
        if one.entropy is not None:
            panels.append((f"entropy of {name}" if several else "entropy", visualize.share_to_color(one.entropy)))
    return panels


def _truth(frame: DemoFrame, palette: np.ndarray, alpha: float) -> np.ndarray:
    return frame.image if frame.truth is None else visualize.overlay(frame.image, frame.truth, palette, alpha=alpha)


def _row(labels: Labels, row: int) -> Iterator[np.ndarray | None]:
    return (None if part is None else part[row] for part in labels)
