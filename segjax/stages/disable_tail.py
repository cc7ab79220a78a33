"""Stage "disable_tail": scores of trained networks whose last units give zeros.

Source: Ladder-style DenseNets, section 5.6 and Fig. 5: units of the trunk's last two blocks are disabled by setting
their output to zero, without further training. The paper does not say how both blocks share the disabled units. Here
the units of both are one sequence, which loses its last ones (a guess).
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Collection, Mapping
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp

from segjax import evaluation, inference, parallel, visualize, weights
from segjax.errors import UserError
from segjax.evaluation.tail import Disabled, describe_tail, tail_table, write_tail
from segjax.inference.network import class_ids, compute_dtype
from segjax.models.units import TrunkUnit, tail, trunk_units
from segjax.stages.config.keys import check_keys, check_numbers, options_of
from segjax.stages.config.views import ViewOptions
from segjax.stages.dataset import Dataset, read_own_dataset
from segjax.stages.evaluate import open_scored
from segjax.stages.preview import image_network
from segjax.stages.stage import Context, Preview, Stage
from segjax.typing import Variables
from segjax.weights.names import leaves

log = logging.getLogger("segjax")

STEPS = 8  # of the default numbers of disabled units


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(ViewOptions):
    """The section of a stage "disable_tail", beside the views.

    checkpoint: name of a stage of this run, or a folder; or name of a network -> such a checkpoint, for several
        networks in one picture.
    split: to score.
    units: numbers of units to disable; () = nine numbers from none to all.
    batch_size: images of a batch.
    limit: number of images, spread evenly; 0 = all.
    mesh: axis -> number of devices.
    dtype: of the computation.
    dataset: None = `config.dataset`.
    """

    checkpoint: Any
    split: str
    units: tuple[int, ...] = ()
    batch_size: int = 1
    limit: int = 0
    mesh: Mapping[str, int] = dataclasses.field(default_factory=lambda: {"data": -1})
    dtype: str = "auto"
    dataset: Dataset | None = None

    @property
    def checkpoints(self) -> dict[str, str]:
        """Config key within the section -> checkpoint."""
        if isinstance(self.checkpoint, str):
            return {"checkpoint": self.checkpoint}
        return {f"checkpoint.{name}": one for name, one in self.checkpoint.items()}


def read(settings: Mapping[str, Any], where: str) -> Options:
    """Reads the section; reads no data. Raises UserError for unknown keys and names, and wrong numbers or views."""
    rest = {key: value for key, value in settings.items() if key not in ("kind", "dataset")}
    options = Options(**options_of(rest, Options, where=where), dataset=read_own_dataset(settings, where))
    found = options.checkpoint
    if not isinstance(found, str):
        named = isinstance(found, Mapping) and found and all(isinstance(one, str) for one in found.values())
        if not named or not all(re.fullmatch(r"[\w.-]+", name) for name in found):
            raise UserError(
                f"config key {where}.checkpoint={found!r} must be a checkpoint, or name several, as in "
                "dict(ldn121='train')."
            )
    check_keys(options.mesh, ("data", "space"), where=f"{where}.mesh")
    check_numbers(settings, ("batch_size",), where=where, low=1)
    check_numbers(settings, ("limit",), where=where, low=0)
    units = options.units
    if not isinstance(units, tuple) or not all(
        isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in units
    ):
        raise UserError(f"config key {where}.units={units!r} must list whole numbers of 0 or more, such as (0, 4, 8).")
    compute_dtype(options.dtype)
    inference.check_views(**options.views)
    return options


def inputs(options: Options, begun: bool) -> dict[str, str]:
    """Returns the inputs of the stage, see `Stage.inputs`."""
    return options.checkpoints


def check(options: Options, preview: Preview) -> None:
    """Raises UserError for a network without known units, and more disabled units than it has; see `Stage.check`."""
    for key, checkpoint in options.checkpoints.items():
        module, variables, _ = image_network(preview.spec_of, checkpoint, f"{preview.name}.{key}")
        _tail(module, variables, options, preview.name, checkpoint)


def run(options: Options, context: Context) -> dict[str, Any]:
    """Writes tail.csv, tail.png and classes_NAME.png to the stage's folder, and returns the report.

    Raises UserError as the stage "evaluate" does, and as `check` does.
    """
    mesh = parallel.make_mesh(options.mesh)
    dataset = options.dataset or context.dataset
    source = dataset.open(options.split)
    found = []
    for key, checkpoint in options.checkpoints.items():
        network = open_scored(checkpoint, source, dataset, context.workdir, dtype=options.dtype)
        units = _tail(network.module, network.variables, options, context.name, checkpoint)
        scorer = evaluation.Scorer(
            class_ids(network.module, network.normalisation, **options.views),
            source,
            mesh=mesh,
            batch_size=options.batch_size,
            limit=options.limit or None,
        )
        name, scores = key.partition(".")[2] or network.spec["name"], {}
        for count in sorted(set(options.units)) or _spread(len(units)):
            off = {leaf for unit in units[len(units) - count :] for leaf in unit.leaves}
            scores[count] = scorer(parallel.replicate(without(network.variables, off), mesh))
            miou = evaluation.headline(scores[count])["miou"]
            log.info("%s without its last %d of %d units: mIoU %.2f", name, count, len(units), 100 * miou)
        found.append(Disabled(name, len(units), scores))
    images = next(iter(found[0].scores.values())).images
    title = f"{dataset} {options.split}, {images} images"
    if jax.process_index() == 0:
        visualize.print_table(tail_table(found, title=title))
        paths = write_tail(found, context.folder, class_names=source.class_names, title=title)
        log.info("pictures and table: %s", ", ".join(map(str, paths)))
    return {"images": images, "networks": {one.name: describe_tail(one, source.class_names) for one in found}}


def without(variables: Variables, names: Collection[str]) -> Variables:
    """Returns the variables with zeros in the leaves of these PyTorch names."""
    flat = flax.traverse_util.flatten_dict(dict(variables))
    for name, path in leaves(variables).items():
        if name in names:
            flat[path] = jnp.zeros_like(flat[path])
    return flax.traverse_util.unflatten_dict(flat)


def _tail(module: Any, variables: Variables, options: Options, name: str, checkpoint: str) -> list[TrunkUnit]:
    """Returns the units of the last two blocks. Raises UserError if there are fewer than are to be disabled."""
    units = tail(trunk_units(module, weights.sizes({"params": variables["params"]})))
    most = max(options.units, default=0)
    if most > len(units):
        raise UserError(
            f"config key {name}.units={options.units} disables {most} units, but the last two blocks of the network in "
            f"{checkpoint} have {len(units)}."
        )
    return units


def _spread(units: int) -> list[int]:
    """Returns numbers from 0 to `units`, spread evenly."""
    return sorted({round(units * step / STEPS) for step in range(STEPS + 1)})


STAGE = Stage(read, run, inputs, again="when_stale", check=check)
