"""Propagates a user's own labels through a video and writes images with masks: the command `segjax propagate`."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from segjax import visualize
from segjax.data.chains import Chain, find_chains
from segjax.data.derived import MODES, with_ignored
from segjax.errors import UserError, did_you_mean
from segjax.files import begin, changes, creating, read_note, write_json, write_note
from segjax.media.writers import PngWriter
from segjax.outputs import check_outputs, writing_outputs
from segjax.propagation.label_frames import label_frames
from segjax.propagation.labelled_video import LabelledVideo, open_labelled_video, open_video
from segjax.propagation.motion import choose_flow, open_flow, open_video_network
from segjax.propagation.propagator import Propagator
from segjax.propagation.report import merge, summarise

log = logging.getLogger("segjax")

KINDS = ("images", "masks", "overlay")
AT_ONCE = 4  # labelled frames in a group, whose neighbouring frames are in memory together
PARTS = "part-*.json"  # one file per finished group


def propagate_video(
    video: str | os.PathLike,
    labels: str | os.PathLike | None,
    output: str | os.PathLike,
    *,
    steps: int,
    label_map: str | os.PathLike = "",
    every: int = 0,
    segmenter: str = "",
    checkpoint: str = "",
    mode: str = "jp",
    flow: str = "",
    flow_weights: str = "",
    key: str = "",
    batch: int = 4,
    progress: Callable[[int], None] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Writes images, masks and overlays of propagated labels, and report.json; returns the report.

    output/images, output/masks (raw ids of the label map) and output/overlay get one file NAME+STEP.png per propagated
    label. These folders appear when all is done. After an interruption, the same call resumes.

    video: see `open_video`.
    labels, label_map, every: see `open_labelled_video`.
    output: folder to write.
    steps: neighbouring frames on either side of a labelled frame.
    segmenter: training run whose network labels every Nth frame, instead of `labels`. The masks are kept in
        output/labels: corrected, they can be the `labels` of another call.
    checkpoint: of a video network, see `open_video_network`; "" propagates by optical flow alone.
    mode: "jp" writes the propagated image, "lp" the real frame.
    flow: name, see `choose_flow`.
    flow_weights, key: file for a flow network, and the dictionary of tensors in it if it has several.
    batch: chains of frames at once.
    progress: called with the number of propagated labels so far.
    options: keyword arguments of `Propagator`.

    Raises UserError for a video, labels, a checkpoint, a flow or options that cannot be used, an output that exists or
    cannot be written, and if no label could be propagated. Skipped labels and frames are in report["problems"].
    """
    output = Path(output)
    if mode not in MODES:
        raise UserError(f"--mode={mode} is not known.{did_you_mean(mode, MODES)}")
    kinds = (*KINDS, "labels") if segmenter else KINDS
    there = [str(output / kind) for kind in kinds if (output / kind).exists()]
    if there:
        raise UserError(f"{there[0]} exists already; give another --output, or delete it.")
    _check_labels(labels, label_map, every, segmenter)
    names = [f"{kind}/" for kind in kinds] + ["label_map.json", "report.json"]
    reads = [path for path in (video, labels, label_map) if path and Path(path).exists()]
    check_outputs(output, names, reads=reads)
    network = open_video_network(checkpoint)
    flow, flow_options = choose_flow(flow, network)
    if flow == "exact":
        raise UserError(f"--flow=exact: nobody knows the exact flow of {video}; use --flow=dis.")
    if flow_weights:
        flow_options["weights"] = flow_weights
    if key:
        flow_options["key"] = key
    propagator = Propagator(
        network.method,
        flow=open_flow(flow, flow_options),
        predict_motion=network.predict,
        variables=network.variables,
        batch=batch,
        **options,
    )
    frames = open_video(video)
    what = {"steps": steps, "every": every, "mode": mode, "flow": [flow, flow_options], "options": options}
    read = {"video": video, "labels": labels, "label_map": label_map, "segmenter": segmenter, "checkpoint": checkpoint}
    with _unfinished(output, kinds, {**what, **{key: _stamp(path) for key, path in read.items()}}) as folder:
        if segmenter:
            label_map = label_frames(segmenter, frames, folder / "labels", every=every, batch=batch)
            clip = open_labelled_video(frames, folder / "labels", label_map)
        else:
            clip = open_labelled_video(frames, labels, label_map, every=every)
        chains = find_chains(clip, steps=steps, needs_before=propagator.needs_before)
        parts = carry_labels(propagator, chains, clip, folder, mode=mode, progress=progress)
        report = {
            "video": str(video),
            "labels_from": str(segmenter or labels),
            "labels": len(clip.masks),
            "frames": len(clip.frames),
            "mode": mode,
            "method": network.method,
            "model": network.description,
            "flow": {"name": flow, "options": flow_options},
            "settings": {"steps": steps, "every": every, **options},
            **merge(parts),
            "problems": clip.problems,
        }
        if not report["carried"]:
            shutil.rmtree(folder)
            reasons = "; ".join([*report["ends"], *report["ended"], *clip.problems])
            raise UserError(f"no label could be propagated to a frame: {reasons}.")
        with creating(output, option="--output"), writing_outputs(output, names, reads=reads):
            for kind in kinds:
                os.replace(folder / kind, output / kind)
            write_json(output / "report.json", report)
            with_ignored(clip.label_map).save(output / "label_map.json")
    return report


def carry_labels(
    propagator: Propagator,
    chains: Sequence[Chain],
    clip: LabelledVideo,
    folder: Path,
    *,
    mode: str,
    progress: Callable[[int], None] | None = None,
) -> list[dict[str, Any]]:
    """Propagates labels and writes the images, masks and overlays; returns one summary per group, for `merge`.

    A group is a few labelled frames. The note of a finished group says that its files are complete, so that a call that
    resumes skips it.

    propagator: of labels.
    chains: of the neighbouring frames.
    clip: the labelled video.
    folder: with a folder for each of KINDS.
    mode, progress: see `propagate_video`.

    Raises UserError for a frame that cannot be read, and a file that cannot be written.
    """
    labelled = list(dict.fromkeys(chain.record for chain in chains))
    raw, parts, done = with_ignored(clip.label_map), [], 0
    if finished := sum(1 for _ in folder.glob(PARTS)):
        log.info("resuming after %d of %d labels", min(finished * AT_ONCE, len(labelled)), len(labelled))
    with PngWriter() as pngs:
        for start in range(0, len(labelled), AT_ONCE):
            note = folder / PARTS.replace("*", f"{start:06d}")
            if found := read_note(note):
                parts.append(found)
                done += sum(parts[-1]["carried"].values())
                continue
            some = set(labelled[start : start + AT_ONCE])
            used, carried = propagator([chain for chain in chains if chain.record in some], clip.read)
            for one in carried:
                image = one.image if mode == "jp" else one.real.image
                name = f"{clip.names[one.chain.record]}{one.chain.direction * one.step:+d}.png"
                pngs.write(folder / "images" / name, image)
                pngs.write(folder / "masks" / name, raw.decode(one.label, name))
                pngs.write(folder / "overlay" / name, visualize.overlay(image, one.label, clip.label_map.palette))
            parts.append(summarise(used, carried, clip))
            pngs.wait()  # the note must not exist before its files
            write_note(note, parts[-1])
            done += len(carried)
            if progress:
                progress(done)
    return parts


def _check_labels(labels: Any, label_map: Any, every: int, segmenter: str) -> None:
    """Raises UserError unless the arguments name exactly one source of labels, and the meaning of its ids."""
    if labels and segmenter:
        raise UserError("--label and --segmenter both say what the labels are; leave one of them out.")
    if not labels and not segmenter:
        raise UserError(
            "there is no label to propagate: give --label=MASK, --labels=FOLDER of masks, or --segmenter=RUN with "
            "--every=N, a trained network that labels every Nth frame."
        )
    if segmenter and not every:
        raise UserError("--segmenter labels every Nth frame; say which with --every=N.")
    if segmenter and label_map:
        raise UserError("--label-map is that of the network which --segmenter names; leave it out.")
    if labels and not label_map:
        raise UserError(
            "--label-map is missing: the name of a class table, or the JSON file that `segjax check_data` writes; it "
            "says what the ids or colours of the masks mean."
        )


def _stamp(path: str | os.PathLike | None) -> str:
    """Returns a text that changes when a file or any file of a folder changes; the argument itself if no path."""
    if not path or not (root := Path(path).expanduser()).exists():
        return str(path or "")
    files = sorted(root.rglob("*")) if root.is_dir() else [root]
    stats = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
    return f"{root.absolute()} {hashlib.sha256(repr(stats).encode()).hexdigest()}"


@contextlib.contextmanager
def _unfinished(output: Path, kinds: Sequence[str], identity: Mapping[str, Any]) -> Iterator[Path]:
    """Yields a folder in `output` that has a folder for every kind, and deletes it at the end.

    After an interruption it stays if a group is finished. The next call of the same identity finds it; a call of
    another identity starts again.
    """
    folder = output / ".unfinished"
    new = not output.exists() or os.listdir(output) == [folder.name]
    with creating(output, option="--output"):
        note = folder / "identity.json"
        if changes(note, identity) != []:
            shutil.rmtree(folder, ignore_errors=True)
            for kind in kinds:
                (folder / kind).mkdir(parents=True)
        begin(note, identity, remedy="delete it to start again")
    done = False
    try:
        yield folder
        done = True
    finally:
        if done or not any(folder.glob(PARTS)):
            shutil.rmtree(folder, ignore_errors=True)
            if new:
                with contextlib.suppress(OSError):  # it is not empty after a complete call
                    output.rmdir()
