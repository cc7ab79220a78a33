"""Stage "propagate": propagates the labels of a split to neighbouring frames and writes them as a dataset."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from segjax import data
from segjax.data.chains import Chain, find_chains
from segjax.data.derived import MODES, PROPAGATED, PROVENANCE, provenance, provenance_file, with_ignored
from segjax.data.record_shards import RecordShards
from segjax.data.scene_cuts import CUT_HISTOGRAM, CUT_RESIDUAL
from segjax.data.video import FrameIndex
from segjax.errors import UserError, choose
from segjax.files import config_hash, plain
from segjax.media.writers import write_png
from segjax.propagation.carry import METHODS, RGB_WARPS
from segjax.propagation.motion import choose_flow, open_flow, open_video_network
from segjax.propagation.propagator import INPUT_CHOICES, Propagator
from segjax.propagation.report import describe, merge, propagation_sheet, warp_seconds
from segjax.stages.config.keys import check_keys, check_numbers, options_of
from segjax.stages.dataset import Dataset, read_own_dataset
from segjax.stages.held_out import check_chains
from segjax.stages.propagated_records import Work, quality
from segjax.stages.stage import Context, Stage
from segjax.stages.write_records import finish_records, write_records
from segjax.weights.fingerprints import fingerprint

log = logging.getLogger("segjax")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The section of a stage "propagate".

    split: of the labelled frames.
    method: key of `propagation.carry.METHODS`. "truth" writes the dataset's own labels of the neighbouring frames, with
        their real images in all modes: the upper bound of a propagation.
    checkpoint: of the video network: name of a stage of this run, or a folder; "" for none.
    flow: name, or {"name", "options"}; "" = the flow that the network was trained with, "dis" without a network.
    steps, directions, frame_step: see `find_chains`.
    modes: splits of the written dataset, see `open_propagated`.
    inputs, cut_histogram, cut_residual, batch_size: see `Propagator`.
    rgb_warp, ignore_out_of_view, max_cycle_error, max_image_error: see `propagation.carry.carry`.
    label_shift, score: see `propagated_records.Work`.
    shard_frames: labelled frames per file; after a kill, unfinished files are computed again.
    limit: number of labelled frames, spread evenly; 0 = all.
    sheet_rows: frames in each picture.
    dataset: None = `config.dataset`.
    """

    split: str = "train"
    method: str = "reconstruction"
    checkpoint: str = ""
    flow: str | Mapping[str, Any] = ""
    steps: int = 5
    directions: tuple[int, ...] = (1, -1)
    frame_step: int = 0
    modes: tuple[str, ...] = MODES
    inputs: str = "auto"
    rgb_warp: str = "composed"
    ignore_out_of_view: bool = True
    max_cycle_error: float = 0.0
    max_image_error: float = 0.0
    label_shift: float = 0.0
    score: bool = False
    cut_histogram: float = CUT_HISTOGRAM
    cut_residual: float = CUT_RESIDUAL
    batch_size: int = 8
    shard_frames: int = 16
    limit: int = 0
    sheet_rows: int = 4
    dataset: Dataset | None = None

    @property
    def carry(self) -> dict[str, Any]:
        """Keyword arguments of `propagation.carry.carry`."""
        names = ("rgb_warp", "ignore_out_of_view", "max_cycle_error", "max_image_error")
        return {name: getattr(self, name) for name in names}


def read(settings: Mapping[str, Any], where: str) -> Options:
    """Reads the section; reads no data. Raises UserError for unknown keys and names, and wrong numbers."""
    rest = {key: value for key, value in settings.items() if key not in ("kind", "dataset")}
    options = Options(**options_of(rest, Options, where=where), dataset=read_own_dataset(settings, where))
    values = vars(options)
    check_numbers(values, ("steps", "batch_size", "shard_frames"), where=where, low=1)
    check_numbers(values, ("frame_step", "limit", "sheet_rows"), where=where, low=0)
    limits = ("max_cycle_error", "max_image_error", "label_shift", "cut_histogram", "cut_residual")
    check_numbers(values, limits, where=where, low=0, whole=False)
    if isinstance(options.flow, Mapping):
        check_keys(options.flow, {"name", "options"}, where=f"{where}.flow", required=["name"])
    choose(METHODS, options.method, where=f"{where}.method")
    choose(dict.fromkeys(INPUT_CHOICES), options.inputs, where=f"{where}.inputs")
    choose(dict.fromkeys(RGB_WARPS), options.rgb_warp, where=f"{where}.rgb_warp")
    for mode in options.modes:
        choose(dict.fromkeys(MODES), mode, where=f"{where}.modes")
    if not options.modes:
        raise UserError(f"config key {where}.modes is empty; name {' or '.join(MODES)}.")
    return options


def inputs(options: Options, begun: bool) -> dict[str, str]:
    """Returns the inputs of the stage, see `Stage.inputs`."""
    return {"checkpoint": options.checkpoint}


def run(options: Options, context: Context) -> dict[str, Any]:
    """Writes <stage>/dataset, with one split per mode, and sheets of pictures; returns the report.

    Raises UserError for a network, flow or dataset that cannot be opened, for images of held-out splits, for a folder
    with the shards of other settings, and if no label could be propagated.
    """
    dataset = options.dataset or context.dataset
    network = open_video_network(options.checkpoint, options.method, workdir=context.workdir)
    flow, flow_options = choose_flow(options.flow, network)
    # "truth" and scores read labels that the split hides; chains begin at its own, `index.labelled`, even so
    hidden = options.method == "truth" or options.score
    fields = [*(["flow"] if flow == "exact" else []), *(["all_labels"] if hidden else [])]
    source = dataset.open(options.split, labelled_only=False, fields=fields, frames=True)
    index = FrameIndex(source, step=options.frame_step or None)
    propagator = Propagator(
        options.method,
        open_flow(flow, flow_options, index=index),
        network.predict,
        network.variables,
        batch=options.batch_size,
        cut_histogram=options.cut_histogram,
        cut_residual=options.cut_residual,
        inputs=options.inputs,
        **options.carry,
    )
    groups = chain_groups(source, options, needs_before=propagator.needs_before)
    check_chains(context.dataset, source, [chain for group in groups for chain in group], where=f"{context.name}.split")
    # every setting that changes the records: shards of a killed run with other settings must not be mixed with new ones
    own = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    identity = {
        **own,
        "dataset": dataset.settings,
        "model": network.description,
        "flow": {"name": flow, "options": flow_options},
        "weights": int(fingerprint(network.variables)),
        "frames": config_hash(source.directory.parent.name, source.names, source.index.labelled.tolist()),
    }
    shards = RecordShards(
        context.folder,
        name="propagated",
        splits=tuple(options.modes),
        label_map=with_ignored(source.label_map),
        extra=PROVENANCE,
        identity=plain(identity),
        kind=PROPAGATED,
        description=f"Labels of {dataset.name} {options.split}, propagated by {options.method}.",
    )
    tag = dict(method=options.method, model=network.description, config=config_hash(plain(identity)))
    work = Work(shards, source, propagator, tag, label_shift=options.label_shift, score=options.score)
    written = write_records(shards, groups, work.carry, work.encode)
    summary = merge(written.notes)
    for line in [*describe(summary), *summary["ended"]]:
        log.info(line)
    if not summary["carried"]:
        reasons = ", ".join(f"{why} ({count})" for why, count in summary["ends"].items())
        raise UserError(f"no label of {dataset.name} {options.split} could be propagated to a frame: {reasons}.")
    steps = np.array([step for note in written.notes for step in note["steps"]], np.int32)
    beside = {"steps": steps, "config": np.array(tag["config"])}
    directory = finish_records(shards, written, extra_files={provenance_file(mode): beside for mode in options.modes})
    if jax.process_index() == 0:
        write_sheets(directory, source, options, context.folder)
    total = sum(summary["carried"].values())
    sizes, counts = np.unique(source.sizes, axis=0, return_counts=True)
    warp = warp_seconds(
        tuple(sizes[counts.argmax()]),
        batch=propagator.batch,
        rgb_warp=options.rgb_warp,
        ignore_out_of_view=options.ignore_out_of_view,
    )
    log.info(
        "%d frames, %s frames/s in this process; the warp alone would do %.0f frames/s on one device",
        total, written.rate, 1 / warp,
    )  # fmt: skip
    return {
        "dataset": str(directory),
        "records": {mode: total for mode in options.modes},
        **summary,
        **({"quality": quality(written.notes)} if options.score else {}),
        "model": network.description,
        "frames_per_second": written.rate,
        "seconds_by_part": {name: round(value, 2) for name, value in propagator.seconds.items()},
        "warp_frames_per_second": round(1 / warp, 1),
    }


def chain_groups(source: data.Source, options: Options, *, needs_before: bool) -> list[list[Chain]]:
    """Returns the chains of every shard: those that start from its `shard_frames` labelled frames.

    source: of the frames.
    options: of the stage.
    needs_before: whether a chain needs the frame before its labelled frame, see `find_chains`.
    """
    chains = find_chains(
        source.index,
        steps=options.steps,
        needs_before=needs_before,
        directions=tuple(options.directions),
        frame_step=options.frame_step,
    )
    frames = list(dict.fromkeys(chain.record for chain in chains))
    if options.limit:
        count = min(options.limit, len(frames))
        frames = [frames[i * len(frames) // count] for i in range(count)]
    size = options.shard_frames
    shard_of = {frame: number // size for number, frame in enumerate(frames)}
    groups: list[list[Chain]] = [[] for _ in range(-(-len(frames) // size))]
    for chain in chains:
        if chain.record in shard_of:
            groups[shard_of[chain.record]].append(chain)
    return groups


def write_sheets(directory: Path, source: data.Source, options: Options, folder: Path) -> None:
    """Writes one sheet per signed step: real | propagated image | propagated label | ignored pixels.

    directory: of the written dataset.
    source: of the real frames.
    options: of the stage.
    folder: of the stage, which receives sheets/.
    """
    if not options.sheet_rows:
        return
    mode = options.modes[0]
    found = data.TfdsSource(directory, mode)
    steps, _ = provenance(directory, mode)
    row_of = {(s, f): row for row, (s, f) in enumerate(zip(source.index.sequences, source.index.frames.tolist()))}
    for step in np.unique(steps):
        rows = np.flatnonzero(steps == step)
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, num=options.sheet_rows).astype(int))]
        records = [found[int(row)] for row in rows]
        real = [source[row_of[record.sequence, record.frame]] for record in records]
        picture = propagation_sheet(
            [(f"{a.name} on {b.name}", b.image, a.image, a.label) for a, b in zip(records, real)],
            source.class_names,
            source.palette,
            heading=f"{options.method}, step {step:+d}, {mode}",
        )
        write_png(folder / "sheets" / f"step{step:+d}.png", picture)


STAGE = Stage(read, run, inputs, writes_dataset=True)
