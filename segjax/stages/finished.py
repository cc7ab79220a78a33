"""What becomes of finished stages: skipped, run again, extended, or refused because their settings differ."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segjax.errors import UserError
from segjax.files import as_stored, config_hash, differences
from segjax.stages.extension import start_from, why_no_extension
from segjax.stages.stage import Stage

log = logging.getLogger("segjax")

SHOWN = 8  # differences in an error


@dataclass(frozen=True)
class Planned:
    """A stage of a recipe.

    name, stage, options: of the stage, its kind and its section as read.
    folder: of the stage.
    settings: {"seed", "dataset", "stage"} as plain data: a finished stage is only skipped with these.
    datasets: stages whose written dataset it reads, which are inputs beside `Stage.inputs`.
    """

    name: str
    stage: Stage
    options: Any
    folder: Path
    settings: Mapping[str, Any]
    datasets: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Hash of the settings."""
        return config_hash(self.settings)

    @property
    def inputs(self) -> list[str]:
        """Stages and paths that it reads."""
        # begun=False: the initial weights of a finished training count too, since it would start from others now
        return [*self.stage.inputs(self.options, False).values(), *self.datasets]

    def runs_of_inputs(self, reports: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        """Returns which runs of earlier stages it reads: stage -> "run" of its report."""
        return {key: reports[key]["run"] for key in self.inputs if "run" in reports.get(key, ())}


@dataclass(frozen=True)
class Decision:
    """Whether a stage runs.

    why: line for the log, "" for none.
    extended: report of the finished training that runs on, None otherwise.
    """

    runs: bool
    why: str = ""
    extended: Mapping[str, Any] | None = None


def decide(
    stages: Sequence[Planned], reports: Mapping[str, Mapping[str, Any]], *, asked: Collection[str] = ()
) -> dict[str, Decision]:
    """Returns what each stage does, before the first one runs.

    stages: to run, in order.
    reports: of finished stages.
    asked: names of stages that --stage names, of which an evaluation runs again.

    Raises UserError for a stage that is finished with other settings and cannot be extended, or with outputs that have
    been or will be replaced.
    """
    found: dict[str, Decision] = {}
    for one in stages:
        running = {name for name, decision in found.items() if decision.runs}
        repeated = one.name in asked and one.stage.again == "when_stale"
        found[one.name] = Decision(True) if repeated else _decide(one, reports, running)
    return found


def _decide(one: Planned, reports: Mapping[str, Mapping[str, Any]], running: Collection[str]) -> Decision:
    """Returns what a stage does; running: earlier stages that run now."""
    done = reports.get(one.name)
    if done is None or one.stage.again == "always":
        return Decision(True)
    newer = [key for key in one.inputs if key in running or _is_newer(key, reports.get(key), done)]
    if newer and one.stage.again == "when_stale":
        return Decision(True, f"stage {one.name} runs again, because stage {newer[0]} has been run since")
    if newer and done.get("config") == one.digest:
        raise UserError(
            f"{one.folder} was finished with what stage {newer[0]!r} gave before it was run again; "
            f"delete {one.folder} to run stage {one.name!r} again."
        )
    if done.get("config") == one.digest:
        return Decision(False, f"stage {one.name} is done ({one.folder / 'report.json'})")
    changed = _changes(done, one)
    reason = ""
    if one.stage.extends and changed:
        reason = why_no_extension(done["settings"], as_stored(one.settings), one.folder)
        if not reason and not newer:
            return Decision(True, f"stage {one.name} was finished and goes on: {'; '.join(changed)}", done)
    raise UserError(_refusal(one, changed, reason))


def _is_newer(key: str, report: Mapping[str, Any] | None, done: Mapping[str, Any]) -> bool:
    """Returns whether an input was run again after a stage was finished.

    key, report: of the input; None for a path. done: report of the stage.
    """
    if report is None:
        return False
    if key in done.get("inputs", ()) and "run" in report:
        return done["inputs"][key] != report["run"]
    return report.get("finished", "") > done.get("finished", "")  # reports of earlier versions have the time only


def _changes(done: Mapping[str, Any], one: Planned) -> list[str]:
    """Returns how the settings differ from those of a finished stage; [] if its report has a hash of them only."""
    if not isinstance(done.get("settings"), dict):
        return []

    def by_key(settings: Mapping[str, Any]) -> dict[str, Any]:
        rest = {key: value for key, value in settings.items() if key != "stage"}
        return {**rest, one.name: settings.get("stage")}

    return differences(by_key(done["settings"]), by_key(as_stored(one.settings)))


def _refusal(one: Planned, changed: Sequence[str], reason: str) -> str:
    shown = "; ".join(changed[:SHOWN]) + (f"; and {len(changed) - SHOWN} more" if len(changed) > SHOWN else "")
    shown = shown or "unknown, because its report has only a hash of them"
    again = f"give --stage={one.name}" if one.stage.again == "when_stale" else f"delete {one.folder}"
    flags = start_from(one.name, one.folder, one.settings["stage"]) if one.stage.extends else ""
    return (
        f"{one.folder} was finished with other settings than these ({shown}){reason and f', and {reason}'}; "
        f"give another --workdir{flags and f' (with {flags} to start from its weights)'}, "
        f"or {again} to run stage {one.name!r} again."
    )
