"""`segjax predict`: images, folders and videos through a trained network."""

from __future__ import annotations

import argparse

from segjax.commands import values
from segjax.commands.start import start_jax
from segjax.errors import UserError


def describe(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    add = parser.add_argument
    add(
        "--checkpoint",
        required=True,
        metavar="DIR",
        help="workdir of a run, or one of its stages or checkpoints, or exported weights",
    )
    add("--input", required=True, metavar="PATH", help="an image, a video, or a folder with any of them")
    add("--output", required=True, metavar="DIR", help="folder for the results")
    add("--write", nargs="+", default=["overlay", "ids"], metavar="KIND", help="overlay, ids, color (overlay ids)")
    add("--scales", nargs="+", type=values.numbers, default=[[1.0]], metavar="S", help="average over these scales (1)")
    add("--flip", action="store_true", help="average with the mirror image")
    add("--window", type=values.size, metavar="HxW", help="sliding window in pixels; default: the whole image at once")
    add("--overlap", type=values.share, default=1 / 3, metavar="SHARE", help="overlap of neighbouring windows (1/3)")
    add("--batch", type=values.positive_int, metavar="N", help="images at once (1 on CPU, 4 on accelerators)")
    add("--alpha", type=values.share, default=0.5, metavar="SHARE", help="share of the class colour in overlays (0.5)")


def run(arguments: argparse.Namespace) -> None:
    """Predicts images, folders and videos with a trained network; see `segjax.inference.predict_files`."""
    from segjax.inference.clips import open_clips  # numpy and OpenCV only: wrong paths are found before jax is loaded

    if arguments.overlap >= 1:
        raise UserError("--overlap=1 would never move the window; write a number below 1")
    clips = open_clips(arguments.input, exclude=arguments.output)
    start_jax()
    from segjax.stages.predict_clips import predict_clips

    report = predict_clips(
        arguments.checkpoint,
        clips,
        arguments.output,
        scales=[scale for scales in arguments.scales for scale in scales],
        flip=arguments.flip,
        window=arguments.window,
        overlap=arguments.overlap,
        write=tuple(dict.fromkeys(arguments.write)),
        batch=arguments.batch,
        alpha=arguments.alpha,
    )
    rate = report.images / report.seconds if report.seconds else 0.0
    print(f"{report.images} images in {report.seconds:.1f} s, compilation included: {rate:.2f} images/s")
    if len(report.sizes) > 8:
        print(f"{len(report.sizes)} image sizes were compiled one by one; images of one size would be faster")
    for path in report.outputs:
        print(path)
    if report.problems:
        more = f" and {len(report.problems) - 1} more inputs failed" if len(report.problems) > 1 else ""
        raise UserError(f"{report.problems[0]}{more}; the other {report.images} images were written")
