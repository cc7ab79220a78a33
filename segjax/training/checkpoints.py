"""Checkpoints: everything the next step needs, saved in the background, atomic, proved intact when read.

Layout of a folder: `<folder>/<step>/{state, meta}` by orbax. `meta` is JSON (network, classes, settings, scores), so
that prediction needs nothing else. A checkpoint carries a fingerprint of its own bits: storage that gives back other
numbers than were written is noticed, and the previous checkpoint is used.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from segjax import parallel
from segjax.errors import UserError
from segjax.training.state import TrainState
from segjax.weights.runs import VARIABLES, check_fingerprints, fingerprint, first_line, newest_intact

log = logging.getLogger("segjax")


def _tree(state: TrainState) -> dict[str, Any]:
    return {name: getattr(state, name) for name in TrainState.__dataclass_fields__}


def _fingerprints(tree: dict[str, Any]) -> dict[str, jax.Array]:
    # two, because prediction reads the variables only
    return {
        "variables": fingerprint({name: tree[name] for name in VARIABLES}),
        "training": fingerprint({"step": tree["step"], "opt_state": tree["opt_state"]}),
    }


class Checkpoints:
    """The checkpoints of one run, newest last. Use as a context manager: leaving it waits for the last save."""

    def __init__(self, folder: str | Path, *, keep: int = 2):
        self.folder = Path(folder).resolve()
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=True)
        try:
            self.manager = ocp.CheckpointManager(self.folder, options=options)
        except OSError as error:
            raise UserError(f"cannot write checkpoints to {self.folder}: {error.strerror or error}.") from error

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind, *_) -> None:
        try:
            self.wait()
        except UserError:
            if kind is None:
                raise
        finally:
            self.manager.close()

    @property
    def steps(self) -> list[int]:
        """Steps of the finished checkpoints, oldest first."""
        return sorted(self.manager.all_steps())

    def save(self, state: TrainState, *, step: int, meta: dict[str, Any]) -> None:
        """Starts saving in the background. The arrays are copied before this returns, so `state` may be donated.

        A step that is on disk already is not written again.
        """
        if step in self.manager.all_steps():
            return
        tree = _tree(state)
        self.folder.mkdir(parents=True, exist_ok=True)  # somebody may have cleared it while the training ran
        self._check_room(sum(x.nbytes for x in jax.tree.leaves(tree)))
        tree["fingerprint"] = _fingerprints(tree)
        with _disk_errors(self.folder):
            self.manager.save(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardSave(tree), meta=ocp.args.JsonSave(meta)),
                force=True,
            )

    def _check_room(self, needed: int) -> None:
        # asked before, because a disk that fills up within a save makes tensorstore print pages of tracebacks
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            sizes = f"needs {needed / 2**20:.0f} MiB and {free / 2**20:.0f} MiB are free"
            raise UserError(
                f"the disk of {self.folder} is full: a checkpoint {sizes}, so it was not saved and the previous one is "
                "kept; free some space and start the same command again."
            )

    def wait(self) -> None:
        """Waits until the last save is on disk; raises if it failed."""
        with _disk_errors(self.folder):
            self.manager.wait_until_finished()
            self.manager.check_for_errors()

    def restore(self, like: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """The newest intact checkpoint as (state, meta), placed as `like` is, whatever the devices; None without any.

        Raises UserError when there are checkpoints and none can be read.
        """
        abstract = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, "sharding", None)), _tree(like)
        )
        word = jax.ShapeDtypeStruct((), jnp.uint32, sharding=abstract["step"].sharding)
        abstract["fingerprint"] = {"variables": word, "training": word}

        def read(step):
            found = self.manager.restore(
                step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract), meta=ocp.args.JsonRestore())
            )
            tree = dict(found.state)
            check_fingerprints(tree.pop("fingerprint"), _fingerprints(tree))
            return TrainState(**tree), found.meta

        steps = self.steps
        result = newest_intact(self.folder, steps, read)
        if result is not None:
            self._set_aside([step for step in steps if step > int(result[0].step)])
        return result

    def _set_aside(self, steps: list[int]) -> None:
        # a damaged checkpoint must not stand in the way when training reaches its step again
        for step in steps:
            if jax.process_index() == 0:
                (self.folder / str(step)).rename(self.folder.parent / f"damaged-checkpoint-{step}")
        if steps:
            parallel.sync("set aside damaged checkpoints")
            self.manager.reload()


class _disk_errors:
    def __init__(self, folder: Path):
        self.folder = folder

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        if kind is None or not issubclass(kind, Exception) or issubclass(kind, UserError):
            return
        text = str(error)
        if "No space left" in text or "RESOURCE_EXHAUSTED" in text or getattr(error, "errno", None) == 28:
            raise UserError(
                f"the disk of {self.folder} is full: the checkpoint was not saved and the previous one is kept; "
                "free some space and start the same command again."
            ) from error
        raise UserError(f"saving a checkpoint to {self.folder} failed: {first_line(error)}.") from error
