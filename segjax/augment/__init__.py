"""Augmentation on the device, inside the jitted step: pure functions of one example, mapped over the batch by vmap."""

from segjax.augment.batch import augment_batch
from segjax.augment.photometric import NORMALISATION, denormalise, normalisation, normalise

__all__ = ["NORMALISATION", "augment_batch", "denormalise", "normalisation", "normalise"]
