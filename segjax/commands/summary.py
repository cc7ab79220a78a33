"""`segjax summary`: prints parameters, multiply-adds and memory of networks."""

from __future__ import annotations

import argparse
import contextlib

from segjax.commands import values
from segjax.errors import UserError
from segjax.outputs import writing_file


def describe(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    add = parser.add_argument
    add("--model", metavar="NAME", help="name of a network, for example fastscnn")
    add("--all", action="store_true", help="print one row per network instead, as a page for docs/")
    add("--size", required=True, type=values.size, metavar="HxW", help="size of the input image in pixels")
    add("--num-classes", type=values.positive_int, default=19, metavar="K", help="number of classes (19)")
    add("--batch", type=values.positive_int, default=1, metavar="N", help="images at once (1)")
    add("--depth", type=values.positive_int, metavar="N", help="levels of modules to list (default: stages)")
    add(
        "--option",
        nargs="+",
        action="extend",
        type=values.option,
        default=[],
        metavar="K=V",
        help="options of the network",
    )
    add("--compile", action="store_true", help="also compile for this device and a TPU, and print the memory planned")
    add("--keyframe", metavar="NAME", help="for a network that labels video from keyframes: the network of these")
    add("--keyframe-scale", type=values.positive, default=1.0, metavar="F", help="factor for the keyframes (1)")
    add("--output", metavar="FILE", help="with --all: write the page to this file instead of printing it")


def run(arguments: argparse.Namespace) -> None:
    """Prints parameters, multiply-adds and memory of one network by module, or of all networks; runs none of them.

    Raises UserError for flags that exclude each other, an unknown network or option, and an image that is too small.
    """
    if arguments.all == bool(arguments.model):
        raise UserError("segjax summary shows one network (--model=NAME) or all of them (--all); give one of these")
    if arguments.output and not arguments.all:
        raise UserError(f"--output={arguments.output} is for the page of --all; redirect the table of one network")
    if arguments.all:
        if arguments.option or arguments.compile or arguments.batch != 1 or arguments.depth:
            raise UserError("--all shows networks with their defaults; leave out --option, --compile, --batch, --depth")
        _summary_of_all(arguments)
        return

    from segjax import models

    if models.family_of(arguments.model) == "propagation":
        _summary_of_video(arguments)
        return
    if arguments.keyframe:
        raise UserError(f"--keyframe is for networks that label video, and {arguments.model} labels single images")

    from segjax.costs.programs import Workload
    from segjax.costs.summary import print_summary

    workload = Workload(
        name=arguments.model,
        size=arguments.size,
        num_classes=arguments.num_classes,
        batch=arguments.batch,
        options=dict(arguments.option),
    )
    print_summary(workload, depth=arguments.depth, compile=arguments.compile)


def _summary_of_video(arguments: argparse.Namespace) -> None:
    from segjax.costs.video import print_video_summary

    if arguments.compile or arguments.batch != 1:
        raise UserError(
            f"--compile and --batch are for image networks, and {arguments.model} labels one frame at a time"
        )
    print_video_summary(
        arguments.model,
        arguments.size,
        num_classes=arguments.num_classes,
        depth=arguments.depth,
        keyframe=arguments.keyframe or "",
        scale=arguments.keyframe_scale,
        **dict(arguments.option),
    )


def _summary_of_all(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from segjax import models
    from segjax.costs.page import model_page
    from segjax.costs.published import comparison
    from segjax.files import write_file

    with writing_file(arguments.output) if arguments.output else contextlib.nullcontext():
        page = model_page(models.names(), arguments.size, num_classes=arguments.num_classes)
        page += comparison(models.names())
        if arguments.output:
            write_file(Path(arguments.output), page)
    print(arguments.output or page, end="\n" if arguments.output else "")
