"""`segjax export_weights`: the weights of a run as a .safetensors file."""

from __future__ import annotations

import argparse

from segjax.errors import UserError


def describe(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="DIR", help="workdir of a run, or one of its stages or checkpoints")
    add("--output", required=True, metavar="FILE", help="the .safetensors file to write")


def run(arguments: argparse.Namespace) -> None:
    """Writes the weights of a run under the published tensor names; `predict` takes the file as --checkpoint."""
    if not arguments.output.endswith(".safetensors"):
        raise UserError(f"--output={arguments.output} must be the name of a .safetensors file")

    from absl import logging as absl_logging

    from segjax.weights.runs import export_weights

    absl_logging.set_verbosity(absl_logging.FATAL)  # orbax tells every detail of reading a checkpoint
    print(export_weights(arguments.checkpoint, arguments.output))
