"""Keyframes chosen by `--interval=auto` beside a fixed interval of as many: mIoU of every frame of a video.

    python -m benchmarks.keyframes --checkpoint=runs/gsvnet --options train=1 validation=10 test=1 frames=30
    python -m benchmarks.keyframes --checkpoint=runs/gsvnet-camvid --dataset=camvid --split='validation[60:]'
    python -m benchmarks.keyframes --checkpoint=runs/gsvnet --pieces=7       an edited video: a cut every 7 frames

Labels are carried once from every frame to the --longest next ones, with what the flow does not explain, so that every
choice of keyframes can be scored without labelling anything again. Streams start at each of the first --longest frames,
and are scored on the frames after these. The fixed curve is interpolated at the mean interval of each automatic choice.
The rows are values of --unexplained; that of `segjax video` is marked.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from segjax import metrics  # noqa: E402
from segjax.data import LabelMap, Record, open_source  # noqa: E402
from segjax.data.video import FrameIndex  # noqa: E402
from segjax.inference.keyframes import UNEXPLAINED, Keyframes  # noqa: E402
from segjax.inference.network import Network, open_network  # noqa: E402
from segjax.inference.streaming import video_programs  # noqa: E402

Carried = dict[tuple[int, int], tuple[np.ndarray, float]]  # (keyframe, frame) -> (confusion (k, k), grey levels)


def streams(arguments: argparse.Namespace, label_map: LabelMap) -> list[list[Record]]:
    """Returns the frames of each video, in order; with --pieces one video of the first frames of each."""
    options = {key: ast.literal_eval(value) for key, value in (pair.split("=") for pair in arguments.options)}
    exact = arguments.dataset == "synthetic_street"
    source = open_source(
        arguments.dataset,
        arguments.split,
        builder_options=options,
        labelled_only=False,
        fields=("all_labels",) if exact else (),
        **({"label_map": arguments.label_map} if arguments.label_map else {}),
    )
    if tuple(source.class_names) != tuple(label_map.class_names):
        sys.exit(f"the network knows {', '.join(label_map.class_names)}; choose a --label-map of these classes")
    table = FrameIndex(source).table
    order = np.lexsort((table.frames, table.sequences))
    videos: dict[str, list[Record]] = {}
    for record in order:
        videos.setdefault(str(table.sequences[record]), []).append(source[int(record)])
    found = list(videos.values())
    return [sum((video[: arguments.pieces] for video in found), [])] if arguments.pieces else found


def carry(network: Network, video: Sequence[Record], longest: int) -> Carried:
    """Carries labels from every frame to the `longest` - 1 next ones."""
    programs = video_programs(network, video[0].image.shape[:2], compare=True)
    classes, variables, found = network.spec["num_classes"], network.variables, {}

    def count(ids, record):
        label = np.full(ids.shape, 255) if record.label is None else record.label
        return np.asarray(metrics.confusion_matrix(ids, jnp.asarray(label), classes), np.int64)

    for start, record in enumerate(video):
        memory, ids = programs.key(variables, record.image)
        found[start, start] = count(ids, record), 0.0
        for number in range(start + 1, min(start + longest, len(video))):
            memory, ids, left = programs.step(variables, video[number].image, memory)
            found[start, number] = count(ids, video[number]), float(left)
    return found


def score(videos: Sequence[Sequence[Record]], carried: Sequence[Carried], longest: int, *choice) -> tuple[float, float]:
    """Returns (mean interval, mIoU) of a choice of keyframes; choice: arguments of `Keyframes`."""
    total, frames, keys = 0, 0, 0
    for video, known in zip(videos, carried):
        for first in range(longest):
            keyframes, last = Keyframes(*choice), first
            for number in range(first, len(video)):
                key = keyframes.due(video[number].image)
                key = key or (keyframes.auto and keyframes.doubtful(known[last, number][1]))
                last = number if key else last
                keyframes.took(key)
                if number >= longest:
                    total, frames, keys = total + known[last, number][0], frames + 1, keys + key
    return frames / keys, float(metrics.iou_scores(total)["miou"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--dataset", default="synthetic_street")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--label-map", default="")
    parser.add_argument("--options", nargs="*", default=[], metavar="K=V", help="of the dataset's builder")
    parser.add_argument("--pieces", type=int, default=0, help="frames of each video, joined with cuts; 0: whole ones")
    parser.add_argument("--longest", type=int, default=10)
    parser.add_argument("--unexplained", type=float, nargs="+", default=[10, 20, 30, UNEXPLAINED, 60, 80])
    arguments = parser.parse_args()
    network = open_network(arguments.checkpoint, kind="propagation")
    videos, longest = streams(arguments, network.label_map), arguments.longest
    long = [video for video in videos if len(video) > longest]
    if not long:
        sys.exit(f"no video has more than {longest} frames, of --longest; give --options frames=N, or --pieces")
    if len(long) < len(videos):
        print(f"{len(videos) - len(long)} of {len(videos)} videos have no more than {longest} frames and are left out")
    videos = long
    carried = [carry(network, video, longest) for video in videos]
    fixed = [score(videos, carried, longest, interval) for interval in range(1, longest + 1)]
    print(f"{arguments.dataset} {arguments.split}: {len(videos)} videos, {sum(map(len, videos))} frames")
    print("fixed: " + ", ".join(f"{interval:.2f} {100 * miou:.2f}" for interval, miou in fixed))
    print("| unexplained | mean interval | auto | fixed | difference |", "|---|---|---|---|---|", sep="\n")
    for most in arguments.unexplained:
        interval, miou = score(videos, carried, longest, "auto", longest, most)
        other = float(np.interp(interval, *zip(*fixed)))
        cells = [f"{most:g}" + " (used)" * (most == UNEXPLAINED), f"{interval:.2f}"]
        print(f"| {' | '.join([*cells, *(f'{100 * x:.2f}' for x in (miou, other))])} | {100 * (miou - other):+.2f} |")


if __name__ == "__main__":
    main()
