"""Recipes for the console command, read as by main.py's flag --config: FILE.py[:ARGS], and overrides."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from segjax.errors import UserError
from segjax.stages.config.choices import apply_overrides
from segjax.stages.recipe import read_recipe


def load_recipe(text: str, overrides: Mapping[str, Any] | None = None) -> ConfigDict:
    """Loads the config of a recipe.

    text: file and options, such as "configs/vplr.py:camvid,net=fastscnn".
    overrides: dotted key -> value, see `apply_overrides`.

    Raises UserError for a file that is missing or no recipe, for options that it does not have, and for keys and values
    that no stage accepts.
    """
    name, _, argument = text.partition(":")
    path = Path(name).expanduser()
    if not path.is_file():
        raise UserError(f"--config={text}: {path} does not exist; give a recipe such as configs/vplr.py:camvid")
    shared = str(path.resolve().parent.parent)  # recipes import their helpers as `configs.common`
    if shared not in sys.path:
        sys.path.append(shared)
    try:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        config = module.get_config(*([argument] if argument else []))
    except (ValueError, AttributeError, ImportError, SyntaxError) as error:
        raise UserError(f"--config={text} cannot be read: {error}") from error
    overrides = dict(overrides or {})
    try:
        with config.unlocked():  # as for main.py: a recipe does not name every option there is
            config.update_from_flattened_dict(overrides)
    except (KeyError, TypeError, AttributeError) as error:
        reason = error.args[0] if error.args else error
        raise UserError(f"--set: {' '.join(str(reason).replace(chr(39), '').split())}") from error
    apply_overrides(config, overrides)
    read_recipe(config)
    return config
