"""The flags of every command that predicts images: network, scales, mirror image, windows, batch, overlay."""

from __future__ import annotations

import argparse
from typing import Any

from segjax.commands import values
from segjax.errors import UserError


def add_checkpoint(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Adds the flag that names the network; several: whether it may be repeated, its value is then a list."""
    parser.add_argument(
        "--checkpoint",
        required=True,
        action="append" if several else "store",
        metavar="DIR",
        help="workdir of a run, one of its stages or checkpoints, or exported weights"
        + "; repeated, networks beside each other" * several,
    )


def add_views(parser: argparse.ArgumentParser, *, overlays: bool = True) -> None:
    """Adds the flags; overlays: whether the command draws some."""
    add = parser.add_argument
    add("--scales", nargs="+", type=values.numbers, default=[[1.0]], metavar="S", help="average over these scales (1)")
    add("--flip", action="store_true", help="average with the mirror image")
    add("--window", type=values.size, metavar="HxW", help="sliding window in pixels; default: the whole image at once")
    add("--overlap", type=values.share, default=1 / 3, metavar="SHARE", help="overlap of neighbouring windows (1/3)")
    add("--batch", type=values.positive_int, metavar="N", help="images at once (1 per CPU device, 4 per accelerator)")
    if overlays:
        add(
            "--alpha",
            type=values.share,
            default=0.5,
            metavar="SHARE",
            help="share of the class colour in overlays (0.5)",
        )


def views(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns their values as keyword arguments. Raises UserError for an overlap of 1."""
    if arguments.overlap >= 1:
        raise UserError("--overlap=1 would never move the window; write a number below 1")
    return dict(
        scales=[scale for scales in arguments.scales for scale in scales],
        flip=arguments.flip,
        window=arguments.window,
        overlap=arguments.overlap,
        batch=arguments.batch,
        **({"alpha": arguments.alpha} if hasattr(arguments, "alpha") else {}),
    )
