"""Runs of a recipe: its stages in order; finished stages are skipped, an interrupted one resumes."""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from segjax import parallel
from segjax.data import dataset_names
from segjax.errors import UserError, choose, did_you_mean
from segjax.files import plain
from segjax.outputs import check_local
from segjax.remote import check_address, is_remote
from segjax.stages import (
    choose_network,
    compare,
    disable_tail,
    evaluate,
    evaluate_video,
    propagate,
    pseudo_label,
    recalibrate,
    train,
    train_gsvnet,
    train_video,
)
from segjax.stages.config.choices import apply_overrides, check_choices
from segjax.stages.config.keys import check_keys
from segjax.stages.dataset import Dataset, datasets_of, read_dataset, with_folders
from segjax.stages.finished import Planned, decide
from segjax.stages.lock import only_run
from segjax.stages.preview import preview
from segjax.stages.remote_run import working_folder
from segjax.stages.report_files import check_report, devices, read_report, versions, write_report
from segjax.stages.stage import Context, Stage
from segjax.weights.runs import has_checkpoint

log = logging.getLogger("segjax")

REMOTE = ("checkpoint", "keyframe", "data_dir")  # config keys whose value may be a remote address

STAGES: dict[str, Stage] = {
    "train": train.STAGE,
    "train_video": train_video.STAGE,
    "train_gsvnet": train_gsvnet.STAGE,
    "propagate": propagate.STAGE,
    "pseudo_label": pseudo_label.STAGE,
    "recalibrate": recalibrate.STAGE,
    "evaluate": evaluate.STAGE,
    "evaluate_video": evaluate_video.STAGE,
    "disable_tail": disable_tail.STAGE,
    "compare": compare.STAGE,
    "choose": choose_network.STAGE,
}


def run_recipe(
    config: Any, *, workdir: str | Path, only: str | None = None, overrides: Collection[str] = ()
) -> dict[str, Any]:
    """Runs the stages of a recipe and returns their reports by name.

    A finished stage is skipped; an evaluation named by `only` runs again, also with other settings; a training goes on
    if it gets a longer duration. A stage may have its own `seed`, so that one run can contain several trainings that
    differ by it.

    config: the recipe.
    workdir: folder of the run, or its remote address, see `remote_run`.
    only: name of the only stage to run; None = all.
    overrides: keys of `config` that were set on the command line, see `choices.apply_overrides`.

    Raises UserError for a wrong recipe, a finished stage that was run with other settings, a folder that cannot be
    written, and all that the stages raise it for.
    """
    with working_folder(workdir) as folder:
        return _run_recipe(config, workdir=folder, only=only, overrides=overrides)


def _run_recipe(config: Any, *, workdir: Path, only: str | None, overrides: Collection[str]) -> dict[str, Any]:
    names = stage_names(config)
    if only is not None and only not in names:
        raise UserError(f"--stage={only} is not a stage of this recipe.{did_you_mean(only, names)}")
    apply_overrides(config, overrides)
    # all stages are read before the first one runs: a typing error in the last would else show after days of training
    options = {name: with_folders(one, written(config, name, workdir)) for name, one in read_recipe(config).items()}
    check_inputs(config, options, workdir)
    _make(workdir)
    check_report(workdir)

    reports = {
        name: report for name in names if (report := read_report(workdir / name, damaged="its stage runs again"))
    }
    reports = json.loads(parallel.from_first(json.dumps(reports)))  # hosts may see files at different times
    planned = [
        Planned(
            name,
            STAGES[config[name].kind],
            options[name],
            workdir / name,
            {"seed": config.seed, "dataset": plain(config.dataset), "stage": plain(config[name])},
            tuple(dataset.name for dataset in _datasets(config, name, options[name], workdir) if dataset.folder),
        )
        for name in names
        if only in (None, name)
    ]
    # --stage repeats an evaluation, which costs little; a training is repeated by deleting its folder
    decisions = decide(planned, reports, asked=() if only is None else (only,))
    known = {name: (STAGES[config[name].kind], options[name]) for name in names}
    for one in planned:
        if decisions[one.name].runs:
            one.stage.check(one.options, preview(one.name, known, workdir, run_dataset(config, one.name, workdir)))
    kinds = set()
    for one in planned:
        name, section, folder = one.name, config[one.name], one.folder
        if decisions[name].why:
            log.info(decisions[name].why)
        if not decisions[name].runs:
            continue
        _make(folder)
        log.info("stage %s: %s", name, folder)
        start = time.perf_counter()
        if section.kind in kinds:
            jax.clear_caches()  # else the compiled programs of dozens of trainings fill the memory
        kinds.add(section.kind)
        context = Context(
            name=name,
            workdir=workdir,
            folder=folder,
            seed=section.get("seed", config.seed),
            dataset=run_dataset(config, name, workdir),
            settings=plain(_without_seed(section)),
            finished=decisions[name].extended,
        )
        with only_run(folder):
            result = one.stage.run(one.options, context)
        reports[name] = {
            "stage": name,
            "kind": section.kind,
            "config": one.digest,
            "settings": plain(one.settings),
            "seconds": round(time.perf_counter() - start, 1),
            "finished": time.strftime("%Y-%m-%d %H:%M:%S"),
            "run": secrets.token_hex(8),  # tells this run of the stage from others, whatever clocks say
            "inputs": one.runs_of_inputs(reports),
            "devices": devices(),
            "versions": versions(),
            **result,
        }
        # the report is written last: without it, an interrupted stage does not count as done
        write_report(folder, reports[name])
        write_report(workdir, {name: reports[name] for name in names if name in reports})
        parallel.sync(f"report of {name}")  # the next stage may read it, in any process
    reports = {name: reports[name] for name in names if name in reports}
    write_report(workdir, reports)  # again, because a kill may have come between the two files
    return reports


def read_recipe(config: Any) -> dict[str, Any]:
    """Returns the options of all stages by name; reads no data.

    Sections of stages not listed in `stages` are ignored.

    config: the recipe.

    Raises UserError for unknown and missing keys, names and options that do not fit each other, and wrong values.
    """
    for key, value in _values(plain(config)):
        (check_address if key.rpartition(".")[2] in REMOTE else check_local)(value, f"config key {key}")
    names = stage_names(config)
    ignored = [key for key in config if "kind" in (config[key] if hasattr(config[key], "keys") else ())]
    known = {"seed", "stages", "dataset", *names, *ignored}
    check_keys(config, known, where="config", required=("seed", "dataset", *names))
    read_dataset(config.dataset, "dataset")
    options = {}
    for name in names:
        section = _without_seed(config[name])
        stage = choose(STAGES, section.get("kind", ""), where=f"{name}.kind")
        check_choices(section, where=name)
        options[name] = stage.read(section, name)
    return options


def _values(config: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (key, value) of every plain value of a config."""
    if not isinstance(config, (Mapping, list)):
        yield where, config
        return
    for key, value in config.items() if isinstance(config, Mapping) else enumerate(config):
        yield from _values(value, f"{where}.{key}" if where else str(key))


def stage_names(config: Any) -> tuple[str, ...]:
    """Returns config.stages. Raises UserError unless it lists names."""
    stages = config.get("stages")
    if not stages or not isinstance(stages, (tuple, list)) or not all(isinstance(name, str) for name in stages):
        raise UserError(f"config key stages={stages!r} must list the stages to run, such as ('train', 'evaluate').")
    return tuple(stages)


def _without_seed(section: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key != "seed"}


def check_inputs(config: Any, options: Mapping[str, Any], workdir: Path) -> None:
    """Raises UserError for an input of a stage that is neither an earlier stage nor a path, and for unknown datasets.

    config: the recipe.
    options: of the stages, by name.
    workdir: folder of the run.
    """
    for position, name in enumerate(config.stages):
        before, stage = config.stages[:position], STAGES[config[name].kind]
        begun = has_checkpoint(workdir / name / "checkpoints")
        for key, value in stage.inputs(options[name], begun).items():
            known = (
                not value
                or value in before
                or is_remote(value)
                or (workdir / value).exists()
                or Path(value).expanduser().exists()
            )
            if not known:
                raise UserError(
                    f"config key {name}.{key}={value!r} is no path, and no stage before {name!r}."
                    f"{did_you_mean(value, before)}"
                )
        for dataset in _datasets(config, name, options[name], workdir):
            _check_dataset(dataset, config, name)


def written(config: Any, name: str, workdir: Path) -> dict[str, Path]:
    """Returns stage -> folder of its dataset, of the stages before the stage `name`; workdir: folder of the run."""
    before = config["stages"][: list(config["stages"]).index(name)]
    return {one: workdir / one / "dataset" for one in before if STAGES[config[one]["kind"]].writes_dataset}


def run_dataset(config: Any, name: str, workdir: Path) -> Dataset:
    """Returns the section `dataset` of the recipe for the stage `name`; workdir: folder of the run."""
    return with_folders(read_dataset(config["dataset"], "dataset"), written(config, name, workdir))


def _datasets(config: Any, name: str, options: Any, workdir: Path) -> list[Dataset]:
    """Returns the datasets that a stage reads: those of its section, and the run's if it has none of its own."""
    own = list(datasets_of(options))
    return [*own, run_dataset(config, name, workdir)] if getattr(options, "dataset", own) is None else own


def _check_dataset(dataset: Dataset, config: Any, name: str) -> None:
    """Raises UserError for a dataset that is neither built, nor written by a stage before the stage `name`."""
    key = f"config key {dataset.where}.name={dataset.name!r}"
    for option in ("options", "data_dir"):
        if dataset.folder and getattr(dataset, option):
            raise UserError(f"{key} is a stage, whose dataset takes no {option}; remove {dataset.where}.{option}.")
    if dataset.folder or dataset.is_built:
        return
    if dataset.name in config["stages"]:
        kind = config[dataset.name]["kind"]
        why = "does not run before" if STAGES[kind].writes_dataset else f"is of kind {kind} and writes no dataset for"
        raise UserError(f"{key}: this stage {why} stage {name!r}; name another dataset in {name}.dataset.")
    raise UserError(
        f"{key} is no dataset, no folder of a built one, and no stage before {name!r} that writes one."
        f"{did_you_mean(dataset.name, (*dataset_names(), *written(config, name, Path())))}"
    )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to --workdir: {folder}: {error.strerror}.") from error
