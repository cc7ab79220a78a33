"""Stage "train": a network on the labelled images of a split."""

from __future__ import annotations

import functools
import json
import logging
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from segjax import augment, data, parallel, training
from segjax.errors import UserError
from segjax.stages import build
from segjax.stages.settings import as_text, check_keys, options_of, plain
from segjax.training.buckets import CompiledSteps
from segjax.training.checkpoints import Checkpoints
from segjax.training.loop import Schedule, Segment, train
from segjax.training.state import init_state
from segjax.training.step import make_train_step

log = logging.getLogger("segjax")
