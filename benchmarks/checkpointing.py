"""Memory of the Ladder DenseNets in training, with and without checkpointing: Tables 11 and 12 of their paper.

    python -m benchmarks.checkpointing                                  # all rows and columns: hours on a CPU
    python -m benchmarks.checkpointing --columns kept peak              # nothing is compiled: minutes
    python -m benchmarks.checkpointing --networks ldn121 --columns cpu tpu --figures ~/figures.jsonl

Nothing is run and no accelerator is needed. Columns, in MiB beside arguments and results:

kept   what the backward pass keeps of the network's forward pass
peak   the peak of loss and gradient, read from their jaxpr
cpu    temporaries that XLA's CPU backend plans
tpu, tpu-bfloat16  temporaries that the TPU's compiler plans, which is in the extra `tpu`

The paper's figures are of a whole training step with PyTorch. A file of figures keeps each one as soon as it is known;
with the same file, another run computes only the missing ones, and prints all.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from segjax.costs import programs, tpu  # noqa: E402
from segjax.errors import UserError  # noqa: E402

COLUMNS = ("kept", "peak", "cpu", "tpu", "tpu-bfloat16")
OURS = "layer+stem+td+up+spp+head+loss"


class Row(NamedTuple):
    """A row of the tables.

    network: of `segjax.models`.
    remat: its option.
    label: of the row in the paper.
    paper: megabytes that the paper measured, None for a row of ours.
    """

    network: str
    remat: str
    label: str
    paper: int | None


ROWS = (
    # Kreso et al., "Efficient Ladder-style DenseNets", Table 11
    Row("ldn121", "", "baseline - no ckpt", 11265),
    Row("ldn121", "conv3x3", "(3x3)", 10107),
    Row("ldn121", "cat1x1", "(cat 1x1)", 6620),
    Row("ldn121", "cat1x1+conv3x3", "(cat 1x1) (3x3)", 5552),
    Row("ldn121", "block+stem+td+up", "(block) (stem) (TD) (UP)", 3902),
    Row("ldn121", "layer", "(cat 1x1 3x3)", 3620),
    Row("ldn121", "layer+stem+td+up", "(cat 1x1 3x3) (stem) (TD) (UP)", 2106),
    Row("ldn121", OURS, "ours", None),
    # Table 12
    Row("ldn161", "", "baseline - no ckpt", 20032),
    Row("ldn161", "layer+stem+td+up", "(cat 1x1 3x3) (stem) (TD) (UP)", 3241),
    Row("ldn161", OURS, "ours", None),
    Row("lrn101", "", "baseline - no ckpt", 15002),
    Row("lrn50", "", "baseline - no ckpt", 10070),
    Row("lrn18", "", "baseline - no ckpt", 3949),
)


class Figures:
    """Bytes by row and column; in a file if one is given.

    settings: what all figures have in common, such as the size of the images.
    """

    def __init__(self, path: str, settings: dict[str, Any]):
        self.path, self.settings = path, settings
        self.known: dict[tuple[str, ...], int] = {}
        if path and Path(path).exists():
            for line in map(json.loads, Path(path).read_text().splitlines()):
                if line["settings"] == settings:
                    self.known[tuple(line["key"])] = line["bytes"]

    def add(self, row: Row, column: str, size: int) -> None:
        key = (row.network, row.remat, column)
        self.known[key] = size
        if self.path:
            with open(self.path, "a") as file:
                file.write(json.dumps({"settings": self.settings, "key": key, "bytes": size}) + "\n")

    def get(self, row: Row, column: str) -> int | None:
        return self.known.get((row.network, row.remat, column))


def measure(row: Row, column: str, args: argparse.Namespace) -> int:
    """Bytes of a cell."""
    options: dict[str, Any] = {"remat": row.remat or False, "layout": "32to4"}
    size = tuple(map(int, args.size.split("x")))
    workload = programs.Workload(name=row.network, size=size, batch=args.batch, options=options)
    if column == "kept":
        return programs.kept_bytes(workload, platform=args.platform)
    if column == "peak":
        peak = programs.training_peak(workload, platform=args.platform)
        for held in peak.held[: args.held]:
            print(f"  {held.size / 2**20:.0f} MiB {held.what} of {held.scope}")
        return peak.temporaries
    if column == "cpu":
        return programs.compiled_bytes(workload, "training_step")
    if column == "tpu-bfloat16":
        workload.options["dtype"] = "bfloat16"
    return tpu.compiled_bytes(workload, "training_step", topology=args.topology)


def show(rows: list[Row], columns: list[str], figures: Figures) -> None:
    """Prints the table in Markdown."""
    print(f"| network | checkpointing | remat | paper, MB | {' | '.join(columns)} |")
    print("|---" * (4 + len(columns)) + "|")
    for row in rows:
        sizes = [figures.get(row, column) for column in columns]
        cells = ["" if size is None else f"{size / 2**20:.0f}" for size in sizes]
        paper = "" if row.paper is None else row.paper
        print(f"| {row.network} | {row.label} | {row.remat} | {paper} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    networks, remats = (list(dict.fromkeys(column)) for column in zip(*(row[:2] for row in ROWS)))
    parser.add_argument("--networks", nargs="+", choices=networks, default=networks)
    parser.add_argument("--remat", nargs="+", choices=remats, default=remats, help="rows with this value, '' = without")
    parser.add_argument("--columns", nargs="+", choices=COLUMNS, default=list(COLUMNS))
    parser.add_argument("--held", type=int, default=0, metavar="N", help="print the N largest values at each peak")
    parser.add_argument("--size", default="768x768", help="height x width of the images")
    parser.add_argument("--batch", type=int, default=6)
    parser.add_argument("--platform", default="gpu", choices=["cpu", "gpu", "tpu"], help="kept and peak are traced for")
    parser.add_argument("--topology", default=tpu.TOPOLOGY, choices=tpu.ACCELERATOR_TYPES, help="TPU to compile for")
    parser.add_argument(
        "--figures", default="", metavar="FILE", help="keep figures here, and take those that are there"
    )
    args = parser.parse_args()

    rows = [row for row in ROWS if row.network in args.networks and row.remat in args.remat]
    figures = Figures(args.figures, {key: getattr(args, key) for key in ("size", "batch", "platform", "topology")})
    failures = []
    for column in args.columns:  # the quick ones of all rows first
        for row in rows:
            if figures.get(row, column) is not None:
                continue
            start = time.perf_counter()
            try:
                found = measure(row, column, args)
            except UserError as error:
                failures.append(f"{row.network} {row.remat or 'without remat'}, {column}: {error}")
                continue
            figures.add(row, column, found)
            seconds = time.perf_counter() - start
            print(f"{row.network} {row.remat}, {column}: {found / 2**20:.0f} MiB, {seconds:.0f} s", flush=True)
    show(rows, args.columns, figures)
    for failure in failures:
        print(failure)


if __name__ == "__main__":
    main()
