"""The interface of stages: a stage reads its section of a recipe once, then runs and writes to its own folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from segjax.stages.assumed import Assumed, Program
from segjax.stages.dataset import Dataset


@dataclasses.dataclass(frozen=True)
class Context:
    """The run of which a stage is a part.

    name: of the stage.
    workdir: folder of the run; every stage has a folder in it.
    folder: of this stage.
    seed: of this stage.
    dataset: `config.dataset`.
    settings: the section as plain data, which a checkpoint records; no option is read from it.
    finished: report of this stage if it was finished before with a shorter duration and goes on, else None.
    """

    name: str
    workdir: Path
    folder: Path
    seed: int
    dataset: Dataset
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    finished: Mapping[str, Any] | None = None


def no_inputs(options: Any, begun: bool) -> dict[str, str]:
    """Returns the inputs of a stage that reads no output of another stage: none."""
    return {}


@dataclasses.dataclass(frozen=True)
class Preview:
    """What a stage can know of its run before the first stage runs.

    name: of the stage.
    workdir: folder of the run, None without one.
    dataset: `config.dataset`; what an earlier stage writes does not exist yet.
    spec_of: checkpoint -> spec of the network that it has or will have, see `Stage.network`; of a network that is not
        trained yet, without the number of classes. Raises UserError for a stage without network.
    """

    name: str
    workdir: Path | None
    dataset: Dataset
    spec_of: Callable[[str], Mapping[str, Any]]


def no_check(options: Any, preview: Preview) -> None:
    """Accepts any options: there is nothing to compare them with."""


def no_program(options: Any, assumed: Assumed) -> None:
    """Returns None: a stage without a program that can be compiled before it runs."""


def no_network(options: Any) -> None:
    """Returns None: a stage that saves no checkpoint."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """A kind of stage.

    read: (section, config key) -> options, frozen; reads no data. Raises UserError for keys, names and values with
        which no run could succeed, so that a mistake in the last stage is found before the first stage runs.
    run: (options, context) -> report, plain data for report.json.
    inputs: (options, begun) -> {config key: the stage or folder that it names, "" for none}. begun: whether the stage
        has checkpoints of its own, from which it resumes.
    check: (options, preview) -> None. Raises UserError for options that do not fit the datasets or the network of
        another stage, as far as is known before any stage runs; reads no images. Called if the stage is going to run.
    again: when a finished stage runs again: "never" (changed settings are an error); "when_stale" (if one of its inputs
        has run since, or with --stage); "always".
    extends: whether a finished stage goes on if it gets a longer duration; `run` then calls `begin_extension`.
    writes_dataset: whether it writes a dataset to the folder `dataset` of its own folder; later stages may read it.
    network: options -> the spec of the network in the stage's checkpoint, or the checkpoint that has the same network;
        None for a stage without checkpoint.
    program: (options, assumed) -> the largest program of the stage, built by the code of `run` from shapes instead of
        data and weights; None for a stage without. Raises UserError as `run` does for the same options.
    """

    read: Callable[[Mapping[str, Any], str], Any]
    run: Callable[[Any, Context], dict[str, Any]]
    inputs: Callable[[Any, bool], Mapping[str, str]] = no_inputs
    check: Callable[[Any, Preview], None] = no_check
    again: Literal["never", "when_stale", "always"] = "never"
    extends: bool = False
    writes_dataset: bool = False
    network: Callable[[Any], Mapping[str, Any] | str | None] = no_network
    program: Callable[[Any, Assumed], Program | None] = no_program
