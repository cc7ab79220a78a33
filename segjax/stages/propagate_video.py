"""Carries a user's own labels through a video and writes images with masks: the command `segjax propagate`."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from segjax import visualize
from segjax.data.build import creating
from segjax.data.chains import find_chains
from segjax.data.propagated import MODES, with_ignored
from segjax.errors import UserError, did_you_mean
from segjax.inference.labelled_video import open_labelled_video
from segjax.inference.propagate_chains import Propagator
from segjax.inference.propagation_report import merge, summarise
from segjax.inference.writers import PngWriter
from segjax.stages.motion import flow_of, open_flow, open_video_network

KINDS = ("images", "masks", "overlay")
AT_ONCE = 4  # labelled frames whose neighbours are in memory together


def propagate_video(
    video: str | os.PathLike,
    labels: str | os.PathLike,
    label_map: str | os.PathLike,
    output: str | os.PathLike,
    *,
    steps: int,
    checkpoint: str = "",
    mode: str = "jp",
    flow: str = "",
    batch: int = 4,
    progress: Callable[[int], None] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Writes output/images, output/masks (raw ids of the label map) and output/overlay, one file NAME+STEP.png per
    carried frame, and report.json; returns the report.

    checkpoint: a run of the stage "train_video"; "" carries by optical flow alone. mode: "jp" writes the carried image,
    "lp" the real frame. options: those of `Propagator`. The folders appear when all is done.
    Raises UserError for input that cannot be used; what is left out is in report["problems"].
    """
    output = Path(output)
    if mode not in MODES:
        raise UserError(f"--mode={mode} is not known.{did_you_mean(mode, MODES)}")
    there = [str(output / kind) for kind in KINDS if (output / kind).exists()]
    if there:
        raise UserError(f"{there[0]} exists already; give another --output, or delete it.")
    clip = open_labelled_video(video, labels, label_map)
    raw = with_ignored(clip.label_map)
    network = open_video_network(checkpoint)
    flow, flow_options = flow_of(flow, network)
    if flow == "exact":
        raise UserError(f"--flow=exact: nobody knows the exact flow of {video}; use --flow=dis.")
    propagator = Propagator(
        network.method,
        flow=open_flow(flow, flow_options),
        predict_motion=network.predict,
        variables=network.variables,
        batch=batch,
        **options,
    )
    chains = find_chains(clip, steps=steps, needs_before=propagator.needs_before)
    frames = list(dict.fromkeys(chain.record for chain in chains))
    parts, done = [], 0
    unfinished = output / ".unfinished"
    with creating(output, option="--output"):
        shutil.rmtree(unfinished, ignore_errors=True)
        for kind in KINDS:
            (unfinished / kind).mkdir(parents=True)
    with PngWriter() as pngs:
        for start in range(0, len(frames), AT_ONCE):
            some = set(frames[start : start + AT_ONCE])
            used, carried = propagator([chain for chain in chains if chain.record in some], clip.read)
            for one in carried:
                image = one.image if mode == "jp" else one.real.image
                name = f"{clip.names[one.chain.record]}{one.chain.direction * one.step:+d}.png"
                pngs.write(unfinished / "images" / name, image)
                pngs.write(unfinished / "masks" / name, raw.decode(one.label, name))
                picture = visualize.overlay(image, one.label, clip.label_map.palette)
                pngs.write(unfinished / "overlay" / name, picture)
            parts.append(summarise(used, carried, clip))
            done += len(carried)
            if progress:
                progress(done)
    report = {
        "video": str(video),
        "labels": len(clip.masks),
        "frames": len(clip.frames),
        "mode": mode,
        "method": network.method,
        "model": network.description,
        **merge(parts),
        "problems": clip.problems,
    }
    if not done:
        shutil.rmtree(unfinished)
        reasons = "; ".join([*report["ends"], *report["ended"], *clip.problems])
        raise UserError(f"no label could be carried to a frame: {reasons}.")
    with creating(output, option="--output"):
        for kind in KINDS:
            os.replace(unfinished / kind, output / kind)
        unfinished.rmdir()
        (output / "report.json").write_text(json.dumps(report, indent=2) + "\n")
        raw.save(output / "label_map.json")
    return report
