"""Runs a recipe: python main.py --config=configs/vplr.py[:ARGS] --workdir=DIR [--stage=NAME] [--config.a.b=c]

Finished stages are skipped, and an interrupted stage resumes. Everything is written below --workdir.
"""

from __future__ import annotations

import sys

from absl import app, flags

from segjax.commands import train
from segjax.errors import UserError

PROGRAM = "main.py"

train.define_flags(flags.FLAGS)
flags.adopt_module_key_flags(train)  # so that --help lists them


def main(argv: list[str]) -> None:
    """Starts the devices, then runs the recipe's stages."""
    sys.exit(train.run_flags(argv, flags.FLAGS, program=PROGRAM))


def parse_flags(argv: list[str]) -> list[str]:
    """Parses flags as absl does. A wrong flag, recipe or config key ends the program with one sentence."""
    try:
        return train.parse_flags(argv, flags.FLAGS)
    except UserError as error:
        train.fail(str(error), PROGRAM)
        sys.exit(2)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
