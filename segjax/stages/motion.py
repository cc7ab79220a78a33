"""Opens what moves labels: optical flow by name, and the trained video network of a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class VideoNetwork:
    method: str
    predict: Any
    variables: Any
    description: str


def open_flow(name: str):
    raise NotImplementedError


def open_video_network(checkpoint: str, method: str | None = None, *, workdir: Path | None = None) -> VideoNetwork:
    raise NotImplementedError
