"""Files with the numbers of a training run: JSON lines, and event files of TensorBoard."""

from __future__ import annotations

import functools
import importlib.util
import json
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import jax

from segjax.files import write_file

log = logging.getLogger("segjax")


class Writer(Protocol):
    """What `TrainingLog` requires of a file that receives numbers."""

    def write(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        """Writes one entry. step: updates done. kind: "train", "eval", ... values: by name."""

    def flush(self) -> None:
        """Writes all entries so far to disk."""

    def close(self) -> None:
        """Closes the file."""


def open_writers(folder: str | Path, *, start_step: int) -> list[Writer]:
    """Returns the writers of a training run: metrics.jsonl and events/ in `folder`; none on processes other than 0.

    start_step: updates done before. Entries of an interrupted run after this step are dropped.
    """
    if jax.process_index() != 0:
        return []
    folder = Path(folder)
    writers: list[Writer] = [JsonLines(folder / "metrics.jsonl", start_step=start_step)]
    if _has_tensorboard():
        writers.append(TensorBoard(folder / "events", start_step=start_step))
    return writers


class JsonLines:
    """File with one JSON object per line: {"step": .., "kind": .., name: value, ..}; readable during the run.

    Values that are not finite become null. If the disk is full, a warning is logged and training continues without
    this file.
    """

    def __init__(self, path: str | Path, *, start_step: int = 0):
        self.path = Path(path)
        self._file = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            kept = _entries_until(self.path, start_step)
            write_file(self.path, "".join(kept))
            self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 (closed by close)
        except OSError as error:
            self._give_up(error)

    def write(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        """Appends a line and passes it to the system, so that it survives a kill of this process."""
        if self._file is None:
            return
        entry = {"step": int(step), "kind": kind, **{name: _number(value) for name, value in values.items()}}
        try:
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()
        except OSError as error:
            self._give_up(error)

    def flush(self) -> None:
        """Does nothing: `write` holds nothing back."""

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _give_up(self, error: OSError) -> None:
        log.warning("no more metrics in %s: %s", self.path, error.strerror or error)
        self._file = None


class TensorBoard:
    """Event files for `tensorboard --logdir`; scalars are named kind/name.

    If the disk is full, a warning is logged and training continues without these files. Events are written in the
    calling thread. tensorboardX's own writer has a thread that dies of the first error; its queue then fills up, and
    training would wait for it forever.
    """

    FLUSH_SECONDS = 30.0

    def __init__(self, folder: str | Path, *, start_step: int = 0):
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog

        self.path, self._file, self._flushed = Path(folder), None, time.monotonic()
        goes_on = self.path.is_dir()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._file = EventsWriter(str(self.path / "events"))
        except OSError as error:
            self._give_up(error)
        if goes_on:  # makes TensorBoard hide events of earlier files from this step on
            self._add(step=start_step + 1, session_log=SessionLog(status=SessionLog.START))

    def write(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        """Adds one scalar per value."""
        from tensorboardX.summary import scalar

        for name, value in values.items():
            self._add(step=int(step), summary=scalar(f"{kind}/{name}", float(value)))
        if time.monotonic() - self._flushed > self.FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes all events so far to disk."""
        self._flushed = time.monotonic()
        if self._file is not None:
            try:
                self._file.flush()
            except OSError as error:
                self._give_up(error)

    def close(self) -> None:
        """Writes the remaining events and closes the file."""
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _add(self, **content: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        if self._file is not None:
            try:
                self._file.write_event(Event(wall_time=time.time(), **content))
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        log.warning("no more events in %s: %s", self.path, error.strerror or error)
        self._file = None


def read_entries(path: str | Path, kind: str | None = None) -> list[dict[str, Any]]:
    """Returns the entries of a metrics.jsonl, in order; a line cut off by a kill is skipped.

    kind: of the entries, None for all.
    """
    entries = [json.loads(line) for line in _entries_until(Path(path), None)]
    return [entry for entry in entries if kind in (None, entry["kind"])]


def _entries_until(path: Path, step: int | None) -> list[str]:
    if not path.exists():
        return []
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        try:
            entry = json.loads(line)
            whole = line.endswith("\n") and "kind" in entry and (step is None or entry["step"] <= step)
            kept += [line] if whole and isinstance(entry, dict) else []
        except (ValueError, TypeError, KeyError, RecursionError):
            continue  # the last line of a killed run, or a damaged one
    return kept


def _number(value: float) -> float | int | None:
    if isinstance(value, int):
        return value
    value = float(value)
    return value if math.isfinite(value) else None


@functools.cache
def _has_tensorboard() -> bool:
    if importlib.util.find_spec("tensorboardX") is None:
        log.warning("tensorboardX is not installed: numbers go to metrics.jsonl only (pip install tensorboardX)")
        return False
    return True
