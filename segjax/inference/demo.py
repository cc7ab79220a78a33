"""Videos of predictions: each frame tinted by its predicted classes, beside the truth if it is known: `segjax demo`."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from segjax import visualize
from segjax.data import Record, Source, open_source
from segjax.data.label_map import LabelMap
from segjax.data.sources import read_label
from segjax.errors import UserError, did_you_mean
from segjax.inference.network import Network, images_at_once, open_labelling
from segjax.inference.streaming import frame_labeller
from segjax.media.clips import Clip, Images
from segjax.media.frame_batches import FilledBatches, ahead, in_order, predictions
from segjax.media.masks import find_truths
from segjax.media.progress import progress_bar
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
    predict_fn: Callable[[Array], Array],
    frames: Iterable[DemoFrame],
    output: str | os.PathLike,
    *,
    fps: float,
    palette: np.ndarray,
    class_names: Sequence[str],
    truth: bool = False,
    batch: int = 1,
    alpha: float = 0.5,
    width: int = 1024,
    progress: Callable[[int], None] | None = None,
) -> DemoReport:
    """Writes an mp4 of all frames, in order, with a legend of the classes below.

    The first frame sets the size of the video; other frames are fitted into it. Memory does not grow with the number of
    frames.

    predict_fn: images uint8 (b, h, w, 3) -> class ids (b, h, w).
    frames: to show.
    output: path of the video.
    fps: frames per second.
    palette: uint8 (k, 3).
    class_names: of the legend.
    truth: whether the right half shows the truth, or the plain image for frames without one.
    batch: frames of one size per call of predict_fn.
    alpha: share of the class colour.
    width: of one picture, pixels; larger frames are reduced.
    progress: called with the number of frames written so far.

    Raises UserError if `output` is no mp4 file or cannot be written, there is no frame, or the network does not accept
    a frame.
    """
    output = Path(output)
    if output.suffix.lower() != ".mp4":
        raise UserError(f"--output={output} must be the name of an mp4 file, for example {output.with_suffix('.mp4')}")
    run, begin, count, labelled = FilledBatches(predict_fn, batch), time.perf_counter(), 0, 0
    layout: _Layout | None = None

    def refused(group: Sequence[DemoFrame], error: UserError) -> None:  # by the network, for its size
        raise UserError(f"frame {group[0].name}: {error}")

    with VideoWriter(output, fps=fps) as video, contextlib.closing(ahead(frames, depth=2 * batch)) as read:
        for group, ids in predictions(run, in_order(read, batch), on_error=refused):
            for frame, predicted in zip(group, ids):
                layout = layout or _Layout.of(frame.image.shape[:2], width, truth, class_names, palette)
                pictures = [visualize.overlay(frame.image, predicted, palette, alpha=alpha)]
                if truth and frame.truth is not None:
                    pictures.append(visualize.overlay(frame.image, frame.truth, palette, alpha=alpha))
                elif truth:
                    pictures.append(frame.image)
                video.write(layout.compose(pictures))
                count, labelled = count + 1, labelled + (frame.truth is not None)
                if progress:
                    progress(count)
    if not count:
        raise UserError(f"there is no frame to show in {output}; give a video or a folder of images that can be read")
    return DemoReport(output, count, labelled, time.perf_counter() - begin)


@dataclasses.dataclass(frozen=True)
class _Layout:
    """Layout of a frame of the video.

    size: (h, w) of one picture.
    head, foot: titles above and legend below the pictures, uint8 (h, w, 3).
    """

    size: tuple[int, int]
    head: np.ndarray
    foot: np.ndarray

    @classmethod
    def of(
        cls, frame: tuple[int, int], width: int, truth: bool, class_names: Sequence[str], palette: np.ndarray
    ) -> _Layout:
        scale = min(1.0, width / frame[1])
        # video codecs require even sides
        size = tuple(max(2, 2 * round(side * scale / 2)) for side in frame)
        whole = size[1] * (1 + truth)
        text = max(11, min(16, size[1] // 40))
        head = np.full((2 * text if truth else 0, whole, 3), visualize.PAPER, np.uint8)
        if truth:
            for number, title in enumerate(("prediction", "truth")):
                visualize.write(head, title, number * size[1] + visualize.GAP, text // 4, size=text, bold=True)
        foot = visualize.legend(class_names, palette, width=whole - whole % 2, size=text)
        return cls(size, head, foot[: foot.shape[0] // 2 * 2])

    def compose(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Returns one frame of the video from pictures of any size."""
        row = np.concatenate([_fit(picture, self.size) for picture in pictures], axis=1)
        return np.concatenate([self.head, row, self.foot])


def _fit(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns the picture as large as fits into (h, w), centred on black."""
    scale = min(size[0] / picture.shape[0], size[1] / picture.shape[1])
    if abs(picture.shape[0] * scale - size[0]) < 1.5 and abs(picture.shape[1] * scale - size[1]) < 1.5:
        h, w = size
    else:
        h, w = (max(1, round(side * scale)) for side in picture.shape[:2])
    if picture.shape[:2] != (h, w):
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        picture = cv2.resize(picture, (w, h), interpolation=how)
    if (h, w) == size:
        return picture
    canvas = np.zeros((*size, 3), np.uint8)
    y, x = (size[0] - h) // 2, (size[1] - w) // 2
    canvas[y : y + h, x : x + w] = picture
    return canvas


def clip_frames(
    clip: Clip, truths: dict[object, Path], label_map: LabelMap, *, on_error: Callable[[UserError], None]
) -> Iterator[DemoFrame]:
    """Yields the frames of a video or a folder, with the truth of those that have one.

    clip: see `open_clips`.
    truths: masks, see `find_truths`.
    label_map: of the masks.
    on_error: called for a frame that cannot be read, which is skipped.

    Raises UserError for a mask that cannot be read, or has another size than its frame.
    """
    for frame in clip.frames(on_error=on_error):
        path = truths.get(frame.name if isinstance(clip, Images) else frame.index)
        truth = None if path is None else read_label(path, label_map, frame.image.shape[:2], frame.name)
        yield DemoFrame(frame.name, frame.image, truth)


def source_frames(source: Source, rows: Sequence[int]) -> Iterator[DemoFrame]:
    """Yields some records of a dataset, with their labels; rows: numbers of records."""
    for row in rows:
        record: Record = source[int(row)]
        yield DemoFrame(record.name, record.image, record.label)


def demo_of_clip(
    checkpoint: str,
    clip: Clip,
    output: str | Path,
    *,
    labels: str = "",
    label_map: str = "",
    image_prefix: str = "",
    image_suffix: str = "",
    mask_prefix: str = "",
    mask_suffix: str = "",
    fps: float | None = None,
    **options: Any,
) -> tuple[DemoReport, list[str]]:
    """Writes the demo of a video or a folder of images; returns (report, problems with single frames).

    checkpoint: training run, stage, checkpoint or exported weights.
    clip: see `open_clips`.
    output: path of the video.
    labels: folder of masks, "" = none.
    label_map: of the masks, "" = that of the network's training set.
    image_prefix, image_suffix, mask_prefix, mask_suffix: see `find_truths`.
    fps: frames per second, None = those of the video, or 25 for images.
    options: see `_write`.

    Raises UserError as `open_labelling`, `find_truths`, `clip_frames` and `write_demo` do, and for masks of other
    classes than the network's.
    """
    of_images = dict(image_prefix=image_prefix, image_suffix=image_suffix)
    of_masks = dict(mask_prefix=mask_prefix, mask_suffix=mask_suffix)
    truths = find_truths(clip, labels, **of_images, **of_masks) if labels else {}
    problems: list[str] = []
    network = open_labelling(checkpoint)
    classes = network.label_map
    reads = _same_classes(LabelMap.open(label_map), classes) if label_map else classes.with_ids()
    frames = clip_frames(clip, truths, reads, on_error=lambda error: problems.append(str(error)))
    fps = fps or (clip.fps if clip.is_video else 25.0)
    return _write(network, frames, output, count=len(clip), truth=bool(labels), fps=fps, **options), problems


def demo_of_split(
    checkpoint: str,
    dataset: str,
    output: str | Path,
    *,
    split: str,
    sequence: str = "",
    builder_options: Mapping[str, Any] | None = None,
    data_dir: str = "",
    fps: float | None = None,
    **options: Any,
) -> DemoReport:
    """Writes the demo of a split of a dataset, by sequence and frame number, unlabelled frames included.

    checkpoint: training run, stage, checkpoint or exported weights.
    dataset, split, builder_options, data_dir: see `open_source`.
    output: path of the video.
    sequence: name of the only sequence to show, or its beginning; "" = all.
    fps: frames per second, None = 25.
    options: see `_write`.

    Raises UserError as `open_labelling`, `open_source` and `write_demo` do, for an unknown sequence, and for a dataset
    of other classes than the network's.
    """
    source = open_source(
        dataset, split, data_dir=data_dir or None, builder_options=builder_options, labelled_only=False
    )
    index = source.index
    rows = np.lexsort((index.frames, index.sequences))
    if sequence:
        known = sorted(set(map(str, index.sequences)))
        rows = rows[np.array([_within(str(index.sequences[row]), sequence) for row in rows])]
        if not len(rows):
            raise UserError(f"split {split} of {dataset} has no sequence {sequence!r}.{did_you_mean(sequence, known)}")
    network = open_labelling(checkpoint)
    labelled = bool(index.labelled[rows].any())
    if labelled:
        _same_classes(source.label_map, network.label_map)
    return _write(
        network, source_frames(source, rows), output, count=len(rows), truth=labelled, fps=fps or 25.0, **options
    )


def _within(name: str, sequence: str) -> bool:
    """Returns whether a sequence is the requested one or a part of it: stuttgart_00_000000 is part of stuttgart_00."""
    return name == sequence or name.startswith(f"{sequence}_")


def _same_classes(label_map: LabelMap, classes: LabelMap) -> LabelMap:
    """Returns a label map of the truth. Raises UserError if its classes are not those of the network."""
    if label_map.class_names != classes.class_names:
        raise UserError(
            f"the labels have the {label_map.num_classes} classes {', '.join(label_map.class_names[:4])}, ... and the "
            f"network the {classes.num_classes} classes {', '.join(classes.class_names[:4])}, ...; give a label map of "
            "the network's classes"
        )
    return label_map


def _write(
    network: Network,
    frames: Iterable[DemoFrame],
    output: str | os.PathLike,
    *,
    count: int,
    truth: bool,
    fps: float,
    batch: int | None,
    alpha: float,
    width: int,
    interval: int | str | None = None,
    **views: Any,
) -> DemoReport:
    """Writes the demo with a progress bar.

    count: number of frames, for the bar.
    truth, fps, alpha, width: see `write_demo`.
    batch: images at once, see `images_at_once`; a network that labels video from keyframes reads frame by frame.
    interval: of keyframes, for such a network; None for `keyframes.USUAL_INTERVAL`.
    views: keyword arguments of `views.predict`.
    """
    classes, keyed = network.label_map, frame_labeller(network, interval, batch, **views)
    with progress_bar("demo", count, unit="frames") as progress:
        return write_demo(
            (lambda images: keyed(images).ids) if keyed else network.predictor(**views),
            frames,
            output,
            fps=fps,
            palette=classes.palette,
            class_names=classes.class_names,
            truth=truth,
            batch=1 if keyed else images_at_once(batch),
            alpha=alpha,
            width=width,
            progress=progress,
        )
