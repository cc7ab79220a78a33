"""What the tests of batches share: a digest, and small videos that worker processes can import."""

import hashlib

import numpy as np

from segjax.data import Triplets
from segjax.data.video import FrameIndex
from tests.video_tools import Table, pair_flow, random_records


def digest(batches) -> str:
    """16 hex digits of (step, batch)s: steps, names, types, shapes and values."""
    found = hashlib.sha256()
    for step, batch in batches:
        found.update(f"{step}".encode())
        for name, array in sorted(batch.items()):
            found.update(f" {name} {array.dtype} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


class Video:
    """Two random videos of 5 and 4 frames."""

    def __init__(self, size=(20, 24)):
        self.index = Table((5, 4), size=size)
        self.records = random_records(self.index)

    def __getitem__(self, number):
        return self.records[number]


def random_triplets() -> Triplets:
    return Triplets(FrameIndex(Video()))


def pairs(a, b):
    """A RecordFlow: a random field that depends on the pair of frames only."""
    return np.stack([pair_flow(one, other) for one, other in zip(a, b)])
