"""Random numbers on the host, from a counter-based generator: a function of (seed, epoch, index), not of an order."""

from __future__ import annotations

import numpy as np

# what the numbers are for; two purposes never share numbers
PLAN, CROP = 1, 2


def generator(seed: int, purpose: int, epoch: int, index: int = 0) -> np.random.Generator:
    """Returns the generator of one place: the same on every host, thread and worker, whatever was drawn before.

    seed: 0 or more. Philox (Salmon et al., 2011): key = (seed, purpose), counter = (epoch, index, numbers drawn).
    """
    return np.random.Generator(np.random.Philox(key=[seed, purpose], counter=[0, 0, index, epoch]))
