"""Reads what training runs have saved: the newest intact checkpoint, or a file of exported weights."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from segjax import models, weights
from segjax.errors import UserError, brief
from segjax.remote import fetch, is_remote, read_address
from segjax.weights import fingerprints
from segjax.weights.info import check_info

log = logging.getLogger("segjax")

KEYFRAME = "keyframe.safetensors"  # in the folder of a stage that trains a propagation network
CHOSEN = "chosen.safetensors"  # in the folder of a stage that chooses among the networks of others


def has_checkpoint(folder: Path) -> bool:
    """Whether the folder contains a finished checkpoint, intact or not."""
    return any(_is_checkpoint(path) for path in folder.glob("*"))


def load_for_inference(path: str | Path) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    """Reads (model spec, variables, info) from a training run, a stage, a checkpoint folder or one checkpoint.

    path: DIR, DIR/<stage>, DIR/<stage>/checkpoints, or one step of it; of several stages the one that has chosen among
        the others is taken, or the one that was trained last. Or a .safetensors file written by `export_weights`. Each
        may be a remote address, gs://... or s3://..., which is fetched first.

    Returns the spec {"name", "num_classes", "options"}; the variables, averaged ones if there are any, on one device;
    and what else was stored: label map, normalisation, metrics, step.

    Raises UserError if there is no checkpoint, or none is intact.
    """
    path = local_path(path)
    if file := _exported(path):
        return _load_exported(file)
    folder, step = _newest(path)
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    with ocp.CheckpointManager(
        folder,
        item_handlers={"state": ocp.PyTreeCheckpointHandler(), "meta": ocp.JsonCheckpointHandler()},
        options=ocp.CheckpointManagerOptions(read_only=True),
    ) as manager:

        def read(step):
            shapes = manager.item_metadata(step).state
            shapes = getattr(shapes, "tree", shapes)
            if not (kind := fingerprints.kind_of(shapes)):
                raise ValueError("it contains no fingerprint")
            wanted = {name: shapes[name] for name in (*fingerprints.VARIABLES, kind) if name in shapes}
            abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), wanted)
            restore_args = jax.tree.map(lambda x: ocp.ArrayRestoreArgs(sharding=device), abstract)
            state = ocp.args.PyTreeRestore(item=abstract, restore_args=restore_args, partial_restore=True)
            found = manager.restore(step, args=ocp.args.Composite(state=state, meta=ocp.args.JsonRestore()))
            tree = {name: found.state.get(name, {}) for name in fingerprints.VARIABLES}
            fingerprints.check_fingerprints(found.state[kind], fingerprints.of_variables(tree, kind))
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
    path = local_path(path)
    if file := _exported(path):
        return check_info(weights.read_info(file), str(file))
    folder, step = _newest(path)
    with ocp.CheckpointManager(
        folder,
        item_handlers={"meta": ocp.JsonCheckpointHandler()},
        options=ocp.CheckpointManagerOptions(read_only=True),
    ) as manager:
        only_meta = ocp.args.Composite(meta=ocp.args.JsonRestore())
        steps = [step] if step is not None else list(manager.all_steps())
        return newest_intact(folder, steps, lambda step: manager.restore(step, args=only_meta).meta)


def local_path(path: str | Path) -> Path:
    """Returns a path itself, or the local copy of a remote address, which is fetched first.

    Raises UserError for a malformed address, if there is nothing, and if the bucket refuses.
    """
    if not is_remote(path):
        return Path(path)
    return fetch(read_address(path, "--checkpoint"), "--checkpoint")


def _exported(path: Path) -> Path | None:
    """Returns the file of exported weights that a path names: itself, or that of a stage which chose; None for none."""
    if path.suffix == ".safetensors":
        return path
    found = [file for file in (path / CHOSEN, *path.glob(f"*/{CHOSEN}")) if file.is_file()]
    return max(found, key=lambda file: file.stat().st_mtime, default=None)


def export_weights(checkpoint: str | Path, output: str | Path, *, write: bool = True) -> Path:
    """Writes the weights of a training run to a .safetensors file under the published tensor names; returns its path.

    The file contains the model spec, so that `load_for_inference` and the commands accept it in place of a run.

    write: whether this process writes the file; all processes must read the checkpoint together.

    Raises UserError if there is no intact checkpoint, or `output` has another suffix.
    """
    spec, variables, info = load_for_inference(checkpoint)
    keep = {name: info[name] for name in _EXPORTED if name in info}
    return weights.save(output, variables, info={**keep, "model": spec}) if write else Path(output)


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


def newest_intact(
    folder: Path, steps: list[int], read: Callable[[int], Any], *, agree: Callable[[bool], bool] = bool
) -> Any | None:
    """Returns read(step) of the newest checkpoint for which it succeeds; logs damaged ones. None if there is no step.

    agree: whether it succeeded in this process -> in all of them, where all take the same step.

    Raises UserError if there are steps and none can be read.
    """
    problems = []
    for step in sorted(steps, reverse=True):
        problem = ""
        try:
            result = read(step)
        except Exception as error:  # noqa: BLE001 (orbax and tensorstore raise many kinds for one damaged file)
            problem = first_line(error)
        if not agree(not problem):
            problem = problem or "another process cannot read it"
            problems.append(f"{folder / str(step)}: {problem}")
            log.warning("checkpoint %s is damaged (%s); trying the one before", folder / str(step), problem)
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
