"""Runs a recipe: python main.py --config=configs/vplr.py[:ARGS] --workdir=DIR [--stage=NAME] [--config.a.b=c]

Finished stages are skipped, and an interrupted stage resumes. Everything is written below --workdir.
"""

from __future__ import annotations

import difflib
import re
import sys
from pathlib import Path

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

# New keys are accepted: a recipe does not name every option, and the stages check all keys before the first one runs.
CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The recipe; configs/vplr.py by default.", lock_config=False, accept_new_attributes=True
)
WORKDIR = flags.DEFINE_string("workdir", None, "Where everything is written; runs/<recipe> by default.")
STAGE = flags.DEFINE_string("stage", None, "Run this stage only.")
PLATFORM = flags.DEFINE_enum("platform", None, ["cpu", "gpu", "tpu"], "Stop unless jax runs on this platform.")
CPU_DEVICES = flags.DEFINE_integer("cpu_devices", None, "Cut the CPU into this many devices; give the number of cores.")
COORDINATOR = flags.DEFINE_string("coordinator", None, "host:port of process 0, for several processes.")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of processes.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Index of this process.")


def main(argv: list[str]) -> None:
    """Starts the devices, then runs the recipe's stages."""
    from segjax.ops.host_memory import reuse_freed_memory

    reuse_freed_memory()  # before jax starts its threads
    import jax

    from segjax import parallel
    from segjax.errors import UserError, explain
    from segjax.stages import run_recipe
    from segjax.training.interrupt import Interrupted
    from segjax.training.logging import setup_logging

    absl_logging.set_verbosity(absl_logging.FATAL)  # orbax logs every detail of every save
    setup_logging()
    try:
        if len(argv) > 1:
            raise UserError(f"unexpected argument {argv[1]!r}; options are written --name=value.")
        parallel.setup(
            platform=PLATFORM.value,
            cpu_devices=CPU_DEVICES.value,
            coordinator=COORDINATOR.value,
            num_processes=NUM_PROCESSES.value,
            process_id=PROCESS_ID.value,
        )
        setup_logging(process_index=jax.process_index())
        recipe = Path(config_flags.get_config_filename(flags.FLAGS["config"]).split(":")[0]).stem
        overrides = config_flags.get_override_values(flags.FLAGS["config"])
        run_recipe(CONFIG.value, workdir=WORKDIR.value or f"runs/{recipe}", only=STAGE.value, overrides=overrides)
    except Interrupted as stop:
        print(f"main.py: {stop}; the same command goes on from there", file=sys.stderr)
        sys.exit(stop.exit_code)
    except (Exception, KeyboardInterrupt) as error:
        _fail(*explain(error))


def parse_flags(argv: list[str]) -> list[str]:
    """Parses flags as absl does. A wrong flag, recipe or config key ends the program with one sentence."""
    try:
        if not any(re.match("--?config(=|$)", word) for word in argv):
            argv = [argv[0], "--config=configs/vplr.py", *argv[1:]]
        rest = flags.FLAGS(argv)
        CONFIG.value.keys()  # absl reads the recipe here; before, a bad recipe is no error yet
        return rest
    except Exception as error:  # noqa: BLE001 (absl, ml_collections and the recipe itself raise many kinds here)
        recipe = re.search(r"Failed loading config file.*No such file .*: '(.+)'", str(error), flags=re.DOTALL)
        known = difflib.get_close_matches(recipe[1], map(str, Path("configs").glob("*.py")), n=1) if recipe else ()
        hint = f"; did you mean {known[0]}?" if known else "; recipes lie in configs/"
        _fail(f"there is no recipe {recipe[1]}{hint}" if recipe else _sentence(error))


def _sentence(error: Exception) -> str:
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    if isinstance(error, (KeyError, AttributeError)):
        text = "unknown config key " + text.replace("'", "").replace("\n", ". ")
        text += "" if "mean" in text else "; a section the recipe lacks is given whole, as --config.a=\"{'b': 1}\" is"
    raised = re.findall(r"^\s*(?:[\w.]+)Error: (.+)$", text, flags=re.MULTILINE)  # a recipe's error inside absl's
    lines = [line.strip(" '\"\\") for line in (raised[-1] if raised else text).replace("\\n", "\n").splitlines()]
    return " ".join(line for line in lines if line and not line.startswith("Pass --help"))[:400]


def _fail(sentence: str, code: int = 2) -> None:
    print(f"main.py: error: {sentence}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
