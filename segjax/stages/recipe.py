"""Runs the stages of a recipe in order: skips what is done, goes on with what was interrupted."""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from jax.experimental import multihost_utils

from segjax.errors import UserError, choose, did_you_mean
from segjax.files import config_hash, plain
from segjax.host import usable_cores
from segjax.stages import compare, evaluate, propagate, train, train_video
from segjax.stages.build import check_dataset
from segjax.stages.config.choices import check_choices, give_way
from segjax.stages.config.keys import check_keys
from segjax.weights.runs import has_checkpoint

log = logging.getLogger("segjax")

STAGES: dict[str, Callable[..., dict[str, Any]]] = {
    "train": train.run,
    "train_video": train_video.run,
    "propagate": propagate.run,
    "evaluate": evaluate.run,
    "compare": compare.run,
}
# check(settings, where=...) reads no data, so that a mistake in the last stage is found before the first one runs
CHECKS: dict[str, Callable[..., None]] = {
    "train": train.check,
    "train_video": train_video.check,
    "propagate": propagate.check,
    "evaluate": evaluate.check,
}
CHEAP = {"evaluate"}  # run again by themselves when what they read was run again, and with --stage
QUICK = {"compare"}  # these only read what other stages wrote, and run every time

_PACKAGES = ("segjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")


@dataclass(frozen=True)
class Context:
    """What a stage knows of the run. folder: its own; workdir: the run's, where other stages have their folders."""

    name: str
    workdir: Path
    folder: Path
    seed: int
    dataset: Mapping[str, Any]


def run_recipe(
    config: Any, *, workdir: str | Path, only: str | None = None, overrides: Collection[str] = ()
) -> dict[str, Any]:
    """Runs config.stages below `workdir` and returns the reports by stage; `only` runs a single one.

    What is done is not done again, but an evaluation that `only` asks for is, also with other settings.

    overrides: the keys of `config` that were set by hand; what the recipe says otherwise gives way, see `give_way`.
    A stage may have a `seed` of its own, so that one run can hold several trainings that differ by it.
    Raises UserError for a config that is wrong, or that is not the one a finished stage was run with.
    """
    workdir = Path(workdir).resolve()
    stages = stage_names(config)
    if only is not None and only not in stages:
        raise UserError(f"--stage={only} is not a stage of this recipe.{did_you_mean(only, stages)}")
    give_way(config, overrides)
    check_recipe(config)
    check_inputs(config, workdir)
    _make(workdir)

    reports = {name: _read_report(workdir / name / "report.json") for name in stages}
    reports, kinds = {name: report for name, report in reports.items() if report}, set()
    for name in stages:
        stage = config[name]
        digest = config_hash({"seed": config.seed, "dataset": plain(config.dataset), "stage": plain(stage)})
        settings, seed = _without_seed(stage), stage.get("seed", config.seed)
        context = Context(name, workdir, workdir / name, seed, config.dataset)
        again = only == name and stage.kind in CHEAP
        if only not in (None, name) or (
            not again and _is_done(name, stage, reports, digest=digest, folder=context.folder)
        ):
            continue
        _make(context.folder)
        log.info("stage %s: %s", name, context.folder)
        start = time.perf_counter()
        if stage.kind in kinds:
            jax.clear_caches()  # the compiled programs of dozens of trainings would fill the memory
        kinds.add(stage.kind)
        result = STAGES[stage.kind](settings, context)
        reports[name] = {
            "stage": name,
            "kind": stage.kind,
            "config": digest,
            "seconds": round(time.perf_counter() - start, 1),
            "finished": time.strftime("%Y-%m-%d %H:%M:%S"),
            "devices": _devices(),
            "versions": versions(),
            **result,
        }
        _write_json(context.folder / "report.json", reports[name])
        _write_json(workdir / "report.json", {name: reports[name] for name in stages if name in reports})
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"report of {name}")  # the next stage of any process may read it
    reports = {name: reports[name] for name in stages if name in reports}
    _write_json(workdir / "report.json", reports)  # also where a kill came between the two
    return reports


def _is_done(
    name: str, stage: Mapping[str, Any], reports: Mapping[str, Mapping[str, Any]], *, digest: str, folder: Path
) -> bool:
    """Whether a stage is finished, with these settings and with what its inputs are now; UserError where it differs."""
    done = reports.get(name)
    if done is None or stage.kind in QUICK:
        return False
    newer = [key for key in _inputs(stage).values() if _finished(reports.get(key)) > _finished(done)]
    if newer and stage.kind in CHEAP:
        log.info("stage %s runs again, because stage %s has been run since", name, newer[0])
        return False
    if done.get("config") != digest:
        again = f"give --stage={name}" if stage.kind in CHEAP else f"delete {folder}"
        raise UserError(
            f"{folder} was finished with other settings than these; give another --workdir, or {again} to run stage "
            f"{name!r} again."
        )
    if newer:
        raise UserError(
            f"{folder} was finished with what stage {newer[0]!r} gave before it was run again; "
            f"delete {folder} to run stage {name!r} again."
        )
    log.info("stage %s is done (%s)", name, folder / "report.json")
    return True


def check_recipe(config: Any) -> None:
    """Raises UserError for keys, names and options that no stage knows, and for keys that are missing.

    A section of a stage that `stages` does not list stands by.
    """
    stages = stage_names(config)
    idle = [key for key in config if "kind" in (config[key] if hasattr(config[key], "keys") else ())]
    known = {"seed", "stages", "dataset", *stages, *idle}
    check_keys(config, known, where="config", required=("seed", "dataset", *stages))
    check_dataset(config.dataset, where="dataset")
    for name in stages:
        settings = _without_seed(config[name])
        kind = settings.get("kind", "")
        choose(STAGES, kind, where=f"{name}.kind")
        check_choices(settings, where=name)
        if kind in CHECKS:
            CHECKS[kind](settings, where=name)


def stage_names(config: Any) -> tuple[str, ...]:
    """config.stages; UserError unless it lists names."""
    stages = config.get("stages")
    if not stages or not isinstance(stages, (tuple, list)) or not all(isinstance(name, str) for name in stages):
        raise UserError(f"config key stages={stages!r} must list the stages to run, such as ('train', 'evaluate').")
    return tuple(stages)


def _without_seed(stage: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in stage.items() if key != "seed"}


def check_inputs(config: Any, workdir: Path) -> None:
    """Raises UserError for a stage that wants to read what no stage before it writes, and what is no path either."""
    for position, name in enumerate(config.stages):
        before = config.stages[:position]
        for key, value in _inputs(config[name]).items():
            if key == "init.checkpoint" and has_checkpoint(workdir / name / "checkpoints"):
                continue  # it has begun, see `build.run_init`
            known = not value or value in before or (workdir / value).exists() or Path(value).expanduser().exists()
            if not known:
                raise UserError(
                    f"config key {name}.{key}={value!r} is no path, and no stage before {name!r}."
                    f"{did_you_mean(value, before)}"
                )


def _inputs(stage: Mapping[str, Any]) -> dict[str, str]:
    """Key -> the stage or folder that a stage reads, "" for none."""
    extra = stage.get("extra") or {}
    parts = {"extra": extra, **{f"extra.{name}": part for name, part in extra.items() if hasattr(part, "keys")}}
    return {
        "checkpoint": stage.get("checkpoint") or "",
        "init.checkpoint": stage.get("init", {}).get("checkpoint") or "",
        **{f"{key}.stage": part.get("stage") or "" for key, part in parts.items()},
    }


def _finished(report: Mapping[str, Any] | None) -> str:
    return (report or {}).get("finished", "")


def versions() -> dict[str, str]:
    """Versions of python and of the packages that matter for the numbers."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed as a package"
    return found


def _devices() -> str:
    kinds = {device.device_kind for device in jax.devices()}
    return (
        f"{jax.device_count()} x {', '.join(sorted(kinds))}, {jax.process_count()} process(es), {usable_cores()} cores"
    )


def _read_report(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        log.warning("%s is not readable and is ignored; its stage runs again", path)
        return None
    return found


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to --workdir: {folder}: {error.strerror}.") from error


def _write_json(path: Path, content: Any) -> None:
    if jax.process_index() == 0:
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(_finite(content), indent=2, allow_nan=False) + "\n")
        os.replace(temporary, path)


def _finite(content: Any) -> Any:
    """The content with null for what is not finite, such as a score of no pixels, for which JSON has no number."""
    if isinstance(content, Mapping):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
