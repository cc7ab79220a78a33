"""Stage "propagate": carries the labels of a split to neighbouring frames and writes a data set of what comes out."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from segjax import data
from segjax.data.chains import Chain, FrameTable, find_chains
from segjax.data.derived import MODES, PROVENANCE, provenance_file, with_ignored
from segjax.data.image_files import encode_png
from segjax.data.label_map import LabelMap
from segjax.data.record_shards import RecordShards
from segjax.data.scene_cuts import CUT_HISTOGRAM, CUT_RESIDUAL
from segjax.data.sources import Record
from segjax.data.threads import ordered_map
from segjax.data.video import FrameIndex
from segjax.errors import UserError, choose
from segjax.files import config_hash, plain
from segjax.media.writers import write_png
from segjax.propagation.carry import METHODS, RGB_WARPS
from segjax.propagation.motion import flow_of, open_flow, open_video_network
from segjax.propagation.propagator import INPUT_CHOICES, Propagated, Propagator
from segjax.propagation.report import describe, merge, propagation_sheet, summarise, warp_seconds
from segjax.stages import build
from segjax.stages.config.keys import check_keys, check_numbers
from segjax.weights.runs import fingerprint

log = logging.getLogger("segjax")

DEFAULTS = dict(
    split="train",
    method="reconstruction",
    checkpoint="",
    flow="",
    steps=5,
    directions=(1, -1),
    frame_step=0,
    modes=MODES,
    inputs="auto",
    rgb_warp="bilinear",
    ignore_out_of_view=True,
    max_cycle_error=0.0,
    max_image_error=0.0,
    cut_histogram=CUT_HISTOGRAM,
    cut_residual=CUT_RESIDUAL,
    batch_size=8,
    shard_frames=16,
    limit=0,
    sheet_rows=4,
)
CARRY = ("rgb_warp", "ignore_out_of_view", "max_cycle_error", "max_image_error")


def run(settings: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Writes <stage>/dataset, with one split per mode, and sheets of pictures. Returns the report.

    settings.checkpoint: of the video network, the name of a stage of this run or a folder. flow: name, or name and
    options, by default what that network was trained with, and "dis" without one. limit: labelled frames to
    use, evenly spread, 0 = all. shard_frames: labelled frames per file; a killed run repeats at most one of them.
    The others are described at `Propagator`, `carry`, `find_chains` and `open_propagated`.
    """
    options = check(settings, where=context.name)
    dataset = settings.get("dataset") or context.dataset
    network = open_video_network(options["checkpoint"], options["method"], workdir=context.workdir)
    flow, flow_options = flow_of(options["flow"], network)
    source = build.open_split(dataset, options["split"], labelled_only=False, flow=flow == "exact")
    index = FrameIndex(source, step=options["frame_step"] or None)
    propagator = Propagator(
        options["method"],
        flow=open_flow(flow, flow_options, index=index),
        predict_motion=network.predict,
        variables=network.variables,
        batch=options["batch_size"],
        cut_histogram=options["cut_histogram"],
        cut_residual=options["cut_residual"],
        inputs=options["inputs"],
        **{name: options[name] for name in CARRY},
    )
    groups = chain_groups(source, options, needs_before=propagator.needs_before)
    identity = {
        **options,
        "dataset": plain(dataset),
        "model": network.description,
        "flow": {"name": flow, "options": flow_options},
        "weights": int(fingerprint(network.variables)),
        "frames": config_hash(source.directory.parent.name, source.names, source.index.labelled.tolist()),
    }
    shards = RecordShards(
        context.folder,
        name="propagated",
        splits=tuple(options["modes"]),
        label_map=with_ignored(source.label_map),
        extra=PROVENANCE,
        identity=plain(identity),
        description=f"Labels of {dataset['name']} {options['split']}, carried by {options['method']}.",
    )
    if jax.process_index() == 0:
        shards.open()
    sync("propagate: folder")
    start = time.perf_counter()
    tag = dict(method=options["method"], model=network.description, config=config_hash(plain(identity)))
    new = write_shards(shards, groups, source, propagator, tag)
    seconds = time.perf_counter() - start
    sync("propagate: shards")
    notes = [shards.summary(number) for number in range(len(groups))]
    summary = merge(notes)
    for line in [*describe(summary), *summary["ended"]]:
        log.info(line)
    if not summary["carried"]:
        reasons = ", ".join(f"{why} ({count})" for why, count in summary["ends"].items())
        raise UserError(f"no label of {dataset['name']} {options['split']} could be carried to a frame: {reasons}.")
    if jax.process_index() == 0:
        directory = shards.finish(
            len(groups),
            extra_files={
                provenance_file(mode): {
                    "steps": np.array([step for note in notes for step in note["steps"]], np.int32),
                    "config": np.array(tag["config"]),
                }
                for mode in options["modes"]
            },
        )
        write_sheets(directory, source, options, context.folder)
    sync("propagate: data set")
    total = sum(summary["carried"].values())
    sizes, counts = np.unique(source.sizes, axis=0, return_counts=True)
    warp = warp_seconds(tuple(sizes[counts.argmax()]), batch=propagator.batch, **_warp_options(options))
    result = {
        "dataset": str(shards.directory),
        "records": {mode: total for mode in options["modes"]},
        **summary,
        "model": network.description,
        "frames_per_second": round(new / seconds, 2) if new else None,
        "seconds_by_part": {name: round(value, 2) for name, value in propagator.seconds.items()},
        "warp_frames_per_second": round(1 / warp, 1),
    }
    log.info(
        "%d frames, %s frames/s in this process; the warp alone would do %.0f frames/s on one device",
        total, result["frames_per_second"], 1 / warp,
    )  # fmt: skip
    return result


def check(settings: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """All options. Raises UserError for keys and names that are not known; reads no data."""
    check_keys(settings, {"kind", "dataset", *DEFAULTS}, where=where)
    options = {**DEFAULTS, **{key: value for key, value in plain(settings).items() if key in DEFAULTS}}
    check_numbers(options, ("steps", "batch_size", "shard_frames"), where=where, low=1)
    check_numbers(options, ("frame_step", "limit", "sheet_rows"), where=where, low=0)
    limits = ("max_cycle_error", "max_image_error", "cut_histogram", "cut_residual")
    check_numbers(options, limits, where=where, low=0, whole=False)
    choose(METHODS, options["method"], where=f"{where}.method")
    choose(dict.fromkeys(INPUT_CHOICES), options["inputs"], where=f"{where}.inputs")
    choose(dict.fromkeys(RGB_WARPS), options["rgb_warp"], where=f"{where}.rgb_warp")
    for mode in options["modes"]:
        choose(dict.fromkeys(MODES), mode, where=f"{where}.modes")
    if not options["modes"]:
        raise UserError(f"config key {where}.modes is empty; name {' or '.join(MODES)}.")
    return options


def chain_groups(source: data.Source, options: Mapping[str, Any], *, needs_before: bool) -> list[list[Chain]]:
    """The chains of every shard: those of shard_frames labelled frames."""
    chains = find_chains(
        source.index,
        steps=options["steps"],
        needs_before=needs_before,
        directions=tuple(options["directions"]),
        frame_step=options["frame_step"],
    )
    frames = list(dict.fromkeys(chain.record for chain in chains))
    if options["limit"]:
        count = min(options["limit"], len(frames))
        frames = [frames[i * len(frames) // count] for i in range(count)]
    size = options["shard_frames"]
    shard_of = {frame: number // size for number, frame in enumerate(frames)}
    groups: list[list[Chain]] = [[] for _ in range(-(-len(frames) // size))]
    for chain in chains:
        if chain.record in shard_of:
            groups[shard_of[chain.record]].append(chain)
    return groups


def write_shards(
    shards: RecordShards,
    groups: Sequence[Sequence[Chain]],
    source: data.Source,
    propagator: Callable,
    tag: Mapping[str, str],
) -> int:
    """Writes this process's shards that are not done yet; returns how many frames were carried."""

    def read(records: Sequence[int]) -> dict[int, Record]:
        return dict(zip(records, ordered_map(source.__getitem__, records)))

    mine = range(jax.process_index(), len(groups), jax.process_count())
    todo = [number for number in mine if shards.summary(number) is None]
    if len(todo) < len(mine):
        log.info("%d of %d shards are done", len(mine) - len(todo), len(mine))

    def write(number: int, chains: Sequence[Chain], carried: Sequence[Propagated]) -> None:
        examples = {}
        for mode in shards.splits:
            encode = functools.partial(example, mode=mode, index=source.index, label_map=shards.label_map, tag=tag)
            examples[mode] = list(ordered_map(encode, carried))
        steps = [one.chain.direction * one.step for one in carried]
        shards.write(number, examples, {**summarise(chains, carried, source.index), "steps": steps})

    count, writing = 0, None
    with ThreadPoolExecutor(1, thread_name_prefix="shard") as pool:  # one is written while the next is computed
        for done, number in enumerate(todo, start=1):
            start = time.perf_counter()
            chains, carried = propagator(groups[number], read)
            if writing:
                writing.result()
            writing = pool.submit(write, number, chains, carried)
            count += len(carried)
            rate = len(carried) / (time.perf_counter() - start)
            log.info("shard %d of %d: %d frames, %.1f frames/s", done, len(todo), len(carried), rate)
        if writing:
            writing.result()
    return count


def example(
    one: Propagated, mode: str, index: FrameTable, label_map: LabelMap, tag: Mapping[str, str]
) -> dict[str, Any]:
    """The record of a carried frame: "jp" with the carried image, "lp" with the real one."""
    origin = one.chain.record
    signed = one.chain.direction * one.step
    image = one.image if mode == "jp" else one.real.image
    return {
        "image": encode_png(image),
        "label": encode_png(label_map.decode(one.label, one.real.name)),
        "name": f"{index.names[origin]}{signed:+d}",
        "sequence": str(index.sequences[origin]),
        "frame": int(one.real.frame),
        "height": image.shape[0],
        "width": image.shape[1],
        "labelled": True,
        "source_name": str(index.names[origin]),
        "source_frame": int(index.frames[origin]),
        "step": one.step,
        "direction": one.chain.direction,
        "mode": mode,
        **tag,
    }


def write_sheets(directory: Path, source: data.Source, options: Mapping[str, Any], folder: Path) -> None:
    """One sheet per signed step: real | carried image | carried label | ignored, of a few frames far apart."""
    if not options["sheet_rows"]:
        return
    mode = options["modes"][0]
    found = data.TfdsSource(directory, mode)
    with np.load(directory / provenance_file(mode)) as arrays:
        steps = arrays["steps"]
    row_of = {(s, f): row for row, (s, f) in enumerate(zip(source.index.sequences, source.index.frames.tolist()))}
    for step in np.unique(steps):
        rows = np.flatnonzero(steps == step)
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, num=options["sheet_rows"]).astype(int))]
        records = [found[int(row)] for row in rows]
        real = [source[row_of[record.sequence, record.frame]] for record in records]
        picture = propagation_sheet(
            [(f"{a.name} on {b.name}", b.image, a.image, a.label) for a, b in zip(records, real)],
            source.class_names,
            source.palette,
            heading=f"{options['method']}, step {step:+d}, {mode}",
        )
        write_png(folder / "sheets" / f"step{step:+d}.png", picture)


def sync(name: str) -> None:
    """Waits for all processes."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def _warp_options(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in ("rgb_warp", "ignore_out_of_view")}
