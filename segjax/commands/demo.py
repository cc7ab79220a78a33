"""`segjax demo`: a video of the predicted classes over each frame, beside the truth if it is known."""

from __future__ import annotations

import argparse

from segjax.commands import values
from segjax.commands.start import start_jax
from segjax.commands.views import add_checkpoint, add_views, views
from segjax.errors import UserError
from segjax.outputs import writing_file

OF_FILES = ("labels", "label_map", "image_prefix", "image_suffix", "mask_prefix", "mask_suffix")
OF_SPLITS = ("split", "sequence", "option", "data_dir")


def describe(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    add = parser.add_argument
    add_checkpoint(parser, several=True)
    add("--input", metavar="PATH", help="a video, or a folder of images in the order of their names")
    add("--labels", default="", metavar="DIR", help="masks, named like the images, or by the frame numbers of a video")
    add("--label-map", default="", metavar="NAME", help="label map of the masks (that of the network's training set)")
    add("--image-prefix", default="", metavar="START", help="beginning of image names before the common part (img_)")
    add("--image-suffix", default="", metavar="END", help="end of image names after the common part (_leftImg8bit)")
    add("--mask-prefix", default="", metavar="START", help="beginning of mask names before the common part (mask_)")
    add("--mask-suffix", default="", metavar="END", help="end of mask names after the common part (_gtFine_labelIds)")
    add("--dataset", metavar="NAME", help="show frames of a dataset instead of --input")
    add("--split", default="", metavar="NAME", help="split of the dataset, for example demo_video")
    add("--sequence", default="", metavar="NAME", help="one video of the split, for example stuttgart_00 (all)")
    add("--option", nargs="+", action="extend", type=values.option, default=[], metavar="K=V", help="dataset options")
    add("--data-dir", default="", metavar="DIR", help="folder of built datasets ($SEGJAX_DATA_DIR)")
    add("--output", default="demo.mp4", metavar="FILE", help="the video (demo.mp4)")
    add("--fps", type=values.not_negative, metavar="N", help="frames per second (those of the video; 25 for images)")
    add("--width", type=values.positive_int, default=1024, metavar="N", help="largest width of a panel, pixels (1024)")
    add(
        "--interval", type=values.interval, metavar="N", help="keyframes of a network that labels video: 4, or auto (4)"
    )
    add("--entropy", action="store_true", help="beside each prediction, the entropy of its class probabilities")
    add_views(parser)


def run(arguments: argparse.Namespace) -> None:
    """Writes the video, frame by frame.

    Raises UserError for flags that exclude each other, as `segjax.inference.demo` does, and after the video is written
    if a frame could not be read.
    """
    from segjax.media.clips import open_clips  # imports no jax, so that a wrong path is reported at once

    if bool(arguments.input) == bool(arguments.dataset):
        raise UserError("segjax demo shows --input=VIDEO|FOLDER or --dataset=NAME --split=NAME; give one of these")
    for flag in OF_SPLITS if arguments.input else OF_FILES:
        if getattr(arguments, flag):
            here, there = ("--dataset", "--input") if arguments.input else ("--input", "--dataset")
            raise UserError(f"--{flag.replace('_', '-')} goes with {here}, not with {there}; leave one of them out")
    options = {name: getattr(arguments, name) for name in ("fps", "width", "interval", "entropy")} | views(arguments)
    clips = open_clips(arguments.input) if arguments.input else []
    if len(clips) > 1:
        raise UserError(f"{arguments.input} contains {len(clips)} videos, or both images and videos; give one of them")
    if arguments.dataset and not arguments.split:
        raise UserError(f"--dataset={arguments.dataset} needs --split=NAME, the frames to show")
    start_jax()
    from segjax.inference.demo import demo_of_clip, demo_of_split

    problems: list[str] = []
    reads = [path for path in (arguments.input, arguments.labels) if path]
    with writing_file(arguments.output, reads=reads):
        if clips:
            given = {name: getattr(arguments, name) for name in OF_FILES}
            report, problems = demo_of_clip(arguments.checkpoint, clips[0], arguments.output, **given, **options)
        else:
            report = demo_of_split(
                arguments.checkpoint,
                arguments.dataset,
                arguments.output,
                split=arguments.split,
                sequence=arguments.sequence,
                builder_options=dict(arguments.option),
                data_dir=arguments.data_dir,
                **options,
            )
    rate = report.frames / report.seconds if report.seconds else 0.0
    truth = f", {report.labelled} with truth" if report.labelled else ""
    print(f"{report.frames} frames{truth} in {report.seconds:.1f} s, compilation included: {rate:.2f} frames/s")
    print(report.path)
    if problems:
        raise UserError(f"{len(problems)} of the frames could not be read: {problems[0]}; the others were written")
