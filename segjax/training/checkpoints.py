"""Checkpoints: everything the next step needs, saved in the background, atomic, proved intact when read.

Layout of a folder: `<folder>/<step>/{state, meta}` by orbax. `meta` is JSON (network, classes, settings, scores), so
that prediction needs nothing else. A checkpoint carries a fingerprint of its own bits: storage that gives back other
numbers than were written is noticed, and the previous checkpoint is used.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from segjax import models, weights
from segjax.errors import UserError
from segjax.training.state import TrainState

log = logging.getLogger("segjax")


@jax.jit
def fingerprint(tree: Any) -> jax.Array:
    """() uint32 of the bits of every leaf; the same on any number of devices, other when any one word differs."""
    total = jnp.zeros((), jnp.uint32)
    for place, leaf in enumerate(jax.tree.leaves(tree)):
        bits = leaf.astype(jnp.float32) if leaf.dtype == jnp.bfloat16 else leaf
        if bits.dtype.itemsize in (4, 8):  # 8 under x64 only; the pair of words becomes the last axis
            bits = jax.lax.bitcast_convert_type(bits, jnp.uint32)
        words = bits.astype(jnp.uint32).reshape(-1)
        # an odd factor per place is invertible modulo 2^32, so no single change can vanish
        factors = 2 * jnp.arange(words.size, dtype=jnp.uint32) + jnp.uint32(2 * place + 1)
        total += jnp.sum(words * factors, dtype=jnp.uint32)
    return total


def _tree(state: TrainState) -> dict[str, Any]:
    return {name: getattr(state, name) for name in TrainState.__dataclass_fields__}


def _fingerprints(tree: dict[str, Any]) -> dict[str, jax.Array]:
    # two, because prediction reads the variables only
    return {
        "variables": fingerprint({name: tree[name] for name in _VARIABLES}),
        "training": fingerprint({"step": tree["step"], "opt_state": tree["opt_state"]}),
    }


_VARIABLES = ("params", "batch_stats", "ema")


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
            _compare(tree.pop("fingerprint"), _fingerprints(tree))
            return TrainState(**tree), found.meta

        steps = self.steps
        result = _newest_intact(self.folder, steps, read)
        if result is not None:
            self._set_aside([step for step in steps if step > int(result[0].step)])
        return result

    def _set_aside(self, steps: list[int]) -> None:
        # a damaged checkpoint must not stand in the way when training reaches its step again
        for step in steps:
            if jax.process_index() == 0:
                (self.folder / str(step)).rename(self.folder.parent / f"damaged-checkpoint-{step}")
        if steps:
            multihost_utils.sync_global_devices("set aside damaged checkpoints")
            self.manager.reload()


def _compare(written: dict[str, Any], read: dict[str, Any]) -> None:
    if any(int(written[name]) != int(read[name]) for name in read):
        raise ValueError("its contents are not what was written")


def _newest_intact(folder: Path, steps: list[int], read: Callable[[int], Any]) -> Any | None:
    problems = []
    for step in sorted(steps, reverse=True):
        try:
            result = read(step)
        except Exception as error:  # noqa: BLE001 (orbax and tensorstore raise many kinds for one damaged file)
            problems.append(f"{folder / str(step)}: {_first_line(error)}")
            log.warning("checkpoint %s is damaged (%s); trying the one before", folder / str(step), _first_line(error))
            continue
        if problems:
            log.warning("going on from checkpoint %s instead", folder / str(step))
        return result
    if problems:
        raise UserError(
            f"no checkpoint in {folder} can be read ({'; '.join(problems)}); "
            "delete the folder to start again, or give the options the run was started with."
        )
    return None


def has_checkpoint(folder: Path) -> bool:
    """Whether a finished checkpoint lies in the folder, intact or not."""
    return any(_is_checkpoint(path) for path in folder.glob("*"))


def _is_checkpoint(path: Path) -> bool:
    return path.name.isdigit() and (path / "state").is_dir()


def load_for_inference(path: str | Path) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    """Reads (model spec, variables, info) from a run, a stage, a checkpoint folder or one checkpoint.

    path: DIR, DIR/<stage>, DIR/<stage>/checkpoints, or one step of it. The newest run stage is taken. Or a
        .safetensors file that `export_weights` wrote.
    Returns the spec {"name", "num_classes", "options"}, the averaged variables where there are any (host memory, every
    sharding undone), and what else was stored: class names, palette, label map, normalisation, metrics.
    Raises UserError when there is none or none is intact.
    """
    if Path(path).suffix == ".safetensors":
        return _load_exported(path)
    folder, step = _find(Path(path))
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    with ocp.CheckpointManager(
        folder,
        item_handlers={"state": ocp.PyTreeCheckpointHandler(), "meta": ocp.JsonCheckpointHandler()},
        options=ocp.CheckpointManagerOptions(read_only=True),
    ) as manager:

        def read(step):
            shapes = manager.item_metadata(step).state
            shapes = getattr(shapes, "tree", shapes)
            wanted = {name: shapes[name] for name in (*_VARIABLES, "fingerprint") if name in shapes}
            abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), wanted)
            restore_args = jax.tree.map(lambda x: ocp.ArrayRestoreArgs(sharding=device), abstract)
            state = ocp.args.PyTreeRestore(item=abstract, restore_args=restore_args, partial_restore=True)
            found = manager.restore(step, args=ocp.args.Composite(state=state, meta=ocp.args.JsonRestore()))
            tree = {name: found.state.get(name, {}) for name in _VARIABLES}
            written = found.state["fingerprint"]
            _compare(written, {"variables": fingerprint(tree)})
            variables = tree["ema"] or {"params": tree["params"], "batch_stats": tree["batch_stats"]}
            return found.meta["model"], variables, {**found.meta, "step": step}

        steps = [step] if step is not None else list(manager.all_steps())
        result = _newest_intact(folder, steps, read)
    if result is None:
        raise UserError(f"there is no checkpoint in {folder}; give the --workdir of a run that has trained.")
    return result


def export_weights(checkpoint: str | Path, output: str | Path) -> Path:
    """Writes the weights of a run to a .safetensors file under the published tensor names.

    The file says which network it belongs to, so that `load_for_inference` and the commands take it in place of a run.
    """
    spec, variables, info = load_for_inference(checkpoint)
    keep = {name: info[name] for name in _EXPORTED if name in info}
    return weights.save(output, variables, info={**keep, "model": spec})


_EXPORTED = ("normalisation", "label_map", "dataset", "step")


def _load_exported(path: str | Path) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    info = weights.read_info(path)
    spec = info["model"]
    if spec["name"] in models.VIDEO_MODELS:
        model = models.create_video(spec["name"], **spec["options"])
        inputs = jnp.zeros((1, model.frames, 64, 64, 3)), jnp.zeros((1, model.frames - 1, 64, 64, 2))
    else:
        model = models.create(spec["name"], spec["num_classes"], **spec["options"])
        inputs = (jnp.zeros((1, 64, 64, 3)),)
    variables, _ = weights.load(path, jax.eval_shape(model.init, jax.random.key(0), *inputs))
    return spec, variables, info


def _find(path: Path) -> tuple[Path, int | None]:
    if not path.is_dir():
        raise UserError(
            f"--checkpoint={path} is not a folder; give the run's --workdir, one of its stages, or an exported "
            ".safetensors file."
        )
    path = path.resolve()
    if _is_checkpoint(path):
        return path.parent, int(path.name)
    candidates = [path] + sorted(path.glob("checkpoints")) + sorted(path.glob("*/checkpoints"))
    found = [c for c in candidates if has_checkpoint(c)]
    if not found:
        raise UserError(f"there is no checkpoint in {path}; give the --workdir of a run that has trained.")
    return max(found, key=lambda c: max(p.stat().st_mtime for p in c.iterdir())), None


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:160] if text else ''}"


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
        raise UserError(f"saving a checkpoint to {self.folder} failed: {_first_line(error)}.") from error
