"""`segjax train` and main.py: run a recipe, from a command line or from Python.

Their flags are absl's, because those of a recipe (--config.a.b=c) have the types of its values.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segjax.errors import UserError, explain, keep_interrupts
from segjax.host import collect_garbage_less_often, print_stacks_on_request
from segjax.recipes import DEFAULT, find_recipe, importable

if TYPE_CHECKING:
    from absl.flags import FlagValues

_CONFIG = re.compile(r"--?config(=|$)")
# name, type or choices, meaning
FLAGS = (
    ("config", str, "The recipe, a name or a file, with options after a colon; vplr by default."),
    ("workdir", str, "Where everything is written; runs/<recipe> by default."),
    ("stage", str, "Run this stage only."),
    ("platform", ("cpu", "gpu", "tpu"), "Stop unless jax runs on this platform."),
    ("cpu_devices", int, "Cut the CPU into this many devices; give the number of cores."),
    ("coordinator", str, "host:port of process 0, for several processes."),
    ("num_processes", int, "Number of processes."),
    ("process_id", int, "Index of this process."),
)


def describe(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command, for its help; `run` reads them by absl."""
    for name, kind, text in FLAGS:
        choices = kind if isinstance(kind, tuple) else None
        parser.add_argument(f"--{name}", choices=choices, metavar=None if choices else name.upper(), help=text)
    parser.add_argument("--config.KEY", metavar="VALUE", help="Override a setting: --config.train.optimizer.lr=0.01")


def run(arguments: argparse.Namespace) -> int:
    """Runs a recipe and returns the exit code; may be called again in the same process.

    Raises UserError for a wrong flag, recipe or config key.
    """
    from absl import flags

    values = flags.FlagValues()  # not the process's own: those can be defined only once
    argv = _with_file(["segjax", *arguments.words])
    define_flags(values, argv)
    return run_flags(parse_flags(argv, values), values, program="segjax")


def train(
    config: str = DEFAULT,
    *,
    workdir: str | Path | None = None,
    stage: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    platform: str | None = None,
    cpu_devices: int | None = None,
) -> dict[str, Any]:
    """Runs a recipe and returns the reports of its stages by name, for scripts and notebooks.

    config: name or file of a recipe with its argument, such as "vplr:camvid".
    workdir: where everything is written; runs/<recipe> by default.
    stage: name of the only stage to run; None = all.
    overrides: dotted key -> value, such as {"train.optimizer.lr": 0.01}.
    platform, cpu_devices: see `segjax.parallel.setup`.

    Raises UserError for all that `segjax train` ends for with one sentence, and Interrupted after ctrl-C in a training.
    """
    from segjax.stages import run_recipe
    from segjax.stages.config.recipe_file import load_recipe

    coordinator = _begin(platform=platform, cpu_devices=cpu_devices)
    found = load_recipe(config, overrides, source="overrides")
    workdir = workdir or _default_workdir(find_recipe(config))
    with _watch("segjax", coordinator):
        return run_recipe(found, workdir=workdir, only=stage, overrides=overrides or ())


def define_flags(values: FlagValues, argv: Sequence[str] | None = None) -> None:
    """Defines the flags in `values`. argv: the words that will be parsed; None = those of the process."""
    from absl import flags
    from ml_collections import config_flags

    for name, kind, text in FLAGS:
        if name == "config":
            # New keys are accepted: a recipe does not name every option, and the stages check all keys before the
            # first one runs.
            config_flags.DEFINE_config_file(
                name, None, text, flag_values=values, lock_config=False, accept_new_attributes=True, sys_argv=argv
            )
        elif isinstance(kind, tuple):
            flags.DEFINE_enum(name, None, list(kind), text, flag_values=values)
        else:
            define = flags.DEFINE_integer if kind is int else flags.DEFINE_string
            define(name, None, text, flag_values=values)


def parse_flags(argv: Sequence[str], values: FlagValues) -> list[str]:
    """Parses flags as absl does, and returns the words that are no flags, the program's name first.

    argv: the program's name and the words after it.

    Raises UserError for a wrong flag, recipe or config key.
    """
    try:
        argv = _with_file(argv)
        with importable(_recipe_of(argv).partition(":")[0]):
            rest = values(argv)
            values.config.keys()  # absl reads the recipe here; before, a bad recipe is no error yet
        return rest
    except Exception as error:  # noqa: BLE001 (absl, ml_collections and the recipe itself raise many kinds here)
        raise UserError(_sentence(error)) from error


def run_flags(rest: Sequence[str], values: FlagValues, *, program: str) -> int:
    """Runs the recipe of parsed flags; prints an error of the user as one sentence and returns the exit code.

    rest: result of `parse_flags`.
    program: name for messages.
    """
    collect_garbage_less_often()  # before jax is imported
    from ml_collections import config_flags

    from segjax.stages import run_recipe
    from segjax.training.interrupt import Interrupted

    try:
        if len(rest) > 1:
            raise UserError(f"unexpected argument {rest[1]!r}; options are written --name=value.")
        places = ("platform", "cpu_devices", "coordinator", "num_processes", "process_id")
        coordinator = _begin(**{name: values[name].value for name in places})
        config = values["config"]
        workdir = values.workdir or _default_workdir(config_flags.get_config_filename(config))
        overrides = config_flags.get_override_values(config)
        with _watch(program, coordinator):
            run_recipe(config.value, workdir=workdir, only=values.stage, overrides=overrides)
        return 0
    except Interrupted as stop:
        print(f"{program}: {stop}; the same command goes on from there", file=sys.stderr)
        return stop.exit_code
    except (Exception, KeyboardInterrupt) as error:
        sentence, code = explain(error)
        fail(sentence, program)
        return code


def fail(sentence: str, program: str) -> None:
    """Prints an error of the user."""
    print(f"{program}: error: {sentence}", file=sys.stderr)


def _begin(**places: Any) -> str | None:
    """Starts the devices and returns the address of process 0, if given; may be called again in the same process."""
    from segjax.ops.host_memory import reuse_freed_memory

    reuse_freed_memory()  # before jax starts its threads
    import jax
    from absl import logging as absl_logging

    from segjax import parallel
    from segjax.training.logging import setup_logging

    keep_interrupts()
    print_stacks_on_request()
    absl_logging.set_verbosity(absl_logging.FATAL)  # orbax logs every detail of every save
    setup_logging()
    coordinator = parallel.setup(**places)
    setup_logging(process_index=jax.process_index())
    return coordinator


def _watch(program: str, coordinator: str | None) -> AbstractContextManager:
    from segjax import parallel
    from segjax.training.interrupt import Interrupted

    return parallel.watch_others(program=program, coordinator=coordinator, orderly=(Interrupted,))


def _default_workdir(recipe: str) -> str:
    return f"runs/{Path(recipe.partition(':')[0]).stem}"


def _with_file(argv: Sequence[str]) -> list[str]:
    """Returns the words with the files of recipes for their names, and the default recipe if they name none."""
    words = list(argv)
    if not any(_CONFIG.match(word) for word in words):
        words.insert(1, f"--config={DEFAULT}")
    for place, word in enumerate(words):
        if not (found := _CONFIG.match(word)):
            continue
        if found[1]:
            words[place] = found[0] + find_recipe(word[found.end() :])
        elif place + 1 < len(words):
            words[place + 1] = find_recipe(words[place + 1])
    return words


def _recipe_of(argv: Sequence[str]) -> str:
    """Returns the last recipe that the words name."""
    found = ""
    for place, word in enumerate(argv):
        if match := _CONFIG.match(word):
            found = word[match.end() :] if match[1] else "".join(argv[place + 1 : place + 2])
    return found


def _sentence(error: Exception) -> str:
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    if isinstance(error, (KeyError, AttributeError)):
        text = "unknown config key " + text.replace("'", "").replace("\n", ". ")
        text += "" if "mean" in text else "; a section the recipe lacks is given whole, as --config.a=\"{'b': 1}\" is"
    raised = re.findall(r"^\s*(?:[\w.]+)Error: (.+)$", text, flags=re.MULTILINE)  # a recipe's error inside absl's
    lines = [line.strip(" '\"\\") for line in (raised[-1] if raised else text).replace("\\n", "\n").splitlines()]
    return " ".join(line for line in lines if line and not line.startswith("Pass --help"))[:400]
