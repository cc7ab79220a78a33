"""`segjax recipes`: lists recipes with their presets and options."""

from __future__ import annotations

import argparse
import re
import shlex
import textwrap

from segjax.recipes import FOLDER, Recipe, describe_recipe, recipe_names


def describe(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="recipes to describe in full: names or files (all)")


def run(arguments: argparse.Namespace) -> None:
    """Prints the recipes that come with segjax, or describes some.

    Raises UserError for an unknown recipe.
    """
    names = arguments.names or recipe_names()
    print("\n\n".join(_text(name, describe_recipe(name), full=bool(arguments.names)) for name in names))


def _text(name: str, recipe: Recipe, *, full: bool) -> str:
    name = name.partition(":")[0]
    # the recipes write commands as they are in a checkout
    about = re.sub(r"python main\.py --config=configs/(\w+)\.py", r"segjax train --config=\1", recipe.about)
    about = about if recipe.path.parent == FOLDER else recipe.about
    title = re.split(r"\n\s*\n", about)[0]
    lines = [f"{name}: {about if full else ' '.join(title.split())}", ""] if full else [_fold(f"{name}: ", title)]
    presets = [shlex.quote(f"{name}:{preset}" if preset else name) for preset in recipe.presets]
    options = [f"{option}={value}" for option, value in recipe.options.items()]
    lines.append(_fold("  presets  ", "  ".join(presets) or "not listed (SHIPPED)"))
    lines.append(_fold("  options  ", "  ".join(options) or "not listed (OPTIONS)"))
    lines.append(f"  file     {recipe.path}")
    return "\n".join(lines)


def _fold(start: str, text: str) -> str:
    indent = " " * (len(start) if start.startswith(" ") else 2)
    return textwrap.fill(start + text, 118, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
