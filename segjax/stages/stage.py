"""What a stage is: reads its section of a recipe once, then runs, and leaves files in a folder of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from segjax.stages.dataset import Dataset


@dataclasses.dataclass(frozen=True)
class Context:
    """What a stage is given of the run it belongs to.

    name: of the stage. workdir: folder of the run, in which every stage has a folder. folder: that of this stage.
    seed: of this stage. dataset: `config.dataset`.
    settings: the section as plain data, for the notes that a checkpoint keeps; options are never read from it.
    """

    name: str
    workdir: Path
    folder: Path
    seed: int
    dataset: Dataset
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def no_inputs(options: Any, begun: bool) -> dict[str, str]:
    """Inputs of a stage that reads nothing another stage has written."""
    return {}


@dataclasses.dataclass(frozen=True)
class Stage:
    """A kind of stage.

    read: (section, where) -> options, frozen. Reads no data. Raises UserError for keys, names and values that no run
        could use; so a mistake in the last stage is found before the first one runs.
    run: (options, context) -> report, plain data for report.json.
    inputs: (options, begun) -> config key -> the stage or folder it names, "" for none. begun: whether the stage has
        checkpoints of its own, from which it resumes.
    again: when a finished stage runs again: "never" (other settings are an error), "when_stale" (when a stage it reads
        has been run since, or with --stage), "always".
    """

    read: Callable[[Mapping[str, Any], str], Any]
    run: Callable[[Any, Context], dict[str, Any]]
    inputs: Callable[[Any, bool], Mapping[str, str]] = no_inputs
    again: Literal["never", "when_stale", "always"] = "never"
