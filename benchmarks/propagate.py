"""How good propagated labels are, and how fast.

    python benchmarks/propagate.py quality                                  # CamVid's 15 Hz video, copy and DIS flow
    python benchmarks/propagate.py quality --checkpoint runs/camvid/train_video --skip 60 --output out
    python benchmarks/propagate.py quality --dataset synthetic_street
    python benchmarks/propagate.py quality --rgb-warp all                   # every way to move image and label
    python benchmarks/propagate.py warp                                     # the warp against the bytes it must move

quality: every labelled frame's label is carried K frames forward and backward and scored against the true label of the
frame it arrives at: mIoU over all labelled pixels, with the border repeated where a pixel comes from outside (as
published) and a carried void counted as wrong; and again over the pixels that are not ignored. --skip leaves out the
first frames of every sequence, which a video network may have been trained on. A checkpoint may be given several times.
--max-cycle-error ignores pixels that flow does not bring back. The energy is that of high frequencies of the carried
image, relative to the real frame: the ratio of the mean squared Laplacians (of 4 neighbours) of the grey levels, over
pixels that are kept and whose neighbours are. Writes quality.md, .png and .json to --output.
"""

import argparse
import ast
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import cv2  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402

from benchmarks import clock, warps  # noqa: E402
from segjax import metrics, visualize  # noqa: E402
from segjax.data import open_source  # noqa: E402
from segjax.data.chains import find_chains  # noqa: E402
from segjax.data.class_table import IGNORE_LABEL  # noqa: E402
from segjax.data.threads import ordered_map  # noqa: E402
from segjax.data.video import FrameIndex  # noqa: E402
from segjax.media.writers import write_png  # noqa: E402
from segjax.propagation.carry import RGB_WARPS  # noqa: E402
from segjax.propagation.flow_store import FlowStore  # noqa: E402
from segjax.propagation.motion import choose_flow, open_flow, open_video_network  # noqa: E402
from segjax.propagation.propagator import INPUT_CHOICES, Propagated, Propagator  # noqa: E402


class Part:
    """The frames of a source from the `skip`-th of every sequence on, as a table, and their records, each read once."""

    def __init__(self, source, *, skip: int):
        index = source.index
        rank = np.zeros(len(index.names), int)
        for sequence in np.unique(index.sequences):
            rows = np.flatnonzero(index.sequences == sequence)
            rank[rows[np.argsort(index.frames[rows])]] = np.arange(len(rows))
        self.source, self._rows = source, np.flatnonzero(rank >= skip)
        table = index.take(self._rows)
        self.names, self.sequences, self.frames = table.names, table.sequences, table.frames
        self.sizes, self.labelled = table.sizes, table.labelled
        self._records = {}

    def read(self, wanted) -> dict:
        """number -> record."""
        new = [i for i in wanted if i not in self._records]
        self._records |= zip(new, ordered_map(lambda i: self.source[int(self._rows[i])], new))
        return {i: self._records[i] for i in wanted}


def quality(args) -> None:
    options = dict(pair.split("=") for pair in args.options.split(",") if pair)
    options = {key: ast.literal_eval(value) for key, value in options.items()}
    exact = args.dataset == "synthetic_street"
    source = open_source(
        args.dataset,
        args.split,
        builder_options=options,
        labelled_only=False,
        fields=("all_labels", *(["flow"] if exact else [])),
    )
    part = Part(source, skip=args.skip)
    methods = {"copy": ("copy", args.flow, ""), f"{args.flow} flow": ("flow", args.flow, "")}
    if exact:
        methods["exact flow"] = ("flow", "exact", "")
    for checkpoint in args.checkpoint:
        network = open_video_network(checkpoint)
        methods[f"{network.method} ({Path(checkpoint).name})"] = (network.method, "", checkpoint)
    ways = RGB_WARPS if args.rgb_warp == "all" else args.rgb_warp.split(",")
    stores: dict = {}  # flow of the same kind is computed once
    results = {
        f"{name}, {warp}" if len(ways) > 1 else name: score(part, source.num_classes, args, stores, warp, *how)
        for name, how in methods.items()
        for warp in (ways if how[0] != "copy" else ways[:1])  # without motion all are the same
    }
    title = f"{args.dataset} {args.split}, {len(part.names)} frames" + (f" after {args.skip}" if args.skip else "")
    text = markdown(results, args.steps, title)
    print(text)
    if args.output:
        folder = Path(args.output)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "quality.md").write_text(text + "\n")
        (folder / "quality.json").write_text(json.dumps({"title": title, "results": results}, indent=1) + "\n")
        write_png(folder / "quality.png", plot(results, args.steps, title))


def score(part: Part, num_classes: int, args, stores: dict, warp: str, method: str, flow: str, checkpoint: str) -> dict:
    """signed step -> mIoU of all labelled pixels, of those that are kept, their share, energy; and the seconds."""
    network = open_video_network(checkpoint, method)
    name, options = choose_flow(flow, network)
    key = json.dumps([name, options], sort_keys=True)
    if key not in stores:
        stores[key] = FlowStore(open_flow(name, options, index=FrameIndex(part.source)), 2**31)
    moves = dict(
        flow=stores[key], predict_motion=network.predict,
        variables=network.variables, batch=args.batch, cut_histogram=0.0, cut_residual=0.0,
        inputs=args.inputs, rgb_warp=warp,
    )  # fmt: skip
    run = Propagator(method, max_cycle_error=args.max_cycle_error if method != "copy" else 0.0, **moves)
    repeat = Propagator(method, ignore_out_of_view=False, **moves)
    # a network that looks back carries nothing from a sequence's first frame: all methods are scored on the same chains
    chains = [c for c in find_chains(part, steps=args.steps, needs_before=bool(args.checkpoint)) if c.records]
    count = jax.jit(metrics.confusion_matrix, static_argnums=2)
    matrices = {"all": {}, "kept": {}}
    energies: dict[int, np.ndarray] = {}
    start = time.perf_counter()
    for first in range(0, len(chains), 4 * args.batch):
        some = chains[first : first + 4 * args.batch]
        for kind, propagator in (("kept", run), ("all", repeat)):
            for one in propagator(some, part.read)[1]:
                step = one.chain.direction * one.step
                if kind == "kept":
                    energies[step] = energies.get(step, 0) + energy(one)
                if one.real.label is None:
                    continue
                carried = np.minimum(one.label, num_classes)  # void as one more class, which is never true
                found = np.asarray(count(carried, one.real.label, num_classes + 1), np.int64)
                matrices[kind][step] = matrices[kind].get(step, 0) + found
    kept = {step: m[:num_classes, :num_classes] for step, m in matrices["kept"].items()}
    return {
        "miou": {step: miou(m, num_classes) for step, m in sorted(matrices["all"].items())},
        "miou_kept": {step: miou(m, num_classes) for step, m in sorted(kept.items())},
        "kept": {step: float(m.sum() / matrices["all"][step].sum()) for step, m in sorted(kept.items())},
        "energy": {step: float(carried / real) for step, (carried, real) in sorted(energies.items())},
        "seconds": round(time.perf_counter() - start, 1),
    }


def energy(one: Propagated) -> np.ndarray:
    """Sums of squared Laplacians of the propagated image and of the real frame, over the same pixels."""
    inside = cv2.erode((one.label != IGNORE_LABEL).astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0) > 0
    grey = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) for image in (one.image, one.real.image))
    return np.array([np.square(cv2.Laplacian(g, cv2.CV_32F)[inside], dtype=np.float64).sum() for g in grey])


def miou(matrix: np.ndarray, num_classes: int) -> float:
    """The mean over the classes, whatever else the matrix counts."""
    return float(np.nanmean(metrics.iou_scores(matrix)["iou"][:num_classes]))


def markdown(results: dict, steps: int, title: str) -> str:
    """The table, in percent."""
    lines = [f"mIoU of propagated labels, {title}", ""]
    whats = {"miou": "all pixels", "miou_kept": "pixels kept", "kept": "share kept", "energy": "energy of the image"}
    for key, what in whats.items():
        ks = [*range(1, steps + 1), *range(-1, -steps - 1, -1)]
        lines += [f"| {what} | " + " | ".join(f"{k:+d}" for k in ks) + " |", "|---" * (len(ks) + 1) + "|"]
        for name, found in results.items():
            cells = (f"{100 * found[key][k]:.1f}" if k in found[key] else "" for k in ks)
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def plot(results: dict, steps: int, title: str) -> np.ndarray:
    """mIoU against the signed step, one colour per method; uint8 (h, w, 3)."""
    lines = []
    for number, (name, found) in enumerate(results.items()):
        for side in (-1, 1):
            points = [(step, 100 * value) for step, value in found["miou"].items() if step * side > 0]
            if points:
                lines.append(visualize.Line(name, *zip(*points), color=number))
    return visualize.line_plot(
        lines, title=title, x_label="frames from the label", y_label="mIoU of the propagated label, percent"
    )


def warp(args) -> None:
    """Times bilinear and nearest warps, forward and gradient, beside a program that only moves the same bytes."""
    for shape in ((8, 128, 256, 3), (1, 360, 480, 3), (4, 360, 480, 3), (1, 1024, 2048, 3), (1, 128, 256, 64)):
        for name, case in warps.cases(shape).items():
            times = clock.take_turns(warps.beside_a_copy(case), args.turns)
            taken, bound = (statistics.median(wall for wall, _ in times[which]) for which in ("warp", "copy"))
            row = {
                "warp": name, "shape": "x".join(map(str, shape)), "ms": round(1e3 * taken, 3),
                "bytes_ms": round(1e3 * bound, 3), "GB/s": round(case.size / taken / 1e9, 2),
                "times": round(taken / bound, 1),
            }  # fmt: skip
            print(json.dumps(row), flush=True)


def main() -> None:
    """Reads the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("quality").add_argument
    add("--dataset", default="camvid")
    add("--split", default="validation")
    add("--options", default="", help="builder options, name=value,name=value")
    add("--checkpoint", action="append", default=[], help="a run of train_video; may be given several times")
    add("--flow", default="dis")
    add("--skip", type=int, default=0, help="leave out so many frames of every sequence")
    add("--steps", type=int, default=5)
    add("--batch", type=int, default=8)
    add("--rgb-warp", default=RGB_WARPS[0], help="all, or some of " + ",".join(RGB_WARPS))
    add("--max-cycle-error", type=float, default=0.0)
    add("--inputs", default="auto", choices=INPUT_CHOICES, help="real frames that a network looks at")
    add("--output", default="")
    add = commands.add_parser("warp").add_argument
    add("--turns", type=int, default=11)
    args = parser.parse_args()
    {"quality": quality, "warp": warp}[args.command](args)


if __name__ == "__main__":
    main()
