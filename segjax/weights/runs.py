"""Reads what training runs have saved: the newest intact checkpoint, or a file of exported weights."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from segjax import models, parallel, weights
from segjax.errors import UserError, brief
from segjax.weights.info import check_info

log = logging.getLogger("segjax")

VARIABLES = ("params", "batch_stats", "ema")
KEYFRAME = "keyframe.safetensors"  # in the folder of a stage that trains a propagation network


def fingerprint(tree: Any) -> np.uint32:
    """Returns 32 bits that depend on every bit of every leaf: a change of any one word changes them.

    They are the same on any number of devices. Every process must call it if leaves are split between processes.
    """
    # on the host: a program with one reduction for each of a network's hundreds of leaves compiles for seconds
    total = np.zeros((), np.uint32)
    for place, leaf in enumerate(jax.tree.leaves(tree)):
        words = _words(parallel.fetch(leaf))
        for start in range(0, words.size, _CHUNK):
            part = words[start : start + _CHUNK]
            # an odd factor per place is invertible modulo 2^32, so no single change can vanish
            factors = np.arange(start, start + part.size, dtype=np.uint32) * np.uint32(2) + np.uint32(2 * place + 1)
            total += np.dot(part, factors)
    return total[()]


_CHUNK = 2**20  # words, for bounded memory


def _words(array: np.ndarray) -> np.ndarray:
    """Returns the values of an array as uint32 (n,): its bits, if its type has 32 or 64 of them."""
    if array.dtype == jnp.bfloat16:
        array = array.astype(np.float32)
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.uint32) if flat.dtype.itemsize in (4, 8) else flat.astype(np.uint32)


def has_checkpoint(folder: Path) -> bool:
    """Whether the folder contains a finished checkpoint, intact or not."""
    return any(_is_checkpoint(path) for path in folder.glob("*"))


def load_for_inference(path: str | Path) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    """Reads (model spec, variables, info) from a training run, a stage, a checkpoint folder or one checkpoint.

    path: DIR, DIR/<stage>, DIR/<stage>/checkpoints, or one step of it; of several stages the one that was trained last
        is taken. Or a .safetensors file written by `export_weights`.

    Returns the spec {"name", "num_classes", "options"}; the variables, averaged ones if there are any, on one device;
    and what else was stored: label map, normalisation, metrics, step.

    Raises UserError if there is no checkpoint, or none is intact.
    """
    if Path(path).suffix == ".safetensors":
        return _load_exported(path)
    folder, step = _newest(Path(path))
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    with ocp.CheckpointManager(
        folder,
        item_handlers={"state": ocp.PyTreeCheckpointHandler(), "meta": ocp.JsonCheckpointHandler()},
        options=ocp.CheckpointManagerOptions(read_only=True),
    ) as manager:

        def read(step):
            shapes = manager.item_metadata(step).state
            shapes = getattr(shapes, "tree", shapes)
            wanted = {name: shapes[name] for name in (*VARIABLES, "fingerprint") if name in shapes}
            abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), wanted)
            restore_args = jax.tree.map(lambda x: ocp.ArrayRestoreArgs(sharding=device), abstract)
            state = ocp.args.PyTreeRestore(item=abstract, restore_args=restore_args, partial_restore=True)
            found = manager.restore(step, args=ocp.args.Composite(state=state, meta=ocp.args.JsonRestore()))
            tree = {name: found.state.get(name, {}) for name in VARIABLES}
            written = found.state["fingerprint"]
            check_fingerprints(written, {"variables": fingerprint(tree)})
            variables = tree["ema"] or {"params": tree["params"], "batch_stats": tree["batch_stats"]}
            if found.meta["model"].get("keyframe"):
                variables = with_keyframe(variables, load_keyframe(folder.parent)[1])
            return found.meta["model"], variables, {**found.meta, "step": step}

        steps = [step] if step is not None else list(manager.all_steps())
        result = newest_intact(folder, steps, read)
    if result is None:
        raise UserError(f"there is no checkpoint in {folder}; give the --workdir of a run that has trained.")
    return result


def load_keyframe(folder: Path) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    """Reads (model spec, variables, info) of the keyframe network that a stage keeps; see `load_for_inference`.

    folder: of the stage.
    Raises UserError if it is missing or damaged.
    """
    if not (folder / KEYFRAME).is_file():
        raise UserError(f"{folder / KEYFRAME} is missing, the weights of the keyframe network; copy the whole folder.")
    return _load_exported(folder / KEYFRAME)


def with_keyframe(variables: Any, keyframe: Any) -> dict[str, Any]:
    """Returns the variables of a `VideoSegmenter` from those of its propagation network and its keyframe network."""
    return {
        name: {"keyframe": keyframe.get(name, {}), "propagation": variables.get(name, {})}
        for name in ("params", "batch_stats")
    }


def read_meta(path: str | Path) -> dict[str, Any]:
    """Returns what a checkpoint contains beside its arrays: "model", normalisation, label map, ...

    path: as in `load_for_inference`. Raises UserError if there is no checkpoint, or none is intact.
    """
    if Path(path).suffix == ".safetensors":
        return check_info(weights.read_info(path), str(path))
    folder, step = _newest(Path(path))
    with ocp.CheckpointManager(
        folder,
        item_handlers={"meta": ocp.JsonCheckpointHandler()},
        options=ocp.CheckpointManagerOptions(read_only=True),
    ) as manager:
        only_meta = ocp.args.Composite(meta=ocp.args.JsonRestore())
        steps = [step] if step is not None else list(manager.all_steps())
        return newest_intact(folder, steps, lambda step: manager.restore(step, args=only_meta).meta)


def export_weights(checkpoint: str | Path, output: str | Path) -> Path:
    """Writes the weights of a training run to a .safetensors file under the published tensor names; returns its path.

    The file contains the model spec, so that `load_for_inference` and the commands accept it in place of a run.

    Raises UserError if there is no intact checkpoint, or `output` has another suffix.
    """
    spec, variables, info = load_for_inference(checkpoint)
    keep = {name: info[name] for name in _EXPORTED if name in info}
    return weights.save(output, variables, info={**keep, "model": spec})


_EXPORTED = ("normalisation", "label_map", "dataset", "step")


def _load_exported(path: str | Path) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    info = check_info(weights.read_info(path), str(path))
    spec = info["model"]
    variables, _ = weights.load(path, _shapes(spec, path), remedies={})
    return spec, variables, info


def _shapes(spec: dict[str, Any], path: str | Path) -> Any:
    """Returns the variables of a network as shapes. Raises UserError for options that do not fit each other."""
    model = models.from_spec(spec)
    try:
        inputs = models.example_inputs(spec, model)
        return jax.eval_shape(model.init, jax.random.key(0), *inputs)
    except UserError as error:
        raise UserError(f"{path} has a wrong 'model': {error}") from None
    except Exception as error:  # noqa: BLE001 (jax and flax raise many kinds)
        raise UserError(
            f"{path} has a 'model' that cannot be built ({brief(first_line(error), 160)}); `segjax export_weights` "
            "writes files of networks that can."
        ) from None


def _newest(path: Path) -> tuple[Path, int | None]:
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


def _is_checkpoint(path: Path) -> bool:
    return path.name.isdecimal() and (path / "state").is_dir()


def check_fingerprints(written: dict[str, Any], read: dict[str, Any]) -> None:
    """Raises ValueError if a fingerprint of what was read differs from that of what was written."""
    if any(int(written[name]) != int(read[name]) for name in read):
        raise ValueError("its contents are not what was written")


def newest_intact(folder: Path, steps: list[int], read: Callable[[int], Any]) -> Any | None:
    """Returns read(step) of the newest checkpoint for which it succeeds; logs damaged ones. None if there is no step.

    Raises UserError if there are steps and none can be read.
    """
    problems = []
    for step in sorted(steps, reverse=True):
        try:
            result = read(step)
        except Exception as error:  # noqa: BLE001 (orbax and tensorstore raise many kinds for one damaged file)
            problems.append(f"{folder / str(step)}: {first_line(error)}")
            log.warning("checkpoint %s is damaged (%s); trying the one before", folder / str(step), first_line(error))
            continue
        if problems:
            log.warning("resuming from checkpoint %s instead", folder / str(step))
        return result
    if problems:
        raise UserError(
            f"no checkpoint in {folder} can be read ({'; '.join(problems)}); "
            "delete the folder to start again, or give the options the run was started with."
        )
    return None


def first_line(error: Exception) -> str:
    """Returns the type of an error and the first line of its text, for a sentence."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:160] if text else ''}"
