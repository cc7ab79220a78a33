"""What one call of a compiled program costs a device: FLOPs, bytes, messages, and the least time on a known chip."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from segjax import models
from segjax.costs.bounds import Bounds, bounds
from segjax.costs.chips import chip_of
from segjax.costs.collectives import Collective, Total, collectives, totals
from segjax.costs.latency import SMALL, groups_to_take, sentence, small_all_reduces
from segjax.costs.networks import abstract_variables, inference_costs
from segjax.costs.traffic import memory_traffic

log = logging.getLogger("segjax")

LARGEST = 8


@dataclasses.dataclass(frozen=True)
class ProgramCosts:
    """Costs of one call on one device.

    flops: that XLA counts.
    accessed: bytes read from and written to memory, as XLA counts them; on a TPU see `memory_traffic`. A loop of
        unknown length counts once.
    collectives: kind -> total.
    largest: the collectives that send most in a call, the first LARGEST of them.
    small: all-reduces of few bytes, see costs/latency.py.
    """

    flops: float
    accessed: float
    collectives: Mapping[str, Total]
    largest: tuple[Collective, ...] = ()
    small: Total = Total(0, 0, 0.0)

    @property
    def sent(self) -> float:
        """Bytes that the device sends to others at least."""
        return sum(total.sent for total in self.collectives.values())


def program_costs(compiled: jax.stages.Compiled, *, devices: int, platform: str) -> ProgramCosts:
    """Returns the costs of a compiled program, 0 for what its backend does not report.

    devices: number that it is compiled for; the program of a single one has no collectives.
    platform: of these devices.
    """
    try:
        analysis = compiled.cost_analysis() or {}
    except (NotImplementedError, jax.errors.JaxRuntimeError):
        analysis = {}
    text = compiled.as_text() if devices > 1 or platform == "tpu" else ""
    found = collectives(text) if devices > 1 else []
    accessed = analysis.get("bytes accessed", 0.0)
    if platform == "tpu":
        accessed = min(accessed, float(memory_traffic(text))) or accessed
    largest = sorted(found, key=lambda one: -one.times * one.sent)[:LARGEST]
    return ProgramCosts(analysis.get("flops", 0.0), accessed, totals(found), tuple(largest), small_all_reduces(found))


def network_flops(spec: Mapping[str, Any], size: tuple[int, int], *, trains: bool) -> float:
    """Returns the FLOPs of a network for one image: 2 per multiply-add, three times as many with its backward pass.

    spec: of an image network, see `models.from_spec`.
    size: (h, w) of the image.
    """
    options = {key: value for key, value in spec["options"].items() if key not in ("dtype", "remat")}
    model = models.create(spec["name"], spec["num_classes"], **options)
    image = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    costs = inference_costs(spec["name"], spec["num_classes"], options, abstract_variables(model, image), image, 1)
    return 2.0 * sum(cost.multiply_adds for cost in costs.values()) * (3 if trains else 1)


def cost_rows(
    costs: ProgramCosts,
    least: Bounds | None,
    *,
    chip: str = "",
    unit: str = "images",
    option: str = "",
    groups: int = 0,
) -> list[tuple[str, str]]:
    """Returns (name, value) of each line of a report.

    costs: of one device.
    least: bounds on the chip, None if its figures are unknown.
    chip: its name.
    unit: noun for the samples of a batch.
    option, groups: see `latency.sentence`.
    """
    rows = [
        ("FLOPs of a device", f"{costs.flops / 1e9:,.1f} G"),
        ("bytes accessed", f"{costs.accessed / 2**30:,.2f} GiB"),
    ]
    for name, total in costs.collectives.items():
        together = f"{total.count}, together {in_units(total.payload)}"
        rows.append((name, f"{together}, of which a device sends {in_units(total.sent)}"))
        if name == "all-reduce" and costs.small.count:
            together = f"{costs.small.count}, together {in_units(costs.small.payload)}"
            rows.append((f"below {SMALL // 2**10} KiB", together))
    if costs.largest:
        rows.append(("largest message", _message(costs.largest[0])))
    if least is None:
        return rows
    rows += [(f"at least, by {name}", f"{getattr(least, name) * 1e3:,.2f} ms") for name in ("flops", "memory", "links")]
    latency = sentence(costs.small, least, option=option, groups=groups)
    return [
        *rows,
        (f"{unit}/s at most", f"{least.images_per_second:,.1f}, limited by {least.limit} of {chip}"),
        ("MFU at most", f"{100 * least.mfu:.0f} %"),
        *([("latency", latency)] if latency else []),
    ]


def norm_groups(spec: Mapping[str, Any]) -> int | None:
    """Returns the option bn_groups of a network, see `models.from_spec`; None if it lacks the option."""
    known = models.options(spec["name"], kind=models.family_of(spec["name"]))
    return spec["options"].get("bn_groups", known.get("bn_groups"))


def _message(one: Collective) -> str:
    """Returns a collective in words: its arrays, and the module or function that it is from."""
    times = f"{one.times} x " if one.times > 1 else ""
    where = one.operation.partition("/")[2] or one.operation or "XLA"
    where = where if len(where) <= 80 else f"{where[:77]}..."  # XLA joins the names of what it combines
    return f"{one.kind}, {times}{', '.join(one.arrays[:3])}{', ...' * (len(one.arrays) > 3)} of {where}"


def in_units(size: float) -> str:
    """Returns a number of bytes in the largest unit that leaves a number of 1 or more."""
    for unit, bytes_ in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= bytes_:
            return f"{size / bytes_:,.1f} {unit}"
    return f"{size:.0f} B"


def as_lines(rows: list[tuple[str, str]]) -> str:
    """Returns rows as lines of text with aligned values."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def log_step_costs(
    compiled: jax.stages.Compiled,
    bucket: Any,
    *,
    mesh: Mesh,
    spec: Mapping[str, Any],
    useful: Callable[[Any], float],
    unit: str = "images",
) -> None:
    """Logs the costs of a compiled training step, with bounds if the chip is known.

    compiled: the step.
    bucket: shape of its batches.
    mesh: of devices.
    spec: of the network.
    useful: bucket -> FLOPs that the networks need for one sample.
    unit: noun for the samples.
    """
    device = mesh.devices.flat[0]
    costs, least = program_costs(compiled, devices=mesh.size, platform=device.platform), None
    groups = groups_to_take(norm_groups(spec), mesh.shape)
    if chip := chip_of(device.device_kind):
        least = bounds(
            chip,
            flops=costs.flops,
            accessed=costs.accessed,
            sent=costs.sent,
            link=chip.link,
            images=bucket.batch,
            useful=useful(bucket) * bucket.batch / mesh.size,
        )
    named = dict(chip=device.device_kind, unit=unit, option="model.options.bn_groups", groups=groups)
    log.info("one step on each device:\n%s", as_lines(cost_rows(costs, least, **named)))
