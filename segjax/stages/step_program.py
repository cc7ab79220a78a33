"""A training step as a program that is compiled before there is data; the same for all that is trained."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from segjax import data, parallel
from segjax.data.timeline import Bucket
from segjax.stages.assumed import Program
from segjax.training.placement import argument_groups, compilable
from segjax.training.run import RunPlan
from segjax.training.state import TrainState
from segjax.training.step import Step


def largest_bucket(plan: RunPlan) -> Bucket:
    """Returns the bucket of a run whose batch has the most pixels."""
    return max(plan.timeline.buckets, key=lambda bucket: bucket.batch * bucket.frames * math.prod(bucket.crop))


def replicated_shapes(variables: Any, mesh: Mesh) -> Any:
    """Returns the shapes of variables that every device of the mesh has whole; variables: arrays or shapes."""
    whole = parallel.replicated(mesh)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), variables)


def step_program(
    step_of: Callable[[Bucket], Step],
    state: TrainState,
    samples: data.Samples,
    bucket: Bucket,
    mesh: Mesh,
    *,
    multiple: int,
    spec: Mapping[str, Any],
    useful: Callable[[Bucket], float],
    frozen: Any = None,
    unit: str = "images",
    splits_height: bool = True,
) -> Program:
    """Returns the step of a bucket with its arguments.

    step_of: bucket -> step.
    state: shapes, see `abstract_state`.
    samples: of which only `spec` is asked.
    bucket: shape of the batch.
    mesh: of devices.
    useful: bucket -> FLOPs that the networks need for one sample.
    frozen: shapes of the variables of fixed networks, see `replicated_shapes`; None for none.
    multiple, spec, unit, splits_height: see `Program`.
    """
    frozen = {} if frozen is None else frozen
    step, arguments, shardings = compilable(step_of(bucket), state, data.batch_spec(samples, bucket), mesh, frozen)
    return Program(
        step,
        arguments,
        shardings,
        argument_groups(state, frozen, arguments[1]),
        images=bucket.batch,
        multiple=multiple,
        size=bucket.crop,
        spec=spec,
        trains=True,
        useful=functools.partial(useful, bucket),
        unit=unit,
        frames=bucket.frames,
        splits_height=splits_height,
    )
