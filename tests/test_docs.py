"""Every snippet of the README and of docs/ works: Python is run, command lines are read by the program they start."""

import contextlib
import dataclasses
import functools
import io
import json
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
from absl import flags

from segjax import cli, data, losses
from segjax.data.crop_schedule import crop_schedule
from segjax.errors import UserError
from segjax.recipes import find_recipe
from segjax.stages import (
    choose_network,
    compare,
    disable_tail,
    evaluate,
    evaluate_video,
    propagate,
    pseudo_options,
    recalibrate,
    train,
    train_gsvnet,
    train_video,
)
from segjax.stages.config.durations import UNITS
from segjax.stages.config.keys import recipe_options
from segjax.stages.extra_data import ExtraOptions
from segjax.training import optimizer, schedules
from tests import cluster_commands
from tests.config_tools import read_config

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def snippets(language: str) -> list:
    pattern = re.compile(rf"^( *)```{language}\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
    return [
        pytest.param("\n".join(line.removeprefix(indent) for line in code.splitlines()), id=f"{page.name}-{number}")
        for page in PAGES
        for number, (indent, code) in enumerate(pattern.findall(page.read_text()))
    ]


@pytest.mark.parametrize("code", snippets("python"))
def test_python(code):
    exec(compile(code, "snippet", "exec"), {})


@pytest.mark.parametrize("text", snippets("json"))
def test_json(text):
    json.loads(text)


@pytest.mark.parametrize("code", snippets("bash"))
def test_command_lines(code):
    for line in code.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["make"]:
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        elif words[:2] == ["python", "main.py"]:
            check_main(words[2:])
        elif words[:2] == ["python", "-m"]:
            assert all(word.split("=")[0] in help_of(words[2]) for word in words[3:])
        elif words[:2] == ["segjax", "train"]:
            check_main(words[2:])
        elif words[:1] == ["segjax"]:
            assert cli.parse(words[1:])
        elif words[:1] and words[0] in cluster_commands.PROGRAMS:
            cluster_commands.check(line, check_main)
        else:
            raise AssertionError(f"a snippet that nobody checks: {line}")


@functools.cache
def help_of(module: str) -> str:
    """What `python -m module --help` prints."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.setattr(sys, "argv", [module, "--help"])
        with pytest.raises(SystemExit) as end:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert end.value.code == 0
    return printed.getvalue()


def check_main(words: list[str]) -> None:
    import main  # noqa: F401 (defines the flags)

    recipe, keys = "configs/vplr.py", []
    for word in words:
        name, _, value = word.removeprefix("--").partition("=")
        if name.startswith("config."):
            keys.append(word)
            continue
        assert name in flags.FLAGS, word
        if name == "config":
            recipe = value
    assert read_config(find_recipe(recipe), *keys).stages


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name}: {target}"


def _keys(stage, monkeypatch) -> set[str]:
    """The keys of a stage's section, as its `read` passes them on to be checked."""
    known: list[set[str]] = []

    def check_keys(settings, allowed, *, where, required=()):
        known.append(set(allowed))
        raise UserError("that is all")

    monkeypatch.setattr(stage, "check_keys", check_keys)
    with pytest.raises(UserError, match="that is all"):
        stage.read({}, "stage")
    return known[0]


def test_every_setting_of_a_stage_is_documented(monkeypatch):
    """What a stage takes is named on its page, in every spelling that a recipe uses."""
    durations = {f"{name}_{unit}" for name in ("total", "checkpoint", "eval") for unit in UNITS}
    training = _keys(train, monkeypatch)
    assert durations < training
    settings = {
        "training.md": {
            *training - durations,
            *recipe_options(evaluate.Options),
            *_keys(compare, monkeypatch),
            *recipe_options(choose_network.Options),
            *(field.name for field in dataclasses.fields(compare.CellOptions)),
            *data.PLANS,
            *losses.LOSSES,
            *(option for loss in losses.LOSSES.values() for option in recipe_options(loss)),
            *recipe_options(crop_schedule),
            *optimizer.OPTIONS,
            *(option for takes in optimizer.OPTIONS.values() for option in takes),
            *schedules.OPTIONS,
            *(option for takes in schedules.OPTIONS.values() for option in takes),
        },
        "video.md": _keys(train_video, monkeypatch) - durations - training,
        "gsvnet.md": {
            *_keys(train_gsvnet, monkeypatch) - durations - training,
            *(field.name for field in dataclasses.fields(train_gsvnet.KeyframeOptions)),
            *recipe_options(evaluate_video.Options),
        },
        "analyses.md": {*recipe_options(recalibrate.Options), *recipe_options(disable_tail.Options)},
        "propagation.md": recipe_options(propagate.Options),
        "self_training.md": {
            *recipe_options(pseudo_options.Options),
            *(field.name for field in dataclasses.fields(pseudo_options.PoolOptions)),
            *({field.name for field in dataclasses.fields(ExtraOptions)} - {"name", "where"}),
        },
    }
    for page, names in settings.items():
        assert len(names) > 8
        words = set(re.findall(r"\w+", (ROOT / "docs" / page).read_text()))
        assert not names - words, f"docs/{page} does not name {sorted(names - words)}"
