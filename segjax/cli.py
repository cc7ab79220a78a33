"""The `segjax` console command: predict, propagate, check_data, datasets, summary, export_weights.

segjax predict --checkpoint=runs/camvid --input=drive.mp4 --output=out --scales 0.75 1 1.25 --flip
segjax propagate --video=drive.mp4 --labels=masks --label_map=camvid --steps=5 --output=more
segjax check_data --images=data/images --masks=data/masks --output=check
segjax summary --model=fastscnn --size=1024x2048
segjax export_weights --checkpoint=runs/camvid --output=camvid.safetensors

Flags may be written --a-b or --a_b, with "=" or a space. An error that the user can cause is one line and exit code 2.
Heavy packages are imported by the command that needs them, so that --help is quick.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Callable, Sequence
from typing import Any

from segjax import __version__
from segjax.errors import UserError, did_you_mean


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0, 1 where check_data found problems, 2 after a user's error."""
    try:
        arguments = parse((sys.argv[1:] if argv is None else list(argv)) or ["--help"])
        return COMMANDS[arguments.command][0](arguments) or 0
    except UserError as error:
        return _fail(str(error), 2)
    except BrokenPipeError:  # `segjax summary | head`
        sys.stderr.close()
        return 1
    except OSError as error:
        if error.strerror is None:
            raise
        return _fail(": ".join(filter(None, (error.filename and str(error.filename), error.strerror))), 2)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)


def _fail(sentence: str, code: int) -> int:
    print(f"segjax: error: {' '.join(sentence.split())}", file=sys.stderr)
    return code


# Arguments


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        if message.startswith("argument command: invalid choice"):
            name = message.split("'")[1]
            raise UserError(f"there is no command {name!r}.{did_you_mean(name, COMMANDS)}")
        raise UserError(f"{message}; see `{self.prog} --help`")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Arguments of one command. Raises UserError for unknown commands and flags, with the nearest name."""
    parser = _Parser(prog="segjax", description="Semantic segmentation of street scenes in JAX.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"segjax {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command", parser_class=_Parser)
    parsers = {}
    for name, (_, describe, summary) in COMMANDS.items():
        parsers[name] = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        describe(parsers[name])
    words = _canonical(argv)
    if words and words[0] in parsers:  # a misspelt flag is a better story than the required one it leaves missing
        known = [flag for action in parsers[words[0]]._actions for flag in action.option_strings]
        for flag in (word.split("=")[0] for word in words[1:] if word.startswith("--")):
            if flag not in known:
                raise UserError(f"segjax {words[0]} has no flag {flag}.{did_you_mean(flag, known)}")
    arguments, unknown = parser.parse_known_args(words)
    if unknown:
        raise UserError(
            f"segjax {arguments.command} does not know what to do with {unknown[0]!r}; see `segjax {words[0]} --help`"
        )
    return arguments


def _canonical(argv: Sequence[str]) -> list[str]:
    """--data_dir=x -> --data-dir=x, check-data -> check_data; values stay as they are."""
    words = []
    for position, word in enumerate(argv):
        if word.startswith("--"):
            flag, equals, value = word.partition("=")
            word = flag.replace("_", "-") + equals + value
        elif position == 0:
            word = word.replace("-", "_") if not word.startswith("-") else word
        words.append(word)
    return words


def _size(text: str) -> tuple[int, int]:
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) != 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise UserError(f"{text!r} is no size; write HEIGHTxWIDTH in pixels, for example 512x1024")
    return int(parts[0]), int(parts[1])


def _positive_int(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"{text!r} is no number of at least 1")
    return int(text)


def _numbers(text: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",") if part]
    except ValueError:
        raise UserError(f"{text!r} is no number; write for example 0.5 1 2") from None
    if not values or not all(0 < value <= 16 for value in values):
        raise UserError(f"{text!r}: a scale is a number above 0 and at most 16")
    return values


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise UserError(f"{text!r} is no share; write a number from 0 to 1")
    return value


def _not_negative(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UserError(f"{text!r} is no number of at least 0")
    return value


def _option(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"--option {text!r} must be written name=value, for example --option output_stride=8")
    if value.lower() in ("true", "false", "none"):
        value = value.capitalize()
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


# predict


def _describe_predict(parser: argparse.ArgumentParser) -> None:
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
    add("--scales", nargs="+", type=_numbers, default=[[1.0]], metavar="S", help="average over these scales (1)")
    add("--flip", action="store_true", help="average with the mirror image")
    add("--window", type=_size, metavar="HxW", help="sliding window in pixels; default: the whole image at once")
    add("--overlap", type=_share, default=1 / 3, metavar="SHARE", help="overlap of neighbouring windows (1/3)")
    add("--batch", type=_positive_int, metavar="N", help="images at once (1 on CPU, 4 on accelerators)")
    add("--alpha", type=_share, default=0.5, metavar="SHARE", help="share of the class colour in overlays (0.5)")


def predict(arguments: argparse.Namespace) -> None:
    """Predicts images, folders and videos with a trained network; see `segjax.inference.predict_files`."""
    from segjax.inference.clips import open_clips  # numpy and OpenCV only: wrong paths are found before jax is loaded

    if arguments.overlap >= 1:
        raise UserError("--overlap=1 would never move the window; write a number below 1")
    clips = open_clips(arguments.input, exclude=arguments.output)
    _start_jax()
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


def _start_jax() -> None:
    from segjax.ops.host_memory import reuse_freed_memory

    reuse_freed_memory()  # before jax starts its threads

    from absl import logging as absl_logging

    from segjax import parallel

    absl_logging.set_verbosity(absl_logging.FATAL)  # orbax tells every detail of reading a checkpoint
    parallel.setup()


# propagate


def _describe_propagate(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--video", required=True, metavar="PATH", help="a video (frames are numbered from 0), or a folder of frames")
    add("--labels", required=True, metavar="PATH", help="masks named by the number of their frame, or one mask")
    add("--label-map", required=True, metavar="NAME", help="JSON file or name of a class table")
    add("--output", required=True, metavar="DIR", help="folder for images, masks and overlays")
    add("--checkpoint", default="", metavar="RUN", help="trained video network; default: optical flow alone")
    add("--steps", type=_positive_int, default=5, metavar="K", help="frames on either side of a label (5)")
    add("--mode", default="jp", metavar="MODE", help="jp: carried image (default), lp: real frame, with each mask")
    add("--flow", default="", metavar="NAME", help="optical flow; default: what the network was trained with, else dis")
    add("--batch", type=_positive_int, default=4, metavar="N", help="chains of frames at once (4)")
    add("--max-cycle-error", type=_not_negative, default=1.5, metavar="PX", help="ignore what flow does not bring back")
    add("--max-image-error", type=_not_negative, default=0.0, metavar="GREY", help="ignore what differs by more (off)")
    add("--cut-histogram", type=_not_negative, default=0.35, metavar="SHARE", help="colours that change in a cut")
    add("--cut-residual", type=_not_negative, default=20.0, metavar="GREY", help="grey levels after motion; 0: off")


def propagate(arguments: argparse.Namespace) -> None:
    """Carries labels of single frames through a video; see `segjax.stages.propagate_video`."""
    _start_jax()
    from segjax.inference.progress import progress_bar
    from segjax.inference.propagation_report import describe
    from segjax.stages.propagate_video import propagate_video

    names = ("mode", "flow", "batch", "max_cycle_error", "max_image_error", "cut_histogram", "cut_residual")
    with progress_bar("propagate", None, unit="frames") as progress:
        report = propagate_video(
            arguments.video,
            arguments.labels,
            arguments.label_map,
            arguments.output,
            steps=arguments.steps,
            checkpoint=arguments.checkpoint,
            progress=progress,
            **{name: getattr(arguments, name) for name in names},
        )
    print(f"{report['labels']} labels of {report['frames']} frames; {report['method']} ({report['model']})")
    for line in [*describe(report), *report["ended"], *report["problems"]]:
        print(line)
    print(arguments.output)


# check_data


def _describe_check_data(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--images", required=True, metavar="DIR", help="folder of images")
    add("--masks", required=True, metavar="DIR", help="folder of masks with the same relative names")
    add("--label-map", metavar="NAME", help="JSON file or name of a class table; default: propose one from the masks")
    add("--output", default="check_data", metavar="DIR", help="for the label map and the overlay sheet (check_data)")
    add("--image-suffix", default="", metavar="END", help="what follows the common name, for example _leftImg8bit")
    add("--mask-suffix", default="", metavar="END", help="the same for masks, for example _gtFine_labelIds")


def check_data(arguments: argparse.Namespace) -> int:
    """Looks for everything in a folder that would stop or spoil a training; 1 when something must be corrected."""
    from segjax.data.check import check_folder

    report = check_folder(
        arguments.images,
        arguments.masks,
        arguments.label_map,
        arguments.output,
        image_suffix=arguments.image_suffix,
        mask_suffix=arguments.mask_suffix,
    )
    if report.samples and report.label_map is not None:
        from segjax.inference.report import label_sheet
        from segjax.inference.writers import write_png

        picture = label_sheet(report.samples, report.label_map.class_names, report.label_map.palette)
        report.files.append(write_png(f"{arguments.output}/overlay.png", picture))
    report.print()
    return report.exit_code


# summary


def _describe_summary(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", metavar="NAME", help="name of a network, for example fastscnn")
    add("--all", action="store_true", help="one row for each network instead, as a page for docs/")
    add("--size", required=True, type=_size, metavar="HxW", help="size of the input image in pixels")
    add("--num-classes", type=_positive_int, default=19, metavar="K", help="number of classes (19)")
    add("--batch", type=_positive_int, default=1, metavar="N", help="images at once (1)")
    add("--depth", type=_positive_int, metavar="N", help="levels of modules to tell apart (default: stages)")
    add("--option", nargs="+", action="extend", type=_option, default=[], metavar="K=V", help="options of the network")
    add("--compile", action="store_true", help="also compile, and report the memory XLA plans on this device")
    add("--output", metavar="FILE", help="with --all: write the page there instead of printing it")


def summary(arguments: argparse.Namespace) -> None:
    """Prints parameters, multiply-adds and memory of a network, per module, or of all; nothing is computed."""
    if arguments.all == bool(arguments.model):
        raise UserError("segjax summary shows one network (--model=NAME) or all of them (--all); give one of these")
    if arguments.output and not arguments.all:
        raise UserError(f"--output={arguments.output} is for the page of --all; redirect the table of one network")
    if arguments.all:
        if arguments.option or arguments.compile or arguments.batch != 1 or arguments.depth:
            raise UserError("--all shows networks with their defaults; leave out --option, --compile, --batch, --depth")
        _summary_of_all(arguments)
        return

    from segjax.inference.model_costs import print_summary

    print_summary(
        arguments.model,
        size=arguments.size,
        num_classes=arguments.num_classes,
        batch=arguments.batch,
        depth=arguments.depth,
        options=dict(arguments.option),
        compile=arguments.compile,
    )


def _summary_of_all(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from segjax import models
    from segjax.inference.model_costs import model_page

    page = model_page(models.names(), arguments.size, num_classes=arguments.num_classes)
    if arguments.output:
        Path(arguments.output).write_text(page)
        print(arguments.output)
    else:
        print(page, end="")


# export_weights


def _describe_export_weights(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="DIR", help="workdir of a run, or one of its stages or checkpoints")
    add("--output", required=True, metavar="FILE", help="the .safetensors file to write")


def export_weights(arguments: argparse.Namespace) -> None:
    """Writes the weights of a run under the published tensor names; `predict` takes the file as --checkpoint."""
    if not arguments.output.endswith(".safetensors"):
        raise UserError(f"--output={arguments.output} must be the name of a .safetensors file")

    from absl import logging as absl_logging

    from segjax.training import checkpoints

    absl_logging.set_verbosity(absl_logging.FATAL)  # orbax tells every detail of reading a checkpoint
    print(checkpoints.export_weights(arguments.checkpoint, arguments.output))


# datasets


def _describe_datasets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="data sets to show (all)")
    parser.add_argument("--data-dir", metavar="DIR", help="where data sets are built ($SEGJAX_DATA_DIR)")


def datasets(arguments: argparse.Namespace) -> None:
    """Lists data sets: classes, splits, sizes, where to get them, what is built on this machine."""
    from segjax.data.catalogue import catalogue, describe

    entries = {entry.name: entry for entry in catalogue(arguments.data_dir)}
    for name in arguments.names:
        if name not in entries:
            raise UserError(f"there is no data set {name!r}.{did_you_mean(name, entries)}")
    print("\n\n".join(describe(entries[name]) for name in arguments.names or entries))


COMMANDS: dict[str, tuple[Callable, Callable, str]] = {
    "predict": (predict, _describe_predict, "Segment images, folders and videos with a trained network."),
    "propagate": (propagate, _describe_propagate, "Carry the labels of some frames of a video to their neighbours."),
    "check_data": (check_data, _describe_check_data, "Check a folder of images and masks before training."),
    "export_weights": (export_weights, _describe_export_weights, "Write a run's weights to a .safetensors file."),
    "datasets": (datasets, _describe_datasets, "List data sets: classes, splits, where to get them, what is built."),
    "summary": (summary, _describe_summary, "Show parameters, multiply-adds and memory of a network."),
}

if __name__ == "__main__":
    sys.exit(main())
