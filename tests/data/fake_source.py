"""A source in memory; in a file of its own, so that worker processes can import it."""

import numpy as np

from segjax.data.sources import Record
from segjax.errors import UserError


class FakeSource:
    """Images whose red channel is the row, green the column and blue the record; labels are 0..k-1 by place.

    reads, images: number of records and labels read, and of images.
    """

    label_map = None
    top_k = 0

    def __init__(self, count=10, sizes=((24, 32),), num_classes=4, damaged=None, unlabelled=None, shift=0):
        self.count, self.num_classes, self.damaged, self.unlabelled = count, num_classes, damaged, unlabelled
        self.sizes = np.array([sizes[i % len(sizes)] for i in range(count)], np.int32).reshape(-1, 2)
        self.shift, self.reads, self.images = shift, 0, 0

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        label = self.label(index)
        self.images += 1
        height, width = self.sizes[index]
        y, x = np.mgrid[:height, :width]
        image = np.stack([y % 256, x % 256, np.full_like(y, index)], -1).astype(np.uint8)
        return Record(image, label, f"fake-{index}", "fake", index)

    def label(self, index):
        self.reads += 1
        if index == self.damaged:
            raise UserError(f"fake-{index}.png is damaged; copy it again")
        if index == self.unlabelled:
            return None
        height, width = self.sizes[index]
        y, x = np.mgrid[:height, :width]
        label = ((y // 4 + x // 4 + index + self.shift) % self.num_classes).astype(np.uint8)
        label[:2] = 255
        return label

    @property
    def names(self):
        return [f"fake-{i}" for i in range(self.count)]

    @property
    def class_names(self):
        return tuple("abcdefgh"[: self.num_classes])

    @property
    def own_classes(self):
        return tuple(range(self.num_classes))

    @property
    def palette(self):
        return np.arange(3 * self.num_classes, dtype=np.uint8).reshape(-1, 3)


class SoftSource(FakeSource):
    """With soft labels of two classes: the label, and the next class with a probability that grows to the right."""

    top_k = 2

    def __getitem__(self, index):
        record = super().__getitem__(index)
        label = record.label
        record.soft_ids = np.stack([label, np.where(label == 255, 255, (label + 1) % self.num_classes)], -1)
        unsure = np.broadcast_to(np.arange(label.shape[1], dtype=np.uint8), label.shape)
        shares = np.stack([255 - unsure, unsure], -1)
        record.soft_shares = np.where(record.soft_ids == 255, 0, shares).astype(np.uint8)
        return record
