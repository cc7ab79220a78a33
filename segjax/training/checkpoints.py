"""Checkpoints: all that the next step needs, saved in the background, atomically, and verified when they are read.

Layout of a folder: `<folder>/<step>/{state, meta}`, written by orbax. `meta` is JSON (network, classes, settings,
scores), so that prediction needs no other file. A checkpoint contains a fingerprint of its own bits: if storage returns
other bits than were written, the previous checkpoint is used.
"""

from __future__ import annotations

import functools
import itertools
import logging
import shutil
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh

from segjax import parallel, remote
from segjax.errors import UserError
from segjax.training.state import TrainState
from segjax.typing import Variables
from segjax.weights import fingerprints
from segjax.weights.runs import first_line, newest_intact

log = logging.getLogger("segjax")

BESIDE_ARRAYS = 2**20  # bytes of a checkpoint's names, shardings and settings, at most


def _tree(state: TrainState) -> dict[str, Any]:
    # by field name: weights/runs.py restores "params", "batch_stats" and "ema" alone, without an optimizer
    return {name: getattr(state, name) for name in TrainState.__dataclass_fields__}


def _fingerprints(tree: dict[str, Any], kind: str) -> dict[str, np.uint32]:
    # two, because prediction reads the variables only and could not verify a fingerprint of all
    found = fingerprints.of_variables(tree, kind)
    if "opt_state" in tree:
        found["training"] = fingerprints.KINDS[kind]({"step": tree["step"], "opt_state": tree["opt_state"]})
    return found


class Checkpoints:
    """The checkpoints of one training run, newest last.

    folder: created if it does not exist.
    keep: number of checkpoints kept.

    A context manager: its end waits for the save in progress. Raises UserError if the folder cannot be written.
    """

    def __init__(self, folder: str | Path, *, keep: int = 2):
        self.folder = Path(folder).resolve()
        _drop_late_reports()
        # of a remote run each process has a folder of its own; the first one saves, and its files go to all
        self._alone = remote.current() is not None and jax.process_count() > 1
        index = jax.process_index()
        together = dict(primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process_{index}")
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            enable_async_checkpointing=True,
            create=not self._alone,  # orbax makes no folder for some of the processes
            multiprocessing_options=ocp.options.MultiprocessingOptions(**(together if self._alone else {})),
        )
        try:
            if self._alone:
                self.folder.mkdir(parents=True, exist_ok=True)
            # named, so that `item_metadata` reads what a run before has saved
            handlers = {"state": ocp.StandardCheckpointHandler(), "meta": ocp.JsonCheckpointHandler()}
            self.manager = ocp.CheckpointManager(self.folder, item_handlers=handlers, options=options)
        except OSError as error:
            raise UserError(f"cannot write checkpoints to {self.folder}: {error.strerror or error}.") from error
        self._saved = set(self.manager.all_steps())

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind, *_) -> None:
        try:
            self.wait()  # saving is asynchronous: closing earlier would lose the newest checkpoint
        except UserError:
            if kind is None:  # else a failed save would hide the error that ended the training
                raise
        finally:
            self.manager.close()

    @property
    def steps(self) -> list[int]:
        """Steps of the finished checkpoints, in rising order."""
        return sorted(self.manager.all_steps())

    def save(self, state: TrainState, *, step: int, meta: dict[str, Any]) -> None:
        """Starts saving in the background; does nothing if the step is on disk already.

        The arrays are copied before this returns, so that `state` may be donated.

        state: after `step` updates.
        meta: plain data for the checkpoint's JSON.

        Raises UserError if the disk is full or cannot be written.
        """
        if step not in (self._saved if self._alone else self.manager.all_steps()):
            self._save(_tree(state), step, meta, state.step.sharding)

    def save_variables(self, variables: Variables, mesh: Mesh, *, step: int, meta: dict[str, Any]) -> None:
        """Starts saving variables, from which no training can resume, in place of all checkpoints of the folder.

        variables: {"params", "batch_stats"}, replicated on the mesh.
        mesh: of devices.
        step: of the training that they are from.
        meta: plain data for the checkpoint's JSON.

        Raises UserError if the disk is full or cannot be written.
        """
        for old in self.manager.all_steps():
            self.manager.delete(old)
        self._save({name: variables[name] for name in ("params", "batch_stats")}, step, meta, parallel.replicated(mesh))

    def _save(self, tree: dict[str, Any], step: int, meta: dict[str, Any], place: jax.sharding.Sharding) -> None:
        """Saves a tree with its fingerprints; place: of scalars."""
        if copy := remote.current():
            copy.check()
        self.folder.mkdir(parents=True, exist_ok=True)  # it may have been deleted during the training
        self._check_room(sum(x.nbytes for x in jax.tree.leaves(tree)))
        tree[fingerprints.NEWEST] = {
            name: jax.make_array_from_callback((), place, lambda _, word=word: word)
            for name, word in _fingerprints(tree, fingerprints.NEWEST).items()
        }
        if self._alone:
            self._saved.add(step)
            tree = jax.tree.map(parallel.fetch, tree)
            if jax.process_index():
                return
        with _disk_errors(self.folder):
            self.manager.save(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardSave(tree), meta=ocp.args.JsonSave(meta)),
                force=True,  # the loop has decided to save; orbax has a policy of its own, which might skip the step
            )

    def _check_room(self, needed: int) -> None:
        # checked first: a save that fails leaves an unfinished folder, which occupies what was free
        free = shutil.disk_usage(self.folder).free
        if free < needed + BESIDE_ARRAYS:
            sizes = f"needs {(needed + BESIDE_ARRAYS) / 2**20:.1f} MiB and {free / 2**20:.1f} MiB are free"
            raise UserError(
                f"the disk of {self.folder} is full: a checkpoint {sizes}, so it was not saved and the previous one is "
                "kept; free some space and start the same command again."
            )

    def wait(self) -> None:
        """Waits until the last save is on disk. Raises UserError if it failed."""
        with _disk_errors(self.folder):
            self.manager.wait_until_finished()
            self.manager.check_for_errors()

    def restore(self, like: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """Returns the newest intact checkpoint as (state, meta), or None without checkpoints.

        Damaged checkpoints that are newer are set aside: moved to `damaged-checkpoint-<step>` beside the folder.

        like: a state with the shapes and shardings to restore to. They may differ from those it was saved with: the
            number of devices may change between two parts of a training run.

        Raises UserError if there are checkpoints and none can be read.
        """
        # with shardings, because orbax by default places arrays on the devices that they were saved from
        abstract = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, "sharding", None)), _tree(like)
        )
        word = jax.ShapeDtypeStruct((), jnp.uint32, sharding=abstract["step"].sharding)

        def read(step):
            shapes = self.manager.item_metadata(step).state
            kind = fingerprints.kind_of(getattr(shapes, "tree", shapes)) or fingerprints.NEWEST
            like = ocp.args.StandardRestore({**abstract, kind: {"variables": word, "training": word}})
            found = self.manager.restore(step, args=ocp.args.Composite(state=like, meta=ocp.args.JsonRestore()))
            tree = dict(found.state)
            written = tree.pop(kind)
            fingerprints.check_fingerprints(written, _fingerprints(tree, kind))
            return TrainState(**tree), found.meta

        steps = self.steps
        result = newest_intact(self.folder, steps, read, agree=parallel.in_all)
        if result is not None:
            self._set_aside([step for step in steps if step > int(result[0].step)])
        return result

    def _set_aside(self, steps: list[int]) -> None:
        # else `save` would take the damaged checkpoint for the one of its step, when training reaches that step again
        for step in steps:
            if jax.process_index() == 0:
                first = f"damaged-checkpoint-{step}"  # the same step may be damaged again
                names = itertools.chain([first], (f"{first}-{number}" for number in itertools.count(2)))
                free = next(name for name in names if not (self.folder.parent / name).exists())
                (self.folder / str(step)).rename(self.folder.parent / free)
        if steps:
            self._saved.difference_update(steps)
            parallel.sync("set aside damaged checkpoints")
            self.manager.reload()


@functools.cache  # once
def _drop_late_reports() -> None:
    """Drops what tensorstore prints when a part of a failed save ends after orbax has given up on the save.

    Its threads report to an event loop that is closed by then, which is a traceback for each array.
    """
    default = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            default(unraisable)

    sys.unraisablehook = hook


class _disk_errors:
    """Turns errors of orbax and tensorstore into UserError. One cause has many types, so the text decides."""

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
