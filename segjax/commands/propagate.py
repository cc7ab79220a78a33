"""`segjax propagate`: propagates the labels of some frames of a video to their neighbouring frames."""

from __future__ import annotations

import argparse

from segjax.commands import values
from segjax.commands.start import start_jax


def describe(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    add = parser.add_argument
    add("--video", required=True, metavar="PATH", help="a video (frames are numbered from 0), or a folder of frames")
    add("--label", "--labels", dest="labels", metavar="PATH", help="a mask, or masks named by frame numbers")
    add("--every", type=values.positive_int, metavar="N", help="use labels of every Nth frame; masks may lack numbers")
    add("--segmenter", default="", metavar="RUN", help="trained network that labels every Nth frame, instead of masks")
    add("--label-map", default="", metavar="NAME", help="meaning of the masks: JSON file, or name of a class table")
    add("--output", required=True, metavar="DIR", help="folder for images, masks and overlays")
    add("--checkpoint", default="", metavar="RUN", help="trained video network; default: optical flow alone")
    add("--steps", type=values.positive_int, default=5, metavar="K", help="frames on either side of a label (5)")
    add("--mode", default="jp", metavar="MODE", help="image for each mask: jp = propagated (default), lp = real frame")
    add("--flow", default="", metavar="NAME", help="optical flow; default: that of the network's training, or dis")
    add("--flow-weights", default="", metavar="FILE", help="weights of a flow network, such as flownet2")
    add("--key", default="", metavar="KEY", help="dictionary of tensors in --flow-weights, if it has several")
    add("--batch", type=values.positive_int, default=4, metavar="N", help="chains of frames at once (4)")
    add(
        "--max-cycle-error",
        type=values.not_negative,
        default=1.5,
        metavar="PX",
        help="ignore pixels that flow there and back moves further (1.5); 0 = off",
    )
    add(
        "--max-image-error",
        type=values.not_negative,
        default=0.0,
        metavar="GREY",
        help="ignore pixels that differ more from the real frame (off)",
    )
    add("--cut-histogram", type=values.not_negative, metavar="SHARE", help="scene cut if more colours change; 0 = off")
    add(
        "--cut-residual",
        type=values.not_negative,
        metavar="GREY",
        help="scene cut if frames differ more after motion; 0 = off",
    )


def run(arguments: argparse.Namespace) -> None:
    """Propagates labels of single frames through a video; see `segjax.propagation.own_video.propagate_video`.

    Raises UserError as that does.
    """
    start_jax()
    from segjax.media.progress import progress_bar
    from segjax.propagation.own_video import propagate_video
    from segjax.propagation.report import describe

    names = (
        "label_map", "every", "segmenter", "checkpoint", "mode", "flow", "flow_weights", "key", "batch",
        "max_cycle_error", "max_image_error", "cut_histogram", "cut_residual",
    )  # fmt: skip
    with progress_bar("propagate", None, unit="frames") as progress:
        report = propagate_video(
            arguments.video,
            arguments.labels,
            arguments.output,
            steps=arguments.steps,
            progress=progress,
            **{name: value for name in names if (value := getattr(arguments, name)) is not None},
        )
    print(f"{report['labels']} of {report['frames']} frames labelled; {report['method']} ({report['model']})")
    for line in [*describe(report), *report["ended"], *report["problems"]]:
        print(line)
    print(arguments.output)
