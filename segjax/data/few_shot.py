"""Few-shot subsets: n images of each class, none twice (CSST, section 4.6).

Both versions train on "10 samples per class" and less. v1 counts some 200 images for the 19 classes of BDD100K (table
12), so that an image is a sample of one class only, whatever else it shows.

The images are chosen in rounds. In each, every class gets one more image, the rarest class first. A class that shows
no free image takes one of another class, which gets a free one instead, directly or along a chain of classes (an
augmenting path). So a class only stays without image if there is none for it under any choice. A round changes whose
sample an image is, but never drops one: the subset of 1 shot lies in that of 10.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# An image is of a class from this many pixels on: a few pixels are an edge of the annotation rather than an object.
MIN_PIXELS = 16


class Shots(NamedTuple):
    """Result of `choose_shots`.

    keep: bool (n,), the chosen images.
    complete: number of rounds in which each class got an image.
    short: classes that together have too few images, () if every class got all of its own.
    """

    keep: np.ndarray
    complete: int
    short: tuple[int, ...]


def choose_shots(shown: np.ndarray, shots: int, seed: int) -> Shots:
    """Chooses images of each class.

    shown: bool (n, k), whether an image is of a class.
    shots: number of images of each class.
    seed: of the order in which images are preferred.
    """
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(shown))
    images = [order[shown[order, c]] for c in range(shown.shape[1])]
    classes = sorted(range(len(images)), key=lambda c: len(images[c]))
    owner = np.full(len(shown), -1)
    for done in range(shots):
        for c in classes:
            if stuck := _give(c, images, owner):
                return Shots(owner >= 0, done, tuple(sorted(stuck)))
    return Shots(owner >= 0, shots, ())


def _give(c: int, images: list[np.ndarray], owner: np.ndarray) -> set[int]:
    """Gives a class one more image. Returns the classes that share all of their images if there is none, else {}.

    images: of each class, the preferred ones first. owner: class of every image, -1 = free; changed.
    """
    before: dict[int, tuple[int, int] | None] = {c: None}  # class -> (class that wants an image of it, that image)
    queue = [c]
    for one in queue:
        owners = owner[images[one]]
        if (owners < 0).any():
            image = images[one][np.argmax(owners < 0)]
            owner[image] = one
            while (step := before[one]) is not None:
                one, image = step
                owner[image] = one
            return set()
        others, first = np.unique(owners, return_index=True)
        for other, position in zip(others.tolist(), first.tolist()):
            if other not in before:
                before[other] = (one, int(images[one][position]))
                queue.append(other)
    return set(before)
