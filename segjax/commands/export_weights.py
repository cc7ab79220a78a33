"""`segjax export_weights`: writes the weights of a training run to a .safetensors file."""

from __future__ import annotations

import argparse
from pathlib import Path

from segjax.errors import UserError
from segjax.outputs import writing_file


def describe(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="DIR", help="workdir of a run, or one of its stages or checkpoints")
    add("--output", required=True, metavar="FILE", help="the .safetensors file to write")


def run(arguments: argparse.Namespace) -> None:
    """Writes the weights of a training run under the published tensor names, to use as --checkpoint of other commands.

    Raises UserError for another ending of the output, a checkpoint that cannot be opened, and a file that cannot be
    written.
    """
    if not arguments.output.endswith(".safetensors"):
        raise UserError(f"--output={arguments.output} must be the name of a .safetensors file")

    from absl import logging as absl_logging

    from segjax.weights.runs import export_weights

    absl_logging.set_verbosity(absl_logging.FATAL)  # orbax logs every detail of reading a checkpoint
    reads = [arguments.checkpoint] if Path(arguments.checkpoint).is_file() else []  # exported weights, not a run
    with writing_file(arguments.output, reads=reads):
        print(export_weights(arguments.checkpoint, arguments.output))
