"""Pictures of the stage "evaluate_video": labels of all systems; edges and errors of warped labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segjax import data, visualize
from segjax.evaluation.edge_errors import warped_maps
from segjax.evaluation.snippets import MAIN
from segjax.evaluation.video_systems import System

TILE_WIDTH = 320


def video_pictures(
    systems: Sequence[System], snippets: data.Snippets, count: int, *, heading: str, edges: bool
) -> dict[str, np.ndarray]:
    """Draws `count` frames, spread evenly; returns pictures uint8 (h, w, 3) by the names of their files.

    sheet.png: frame | truth | the labels of each system, from the farthest keyframe.
    edges_NAME.png, if `edges`, for each system that edges guide: see `edge_row`.
    """
    if not count:
        return {}
    numbers = np.unique(np.linspace(0, len(snippets) - 1, num=count).astype(int))
    shown = []
    for number in numbers:
        frames = snippets.frames(int(number), snippets.before + 1)
        shown.append((snippets.names[number], np.stack([frame.image for frame in frames]), frames[-1].label))
    source = snippets.index.source

    def draw(tiles: Sequence[Sequence[np.ndarray]], titles: Sequence[str], heading: str) -> np.ndarray:
        captions = [[name, *titles] for name, _, _ in shown]
        texts = dict(captions=captions, heading=heading, tile_width=TILE_WIDTH)
        return visualize.labelled_sheet(tiles, source.class_names, source.palette, **texts)

    rows = []
    for _, images, label in shown:
        found = [np.asarray(one.predict(one.variables, images[None])[MAIN])[0] for one in systems]
        rows.append([images[-1], *(visualize.colorize(ids, source.palette) for ids in (label, *found))])
    drawn = {"sheet.png": draw(rows, ["truth", *(one.name for one in systems)], heading)}
    for one in systems:
        if edges and one.guided:
            tiles = [edge_row(one, images, label, source.palette) for _, images, label in shown]
            title = f"{heading}: {one.name}, one frame after a keyframe"
            drawn[f"edges_{one.name}.png"] = draw(tiles, ["warped", "edges", "errors"], title)
    return drawn


def edge_row(system: System, images: np.ndarray, label: np.ndarray, palette: np.ndarray) -> list[np.ndarray]:
    """Returns frame | warped labels | edges | errors, uint8 (h, w, 3); unlabelled pixels are grey in the last.

    images: uint8 (t, h, w, 3). label: true ids (h, w) of the last one.
    """
    maps = warped_maps(system.module, system.variables, images[None], label[None], normalisation=system.normalisation)
    found = {name: np.asarray(x[0]) for name, x in maps.items()}
    errors = np.where(found["labelled"], 255 * found["wrong"], 128)
    grey = [x.astype(np.uint8)[..., None].repeat(3, axis=-1) for x in (255 * found["edge"], errors)]
    return [images[-1], visualize.colorize(found["ids"], palette), *grey]
