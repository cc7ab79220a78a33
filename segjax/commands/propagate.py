"""`segjax propagate`: the labels of some frames of a video, carried to their neighbours."""

from __future__ import annotations

import argparse

from segjax.commands import values
from segjax.commands.start import start_jax


def describe(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    add = parser.add_argument
    add("--video", required=True, metavar="PATH", help="a video (frames are numbered from 0), or a folder of frames")
    add("--label", "--labels", dest="labels", metavar="PATH", help="one mask, or masks named by the number of a frame")
    add("--every", type=values.positive_int, metavar="N", help="labels of every Nth frame; masks may lack numbers")
    add("--segmenter", default="", metavar="RUN", help="trained network that labels every Nth frame, instead of masks")
    add("--label-map", default="", metavar="NAME", help="JSON file or name of a class table; what masks mean")
    add("--output", required=True, metavar="DIR", help="folder for images, masks and overlays")
    add("--checkpoint", default="", metavar="RUN", help="trained video network; default: optical flow alone")
    add("--steps", type=values.positive_int, default=5, metavar="K", help="frames on either side of a label (5)")
    add("--mode", default="jp", metavar="MODE", help="jp: carried image (default), lp: real frame, with each mask")
    add("--flow", default="", metavar="NAME", help="optical flow; default: what the network was trained with, else dis")
    add("--flow-weights", default="", metavar="FILE", help="weights of a flow network, such as flownet2_s")
    add("--batch", type=values.positive_int, default=4, metavar="N", help="chains of frames at once (4)")
    add(
        "--max-cycle-error",
        type=values.not_negative,
        default=1.5,
        metavar="PX",
        help="ignore what flow brings back further away (1.5); 0: off",
    )
    add(
        "--max-image-error",
        type=values.not_negative,
        default=0.0,
        metavar="GREY",
        help="ignore what differs by more (off)",
    )
    add("--cut-histogram", type=values.not_negative, metavar="SHARE", help="colours that change in a cut; 0: off")
    add(
        "--cut-residual",
        type=values.not_negative,
        metavar="GREY",
        help="grey levels after motion; 0: off",
    )


def run(arguments: argparse.Namespace) -> None:
    """Carries labels of single frames through a video; see `segjax.propagation.own_video`."""
    start_jax()
    from segjax.media.progress import progress_bar
    from segjax.propagation.own_video import propagate_video
    from segjax.propagation.report import describe

    names = (
        "label_map", "every", "segmenter", "checkpoint", "mode", "flow", "flow_weights", "batch", "max_cycle_error",
        "max_image_error", "cut_histogram", "cut_residual",
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
