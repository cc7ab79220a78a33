"""`segjax plan`: what a recipe's program needs on a slice of chips, before the machine is rented."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from segjax.commands import values
from segjax.commands.start import start_jax
from segjax.errors import UserError
from segjax.outputs import writing_file

if TYPE_CHECKING:
    from segjax.stages.fitting import Report

WHAT = ("train", "evaluate", "predict")


def describe(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    add = parser.add_argument
    add("--config", required=True, metavar="RECIPE", help="a recipe, by name or file, such as vplr:camvid")
    add("--set", nargs="+", action="extend", type=values.option, default=[], metavar="K=V", help="recipe overrides")
    add(
        "--topology",
        default="local",
        metavar="SLICE",
        help="v4, v5e, v5p or v6e with a shape, such as v5e:4x4, or the devices of this machine (local)",
    )
    add("--what", choices=WHAT, default="train", help="program: step of a training, of an evaluation, prediction")
    add("--stage", default="", metavar="NAME", help="stage of the recipe (the first of the kind)")
    add("--batch", type=values.positive_int, default=0, metavar="N", help="images of a batch (the recipe's)")
    add("--size", type=values.size, metavar="HxW", help="size of the dataset's images (the published one)")
    add("--classes", type=values.positive_int, metavar="K", help="number of classes (the dataset's)")
    add("--tries", type=values.whole, default=6, metavar="N", help="changes to compile if it does not fit (6)")
    add("--json", metavar="FILE", help="also write the report to this file")


def run(arguments: argparse.Namespace) -> None:
    """Prints memory, FLOPs, messages and lower bounds of one program; reads no data and runs nothing.

    Raises UserError for an unknown topology, a program that the chips cannot share out, and as the recipe does; also
    if the compiler of TPUs is needed and not installed.
    """
    from segjax.costs.slices import LOCAL, find_slice

    if arguments.topology != LOCAL:
        find_slice(arguments.topology)
    if arguments.json and not arguments.json.endswith(".json"):
        raise UserError(f"--json={arguments.json} must be the name of a JSON file, for example plan.json")
    with writing_file(arguments.json, option="--json") if arguments.json else contextlib.nullcontext():
        _plan(arguments)


def _plan(arguments: argparse.Namespace) -> None:
    start_jax()
    from segjax.files import write_json
    from segjax.stages.fitting import plan
    from segjax.stages.rehearsal import Request

    request = Request(
        config=arguments.config,
        overrides=dict(arguments.set),
        topology=arguments.topology,
        what=arguments.what,
        stage=arguments.stage,
        size=arguments.size,
        classes=arguments.classes,
        batch=arguments.batch,
    )
    report, tried = plan(request, tries=arguments.tries)
    print(text_of(report, tried))
    if arguments.json:
        write_json(Path(arguments.json), {**report, "tried": [{"change": one, **found} for one, found in tried]})


def text_of(report: Report, tried: list[tuple[str, Report]]) -> str:
    """Returns the report as text, with what to change if the program does not fit."""
    from segjax.costs.bounds import Bounds
    from segjax.costs.collectives import Collective, Total
    from segjax.costs.latency import groups_to_take
    from segjax.costs.program import ProgramCosts, as_lines, cost_rows, in_units

    mesh = " ".join(f"{axis}={count}" for axis, count in report["mesh"].items())
    groups = f", bn_groups={report['bn_groups']}" if (report["bn_groups"] or 1) > 1 else ""
    frames = f"{report['frames']} frames of " if report["frames"] > 1 else ""
    classes = f", {report['classes']} classes" if report["classes"] else ""
    heading = (
        f"{report['stage']} of {report['config']}, {report['what']}, on {report['topology']}: {report['chips']} x "
        f"{report['chip']}, {mesh}\n{report['network']}, {report['batch']} {report['unit']} of {frames}"
        f"{report['size'][0]}x{report['size'][1]}{classes}, {report['dtype']}, "
        f"remat={report['remat']}{groups}, compiled in {report['compile_seconds']} s"
    )
    memory = report["memory"]
    rows = [(name, in_units(size)) for name, size in memory.items() if name not in ("has", "fits") and size]
    rows.append(("a chip has", in_units(memory["has"]) if memory["has"] else "unknown"))
    if "flops" in report:
        totals = {kind: Total(**total) for kind, total in report["collectives"].items()}
        largest = tuple(Collective(**one) for one in report["largest"])
        small = Total(**{name: report["small_all_reduces"][name] for name in ("count", "payload", "sent")})
        least = report["bounds"] and Bounds.from_dict(report["bounds"])
        rows += cost_rows(
            ProgramCosts(report["flops"], report["accessed"], totals, largest, small),
            least,
            chip=report["chip"],
            unit=report["unit"],
            option=f"{report['stage']}.model.options.bn_groups",
            groups=groups_to_take(report["bn_groups"], report["mesh"]),
        )
    space, height = report["mesh"].get("space", 1), report["size"][0]
    wasted = [f"the height {height} is no multiple of space={space}: devices along this axis compute the same"]
    return "\n".join([heading, as_lines(rows), *(wasted if height % space else []), *_verdict(report, tried)])


def _verdict(report: Report, tried: list[tuple[str, Report]]) -> list[str]:
    from segjax.costs.program import in_units
    from segjax.stages.fitting import fitting

    if report["memory"]["fits"]:
        return ["it fits"]
    fits = fitting(tried)
    shown = lambda found: (  # noqa: E731
        f"{in_units(found['memory']['needed'])}" if found["memory"]["needed"] else "more than a chip has"
    )
    found = [f"{change} ({shown(one)})" for change, one in fits.items()]
    failed = [f"{change} ({shown(one)})" for change, one in tried if not one["memory"]["fits"]]
    lines = [f"it does not fit; with {', or '.join(found)} it does" if found else "it does not fit"]
    if failed:
        lines.append(f"tried, and does not fit either: {', '.join(failed)}")
    if not found:
        lines.append("take a larger slice, chips with more memory, a smaller crop.size, or --tries=N for more changes")
    return lines
