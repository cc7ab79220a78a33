"""A baseline of video networks: logits moved by the optical flow of OpenCV between whole frames, on the host."""

from __future__ import annotations

import os

import cv2
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from segjax.errors import UserError
from segjax.models.propagation import Propagation
from segjax.ops import resize
from segjax.typing import Array


class DisWarp(Propagation):
    """Warps logits by dense inverse search (Kroeger et al., ECCV 2016), and corrects nothing; it has no parameters."""

    full_frames = True

    @nn.compact
    def __call__(
        self, state: Array, image: Array, before: Array, train: bool = False, train_flow: bool = False
    ) -> Array:
        """Returns the logits of a frame; image, before: (b, h, w, 3) in 0..255.

        Raises UserError as `check_threads` does.
        """
        check_threads()
        shape = jax.ShapeDtypeStruct((*image.shape[:3], 2), jnp.float32)
        flow = jax.pure_callback(self._flow, shape, image, before, vmap_method="sequential")
        (h, w), grid = image.shape[1:3], state.shape[1:3]
        cells = jnp.array([max(grid[1] - 1, 1) / max(w - 1, 1), max(grid[0] - 1, 1) / max(h - 1, 1)], jnp.float32)
        return self.warped(state, resize(flow, grid, align_corners=True) * cells)

    def _flow(self, images: np.ndarray, before: np.ndarray) -> np.ndarray:
        """Returns the flow from each image into the one before; equal pairs in a row are computed once."""
        images, before = np.asarray(images), np.asarray(before)
        method, found = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM), []
        for row, pair in enumerate(zip(images, before)):
            if row and all(np.array_equal(one, two) for one, two in zip(pair, (images[row - 1], before[row - 1]))):
                found.append(found[-1])
                continue
            greys = [cv2.cvtColor(np.clip(x, 0, 255).astype(np.uint8), cv2.COLOR_RGB2GRAY) for x in pair]
            found.append(method.calc(*greys, None))
        return np.stack(found).astype(np.float32)


def check_threads() -> None:
    """Raises UserError on a CPU with one core, where a program that calls OpenCV would wait for ever.

    The call occupies the only thread of XLA, and jax needs another one to hand over its arguments (jax 0.10).
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # as XLA counts
    if "NPROC" in os.environ or jax.default_backend() != "cpu" or jax.local_device_count() > 1 or cores > 1:
        return
    raise UserError(
        "warp_dis calls OpenCV from a compiled program, which needs two threads, and this process has one core; set "
        "NPROC=2 in its environment, or leave warp_dis out of the baselines."
    )
