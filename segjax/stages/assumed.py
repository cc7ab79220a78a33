"""The data that a stage's program is compiled for before there is any: number of classes and size of the images.

A program depends on nothing else of the data; the number of images changes only constants of the schedule.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from segjax import parallel
from segjax.costs.program import network_flops
from segjax.data.builds import dataset_names, published_facts
from segjax.errors import UserError
from segjax.ops import for_platform
from segjax.stages.dataset import Dataset
from segjax.typing import Variables

IMAGES = 10_000  # of a split whose number of images is not published


@dataclasses.dataclass(frozen=True)
class AssumedImages:
    """Stands for the records of a split, which cannot be read: a `data.Source` without images.

    class_names: in the order of the train ids.
    size: (h, w) of every image, pixels.
    count: number of records.
    top_k: classes that soft labels keep per pixel, 0 without soft labels.
    """

    class_names: tuple[str, ...]
    size: tuple[int, int]
    count: int = IMAGES
    top_k: int = 0

    def __len__(self) -> int:
        return self.count

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def sizes(self) -> np.ndarray:
        """Height and width of the records, int32 (n, 2)."""
        return np.tile(np.array(self.size, np.int32), (self.count, 1))


@dataclasses.dataclass(frozen=True)
class Assumed:
    """What a stage is compiled for, see `Stage.program`.

    images: of the dataset.
    mesh: of devices, which may be those of another machine.
    seed: of the stage.
    spec_of: checkpoint -> spec of its network, see `Preview.spec_of`.
    sized: whether the size of the images was given, and so is that of one's own frames too.
    """

    images: AssumedImages
    mesh: Mesh
    seed: int
    spec_of: Callable[[str], Mapping[str, Any]]
    sized: bool = False


@dataclasses.dataclass(frozen=True)
class Program:
    """The largest program of a stage, ready to be compiled.

    step: function of arrays.
    arguments: shapes with shardings.
    shardings: of the results; None leaves them to XLA, and donates no argument.
    groups: name -> arguments, for the memory plan.
    images: number of images, or of other samples, of one call, over all devices.
    multiple: number that divides every batch.
    size: (h, w) of the images that the network sees, pixels.
    spec: of the network.
    trains: whether it has a backward pass.
    useful: () -> FLOPs that the networks need for one image, without what is computed again.
    unit: noun for the samples.
    frames: of a sample of video.
    splits_height: whether devices may share the height of an image.
    """

    step: Any
    arguments: tuple[Any, ...]
    shardings: Any
    groups: Mapping[str, Any]
    images: int
    multiple: int
    size: tuple[int, int]
    spec: Mapping[str, Any]
    trains: bool
    useful: Callable[[], float]
    unit: str = "images"
    frames: int = 1
    splits_height: bool = True


def assumed_images(
    dataset: Dataset, *, size: tuple[int, int] | None = None, classes: int | None = None, split: str = "train"
) -> AssumedImages:
    """Returns what is known of a dataset's images without reading them; a size or number of classes overrides it.

    dataset: which.
    size: (h, w) of the images before they are resized; None for that of the published images.
    classes: number; None for those of the dataset's label map.
    split: for the number of images.

    Raises UserError with the flag to give if the size or the classes are not published.
    """
    about = published_facts(dataset.name) if dataset.name in dataset_names() else None
    names = tuple(f"class {number}" for number in range(classes)) if classes else dataset.class_names()
    if not names:
        raise UserError(f"the classes of {dataset.name!r} are not known before it is built; give --classes=NUMBER.")
    published = re.search(r"(\d+)x(\d+)", about.size) if about else None
    if size is None and published is None:
        raise UserError(f"the size of the images of {dataset.name!r} is not known; give --size=HEIGHTxWIDTH.")
    size = size or (int(published[1]), int(published[2]))
    if dataset.resize:
        size = tuple(map(int, dataset.resize.sizes(np.array([size]))[0]))
    return AssumedImages(names, size, (about.images if about else {}).get(dataset.splits.get(split, split), IMAGES))


def labelling_program(
    predict: Any, spec: Mapping[str, Any], variables: Variables, shape: tuple[int, int, int, int], mesh: Mesh
) -> Program:
    """Returns the program that labels a batch.

    predict: (variables, images uint8) -> class ids, see `inference.network.class_ids`.
    spec: of the network.
    variables: shapes.
    shape: of the images (b, h, w, 3); the height is split over the axis "space" of the mesh only if it is divisible.
    mesh: of devices.
    """
    sharding = parallel.batch_sharding(
        mesh, 4, space_axis=1 if shape[1] % parallel.axis_size(mesh, "space") == 0 else None
    )
    images = jax.ShapeDtypeStruct(shape, np.uint8, sharding=sharding)
    whole = parallel.replicated(mesh)
    variables = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), variables)
    return Program(
        for_platform(predict, mesh.devices.flat[0].platform),
        (variables, images),
        None,
        {"parameters": variables, "batch": images},
        images=shape[0],
        multiple=parallel.axis_size(mesh, "data"),
        size=shape[1:3],
        spec=spec,
        trains=False,
        useful=functools.partial(network_flops, spec, shape[1:3], trains=False),
    )
