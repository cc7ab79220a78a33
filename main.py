"""Runs a recipe: python main.py --config=configs/vplr.py[:ARGS] --workdir=DIR [--stage=NAME] [--config.a.b=c]

Stages that are done are skipped, an interrupted one goes on where it stopped. Everything is written below --workdir.
"""

from __future__ import annotations

import os
import sys

from absl import app, flags
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file("config", "configs/vplr.py", "The recipe.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where everything is written; runs/<recipe> by default.")
_STAGE = flags.DEFINE_string("stage", None, "Run this stage only.")
_PLATFORM = flags.DEFINE_enum("platform", None, ["cpu", "gpu", "tpu"], "Stop unless jax runs on this platform.")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "host:port of process 0, for several processes.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of processes.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Index of this process.")


def main(argv: list[str]) -> None:
    """Starts the devices, then runs the recipe's stages."""
    from segjax.errors import UserError

    try:
        if len(argv) > 1:
            raise UserError(f"unexpected argument {argv[1]!r}; options are written --name=value.")
        from segjax.parallel import setup
        from segjax.stages import run_recipe

        setup(
            platform=_PLATFORM.value,
            coordinator=_COORDINATOR.value,
            num_processes=_NUM_PROCESSES.value,
            process_id=_PROCESS_ID.value,
        )
        run_recipe(_CONFIG.value, workdir=_WORKDIR.value or _default_workdir(), only=_STAGE.value)
    except UserError as error:
        print(f"main.py: error: {error}", file=sys.stderr)
        sys.exit(2)


def _default_workdir() -> str:
    path, _, arg = config_flags.get_config_filename(flags.FLAGS["config"]), None, None
    recipe = os.path.splitext(os.path.basename(path))[0]
    return os.path.join("runs", recipe)


if __name__ == "__main__":
    app.run(main)
