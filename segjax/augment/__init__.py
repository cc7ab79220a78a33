"""Augmentation in the jitted step: pure functions of one example, then vmap over the batch."""

from segjax.augment.batch import augment_batch
from segjax.augment.photometric import NORMALISATION, denormalise, normalisation, normalise

__all__ = ["NORMALISATION", "augment_batch", "denormalise", "normalisation", "normalise"]
