"""Labels pools of images and writes them as a dataset: what the stage "pseudo_label" and the command do."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from segjax import evaluation
from segjax.data.derived import PSEUDO, PSEUDO_PROVENANCE, with_ignored
from segjax.data.record_shards import Examples, RecordShards
from segjax.data.referenced import REFERENCE
from segjax.data.threads import ordered_map
from segjax.files import config_hash, plain
from segjax.inference.network import Network, images_at_once
from segjax.media.writers import write_png
from segjax.pseudo import report as reports
from segjax.pseudo.labels import Group, Labelled, Labeller, Place, encode, features
from segjax.pseudo.pools import Pool
from segjax.pseudo.sheets import pseudo_sheet
from segjax.stages.config.thresholds import class_thresholds
from segjax.stages.pseudo_options import Options, key_of
from segjax.stages.write_records import finish_records, write_records
from segjax.weights.fingerprints import fingerprint

log = logging.getLogger("segjax")


@dataclasses.dataclass(frozen=True)
class Work:
    """What `write_records` does per shard.

    label: labels a group of images.
    shards: that are written.
    tag: provenance that all records share.
    options: of the stage.
    """

    label: Labeller
    shards: RecordShards
    tag: Mapping[str, str]
    options: Options

    def encode(self, group: Group) -> tuple[Examples, dict[str, Any]]:
        """Returns ({"pseudo": records}, counts of the shard)."""

        def record(one: Labelled) -> dict[str, Any]:
            return encode(
                one,
                self.label.pools[one.pool],
                self.shards.label_map,
                self.tag,
                confidence=self.options.confidence,
                referenced=self.options.images == "referenced",
            )

        records = list(ordered_map(record, group.images))
        note = reports.count_group(group, records, classes=len(self.label.thresholds))
        return {PSEUDO: records}, note


def label_pools(
    options: Options, network: Network, pools: Sequence[Pool], folder: Path, *, where: str, option: str = "--workdir"
) -> dict[str, Any]:
    """Writes folder/dataset and folder/sheets; returns the report.

    options: of the stage.
    network: the teacher.
    pools: of images.
    folder: of the stage.
    where: config key of the stage, "" for a command.
    option: name of what chooses the folder, for errors.

    Raises UserError for a folder with the shards of other settings, a full disk, and a damaged record.
    """
    names, batch = network.label_map.class_names, images_at_once(options.batch_size or None)
    model = f"{network.spec['name']}, step {network.step}"
    own = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    # what changes the records: shards of a killed run with other settings must not be mixed with new ones
    changes = {name: value for name, value in own.items() if name not in ("unlabelled", "dataset", "sheet_rows")}
    identity = plain(
        {
            **changes,
            "batch_size": batch,
            "top_k": options.planes,
            "model": model,
            "weights": int(fingerprint(network.variables)),
            "pools": {pool.name: [pool.source, config_hash(*pool.identity)] for pool in pools},
        }
    )
    referenced = options.images == "referenced"
    shards = RecordShards(
        folder,
        name=PSEUDO,
        splits=(PSEUDO,),
        label_map=with_ignored(network.label_map),
        extra={
            **PSEUDO_PROVENANCE,
            **features(
                soft=options.planes > 0, confidence=options.confidence, referenced=REFERENCE if referenced else {}
            ),
        },
        identity=identity,
        kind=PSEUDO,
        description=f"Labels of {', '.join(pool.source for pool in pools)} by {model}.",
        option=option,
    )
    label = Labeller(
        network.labeller(confidence=True, top_k=options.planes, **options.views),
        pools,
        batch,
        class_thresholds(options.threshold, names, where=key_of(where, "threshold")),
    )
    tag = dict(checkpoint=options.checkpoint, model=model, config=config_hash(identity))
    work = Work(label, shards, tag, options)
    written = write_records(shards, shard_places(pools, options), label, work.encode, prepare=label.read)
    counts, problems = reports.merge(written.notes, pools=len(pools), classes=len(names))
    problems = [*(text for pool in pools for text in getattr(pool, "problems", ())), *problems]
    summaries = {pool.name: reports.summarise(one, names) for pool, one in zip(pools, counts)}
    whole = reports.summarise(reports.total(counts, classes=len(names)), names)
    for (name, summary), one in zip(summaries.items(), counts):
        for line in reports.describe(summary, name=name):
            log.info("%s", line)
        if one.scored and jax.process_index() == 0:
            evaluation.print_scores(one.matrix, names, title=f"pseudo labels of {name} against its own labels")
    for problem in reports.listed(problems):
        log.warning("not labelled: %s", problem)
    directory = finish_records(shards, written)
    if jax.process_index() == 0:
        write_sheets(label, names, network.label_map.palette, options, folder, model)
    log.info("%s images/s in this process", written.rate)
    return {
        "dataset": str(directory),
        "records": whole["images"],
        "model": model,
        **whole,
        "pools": summaries,
        "problems": reports.listed(problems),
        "images_per_second": written.rate,
    }


def shard_places(pools: Sequence[Pool], options: Options) -> list[list[Place]]:
    """Returns the images of every shard: `shard_images` of all pools, one after the other, `limit` spread evenly."""
    places = [(number, place) for number, pool in enumerate(pools) for place in range(len(pool))]
    if options.limit:
        count = min(options.limit, len(places))
        places = [places[i * len(places) // count] for i in range(count)]
    size = options.shard_images
    return [places[start : start + size] for start in range(0, len(places), size)]


def write_sheets(
    label: Labeller, names: Sequence[str], palette: np.ndarray, options: Options, folder: Path, model: str
) -> None:
    """Writes sheets/POOL.png: a few images of each pool, spread evenly, which are labelled again.

    label: labels images.
    names: of the classes.
    palette: uint8 (k, 3).
    options: of the stage.
    folder: of the stage.
    model: name of the teacher.
    """
    if not options.sheet_rows:
        return
    chosen: dict[int, list[Place]] = {}
    for group in shard_places(label.pools, options):
        for place in group:
            chosen.setdefault(place[0], []).append(place)
    for number, places in chosen.items():
        rows = np.unique(np.linspace(0, len(places) - 1, num=options.sheet_rows).astype(int))
        found = label(label.read([places[row] for row in rows])).images
        if found:
            pool = label.pools[number]
            picture = pseudo_sheet(found, names, palette, heading=f"{pool.name}: {pool.source}, labelled by {model}")
            write_png(folder / "sheets" / f"{pool.name}.png", picture)
