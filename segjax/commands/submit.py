"""`segjax submit`: makes and checks an archive for an evaluation server, and scores it by the server's rule."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segjax.commands import values
from segjax.commands.start import start_jax
from segjax.errors import UserError
from segjax.outputs import check_outputs, writing_file

if TYPE_CHECKING:
    from segjax.submission.submit import Submission


def describe(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    add = parser.add_argument
    add("--dataset", required=True, metavar="NAME", help="cityscapes, kitti, bdd100k or voc2012")
    add("--split", default="test", metavar="NAME", help="split (test); a labelled one is also scored")
    add("--checkpoint", default="", metavar="DIR", help="workdir of the run whose network predicts")
    add("--input", default="", metavar="PATH", help="predicted id PNGs instead: a folder or an archive, to check")
    add("--output", default="", metavar="FILE", help="the .zip or .tgz to write")
    add("--report", default="", metavar="FILE", help="also write the scores as JSON")
    add(
        "--protocol",
        default="single",
        metavar="NAME",
        help="scales and windows of a published evaluation, such as cityscapes_multi (single)",
    )
    add("--scales", nargs="+", type=values.numbers, default=[], metavar="S", help="override the protocol's scales")
    add("--flip", action="store_true", help="also average with the mirror image")
    add("--window", type=values.size, metavar="HxW", help="override the protocol's sliding window, pixels")
    add("--batch", type=values.positive_int, metavar="N", help="images at once (1 per CPU device, 4 per accelerator)")
    add("--competition", default="", metavar="NAME", help="voc2012: comp6 (default), comp5 for VOC's images alone")
    add("--data-dir", metavar="DIR", help="folder of built datasets ($SEGJAX_DATA_DIR)")
    add("--option", nargs="+", action="extend", type=values.option, default=[], metavar="K=V", help="dataset options")


def run(arguments: argparse.Namespace) -> None:
    """Predicts, or reads predictions; writes and checks the archive, and scores it if the split is labelled.

    Raises UserError for flags that exclude each other, and as `segjax.submission.submit` does.
    """
    if bool(arguments.checkpoint) == bool(arguments.input):
        raise UserError("segjax submit predicts (--checkpoint) or takes what is predicted (--input); give one of these")
    if arguments.checkpoint and not arguments.output:
        raise UserError("--output is missing: the name of the .zip or .tgz to write")
    if arguments.input and (arguments.scales or arguments.flip or arguments.window or arguments.protocol != "single"):
        raise UserError("--protocol, --scales, --flip and --window are for --checkpoint; --input is predicted already")
    reads = [arguments.input] if arguments.input else []
    for flag, file in (("--output", arguments.output), ("--report", arguments.report)):
        if file:
            names = [Path(file).name] if flag == "--report" else []  # an existing archive is refused anyway
            check_outputs(Path(file).parent, names, reads=reads, option=flag)
    start_jax()
    from segjax.files import write_file
    from segjax.inference import find_protocol
    from segjax.submission import submit
    from segjax.submission.servers import find_server

    output = str(Path(arguments.output).expanduser()) if arguments.output else ""
    server = find_server(arguments.dataset, competition=arguments.competition)
    views = find_protocol(arguments.protocol)
    views |= {"scales": tuple(s for group in arguments.scales for s in group)} if arguments.scales else {}
    views |= {"flip": True} if arguments.flip else {}
    views |= {"window": arguments.window} if arguments.window else {}
    if output:
        submit.check_output(output)  # before the dataset is built, which may take an hour
    source, labelled = submit.open_records(
        arguments.dataset, arguments.split, data_dir=arguments.data_dir, options=dict(arguments.option)
    )
    place = arguments.input
    if arguments.checkpoint:
        place = submit.predict_submission(arguments.checkpoint, server, source, output, batch=arguments.batch, **views)
    elif output:
        place = submit.pack_submission(place, server, source, output)
    result = submit.judge(place, server, source, split=arguments.split, labelled=labelled)
    if result.scores is not None:
        _print_scores(result.scores)
    if arguments.report:
        with writing_file(arguments.report, reads=reads, option="--report"):
            write_file(Path(arguments.report), json.dumps(_plain(result), indent=1) + "\n")
    for warning in result.warnings:
        print(f"not for the server yet: {warning}")
    size = f", {result.place.stat().st_size / 1e6:.1f} MB, sha256 {result.sha256[:16]}" if result.sha256 else ""
    print(f"{result.place}: {result.images} predictions as the server of {server.dataset} requires them{size}")
    print(f"upload: {server.upload}")


def _plain(result: Submission) -> dict[str, Any]:
    """Returns the report as plain data for JSON."""
    return {
        "file": str(result.place),
        "images": result.images,
        "sha256": result.sha256,
        "warnings": list(result.warnings),
        "scores": result.scores,
    }


def _print_scores(scores: Mapping[str, Any]) -> None:
    """Prints the scores of classes, of categories, and their means, in percent as servers show them."""
    for plain, weighted, mean in (
        ("iou", "iiou", ("miou", "mean_iiou")),
        ("category_iou", "category_iiou", ("mean_category_iou", "mean_category_iiou")),
    ):
        if plain not in scores:
            continue
        columns = [key for key in (plain, weighted) if key in scores]
        print(f"{'':22s}" + "".join(f"{'iIoU' if key.endswith('iiou') else 'IoU':>8s}" for key in columns))
        for name in scores[plain]:
            print(f"{name:22s}" + "".join(_percent(scores[key][name]) for key in columns))
        what = "mean of categories" if plain.startswith("category") else "mean of classes"
        print(f"{what:22s}" + "".join(_percent(scores[key]) for key, _ in zip(mean, columns)))
    print(f"{'pixel accuracy':22s}{_percent(scores['pixel_accuracy'])}")


def _percent(value: float | None) -> str:
    return f"{'-' if value is None else format(100 * value, '.2f'):>8s}"
