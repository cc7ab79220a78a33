"""Receptive field: the pixels of the image on which one value of a map depends, read from the jaxpr."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.extend import core

from segjax.ops import textbook_convolutions
from segjax.typing import Array, Variables


class Field(NamedTuple):
    """Rows of the image that one value of a map depends on.

    size: number of rows.
    step: rows of the image between two neighbouring rows of the map.
    """

    size: int = 1
    step: int = 1


def receptive_field(fn: Callable[[Variables, Array], Array], variables: Variables, images: Array) -> int:
    """Returns the side, pixels, of the square of the image on which a value far from the borders depends.

    It follows from the windows and strides of convolutions and pooling; between them maps must be equal in size. Means
    over the whole map and enlarged maps are not counted.

    fn: (variables, images (b, h, w, 3)) -> map (b, h', w', c), with square windows.
    variables, images: arrays or shapes.
    """
    with textbook_convolutions():
        closed = jax.make_jaxpr(fn)(variables, images)
    fixed = len(jax.tree.leaves(variables))
    (field,) = _walk(closed.jaxpr, [None] * fixed + [Field()])
    return field.size


def _walk(jaxpr: Any, inputs: list[Field | None]) -> list[Field | None]:
    """Returns the fields of a jaxpr's outputs; None is the field of a value that does not depend on the images."""
    fields = dict(zip(jaxpr.invars, inputs))

    def field_of(var):
        return None if isinstance(var, core.Literal) else fields.get(var)

    for eqn in jaxpr.eqns:
        operands = [field_of(var) for var in eqn.invars]
        inner = next((eqn.params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in eqn.params), None)
        if inner is not None:
            inner = getattr(inner, "jaxpr", inner)
            outputs = _walk(inner, operands[-len(inner.invars) :] if inner.invars else [])
        else:
            largest = max((field for field in operands if field is not None), default=None)
            outputs = [largest and _after(eqn, largest)] * len(eqn.outvars)
        fields.update(zip(eqn.outvars, outputs))
    return [field_of(var) for var in jaxpr.outvars]


def _after(eqn: Any, field: Field) -> Field:
    """Returns the field after an equation, from that of its operands."""
    name, params = eqn.primitive.name, eqn.params
    if name == "conv_general_dilated":
        rows = params["dimension_numbers"].rhs_spec[2]
        window, dilation, stride = (
            eqn.invars[1].aval.shape[rows],
            params["rhs_dilation"][0],
            params["window_strides"][0],
        )
    elif name.startswith("reduce_window"):
        window, dilation, stride = (
            params[key][1] for key in ("window_dimensions", "window_dilation", "window_strides")
        )
    else:
        return field
    return Field(field.size + (window - 1) * dilation * field.step, field.step * stride)
