"""Stage "evaluate_video": what labelling a video from keyframes costs and gains, beside other ways to label it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from segjax import data, evaluation, parallel, visualize
from segjax.costs.video import counted_options, frame_multiply_adds, keyframe_multiply_adds
from segjax.data.pipeline import eval_rows
from segjax.data.video import FrameIndex
from segjax.errors import UserError
from segjax.evaluation.confusions import Evaluation
from segjax.evaluation.consistency import Agreement, agreement_of_snippets
from segjax.evaluation.edge_errors import edge_errors
from segjax.evaluation.grid_bound import grid_bound
from segjax.evaluation.snippets import by_distance, interval_scores
from segjax.evaluation.stream_times import stream_times
from segjax.evaluation.video_pictures import video_pictures
from segjax.evaluation.video_report import SHARES, video_notes, video_table, write_video_report
from segjax.evaluation.video_systems import BASELINES, System, baselines, propagated, with_keyframe_of
from segjax.inference.network import compute_dtype, find_run, open_network
from segjax.inference.streaming import StreamSegmenter
from segjax.media.writers import write_png
from segjax.models.dis_warp import check_threads
from segjax.propagation.motion import open_flow
from segjax.stages.config.keys import check_keys, check_numbers, options_of
from segjax.stages.dataset import Dataset, read_own_dataset
from segjax.stages.stage import Context, Preview, Stage

log = logging.getLogger("segjax")

FLOWS = ("", "exact", "dis")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The section of a stage "evaluate_video".

    checkpoint: stage or run of kind train_gsvnet.
    keyframe: stage or run of another image network of the same classes, that labels the keyframes of all systems in
        place of those that the propagation networks were trained with; "" for these.
    others: name -> further such checkpoints, for the same table.
    split: with all frames of its videos.
    interval: longest interval l of keyframes. For every interval up to it, the same labelled frames are scored, with
        keyframes 0 .. l - 1 frames before them.
    frame_step: see `FrameIndex`, 0 = the smallest that occurs.
    batch_size: snippets of a batch.
    limit: number of snippets, spread evenly; 0 = all.
    baselines: see `video_systems.baselines`.
    scales: of the baseline "every".
    consistency: flow by which frames are compared with those before: "exact" of the dataset, "dis", "" for none.
    timed: number of frames that are labelled one by one for times; 0 = none.
    pictures: number of frames in the pictures.
    edges: whether to compare the errors of warped labels with their edges, which guide GSVNet (its Fig. A7).
    mesh: axis -> number of devices.
    dtype: of the computation.
    dataset: None = `config.dataset`.
    """

    checkpoint: str
    keyframe: str = ""
    others: Mapping[str, str] = dataclasses.field(default_factory=dict)
    split: str = "validation"
    interval: int = 5
    frame_step: int = 0
    batch_size: int = 1
    limit: int = 0
    baselines: Sequence[str] = BASELINES
    scales: Sequence[float] = (1.0, 0.75, 0.6, 0.5)
    consistency: str = "dis"
    timed: int = 20
    pictures: int = 4
    edges: bool = False
    mesh: Mapping[str, int] = dataclasses.field(default_factory=lambda: {"data": -1})
    dtype: str = "auto"
    dataset: Dataset | None = None


def read(settings: Mapping[str, Any], where: str) -> Options:
    """Reads the section; reads no data. Raises UserError for unknown keys and names, and wrong numbers."""
    rest = {key: value for key, value in settings.items() if key not in ("kind", "dataset")}
    options = Options(**options_of(rest, Options, where=where), dataset=read_own_dataset(settings, where))
    check_keys(options.mesh, ("data",), where=f"{where}.mesh")
    check_numbers(settings, ("batch_size", "interval"), where=where, low=1)
    check_numbers(settings, ("limit", "timed", "pictures", "frame_step"), where=where, low=0)
    if options.consistency not in FLOWS:
        raise UserError(f"config key {where}.consistency={options.consistency!r} must be exact, dis or empty.")
    if not options.scales or not all(isinstance(x, (int, float)) and x > 0 for x in options.scales):
        raise UserError(f"config key {where}.scales={options.scales!r} must list factors above 0.")
    if options.edges and options.interval < 2:
        raise UserError(
            f"config key {where}.edges compares labels one frame after a keyframe; set interval to 2 or more."
        )
    compute_dtype(options.dtype)
    return options


def inputs(options: Options, begun: bool) -> dict[str, str]:
    """Returns the inputs of the stage, see `Stage.inputs`."""
    own = {"checkpoint": options.checkpoint, "keyframe": options.keyframe}
    return {**own, **{f"others.{name}": path for name, path in options.others.items()}}


def check(options: Options, preview: Preview) -> None:
    """Raises UserError if the warp by DIS flow is asked for and XLA has too few threads for it, see `check_threads`."""
    if "warp_dis" in options.baselines:
        check_threads()


def run(options: Options, context: Context) -> dict[str, Any]:
    """Writes a table, a plot and a picture to the stage's folder, and returns the report.

    Raises UserError for checkpoints and data that cannot be read or do not fit each other.
    """
    mesh = parallel.make_mesh(options.mesh)
    dataset = options.dataset or context.dataset
    snippets = open_snippets(options, dataset, options.interval - 1)
    steady_snippets = open_snippets(options, dataset, options.interval) if options.consistency else None
    systems = open_systems(options, context, snippets.index.source)
    size = tuple(map(int, snippets.sizes[0]))
    rows, found = [], {}
    for system in systems:
        scored = score(system, snippets, options, mesh)
        steady = agreement(system, steady_snippets, options) if system.module is not None else None
        times = timed(system, snippets, options)
        own = rows_of(system, scored, steady, times, size, options.interval)
        rows += own
        found[system.name] = report_of(system, own, scored, steady, times, snippets.index.source.class_names)
        if options.edges and system.guided:
            found[system.name]["edges"] = edges_of(system, snippets, options)
    truth = next((one["steady_truth"] for one in found.values() if one.get("steady_truth") is not None), None)
    bounds = bounds_of(systems, snippets, options)
    title = f"{dataset} {options.split}, {len(snippets)} frames of {size[1]}x{size[0]}"
    edges = {name: one["edges"] for name, one in found.items() if "edges" in one}
    notes = video_notes(consistency=options.consistency, truth=truth, bounds=bounds, edges=edges)
    if jax.process_index() == 0:
        visualize.print_table(video_table(rows, title=title))
        write_video_report(rows, context.folder, title=title, notes=notes)
        drawn = video_pictures(systems, snippets, options.pictures, heading=title, edges=options.edges)
        for name, picture in drawn.items():
            write_png(context.folder / name, picture)
        log.info("pictures and tables: %s", context.folder)
    last = found[systems[-len(options.others) - 1].name]["intervals"][str(options.interval)]
    facts = {"snippets": len(snippets), "skipped": snippets.skipped[:20], "truth_steady": truth}
    facts["grid_bounds"] = bounds
    return {**last, **facts, "rows": rows, "systems": found}


def open_snippets(options: Options, dataset: Dataset, before: int) -> data.Snippets:
    """Opens the labelled frames that have so many frames before them. Raises UserError as `Snippets` does.

    To compare frames with those before takes one more than the distances of keyframes: the frame before a keyframe may
    be as far from its own keyframe.
    """
    fields = ("flow",) if options.consistency == "exact" else ()
    source = dataset.open(options.split, labelled_only=False, fields=fields, frames=True)
    return data.Snippets(FrameIndex(source, step=options.frame_step or None), before)


def open_systems(options: Options, context: Context, source: data.Source) -> list[System]:
    """Returns the baselines, the network of the stage, and the others. Raises UserError for other classes."""
    networks = {}
    for name, checkpoint in {"": options.checkpoint, **options.others}.items():
        network = open_network(find_run(checkpoint, context.workdir), kind="propagation", dtype=options.dtype)
        if options.keyframe:
            network = with_keyframe_of(network, open_network(find_run(options.keyframe, context.workdir)))
        if network.spec["num_classes"] != source.num_classes:
            raise UserError(
                f"the network in {checkpoint} knows {network.spec['num_classes']} classes, and the dataset has "
                f"{source.num_classes}; give the stage a dataset with the classes of the network."
            )
        networks[name or network.spec["name"]] = network
    first = next(iter(networks.values()))
    return [
        *baselines(first, options.baselines, options.scales),
        *(propagated(network, name) for name, network in networks.items()),
    ]


def score(system: System, snippets: data.Snippets, options: Options, mesh: Any) -> list[np.ndarray]:
    """Returns the confusion matrices of a system by distance from the keyframe, the same at all if it has none."""
    count = options.interval
    scorer = evaluation.Scorer(
        system.predict, snippets, mesh=mesh, batch_size=options.batch_size, limit=options.limit or None
    )
    scored: Evaluation = scorer(parallel.replicate(system.variables, mesh))
    found = by_distance(scored)
    return found[:count] if system.module is not None else found * count


def agreement(system: System, snippets: data.Snippets | None, options: Options) -> Agreement | None:
    """Returns how steady the labels of a system are; None without a flow to compare by."""
    if snippets is None:
        return None
    flow = open_flow(options.consistency, {}, index=snippets.index)
    batches = data.eval_snippets(snippets, batch_size=options.batch_size, flow=flow, limit=options.limit or None)
    return agreement_of_snippets(system.module, system.variables, batches, normalisation=system.normalisation)


def timed(system: System, snippets: data.Snippets, options: Options) -> dict[str, Any]:
    """Returns the times of a system on a stream of frames, {} for one that no stream is labelled by."""
    if system.network is None or not options.timed:
        return {}
    if system.module is None:
        stream = StreamSegmenter(system.network, 1, scale=system.scale)
    else:
        stream = StreamSegmenter(system.network, options.interval)
    source = snippets.index.source
    records = snippets.records[0]
    palette = source.palette
    return stream_times(
        stream,
        lambda number: source[int(records[number % len(records)])].image,
        options.timed,
        lambda frame, ids: visualize.overlay(frame, ids, palette),
    )


def rows_of(
    system: System,
    matrices: Sequence[np.ndarray],
    steady: Agreement | None,
    times: Mapping[str, Any],
    size: tuple[int, int],
    longest: int,
) -> list[dict[str, Any]]:
    """Returns the rows of a system: one for each interval, or a single one if it labels every frame alone."""
    alone, found = system.module is None, []
    for interval in [None] if alone else range(1, longest + 1):
        row = {"system": system.name, "series": system.series or system.name, "interval": interval}
        row |= interval_scores(matrices, interval or 1)
        row["consistency"] = steady.share(interval) if steady else None
        row |= {"multiply_adds": multiply_adds(system, size, interval or 1), "parameters": system.parameters or None}
        if times:
            key = times["key"]["p50"]
            between = times["between"]["p50"] if "between" in times else None
            row |= {"key_ms": key, "between_ms": between}
            row["frame_ms"] = key if alone or between is None else (key + (interval - 1) * between) / interval
            row["with_drawing_ms"] = times["with_drawing"]["mean"] if alone or interval == longest else None
        found.append(row)
    return found


def multiply_adds(system: System, size: tuple[int, int], interval: int) -> float | None:
    """Returns the multiply-adds of a frame of (h, w) on average; None if those between keyframes are not counted."""
    name, classes, options = system.keyframe["name"], system.keyframe["num_classes"], counted_options(system.keyframe)
    key = keyframe_multiply_adds(name, size, scale=system.scale, num_classes=classes, **options)
    if system.module is None or interval == 1:
        return key
    if system.between is None:
        return None
    return (key + (interval - 1) * frame_multiply_adds(system.between, size)) / interval


def report_of(
    system: System,
    rows: Sequence[Mapping[str, Any]],
    matrices: Sequence[np.ndarray],
    steady: Agreement | None,
    times: Mapping[str, Any],
    class_names: Sequence[str],
) -> dict[str, Any]:
    """Returns the numbers of a system by interval, for a stage "compare", and those that the table has no room for."""
    shares = {str(row["interval"] or 1): {name: row[name] for name in SHARES} for row in rows}
    by_class = [evaluation.per_class(Evaluation(matrix, 0, 0.0), class_names) for matrix in matrices]
    return {
        "intervals": shares,
        "iou": by_class[0] if system.module is None else by_class,
        "steady_truth": None if steady is None else steady.of_truth(),
        "times": dict(times),
    }


def bounds_of(systems: Sequence[System], snippets: data.Snippets, options: Options) -> dict[str, dict[str, Any]]:
    """Returns what true labels score on the grids of the systems, by the pixels of a cell; see `grid_bound`.

    They are those of the frames that the systems are scored on.
    """
    source = snippets.index.source
    numbers, _ = eval_rows(snippets.sizes, 1, limit=options.limit or None)
    records = snippets.records[numbers.ravel(), -1]
    cells = sorted({system.module.propagation.stride for system in systems if system.module is not None})
    labels = {cell: (source.label(int(record)) for record in records) for cell in cells}
    return {str(cell): grid_bound(labels[cell], source.num_classes, cell) for cell in cells}


def edges_of(system: System, snippets: data.Snippets, options: Options) -> dict[str, float]:
    """Returns how edges and errors of warped labels go together, see `edge_errors`."""
    batches = data.eval_snippets(snippets, batch_size=options.batch_size, limit=options.limit or None)
    return edge_errors(system.module, system.variables, batches, normalisation=system.normalisation)


STAGE = Stage(read, run, inputs, check, again="when_stale")
