"""Epochs of several parts with a plan each: real images, and pseudo labels in a chosen ratio to them.

Drawn from one pool, 40,000 pseudo labels would leave little of 3,000 real ones. The students of CSST (Table 1a) see
3,000 real samples per epoch and 3,000 to 40,000 pseudo ones.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from segjax.data.epoch_plans import Epoch
from segjax.data.extra import Extra
from segjax.data.part_plan import PART_PLANS, PartPlan
from segjax.data.random import PLAN, generator
from segjax.data.sources import Source
from segjax.errors import UserError, did_you_mean

log = logging.getLogger("segjax")

REAL = "real"  # name of the part of the labelled images


@dataclasses.dataclass(frozen=True)
class PartOptions:
    """One part of the sampler.

    kind: key of PART_PLANS.
    ratio: samples per epoch as a multiple of the number of REAL records.
    options: of the kind.
    """

    kind: str
    ratio: float
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class MixedPlan:
    """Epochs that contain the samples of several parts, shuffled together; an `EpochPlan`."""

    parts: tuple[PartPlan, ...]
    seed: int = 0

    @property
    def length(self) -> int:
        """Number of samples per epoch."""
        return sum(part.length for part in self.parts)

    def length_of(self, epoch: int) -> int:
        """Returns the number of samples, the same in every epoch."""
        return self.length

    def build(self, epoch: int) -> Epoch:
        """Draws the samples of each part, and shuffles them together."""
        whole = [np.concatenate(columns) for columns in zip(*(part.build(epoch) for part in self.parts))]
        order = generator(self.seed, PLAN, epoch).permutation(len(whole[0]))
        return Epoch(*(column[order] for column in whole))


def check_parts(parts: Mapping[str, PartOptions], extras: Collection[str], *, where: str) -> None:
    """Raises UserError unless there are options for the real part and each extra one, and one ratio is above 0.

    parts: options by name.
    extras: names of the extra parts; none may be that of the real one.
    where: config key of `parts`.
    """
    if REAL in extras:
        raise UserError(f"extra.{REAL} has the name of the split's own images in {where}; give it another name.")
    names = (REAL, *extras)
    for name in parts:
        if name not in names:
            raise UserError(f"config key {where}.{name} names no part of the training data.{did_you_mean(name, names)}")
    for name in names:
        if name not in parts:
            raise UserError(
                f"config key {where}.{name} is missing: give it a kind and a ratio (samples per epoch as a multiple of "
                "the number of real records), ratio=0 for none."
            )
    if not any(options.ratio for options in parts.values()):
        raise UserError(f"config key {where}: all ratios are 0, so that an epoch has no samples; raise one of them.")


def mixed(
    source: Source,
    extras: Sequence[Extra] = (),
    seed: int = 0,
    cache: Any = None,
    where: str = "sampler",
    *,
    parts: Mapping[str, PartOptions],
) -> MixedPlan:
    """Returns the plan of epochs that are mixed of parts, in fixed ratios to the number of real records.

    source: the real records.
    extras: other records.
    seed: of all draws.
    cache: folder, see `find_centroids`.
    where: config key of the sampler, for errors.
    parts: options of `REAL` and of each extra part, by name.

    Raises UserError as `check_parts` does, for a ratio above 0 of a part without records or without places, for one
    that is less than one sample, and as the plan of a part does.
    """
    check_parts(parts, [extra.name for extra in extras], where=f"{where}.parts")
    plans = []
    for part in (Extra(REAL, source, 0), *extras):
        options = parts[part.name]
        if not options.ratio:
            log.info("part %s: ratio 0, so that no epoch shows its %d records", part.name, len(part.source))
            continue
        length = _length(part, options, len(source), f"config key {where}.parts.{part.name}")
        plan = PART_PLANS[options.kind](part, length, seed, cache, **options.options)
        if plan.around and not len(plan.present):
            raise UserError(
                f"config key {where}.parts.{part.name}.kind={options.kind!r}: the labels of part {part.name!r} have no "
                "place of any of its classes; lower its min_area, give the kind 'uniform', or set its ratio to 0."
            )
        for line in describe_part(plan, options, part.source.class_names):
            log.info("part %s: %s", part.name, line)
        plans.append(plan)
    return MixedPlan(tuple(plans), seed)


def _length(part: Extra, options: PartOptions, real: int, here: str) -> int:
    """Returns the samples of a part per epoch. real: number of the real records. here: config key of the part."""
    if not len(part.source):
        raise UserError(
            f"{here}.ratio={options.ratio:g}: part {part.name!r} has no records to draw from; set its ratio to 0, or "
            "give it records."
        )
    if part.classes and options.kind == "uniform":
        raise UserError(
            f"{here}.kind='uniform' draws records and not classes, but extra.{part.name}.classes names some; leave "
            "them out, or give the kind 'centroid'."
        )
    length = round(options.ratio * real)
    if not length:
        raise UserError(
            f"{here}.ratio={options.ratio:g} of {real} real records is not one sample; raise it, or set it to 0."
        )
    return length


def describe_part(plan: PartPlan, options: PartOptions, class_names: Sequence[str]) -> list[str]:
    """Returns lines for the log: the samples of a part, what repeats within an epoch, and which classes are absent."""
    lines = [f"{plan.length} samples per epoch (ratio {options.ratio:g}) of {plan.records} records, {options.kind}"]
    if plan.length > plan.records:
        lines[0] += f", which repeat {plan.length / plan.records:.3g} times"
    if not plan.around:
        return lines
    counts = plan.pools.counts
    quota = plan.around / len(plan.present if plan.absent == "shared" else plan.classes)
    lines.append(f"{plan.around} samples around {counts[plan.classes].sum()} places, {quota:.1f} of each class")
    few = {class_names[c]: quota / counts[c] for c in plan.present if counts[c] < quota}
    if few:
        lines.append("places repeat of " + ", ".join(f"{name} ({times:.3g} times)" for name, times in few.items()))
    missing = [class_names[c] for c in plan.classes if not counts[c]]
    if missing:
        whose = "is shared among the other classes" if plan.absent == "shared" else "goes to records anywhere"
        lines.append(f"no place of {', '.join(missing)}, whose quota {whose}")
    return lines
