"""Layouts of ladder networks: the strides of their maps, and what follows from them.

A layout d -> u ("64to4") has the smallest map at 1/d and the classifier at 1/u of the image; without u there is no
ladder. The notation is that of Kreso et al., "Efficient Ladder-style DenseNets".
"""

from __future__ import annotations

from typing import NamedTuple


class Layout(NamedTuple):
    """Strides of a network.

    ups: channels that each TU returns, in units of the network's width; one TU for each halving of the stride.
    stem_stride: of the first convolution.
    output_stride: of the trunk: below 32, its last blocks are dilated instead.
    splits: dense blocks that are halved in the middle.
    grid_rows: of the pyramid pooling.
    """

    ups: tuple[int, ...]
    stem_stride: int = 2
    output_stride: int = 32
    splits: tuple[int, ...] = ()
    grid_rows: tuple[int, ...] = (8, 4, 2, 1)

    @property
    def down(self) -> int:
        """Returns the stride of the smallest map."""
        return self.output_stride * self.stem_stride // 2 * 2 ** len(self.splits)

    @property
    def strides(self) -> list[int]:
        """Returns the strides of the maps of the ladder, coarse to fine, that of the smallest map first."""
        return [self.down // 2**i for i in range(len(self.ups) + 1)]


LAYOUTS: dict[str, Layout] = {
    "32": Layout(()),
    "32to4": Layout((2, 1, 1)),
    "32to2": Layout((2, 1, 1, 2)),  # of the widths tried, those nearest to the size and the FLOPs that the paper prints
    "16to2": Layout((2, 1, 1), stem_stride=1),
    "64to4": Layout((2, 2, 1, 1), splits=(3,)),
    "64to4_s4": Layout((2, 2, 1, 1), splits=(4,)),
    "128to4": Layout((2, 2, 2, 1, 1), splits=(3, 4), grid_rows=(4, 2, 1)),
    "8": Layout((), output_stride=8),
    "8to4": Layout((1,), output_stride=8),
    "16to4": Layout((1, 1), output_stride=16),
}
