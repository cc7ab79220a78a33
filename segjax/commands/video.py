"""`segjax video`: labels a video, a camera or a stream, with or without keyframes."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import Any

from segjax.commands import values
from segjax.commands.start import start_jax
from segjax.commands.views import add_checkpoint
from segjax.errors import UserError, did_you_mean
from segjax.outputs import check_local, writing_file, writing_outputs


def describe(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    add = parser.add_argument
    add_checkpoint(parser)
    parser.set_defaults(addresses=("input",))
    add("--input", required=True, metavar="WHAT", help="a video, a folder of images, a camera's number, or rtsp://..")
    add("--output", required=True, metavar="WHERE", help="X.mp4, X.mkv (readable at any time), a folder, or - (MJPEG)")
    add(
        "--interval",
        type=values.interval,
        metavar="N",
        help="every N-th frame is a keyframe, or auto (4; 1 without some)",
    )
    add("--max-interval", type=values.positive_int, metavar="N", help="longest interval of --interval=auto (10)")
    add("--view", default="overlay", metavar="KIND", help="overlay, side, color or ids (overlay)")
    add("--live", action="store_true", help="label the newest frame only, drop and count others")
    add("--alpha", type=values.share, default=0.5, metavar="SHARE", help="share of the class colour (0.5)")


def run(arguments: argparse.Namespace) -> None:
    """Labels the frames as they come, and prints times at the end; ctrl-C and SIGTERM end it, and keep every picture.

    Raises UserError for inputs that do not open, outputs that cannot be written, and an interval without a network
    that carries labels on.
    """
    from segjax import visualize  # imports no jax, so that a wrong flag or path is reported at once
    from segjax.media.feeds import open_feed
    from segjax.media.sinks import check_sink

    if arguments.view not in visualize.PICTURES:
        raise UserError(f"--view={arguments.view} is no picture.{did_you_mean(arguments.view, visualize.PICTURES)}")
    check_sink(arguments.output)
    if arguments.max_interval and arguments.interval != "auto":
        raise UserError(f"--max-interval={arguments.max_interval} needs --interval=auto; add it, or leave this out")
    if arguments.view == "ids" and (arguments.output == "-" or Path(arguments.output).suffix):
        raise UserError("--view=ids is for a folder of PNG files: a video would change the ids; give such an --output")
    is_file = "://" not in arguments.input and not arguments.input.isdecimal()
    if is_file:
        check_local(arguments.input, "--input")
    feed = open_feed(arguments.input, live=arguments.live)
    start_jax()
    with _output(arguments, reads=[arguments.input] if is_file else []):
        _label(arguments, feed)


def _output(arguments: argparse.Namespace, reads: list[str]) -> contextlib.AbstractContextManager[None]:
    if arguments.output == "-":
        return contextlib.nullcontext()
    if Path(arguments.output).suffix:
        return writing_file(arguments.output, reads=reads)
    return writing_outputs(arguments.output, [f"{arguments.view}/"], reads=reads)


def _label(arguments: argparse.Namespace, feed: Any) -> None:
    from segjax.host import StopFlag
    from segjax.inference.keyframes import LONGEST, USUAL_INTERVAL
    from segjax.inference.network import open_labelling
    from segjax.inference.streaming import StreamSegmenter
    from segjax.inference.video import label_video
    from segjax.media.sinks import open_sink

    network = open_labelling(arguments.checkpoint)
    interval = arguments.interval or (USUAL_INTERVAL if network.has_keyframes else 1)
    stream = StreamSegmenter(network, interval, max_interval=arguments.max_interval or LONGEST)
    classes = network.label_map
    said = sys.stderr if arguments.output == "-" else sys.stdout
    folder = arguments.output != "-" and not Path(arguments.output).suffix
    output = str(Path(arguments.output) / arguments.view) if folder else arguments.output
    with StopFlag() as stop, open_sink(output, fps=feed.fps) as write:
        report = label_video(
            stream,
            feed,
            write,
            palette=classes.palette,
            view=arguments.view,
            alpha=arguments.alpha,
            live=arguments.live,
            decode=classes.with_ids().decode,
            stopped=lambda: stop.number != 0,
        )
    for line in report.sentences():
        print(line, file=said)
    if output != "-":
        print(output, file=said)
    if report.problems:
        kept = f"{report.frames} frames are labelled all the same" if report.frames else "nothing is labelled"
        raise UserError(f"{report.problems[0]}; {kept}")
