"""Labels moved by smooth random fields: a control of studies; wrong near outlines, as propagated labels are."""

from __future__ import annotations

import hashlib

import cv2
import numpy as np

SMOOTH = 16.0  # pixels; standard deviation of the Gaussian that smooths the field


def shift_label(label: np.ndarray, pixels: float, key: str) -> np.ndarray:
    """Returns a label whose pixels are taken from `pixels` away, by a smooth random field; the border is repeated.

    label: uint8 (h, w).
    pixels: root mean square of the distances.
    key: of the field; the same key gives the same field.
    """
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
    noise = np.random.default_rng(seed).standard_normal((*label.shape, 2)).astype(np.float32)
    field = cv2.GaussianBlur(noise, (0, 0), SMOOTH, borderType=cv2.BORDER_REFLECT_101)
    field *= pixels / np.sqrt(np.square(field).sum(-1).mean())
    x, y = np.meshgrid(np.arange(label.shape[1], dtype=np.float32), np.arange(label.shape[0], dtype=np.float32))
    return cv2.remap(label, x + field[..., 0], y + field[..., 1], cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
