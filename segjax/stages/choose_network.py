"""Stage "choose": the best of the networks that other stages have scored, as a file of its own."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import jax

from segjax.errors import UserError
from segjax.inference.network import find_run
from segjax.stages.config.keys import options_of
from segjax.stages.report_files import read_report
from segjax.stages.report_values import number_of
from segjax.stages.stage import Context, Stage
from segjax.weights.runs import CHOSEN, export_weights

log = logging.getLogger("segjax")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The section of a stage "choose".

    stages: that have scored a network each.
    number: of their reports, a dot leads into a part; the network with the highest one is chosen.
    """

    stages: tuple[str, ...]
    number: str = "miou"


def read(settings: Mapping[str, Any], where: str) -> Options:
    """Reads the section. Raises UserError for unknown keys, and unless `stages` lists names."""
    options = Options(**options_of({key: settings[key] for key in settings if key != "kind"}, Options, where=where))
    stages = options.stages
    if not isinstance(stages, tuple) or not stages or not all(isinstance(name, str) for name in stages):
        raise UserError(
            f"config key {where}.stages={stages!r} must list stages that score a network, such as ('evaluate_fold0',)."
        )
    return options


def inputs(options: Options, begun: bool) -> dict[str, str]:
    """Returns the inputs of the stage, see `Stage.inputs`."""
    return {f"stages[{number}]": name for number, name in enumerate(options.stages)}


def run(options: Options, context: Context) -> dict[str, Any]:
    """Writes the weights of the best network to `CHOSEN`, and returns the report; of equal ones the first is chosen.

    Raises UserError for a stage that is not finished, that has not scored a network, or whose number is null.
    """
    values, networks = {}, {}
    for name in options.stages:
        folder = context.workdir / name
        report = read_report(folder)
        if report is None:
            raise UserError(f"stage {name} has no report in {folder / 'report.json'}; run it before {context.name}.")
        values[name] = number_of(report, options.number, folder)
        networks[name] = report["settings"]["stage"].get("checkpoint", "")
        if values[name] is None or not networks[name]:
            lacks = f"{options.number} = null" if values[name] is None else "no checkpoint"
            raise UserError(
                f"{folder / 'report.json'} has {lacks}, so nothing can be chosen; name stages of kind evaluate on "
                f"labelled images in {context.name}.stages."
            )
    best = max(values, key=values.__getitem__)
    for name, value in values.items():
        log.info("%s: %s %.4f%s", networks[name], options.number, value, "  <- chosen" if name == best else "")
    network = find_run(networks[best], context.workdir)
    file = export_weights(network, context.folder / CHOSEN, write=jax.process_index() == 0)
    log.info("the network of %s is in %s; --checkpoint=%s predicts with it", networks[best], file, context.workdir)
    return {"chosen": best, "network": networks[best], options.number: values[best], "values": values}


STAGE = Stage(read, run, inputs, again="when_stale")
