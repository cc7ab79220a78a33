"""`segjax pseudo_label`: labels unlabelled images or videos with a trained network, as a dataset to train on."""

from __future__ import annotations

import argparse
import sys

from segjax.commands import values
from segjax.commands.start import start_jax
from segjax.commands.views import add_views, views
from segjax.errors import UserError


def describe(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    add = parser.add_argument
    add(
        "--checkpoint", required=True, metavar="RUN", help="trained network: run, stage, checkpoint or exported weights"
    )
    add("--images", required=True, metavar="PATH", help="a folder, a video, an image, or a pattern: 'drive/*.jpg'")
    add("--output", required=True, metavar="DIR", help="folder for the dataset, pictures and the report")
    add("--every", type=values.positive_int, default=1, metavar="N", help="take every Nth image or frame (1)")
    add("--size", type=values.positive_int, default=0, metavar="PX", help="reduce larger images to this short side")
    add(
        "--threshold",
        nargs="+",
        type=values.share_of_class,
        default=[("", 0.0)],
        metavar="P",
        help="ignore pixels of lower probability: 0.9, or by class: car=0.9 road=0.5 (0)",
    )
    add("--labels", default="hard", choices=("hard", "soft"), help="soft also keeps the most probable classes (hard)")
    add("--top-k", type=values.positive_int, default=0, metavar="K", help="classes of a soft label (3)")
    add("--confidence", action="store_true", help="store the probability of each pixel's label, too")
    add("--reference", action="store_true", help="store the paths of images instead of copies")
    add("--masks", action="store_true", help="write images and masks as files, too: to look at and to correct")
    add("--limit", type=values.positive_int, default=0, metavar="N", help="label N images, evenly spread; default: all")
    add_views(parser, overlays=False)


def run(arguments: argparse.Namespace) -> None:
    """Labels unlabelled images; see `segjax.stages.pseudo_files.label_files`.

    Raises UserError as that does.
    """
    chosen, thresholds = views(arguments), dict(arguments.threshold)
    if "" in thresholds and len(arguments.threshold) > 1:
        raise UserError("--threshold has a number for all classes and others; give one number, or CLASS=NUMBER ...")
    if arguments.top_k and arguments.labels == "hard":
        raise UserError("--top-k is for --labels=soft; leave it out.")
    if arguments.size and arguments.reference:
        raise UserError("--size reduces images, which --reference does not store; leave one of them out.")
    start_jax()
    from segjax.pseudo.report import describe as describe_report
    from segjax.stages.pseudo_files import label_files

    report = label_files(
        arguments.images,
        arguments.output,
        every=arguments.every,
        masks=arguments.masks,
        checkpoint=arguments.checkpoint,
        size=arguments.size,
        threshold=thresholds.get("", thresholds),
        labels=arguments.labels,
        top_k=arguments.top_k,
        confidence=arguments.confidence,
        images="referenced" if arguments.reference else "copied",
        limit=arguments.limit,
        batch_size=chosen["batch"] or 0,
        scales=tuple(chosen["scales"]),
        flip=chosen["flip"],
        window=chosen["window"] or (),
        overlap=chosen["overlap"],
    )
    for problem in report["problems"]:
        print(f"not labelled: {problem}", file=sys.stderr)
    print(f"{report['records']} images labelled by {report['model']}")
    for line in describe_report(report):
        print(line)
    print(f"look at {arguments.output}/sheets, then train on it: train.extra.pseudo = dict(stage={arguments.output!r})")
