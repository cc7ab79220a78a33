"""The recipes that come with segjax, by name, and the files of recipes.

In a checkout they lie in configs/, in an installed segjax in the folder segjax/configs. A wheel that brought a package
called `configs` would replace the one that many projects have beside their own code, so setup.py moves it into ours.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from segjax.errors import UserError, did_you_mean

_PACKAGE = Path(__file__).resolve().parent
FOLDER = (_PACKAGE / "configs" if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent / "configs").resolve()
_HELPERS = ("__init__", "ablation", "common", "csst_training", "ldn_training", "vplr_labels", "vplr_rows")
DEFAULT = "vplr"


@dataclass(frozen=True)
class Recipe:
    """A recipe, as it describes itself.

    path: of the file.
    about: its docstring.
    presets: arguments that are tested, "" for none.
    options: name -> default of what an argument can set.
    """

    path: Path
    about: str
    presets: tuple[str, ...]
    options: Mapping[str, Any]


def recipe_names() -> list[str]:
    """Returns the names of the recipes that come with segjax."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in _HELPERS)


def find_recipe(text: str) -> str:
    """Returns the file of a recipe with its argument, such as "/usr/lib/.../segjax/configs/vplr.py:camvid".

    text: name of a recipe that comes with segjax, or the path of a file, each with or without ":" and an argument.

    Raises UserError if there is no such name or file, with the nearest one.
    """
    name, colon, argument = text.partition(":")
    if not _is_path(name):
        if name in recipe_names():
            return f"{FOLDER / name}.py{colon}{argument}"
        if Path(f"{name}.py").is_file():
            raise UserError(f"segjax has no recipe {name!r}; did you mean the file {name}.py?")
        raise UserError(
            f"segjax has no recipe {name!r}.{did_you_mean(name, recipe_names())} A file is given with its path."
        )
    path = Path(name).expanduser()
    if not path.is_file():
        raise UserError(f"there is no recipe {name}{_instead(path)}")
    return f"{path}{colon}{argument}"


def _is_path(name: str) -> bool:
    return name.endswith(".py") or any(mark in name for mark in (os.sep, "/", "~"))


def _instead(path: Path) -> str:
    near = did_you_mean(str(path), map(str, path.parent.glob("*.py"))) if path.parent.is_dir() else ""
    found = re.fullmatch(r" Did you mean '(.+)'\?", near)
    if found:
        return f"; did you mean {found[1]}?"
    if path.stem in recipe_names():
        return f"; did you mean {path.stem}, which comes with segjax?"
    return f"; segjax has the recipes {', '.join(recipe_names())}, others are files"


@contextlib.contextmanager
def importable(path: str | Path) -> Iterator[None]:
    """Lets a recipe import its helpers as `configs.common`, as long as the context lasts.

    A recipe of segjax gets those of segjax, whatever else is called `configs` here. A recipe of the user gets modules
    from folders called `configs` beside it, above it and on the path, then those of segjax.

    path: file of the recipe.
    """
    path = Path(path).resolve()
    shipped = path.parent == FOLDER
    beside = [] if shipped else [str(path.parent), str(path.parent.parent)]
    places = [] if shipped else [Path(place or ".") / "configs" for place in (*beside, *sys.path)]
    folders = list(dict.fromkeys([*filter(Path.is_dir, places), FOLDER]))
    start = next(folder for folder in folders if (folder / "__init__.py").is_file()) / "__init__.py"
    others = _take_out()
    old_path = list(sys.path)
    sys.path += [place for place in beside if place not in sys.path]
    try:
        sys.modules["configs"] = _module("configs", start, [str(folder) for folder in folders])
        yield
    finally:
        _take_out()
        sys.modules.update(others)
        sys.path[:] = old_path


def _take_out() -> dict[str, ModuleType]:
    """Removes the package `configs` from the imported modules, and returns it."""
    names = [name for name in sys.modules if name == "configs" or name.startswith("configs.")]
    return {name: sys.modules.pop(name) for name in names}


def _module(name: str, file: Path, folders: list[str] | None = None) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=folders)
    module = importlib.util.module_from_spec(spec)
    if folders:
        sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def load_module(path: str | Path) -> ModuleType:
    """Returns the module of a recipe's file; call it inside `importable`."""
    return _module(Path(path).stem, Path(path))


def describe_recipe(text: str) -> Recipe:
    """Returns what a recipe says about itself.

    text: see `find_recipe`; an argument is ignored.

    Raises UserError for an unknown name, and for a file that is no recipe.
    """
    path = Path(find_recipe(text.partition(":")[0]))
    with importable(path):
        try:
            module = load_module(path)
        except Exception as error:  # noqa: BLE001 (the file may raise anything)
            raise UserError(f"{path} cannot be read: {type(error).__name__}: {error}") from error
    if not callable(getattr(module, "get_config", None)):
        raise UserError(f"{path} is no recipe; it has no function get_config")
    about = (module.__doc__ or "").strip()
    return Recipe(path, about, tuple(getattr(module, "SHIPPED", ())), dict(getattr(module, "OPTIONS", {})))
