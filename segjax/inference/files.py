"""Predicts images, folders and videos, and writes overlays and label images, in constant memory."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segjax import visualize
from segjax.errors import UserError, did_you_mean
from segjax.inference.labels import Labels
from segjax.inference.network import images_at_once, open_labelling
from segjax.inference.streaming import frame_labeller
from segjax.media.clips import Clip, Frame
from segjax.media.frame_batches import FilledBatches, ahead, predictions, same_size
from segjax.media.progress import progress_bar
from segjax.media.writers import PngWriter, VideoWriter, write_png
from segjax.outputs import writing_outputs
from segjax.typing import Array

KINDS = ("overlay", "ids", "color", "confidence", "entropy")
OF_PROBABILITIES = ("confidence", "entropy")  # what labels contain on request


@dataclasses.dataclass(frozen=True)
class FilesReport:
    """Result of `predict_files`.

    images: number of predicted frames.
    seconds: wall time, the compilation included.
    sizes: (h, w) -> number of frames.
    problems: inputs that could not be predicted, one sentence each.
    outputs: written folders and videos.
    """

    images: int
    seconds: float
    sizes: dict[tuple[int, int], int]
    problems: tuple[str, ...]
    outputs: tuple[Path, ...]


def predict_files(
    label: Callable[[Array], Labels],
    clips: Sequence[Clip],
    output: str | os.PathLike,
    *,
    palette: np.ndarray,
    class_names: Sequence[str] = (),
    decode: Callable[[np.ndarray], np.ndarray] | None = None,
    write: Sequence[str] = ("overlay", "ids"),
    batch: int = 1,
    alpha: float = 0.5,
    begin_clip: Callable[[bool], None] = lambda related: None,
    progress: Callable[[int], None] | None = None,
) -> FilesReport:
    """Predicts every frame of every clip and writes the results into a folder.

    Reading, device work and writing overlap. Inputs that cannot be read, and frames that the network does not accept,
    are listed in the report; all others are written. A legend.png names the colours of the classes and of the entropy.

    label: images uint8 (b, h, w, 3) -> Labels, see `Network.labeller`.
    clips: see `open_clips`.
    output: folder for the results.
    palette: uint8 (k, 3).
    class_names: of the legend; () writes none.
    decode: class ids -> ids to write, for example the dataset's raw ids.
    write: kinds of output. "overlay" -> overlay/NAME.png, or NAME.mp4 for a video; "ids" -> ids/NAME.png;
        "color" -> color/NAME.png; "confidence" -> confidence/NAME.png, grey, 255 = certain; "entropy" ->
        entropy/NAME.png, see `visualize.share_to_color`. The labels must contain the last two.
    batch: frames of one size per call of `label`. Each size compiles once: an incomplete last batch is filled up.
    alpha: share of the class colour in overlays.
    begin_clip: called before each clip, with whether its frames are those of a video.
    progress: called with the number of predicted frames so far.

    Raises UserError for an unknown kind, batch < 1, and files that cannot be written.
    """
    for kind in write:
        if kind not in KINDS:
            raise UserError(f"write names {kind!r}, which is no kind of output.{did_you_mean(kind, KINDS)}")
    if batch < 1:
        raise UserError(f"batch is {batch}; give at least 1")
    output = Path(output)
    problems: list[str] = []
    outputs: dict[Path, None] = {}
    sizes: collections.Counter[tuple[int, int]] = collections.Counter()
    run = FilledBatches(label, batch)

    begin = time.perf_counter()

    with PngWriter() as pngs:
        for clip in clips:
            begin_clip(clip.is_video)
            with contextlib.ExitStack() as stack:
                video = None
                if clip.is_video and "overlay" in write:
                    video = stack.enter_context(VideoWriter(output / f"{clip.name}.mp4", fps=clip.fps))

                def save(frames: Sequence[Frame], labels: Labels, video=video):
                    for row, frame in enumerate(frames):
                        for kind in write:
                            picture = _picture(kind, frame.image, labels, row, palette, decode, alpha)
                            if kind == "overlay" and video is not None:
                                video.write(picture)
                                outputs[video.path] = None
                            else:
                                pngs.write(output / kind / f"{frame.name}.png", picture)
                                outputs[output / kind] = None
                        sizes[frame.image.shape[:2]] += 1
                        if progress:
                            progress(sum(sizes.values()))

                def refused(frames: Sequence[Frame], error: UserError, clip=clip):  # by the network, for their size
                    if clip.is_video:  # all its frames have one size, so one sentence is enough
                        text = f"{getattr(clip, 'path', clip.name)}: {error}"
                        problems.extend([text] if text not in problems else [])
                    else:
                        paths = dict(getattr(clip, "files", ()))
                        problems.extend(f"{paths.get(frame.name, frame.name)}: {error}" for frame in frames)

                frames = clip.frames(on_error=lambda error: problems.append(str(error)))
                with contextlib.closing(ahead(frames, depth=2 * batch)) as read:
                    for group, labels in predictions(run, same_size(read, batch), on_error=refused):
                        save(group, labels)
    if class_names and outputs:
        width = 120 * min(len(class_names), 8)
        border = ((visualize.GAP, visualize.GAP), (visualize.GAP, 0), (0, 0))
        picture = visualize.legend(class_names, palette, width=width)
        if "entropy" in write:
            picture = np.concatenate([picture, visualize.share_legend(visualize.ENTROPY, width=width)])
        write_png(output / "legend.png", np.pad(picture, border, constant_values=255))
    seconds = time.perf_counter() - begin
    return FilesReport(sum(sizes.values()), seconds, dict(sizes), tuple(problems), tuple(outputs))


def outputs_of(clips: Sequence[Clip], write: Sequence[str]) -> list[str]:
    """Returns what `predict_files` writes, as paths in the output folder; a folder of frames ends with "/"."""
    names = ["legend.png"]
    for clip in clips:
        for kind in write:
            if not clip.is_video:
                names += [f"{kind}/{name}.png" for name, _ in clip.files]
            else:
                names.append(f"{clip.name}.mp4" if kind == "overlay" else f"{kind}/{clip.name}/")
    return names


def predict_clips(
    checkpoint: str,
    clips: Sequence[Clip],
    output: str | os.PathLike,
    *,
    batch: int | None = None,
    write: Sequence[str] = ("overlay", "ids"),
    alpha: float = 0.5,
    interval: int | str | None = None,
    **views: Any,
) -> FilesReport:
    """Opens the network of a training run and writes its predictions; see `predict_files`.

    checkpoint: training run, stage, checkpoint or exported weights.
    clips, output, write, alpha: see `predict_files`.
    batch: images at once, see `images_at_once`; a network that labels video from keyframes reads frame by frame.
    interval: of keyframes, for such a network; None for `keyframes.USUAL_INTERVAL`.
    views: keyword arguments of `views.predict`: scales, flip, window and overlap.

    Raises UserError as `open_labelling`, `frame_labeller` and `predict_files` do, and for outputs that would replace
    what is read or what segjax did not write.
    """
    files = [path for clip in clips for path in ([clip.path] if clip.is_video else [file for _, file in clip.files])]
    with contextlib.ExitStack() as stack:
        stack.enter_context(writing_outputs(output, outputs_of(clips, write), reads=files))
        network = open_labelling(checkpoint)
        classes, frames = network.label_map, frame_labeller(network, interval, batch, **views)
        for kind in OF_PROBABILITIES:
            if frames and kind in write:
                raise UserError(f"{network.spec['name']} knows no {kind} of frames between keyframes; leave it out.")
        progress = stack.enter_context(progress_bar("predict", sum(len(clip) for clip in clips)))
        return predict_files(
            frames or network.labeller(**{kind: kind in write for kind in OF_PROBABILITIES}, **views),
            clips,
            output,
            palette=classes.palette,
            class_names=classes.class_names,
            decode=classes.with_ids().decode,
            write=write,
            batch=1 if frames else images_at_once(batch),
            alpha=alpha,
            **({"begin_clip": frames.begin} if frames else {}),
            progress=progress,
        )


def _picture(
    kind: str,
    image: np.ndarray,
    labels: Labels,
    row: int,
    palette: np.ndarray,
    decode: Callable[[np.ndarray], np.ndarray] | None,
    alpha: float,
) -> np.ndarray:
    """Returns one picture of a frame; row: of the frame in the labels of its batch."""
    if kind == "confidence":
        return np.round(255 * labels.confidence[row]).astype(np.uint8)
    if kind == "entropy":
        return visualize.share_to_color(labels.entropy[row])
    return visualize.label_picture(kind, image, labels.ids[row], palette, alpha=alpha, decode=decode)
