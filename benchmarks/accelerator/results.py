"""results.json: what the machine is, and the figures of each part, written as soon as a part has ended.

    {"environment": {...}, "items": {"parity": {"fastscnn": {"state": "done", "seconds": 9.1, "figures": {...}}}}}

States: done; skipped and failed, with a reason; waiting and running, which a process that died leaves behind.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from segjax.errors import UserError
from segjax.files import write_json

UNFINISHED = ("waiting", "running")
SAME = ("device", "devices", "rehearsal")  # results of another machine are of another file


class Results:
    """The content of results.json in a folder; one process at a time writes it."""

    def __init__(self, folder: Path):
        self.path = folder / "results.json"
        self.environment: dict[str, Any] = {}
        self.items: dict[str, dict[str, dict[str, Any]]] = {}
        self.read()

    def read(self) -> None:
        """Reads what is in the file. Raises UserError for a file that is none of ours."""
        if not self.path.exists():
            return
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            self.environment, self.items = dict(found["environment"]), dict(found["items"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.path} holds no results of benchmarks.accelerator; give another --output") from error

    def begin(self, environment: dict[str, Any]) -> None:
        """Notes the machine. Raises UserError if the results in the file are those of another one."""
        for key in SAME:
            old, new = self.environment.get(key, environment[key]), environment[key]
            if old != new:
                raise UserError(
                    f"{self.path} holds results with {key} {old!r}, and here it is {new!r}; give another --output"
                )
        self.environment = environment
        self._write()

    def get(self, item: str, part: str) -> dict[str, Any]:
        """Returns what is known of a part, {} for nothing."""
        return self.items.get(item, {}).get(part, {})

    def put(self, item: str, part: str, state: str, **more: Any) -> None:
        """Writes the state of a part, in place of what was known of it; more: seconds, figures, reason."""
        self.items.setdefault(item, {})[part] = {"state": state, **more}
        self._write()

    def forget_unfinished(self) -> None:
        """Forgets the parts that a process which died has left waiting or running."""
        for item, parts in self.items.items():
            self.items[item] = {name: part for name, part in parts.items() if part["state"] not in UNFINISHED}
        if self.items:
            self._write()

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, {"environment": self.environment, "items": self.items})
