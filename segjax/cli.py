"""The `segjax` console command: train, predict, demo, propagate, submit, check_data, browse, recipes, datasets, ...

segjax train --config=vplr:camvid --workdir=runs/camvid --config.train.optimizer.lr=0.001
segjax browse --config=vplr:camvid --output=browse.png
segjax predict --checkpoint=runs/camvid --input=drive.mp4 --output=out --scales 0.75 1 1.25 --flip
segjax video --checkpoint=runs/gsvnet --input=drive.mp4 --output=labels.mp4 --interval=4
segjax demo --checkpoint=runs/camvid --input=drive.mp4 --output=demo.mp4
segjax propagate --video=drive.mp4 --labels=masks --label_map=camvid --steps=5 --output=more
segjax pseudo_label --checkpoint=runs/camvid --images=drive.mp4 --every=5 --output=pseudo
segjax submit --checkpoint=runs/cityscapes --dataset=cityscapes --split=validation --output=cityscapes.zip
segjax check_data --images=data/images --masks=data/masks --output=check
segjax summary --model=fastscnn --size=1024x2048
segjax plan --config=vplr:cityscapes --topology=v5e:4x4
segjax export_weights --checkpoint=runs/camvid --output=camvid.safetensors

Flags may be written --a-b or --a_b, with "=" or a space. An error that the user can cause prints one line and exits
with code 2. The commands are in segjax/commands.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from segjax import __version__
from segjax.commands import (
    browse,
    check_data,
    datasets,
    demo,
    export_weights,
    plan,
    predict,
    propagate,
    pseudo_label,
    recipes,
    submit,
    summary,
    train,
    video,
)
from segjax.errors import UserError, did_you_mean, explain
from segjax.host import collect_garbage_less_often
from segjax.outputs import check_local
from segjax.remote import check_address

REMOTE = {"checkpoint", "data_dir"}  # flags whose value may be a remote address


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code.

    The code is 0, 1 if check_data found problems, 2 for a user's error, and 130 after an interruption.

    argv: words after "segjax", None = those of the process.
    """
    collect_garbage_less_often()
    try:
        arguments = parse((sys.argv[1:] if argv is None else list(argv)) or ["--help"])
        _to_local_paths(arguments)
        return COMMANDS[arguments.command][0](arguments) or 0
    except UserError as error:
        return _fail(str(error), error.exit_code)
    except BrokenPipeError:  # `segjax summary | head`
        sys.stderr.close()
        return 1
    except OSError as error:
        if error.strerror is None:
            raise
        what = ": ".join(filter(None, (error.filename and str(error.filename), error.strerror)))
        return _fail(f"{what}; check the path, its permissions and the free space", 2)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except RuntimeError as error:
        return _fail(*explain(error))


def _to_local_paths(arguments: argparse.Namespace) -> None:
    """Replaces ~ in values, which no shell does after "=".

    Raises UserError for a remote address that is malformed, or the value of a flag that takes none.
    """
    checked_by_command = {"addresses", *getattr(arguments, "addresses", ())}
    for name, value in vars(arguments).items():
        if name in checked_by_command:
            continue
        flag = f"--{name.replace('_', '-')}"
        for one in value if isinstance(value, list) else [value]:
            check = check_address if name in REMOTE else check_local
            check(one[1] if isinstance(one, tuple) else one, flag)
        if isinstance(value, str) and value.startswith("~"):
            setattr(arguments, name, os.path.expanduser(value))


def _fail(sentence: str, code: int) -> int:
    print(f"segjax: error: {' '.join(sentence.split())}", file=sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        if message.startswith("argument command: invalid choice"):
            name = message.split("'")[1]
            raise UserError(f"there is no command {name!r}.{did_you_mean(name, COMMANDS)}")
        raise UserError(f"{message}; see `{self.prog} --help`")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the arguments of one command.

    Raises UserError for an unknown command or flag, with the nearest name, a missing flag, and a wrong value.
    """
    parser = _Parser(prog="segjax", description="Semantic segmentation of street scenes in JAX.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"segjax {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command", parser_class=_Parser)
    parsers = {}
    for name, (_, describe, text) in COMMANDS.items():
        parsers[name] = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        describe(parsers[name])
    if list(argv[:1]) == ["train"]:
        if not {"-h", "--help"} & set(argv):
            return argparse.Namespace(command="train", words=list(argv[1:]))  # absl's flags: names keep their "_"
        argv = ["train", "--help"]
    words = _canonical(argv)
    if words and words[0] in parsers:  # argparse would report the required flag that a misspelt one leaves missing
        known = [flag for action in parsers[words[0]]._actions for flag in action.option_strings]
        for flag in (word.split("=")[0] for word in words[1:] if word.startswith("--")):
            if flag not in known:
                raise UserError(f"segjax {words[0]} has no flag {flag}.{did_you_mean(flag, known)}")
    arguments, unknown = parser.parse_known_args(words)
    if unknown:
        raise UserError(f"segjax {arguments.command} takes no argument {unknown[0]!r}; see `segjax {words[0]} --help`")
    return arguments


def _canonical(argv: Sequence[str]) -> list[str]:
    """Returns the words in one spelling: --data_dir=x -> --data-dir=x, check-data -> check_data; values are kept."""
    words = []
    for position, word in enumerate(argv):
        if word.startswith("--"):
            flag, equals, value = word.partition("=")
            word = flag.replace("_", "-") + equals + value
        elif position == 0:
            word = word.replace("-", "_") if not word.startswith("-") else word
        words.append(word)
    return words


COMMANDS: dict[str, tuple[Callable, Callable, str]] = {
    "train": (train.run, train.describe, "Train, evaluate and more: run the stages of a recipe."),
    "recipes": (recipes.run, recipes.describe, "List recipes with their presets and options."),
    "predict": (predict.run, predict.describe, "Segment images, folders and videos with a trained network."),
    "video": (video.run, video.describe, "Label a video, a camera or a stream, from keyframes if the network can."),
    "demo": (demo.run, demo.describe, "Make a video of predictions, beside the truth if it is known."),
    "propagate": (propagate.run, propagate.describe, "Propagate labels of a video to neighbouring frames."),
    "pseudo_label": (pseudo_label.run, pseudo_label.describe, "Label unlabelled images or videos to train on them."),
    "submit": (submit.run, submit.describe, "Make, check and score an archive for an evaluation server."),
    "browse": (browse.run, browse.describe, "Draw a sheet of training samples after augmentation."),
    "check_data": (check_data.run, check_data.describe, "Check a folder of images and masks before training."),
    "export_weights": (export_weights.run, export_weights.describe, "Write a run's weights to a .safetensors file."),
    "datasets": (datasets.run, datasets.describe, "List datasets with their classes, splits, sources and builds."),
    "plan": (plan.run, plan.describe, "Compile a recipe for a slice of TPUs: what fits, and how fast at most."),
    "summary": (summary.run, summary.describe, "Print parameters, multiply-adds and memory of a network."),
}

if __name__ == "__main__":
    sys.exit(main())
