"""Crop schedules: the crop and the batch of each epoch (CSST, section 3.3 and figure 5; v1 has the same in figure 2).

Small crops cost less and leave room for larger batches. Both versions name four schedules, for crops of 800, 180 epochs
and another crop "every 30 epochs". v1 gives the crops, 400, 480, 560, 640, 720 and 800: six in equal steps from half to
full size. Both let the batch grow from 16 to 64, which is 16 images' pixels at a quarter of the area; how it grows in
between is not said. Here a batch has as many images as fit the pixels of the full crop's.

    coarse2fine    400 400 .. 480 480 .. 800 800 ..     each crop for as many epochs
    coarse2fine+   400 480 560 640 720 800 400 480 ..   another crop every epoch
    fine2coarse, fine2coarse+                           the same from back to front

The mean crop has 0.592 of the full one's pixels, 1.69x less work. v2 measured 1.7x without warm-up (section 4.3.5), v1
1.8x without and 1.7x with one, 20 epochs at the full crop (table 4).
"""

from __future__ import annotations

from collections.abc import Sequence

from segjax.data.timeline import Bucket
from segjax.errors import UserError, did_you_mean

KINDS = ("constant", "coarse2fine", "coarse2fine+", "fine2coarse", "fine2coarse+")
WARMUPS = ("full", "smallest")


def crop_schedule(
    kind: str,
    epochs: int,
    crop: tuple[int, int],
    batch: int,
    batch_divisor: int = 1,
    *,
    levels: int = 6,
    smallest: float = 0.5,
    max_batch: int | None = None,
    divisor: int = 16,
    warmup_epochs: int = 0,
    warmup: str = "full",
) -> list[Bucket]:
    """Returns the crop and batch of every epoch.

    kind: one of KINDS. Schedules with + end at the full crop (fine2coarse+: begin with it): if the epochs are no
        multiple of the levels, the first round (fine2coarse+: the last) is the one that is not whole.
    crop, batch: full crop (h, w), and images per step at the full crop.
    levels, smallest: number of crops, and the sides of the smallest as a fraction of the full ones.
    max_batch: largest batch, by default 64, or `batch` if that is larger. A smaller crop's batch has no more pixels
        than the full crop's, and no fewer images.
    divisor: the sides of crops are full side - n * divisor: multiples of it if the full side is one, and 769, 753, ..
        for networks that require 1 more than a multiple.
    batch_divisor: devices x micro-batches, and groups of batch norms; every batch is a multiple of it.
    warmup_epochs: number of first epochs before the schedule of any kind begins.
    warmup: their crop, one of WARMUPS: "full" as v1 does ("a large crop size of 800 in the first 20 epochs", table 4),
        or "smallest", which costs least.

    Raises UserError for an unknown kind or warmup, and for numbers that are out of range or do not divide each other.
    """
    if kind not in KINDS:
        raise UserError(f"crop.schedule={kind!r} is not known.{did_you_mean(kind, KINDS)}")
    if warmup not in WARMUPS:
        raise UserError(f"crop.warmup={warmup!r} is not known.{did_you_mean(warmup, WARMUPS)}")
    max_batch = max(64, batch) if max_batch is None else max_batch
    _check(epochs, crop, batch, levels, smallest, max_batch, divisor, batch_divisor, warmup_epochs)
    sizes = _sizes(crop, levels, smallest, divisor)
    rest = epochs - warmup_epochs
    if kind == "constant":
        order = [crop] * rest
    elif kind.endswith("+"):
        order = [
            sizes[(epoch - rest) % levels] for epoch in range(rest)
        ]  # counted from the end, where the crop is full
    else:
        order = [sizes[-(-(epoch + 1) * levels // rest) - 1] for epoch in range(rest)]
    if kind.startswith("fine2coarse"):
        order.reverse()
    order = [crop if warmup == "full" else sizes[0]] * warmup_epochs + order
    return [Bucket(size, _batch(size, crop, batch, max_batch, batch_divisor)) for size in order]


def fit_batches(
    shapes: Sequence[Bucket], lengths: Sequence[int], batch: int, batch_divisor: int = 1
) -> tuple[list[Bucket], dict[Bucket, int]]:
    """Cuts batches that have grown above an epoch's samples to the largest that the epoch holds.

    shapes: crop and batch of every epoch.
    lengths: samples of every epoch.
    batch: images per step at the full crop, which is never cut.
    batch_divisor: every batch stays a multiple of it.

    Returns (shapes, {shape before: smallest batch after} of those that were cut).
    """
    fitted, cut = [], {}
    for shape, length in zip(shapes, lengths, strict=True):
        most = max(batch, length // batch_divisor * batch_divisor)
        if shape.batch > most:
            cut[shape] = min(cut.get(shape, most), most)
        fitted.append(Bucket(shape.crop, min(shape.batch, most)))
    return fitted, cut


def relative_work(shapes: list[Bucket], crop: tuple[int, int]) -> float:
    """Returns the mean pixels per image as a fraction of the full crop's; its inverse is the expected speed-up."""
    return sum(shape.crop[0] * shape.crop[1] for shape in shapes) / (len(shapes) * crop[0] * crop[1])


def _sizes(crop: tuple[int, int], levels: int, smallest: float, divisor: int) -> list[tuple[int, int]]:
    # from smallest to full
    fractions = [1.0] if levels == 1 else [smallest + (1 - smallest) * i / (levels - 1) for i in range(levels)]
    less = lambda side, f: min(round(side * (1 - f) / divisor), (side - 1) // divisor)  # noqa: E731
    return [tuple(side - divisor * less(side, f) for side in crop) for f in fractions]


def _batch(size: tuple[int, int], crop: tuple[int, int], batch: int, max_batch: int, batch_divisor: int) -> int:
    room = batch * crop[0] * crop[1] // (size[0] * size[1])
    return max(batch, min(room, max_batch) // batch_divisor * batch_divisor)


def _check(epochs, crop, batch, levels, smallest, max_batch, divisor, batch_divisor, warmup_epochs) -> None:
    if len(crop) != 2 or min(crop) < 1:
        raise UserError(f"crop.size={tuple(crop)} must be (height, width) in pixels.")
    if epochs < 1 or levels < 1 or divisor < 1 or batch_divisor < 1 or batch < 1:
        raise UserError(
            f"crop schedule with epochs={epochs}, levels={levels}, divisor={divisor}, batch_divisor={batch_divisor}, "
            f"batch_size={batch}: each must be 1 or more."
        )
    if not 0.0 < smallest <= 1.0:
        raise UserError(f"crop.smallest={smallest} must be above 0 and at most 1, a fraction of crop.size.")
    if not 0 <= warmup_epochs <= epochs:
        raise UserError(f"crop.warmup_epochs={warmup_epochs} must be from 0 to the run's {epochs} epochs.")
    if batch % batch_divisor:
        raise UserError(
            f"batch_size={batch} must be a multiple of {batch_divisor} (devices x accumulate_steps, "
            "and bn_groups x accumulate_steps); "
            f"try {max(1, round(batch / batch_divisor)) * batch_divisor}."
        )
    if max_batch < batch:
        raise UserError(f"crop.max_batch={max_batch} is below batch_size={batch}; raise it, or lower batch_size.")
