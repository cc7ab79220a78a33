"""`segjax predict`: predicts images, folders and videos with a trained network."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from segjax.commands import values
from segjax.commands.start import start_jax
from segjax.commands.views import add_checkpoint, add_views, views
from segjax.errors import UserError
from segjax.outputs import check_outputs

LISTED = 20  # problems that are printed one by one


def describe(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    add = parser.add_argument
    add_checkpoint(parser)
    add("--input", required=True, metavar="PATH", help="an image, a video, or a folder of images and videos")
    add("--output", required=True, metavar="DIR", help="folder for the results")
    add(
        "--write",
        nargs="+",
        default=["overlay", "ids"],
        metavar="KIND",
        help="overlay, ids, color, confidence, entropy (overlay ids)",
    )
    add(
        "--interval", type=values.interval, metavar="N", help="keyframes of a network that labels video: 4, or auto (4)"
    )
    add_views(parser)


def run(arguments: argparse.Namespace) -> None:
    """Predicts images, folders and videos with a trained network; see `segjax.inference.predict_files`.

    Raises UserError as `predict_clips` does, and after all else is written if an input could not be predicted.
    """
    from segjax.media.clips import open_clips  # imports no jax, so that a wrong path is reported at once

    options = views(arguments)
    check_outputs(arguments.output, (), reads=[arguments.input], apart=False)
    clips = open_clips(arguments.input, exclude=arguments.output)
    start_jax()
    from segjax.inference.files import predict_clips

    report = predict_clips(
        arguments.checkpoint,
        clips,
        arguments.output,
        write=tuple(dict.fromkeys(arguments.write)),
        interval=arguments.interval,
        **options,
    )
    rate = report.images / report.seconds if report.seconds else 0.0
    print(f"{report.images} images in {report.seconds:.1f} s, compilation included: {rate:.2f} images/s")
    if len(report.sizes) > 8:
        print(f"{len(report.sizes)} image sizes were compiled one by one; images of one size would be faster")
    for path in report.outputs:
        print(path)
    if report.problems:
        raise UserError(_failed(report.problems, report.images))


def _failed(problems: Sequence[str], images: int) -> str:
    """Returns the error: the only problem, or the number of problems, which are printed here; then what is written."""
    others = "1 image is" if images == 1 else f"{images} images are" if images else "nothing is"
    written = f"{others} predicted" + " all the same" * bool(images)
    if len(problems) == 1:
        return f"{problems[0]}; {written}"
    for problem in problems[:LISTED]:
        print(f"  {problem}", file=sys.stderr)
    if len(problems) > LISTED:
        print(f"  and {len(problems) - LISTED} more", file=sys.stderr)
    return f"{len(problems)} inputs cannot be predicted, as listed above; {written}"
