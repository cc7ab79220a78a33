"""Random numbers on the host, from a counter-based generator: a function of (seed, epoch, index), not of call order."""

from __future__ import annotations

import numpy as np

# purposes; two of them never share numbers
PLAN, CROP = 1, 2


def generator(seed: int, purpose: int, epoch: int, index: int = 0) -> np.random.Generator:
    """Returns the generator of (seed, purpose, epoch, index): the same on every host, thread and worker.

    seed: 0 or more. Philox (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): the key is
    (seed, purpose), the counter (epoch, index, numbers drawn).
    """
    return np.random.Generator(np.random.Philox(key=[seed, purpose], counter=[0, 0, index, epoch]))
