"""Recipes read as by main.py's flag --config, RECIPE[:ARGS], and overrides with values instead of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from segjax.errors import UserError
from segjax.recipes import find_recipe, importable, load_module
from segjax.stages.config.choices import apply_overrides
from segjax.stages.recipe import read_recipe


def load_recipe(text: str, overrides: Mapping[str, Any] | None = None, *, source: str = "--set") -> ConfigDict:
    """Loads the config of a recipe.

    text: name or file and options, such as "vplr:camvid,net=fastscnn", see `segjax.recipes.find_recipe`.
    overrides: dotted key -> value, see `apply_overrides`.
    source: of the overrides, for messages.

    Raises UserError for an unknown name, a file that is missing or no recipe, for options that it does not have, and
    for keys and values that no stage accepts.
    """
    path, _, argument = find_recipe(text).partition(":")
    with importable(path):
        try:
            config = load_module(path).get_config(*([argument] if argument else []))
        except (ValueError, AttributeError, ImportError, SyntaxError) as error:
            raise UserError(f"--config={text} cannot be read: {error}") from error
    overrides = dict(overrides or {})
    try:
        with config.unlocked():  # as for main.py: a recipe does not name every option there is
            config.update_from_flattened_dict(overrides)
    except (KeyError, TypeError, AttributeError) as error:
        reason = error.args[0] if error.args else error
        raise UserError(f"{source}: {' '.join(str(reason).replace(chr(39), '').split())}") from error
    apply_overrides(config, overrides)
    read_recipe(config)
    return config
