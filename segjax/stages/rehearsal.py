"""One program of a recipe, compiled without data and weights for devices that need not exist, and what it costs there.

A TPU's compiler reads its settings from the environment when it is loaded, so that programs for a TPU are compiled in a
process of their own, which this file is too.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from segjax import models, parallel
from segjax.costs import latency, tpu
from segjax.costs.bounds import bounds
from segjax.costs.chips import chip_name, chip_of
from segjax.costs.program import norm_groups, program_costs
from segjax.costs.slices import LOCAL, Slice, find_slice
from segjax.errors import UserError, did_you_mean
from segjax.files import plain
from segjax.inference.network import class_ids
from segjax.ops import made_for
from segjax.ops.barriers import compile_with_barriers
from segjax.stages.assumed import Assumed, AssumedImages, Program, assumed_images, labelling_program
from segjax.stages.config.recipe_file import load_recipe
from segjax.stages.preview import preview
from segjax.stages.recipe import STAGES, run_dataset
from segjax.stages.run_plan import PlanOptions
from segjax.training.compiled import compile_step
from segjax.training.memory import device_memory, group_bytes, memory_plan
from segjax.training.start import abstract_first_variables

IMAGES_AT_ONCE = 4  # of `segjax predict` on an accelerator, see `inference.network.images_at_once`
KINDS = {"train": ("train", "train_gsvnet", "train_video"), "evaluate": ("evaluate",), "predict": ("train",)}
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What to compile; plain data, so that another process can do it.

    config: recipe, by name or file, with its options.
    overrides: dotted key of the recipe -> value.
    topology: name of a slice, see `find_slice`, or "local".
    what: "train", "evaluate" or "predict".
    stage: name; "" for the first one of the kind.
    size: (h, w) of the dataset's images; None if it is published.
    classes: number; None for those of the dataset.
    batch: images of a batch over all devices, for "predict" on each of them; 0 for the recipe's.
    changes: key of the stage's section -> value, that replace the recipe's.
    """

    config: str
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    topology: str = LOCAL
    what: str = "train"
    stage: str = ""
    size: tuple[int, int] | None = None
    classes: int | None = None
    batch: int = 0
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def rehearse(request: Request) -> dict[str, Any]:
    """Compiles the program and returns its report, see `report_of`; for a TPU in a process of its own.

    Raises UserError for an unknown topology, without the TPU's compiler, as `report_of` does, and if the compiler
    fails for another reason than the chip's memory.
    """
    if request.topology == LOCAL:
        return report_of(request, jax.devices())
    found = find_slice(request.topology)
    if reason := tpu.missing():
        raise UserError(reason)
    command = [sys.executable, "-m", "segjax.stages.rehearsal", repr(dataclasses.asdict(request))]
    done = subprocess.run(command, env=tpu.environment(found.accelerator_type), capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["the compiler was killed, perhaps for this machine's memory"])[
            -1
        ]
        failed = "" if done.returncode == 2 else f"compiling {request.what} for {request.topology} failed: "
        raise UserError(f"{failed}{reason}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Compiles the program of a request, the only argument, and prints the report as JSON on the last line."""
    from jax.experimental import topologies

    request = Request(**ast.literal_eval(sys.argv[1]))
    found = find_slice(request.topology)
    try:
        devices = topologies.get_topology_desc(found.name, platform="tpu", **found.options).devices
        report = report_of(request, devices, found)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    print(json.dumps(report))


def report_of(request: Request, devices: Sequence[jax.Device], found: Slice | None = None) -> dict[str, Any]:
    """Compiles the program of a request for devices and returns its costs as plain data.

    devices: of this process or of a topology.
    found: the slice that they are, None for those of this process.

    Returns the settings ("stage", "mesh", "batch", "multiple", which divides every batch, "unit" and "frames" of a
    sample, "size", "splits_height", "dtype", "remat", "bn_groups" of a training), "memory" in bytes of a chip with
    "has" and "fits", and, if it could be compiled, "flops", "accessed", "collectives", "largest", "small_all_reduces",
    "bounds" and "compile_seconds".

    Raises UserError for a wrong recipe, stage or setting, and for a batch or mesh that does not fit the devices.
    """
    with made_for(devices[0].platform):
        name, mesh, program = find_program(request, devices)
        chip = found.figures if found else chip_of(devices[0].device_kind)
        limit = found.figures.memory_bytes if found else device_memory(devices[0])
        report = {
            "config": request.config,
            "what": request.what,
            "stage": name,
            "topology": request.topology,
            "chip": found.chip if found else chip_name(devices[0].device_kind) or devices[0].device_kind,
            "chips": len(devices),
            "mesh": dict(mesh.shape),
            "batch": program.images,
            "multiple": program.multiple,
            "unit": program.unit,
            "frames": program.frames,
            "size": list(program.size),
            "splits_height": program.splits_height,
            "network": program.spec["name"],
            "classes": program.spec["num_classes"],
            "dtype": program.spec["options"].get("dtype", "float32"),
            "remat": program.spec["options"].get("remat", False),
            "bn_groups": norm_groups(program.spec) if program.trains else None,
        }
        start = time.perf_counter()
        try:
            compiled = compile_program(program)
        except jax.errors.JaxRuntimeError as error:
            return {**report, "memory": _refused(error, program, limit), "compile_seconds": _since(start)}
        report["compile_seconds"] = _since(start)
        plan = memory_plan(compiled, groups=program.groups, device=devices[0], limit=limit)
        costs = program_costs(compiled, devices=mesh.size, platform=devices[0].platform)
        useful = program.useful() * program.images / mesh.size
    least = None
    if chip is not None:
        least = bounds(
            chip,
            flops=costs.flops,
            accessed=costs.accessed,
            sent=costs.sent,
            link=found.link if found else chip.link,
            # a network that predicts runs on each chip by itself
            images=program.images * (len(devices) // mesh.size),
            useful=useful,
        )
    beside = {name: size for name, size in plan.program.items() if name != "arguments"}
    return {
        **report,
        "memory": {**plan.groups, **beside, "needed": plan.needed, "has": plan.limit, "fits": plan.fits},
        "flops": costs.flops,
        "network_flops": useful,
        "accessed": costs.accessed,
        "collectives": {kind: dataclasses.asdict(total) for kind, total in costs.collectives.items()},
        "largest": [dataclasses.asdict(one) for one in costs.largest],
        "small_all_reduces": latency.report(costs.small, least),
        "bounds": least and least.to_dict(),
    }


def find_program(request: Request, devices: Sequence[jax.Device]) -> tuple[str, Mesh, Program]:
    """Returns (stage, mesh, program) of a request; errors as in `report_of`."""
    config = load_recipe(request.config, request.overrides)
    name = _stage_of(config, request)
    changes = {**request.changes, **({"batch_size": request.batch} if request.batch else {})}
    section = {key: value for key, value in plain(config[name]).items() if key != "seed"}
    section |= {} if request.what == "predict" else changes
    stage = STAGES[section["kind"]]
    options = stage.read(section, name)
    dataset = getattr(options, "dataset", None) or run_dataset(config, name, Path())
    split = getattr(options, "split", "train")
    images = assumed_images(dataset, size=request.size, classes=request.classes, split=split)
    if request.what == "predict":
        program = _prediction(stage.network(options), options, images, devices[0], request.batch)
        return name, program.arguments[1].sharding.mesh, program
    mesh = parallel.make_mesh(options.mesh, devices)
    if request.what == "train":
        _check_batch(options.plan, mesh, splits_height=section["kind"] == "train")
    known = {one: (STAGES[config[one].kind], _read(config, one)) for one in config.stages}
    spec_of = preview(name, known, None, dataset).spec_of
    assumed = Assumed(images, mesh, section.get("seed", config.seed), spec_of, sized=request.size is not None)
    return name, mesh, stage.program(options, assumed)


def _prediction(
    network: Mapping[str, Any], options: Any, images: AssumedImages, device: jax.Device, batch: int
) -> Program:
    """Returns the program of `segjax predict`: every device labels images of its own, in one view."""
    spec = {"num_classes": images.num_classes, **network}
    spec["options"] = {**spec["options"], "dtype": options.dtype, "remat": False}
    module, rows = models.from_spec(spec), batch or (1 if device.platform == "cpu" else IMAGES_AT_ONCE)
    predict, variables = class_ids(module, options.normalisation), abstract_first_variables(module)
    return labelling_program(predict, spec, variables, (rows, *images.size, 3), Mesh(np.array([device]), ("data",)))


def compile_program(program: Program) -> jax.stages.Compiled:
    """Returns the executable of a program, compiled as its stage does."""
    if program.shardings is not None:
        return compile_step(program.step, program.arguments, program.shardings)
    device = next(iter(jax.tree.leaves(program.arguments)[0].sharding.device_set))
    return compile_with_barriers(jax.jit(program.step).lower(*program.arguments), device.platform)


def _stage_of(config: Any, request: Request) -> str:
    kinds = KINDS[request.what]
    # of the kinds, the first one that the recipe has: a network of images before those that make its data
    fitting = [name for kind in kinds for name in config.stages if config[name].kind == kind]
    if request.stage and request.stage not in config.stages:
        raise UserError(
            f"--stage={request.stage} is not a stage of this recipe.{did_you_mean(request.stage, config.stages)}"
        )
    if request.stage and request.stage not in fitting:
        raise UserError(
            f"--stage={request.stage} is of kind {config[request.stage].kind}, and --what={request.what} compiles "
            f"stages of kind {' or '.join(kinds)}; choose {', '.join(fitting) or 'another recipe'}."
        )
    if not fitting:
        raise UserError(
            f"--config={request.config} has no stage of kind {' or '.join(kinds)} for --what={request.what}."
        )
    return request.stage or fitting[0]


def _check_batch(options: PlanOptions, mesh: Mesh, *, splits_height: bool) -> None:
    """Raises UserError with the batches and the mesh that fit if the devices do not divide the batch.

    splits_height: whether devices may share the height of an image.
    """
    batch, steps, data = options.batch_size, options.accumulate_steps, parallel.axis_size(mesh, "data")
    if batch % (data * steps) == 0:
        return
    divisors = [count for count in range(1, data + 1) if data % count == 0 and batch % (count * steps) == 0]
    space = ""
    if divisors and splits_height:
        space = f", or split the height too, with --set {options.where}.mesh.data={divisors[-1]} "
        space += f"{options.where}.mesh.space={mesh.size // divisors[-1]}"
    raise UserError(
        f"config key {options.where}.batch_size={batch} cannot be shared out among {data} devices"
        f"{f' in {steps} micro-batches' if steps > 1 else ''}; make it a multiple of {options.multiple(mesh)}{space}."
    )


def _read(config: Any, name: str) -> Any:
    section = {key: value for key, value in config[name].items() if key != "seed"}
    return STAGES[section["kind"]].read(section, name)


def _refused(error: jax.errors.JaxRuntimeError, program: Program, limit: int | None) -> dict[str, Any]:
    """Returns the memory of a program that the compiler refuses: "Used 20.00G of 15.75G hbm"; raises other errors."""
    text = str(error)
    if "RESOURCE_EXHAUSTED" not in text or "memory space vmem" in text:  # of the core, which no batch changes
        raise UserError(f"the compiler failed: {' '.join(text.split())[:400]}") from error
    groups = group_bytes(program.groups)
    used = re.search(r"Used ([\d.]+)([KMGT]) of ([\d.]+)([KMGT]) hbm", text)
    needed, has = (
        (int(float(used[1]) * _UNITS[used[2]]), int(float(used[3]) * _UNITS[used[4]])) if used else (None, limit)
    )
    return {**groups, "needed": needed, "has": has, "fits": False}


def _since(start: float) -> float:
    return round(time.perf_counter() - start, 1)


if __name__ == "__main__":
    main()
