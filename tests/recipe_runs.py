"""Shipped recipes, and a debug run of one, as a user would start it."""

import json
import subprocess
import sys
from pathlib import Path

from ml_collections import ConfigDict

from configs import common
from segjax.recipes import recipe_names
from tests.processes import environment, small_network

ROOT = Path(__file__).resolve().parent.parent
RECIPES = recipe_names()


def presets(recipe: str) -> list[str]:
    """The argument strings a recipe lists as what it ships."""
    return list(common.load(ROOT / "configs" / f"{recipe}.py").SHIPPED)


SHIPPED = [(recipe, arg) for recipe in RECIPES for arg in presets(recipe)]


def load(recipe: str, arg: str) -> ConfigDict:
    return common.load(ROOT / "configs" / f"{recipe}.py").get_config(arg)


def is_slow(recipe: str, arg: str) -> bool:
    return arg in getattr(common.load(ROOT / "configs" / f"{recipe}.py"), "SLOW", ())


def debug_run(recipe: str, arg: str, workdir: Path, data_dir: Path, *, small: bool = False) -> None:
    """Trains 3 steps per stage and evaluates; small: another network, where many trainings would take long."""
    command = [sys.executable, "main.py", f"--config=configs/{recipe}.py:{arg + ',' if arg else ''}debug"]
    config = load(recipe, f"{arg},debug")
    trained = [name for name in config.stages if config[name].kind == "train"]
    run = subprocess.run(
        [*command, f"--workdir={workdir}", *(small_network(*trained) if small else ())],
        cwd=ROOT,
        env=environment(SEGJAX_DATA_DIR=data_dir),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    report = json.loads((workdir / "report.json").read_text())
    assert list(report) == list(config.stages)
    kinds = [stage["kind"] for stage in report.values()]
    scored = [stage for stage in report.values() if stage["kind"] in ("evaluate", "evaluate_video")]
    evaluated = {stage["settings"]["stage"]["checkpoint"] for stage in scored}
    assert sum(map(kinds.count, ("train", "recalibrate", "train_gsvnet"))) >= len(evaluated) > 0
    assert evaluated <= set(report), "of networks that this run trained"
    assert all(0 <= stage["miou"] <= 1 for stage in report.values() if stage["kind"] == "evaluate")
    assert all(0 <= row["average"] <= 1 for stage in scored for row in stage.get("rows", ()))
    assert all(stage["steps"] == 3 for stage in report.values() if stage["kind"] in ("train", "train_gsvnet"))
