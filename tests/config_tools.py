"""Reads a command line as main.py does."""

from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from segjax.stages.config.choices import apply_overrides
from segjax.stages.recipe import read_recipe

ROOT = Path(__file__).resolve().parent.parent


def read_config(recipe: str, *words: str) -> ConfigDict:
    """The config of --config=recipe and words like --config.train.batch_size=4, as the stages get it, checked."""
    values = flags.FlagValues()
    argv = ["main.py", f"--config={ROOT / recipe}", *words]
    config_flags.DEFINE_config_file(
        "config", flag_values=values, lock_config=False, accept_new_attributes=True, sys_argv=argv
    )
    values(argv)
    apply_overrides(values.config, config_flags.get_override_values(values["config"]))
    read_recipe(values.config)
    return values.config
