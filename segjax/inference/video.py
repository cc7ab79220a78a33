"""Labels a video, a camera or a stream as it comes, and writes pictures of the labels."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from segjax import visualize
from segjax.inference.streaming import StreamSegmenter
from segjax.media.feeds import Feed, Newest, Shot
from segjax.media.frame_batches import ahead
from segjax.media.sinks import InThread, Write


@dataclasses.dataclass
class VideoReport:
    """What `label_video` has done.

    frames, keyframes, resets: see `StreamCounts`.
    seconds: from the first frame to the last picture.
    milliseconds: of each frame, from the frame in memory to its class ids.
    ages: seconds from when each frame was taken until its picture was written; [] unless live.
    dropped: frames that were not labelled, because newer ones were there.
    problems: sentences.
    """

    frames: int = 0
    keyframes: int = 0
    resets: int = 0
    seconds: float = 0.0
    milliseconds: list[float] = dataclasses.field(default_factory=list)
    ages: list[float] = dataclasses.field(default_factory=list)
    dropped: int = 0
    problems: list[str] = dataclasses.field(default_factory=list)

    def sentences(self) -> list[str]:
        """Returns the lines that a command prints at the end."""
        if not self.frames:
            return ["no frame was labelled"]
        p50, p95 = np.percentile(self.milliseconds, (50, 95))
        rate = self.frames / self.seconds if self.seconds else 0.0
        lines = [
            f"{self.frames} frames, {self.keyframes} of them keyframes, in {self.seconds:.1f} s: {rate:.1f} frames/s",
            f"labels of a frame take {p50:.1f} ms (median), {p95:.1f} (95 %), {max(self.milliseconds):.1f} (longest)",
        ]
        if self.resets:
            lines.append(f"{self.resets} changes of the frames' size, each with a keyframe")
        if self.ages:
            ages = 1e3 * np.array(self.ages)
            lines.append(
                f"live: {self.dropped} frames dropped; pictures are {np.median(ages):.0f} ms old when they are written "
                f"(median), {ages.max():.0f} ms at most"
            )
        return lines


def label_video(
    stream: StreamSegmenter,
    feed: Feed,
    write: Write,
    *,
    palette: np.ndarray,
    view: str = "overlay",
    alpha: float = 0.5,
    live: bool = False,
    decode: Callable[[np.ndarray], np.ndarray] | None = None,
    stopped: Callable[[], bool] = lambda: False,
    progress: Callable[[int], None] | None = None,
) -> VideoReport:
    """Labels the frames of a feed and writes a picture of each, drawn and encoded in a thread.

    stream: of the network.
    write: see `open_sink`.
    palette: uint8 (k, 3).
    view, alpha, decode: see `visualize.label_picture`.
    live: whether only the newest frame is labelled, and older ones are dropped. To a video, a picture is then written
        as often as frames were dropped, so that it plays at the feed's speed.
    stopped: whether to end after the current frame; all pictures until then are written.
    progress: called with the number of frames so far.

    Raises UserError as the network and the sink do.
    """
    report = VideoReport()
    with contextlib.ExitStack() as stack:
        shots, newer = stack.enter_context(_shots(feed, report, live))
        queued = InThread()
        stack.callback(queued.close)
        begin, last = None, None

        def draw(shot: Shot, ids: np.ndarray, times: int) -> None:
            shown = visualize.label_picture(view, shot.image, ids, palette, alpha=alpha, decode=decode)
            write(shot.name, shown, times)
            if live:
                report.ages.append(time.monotonic() - shot.time)

        for shot in shots:
            if stopped():
                break
            stream.prepare(shot.image.shape[:2])  # no part of the time of a frame
            shot = newer(shot)
            start = time.monotonic()
            ids = stream(shot.image)  # the threads read and draw other frames meanwhile
            took = time.monotonic() - start
            begin = begin or start
            report.milliseconds.append(1e3 * took)
            times = shot.index - last if live and last is not None else 1
            last = shot.index
            queued(lambda shot=shot, ids=ids, times=times: draw(shot, ids, times))
            report.frames += 1
            if progress:
                progress(report.frames)
    counts = stream.counts
    report.keyframes, report.resets = counts.keyframes, counts.resets
    report.seconds = time.monotonic() - begin if begin else 0.0
    return report


@contextlib.contextmanager
def _shots(feed: Feed, report: VideoReport, live: bool) -> Iterator[tuple[Iterable[Shot], Callable[[Shot], Shot]]]:
    """Yields the frames, and what gives the frame to label in place of one that had to wait for a compilation."""
    problem = report.problems.append
    if not live:
        with contextlib.closing(ahead(feed.shots(problem), depth=4)) as shots:
            yield shots, lambda shot: shot
        return
    newest = Newest(feed, problem)
    try:
        yield newest, newest.newer
    finally:
        newest.close()
        report.dropped = newest.dropped
