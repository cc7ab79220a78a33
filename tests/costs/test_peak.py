"""Peak of a program's memory against hand counts of small programs, XLA's plan, and a network."""

import functools

import jax
import jax.numpy as jnp
import pytest

from segjax.costs.peak import peak_memory
from segjax.costs.planned import temporary_bytes
from segjax.costs.programs import Workload, kept_bytes, training_peak

ONE = 256 * 64 * 4  # bytes of the maps below
X, W = jax.ShapeDtypeStruct((256, 64), jnp.float32), jax.ShapeDtypeStruct((64, 64), jnp.float32)


def maps(function, *arguments):
    """Peak in maps, small values left out."""
    return round(peak_memory(function, *(arguments or (X, W))).temporaries / ONE, 2)


def test_a_value_is_freed_after_its_last_use():
    assert maps(lambda x, w: (x @ w @ w @ w).sum()) == 2  # operand and result of the last two products

    def first_used_again(x, w):
        a = x @ w
        return (a @ w @ w * a).sum()

    assert maps(first_used_again) == 3


def test_arguments_and_results_count_apart():
    peak = peak_memory(lambda x, w: (x @ w, jnp.sum(x)), X, W)
    assert (peak.temporaries, peak.arguments, peak.results) == (0, ONE + 64 * 64 * 4, ONE + 4)


def test_dead_code_views_and_broadcast_values_take_no_memory():
    def dead(x, w):
        unused = x @ w @ w  # noqa: F841
        return x.sum()

    assert maps(dead) == 0
    assert maps(lambda x, w: ((x @ w).reshape(64, 256) @ jnp.ones((256, 2))).sum()) == pytest.approx(1, abs=0.02)


def test_arithmetic_and_updates_are_in_place_if_the_operand_is_not_used_later():
    def updated(x, w, again):
        a = x @ w
        b = a.at[3:5].set(0.0)
        return (b @ w).sum() + (a.sum() if again else 0.0)

    assert maps(lambda x, w: jnp.sin(x @ w + 1).sum()) == 1
    assert maps(functools.partial(updated, again=False)) == 2  # b and b @ w
    assert maps(functools.partial(updated, again=True)) == 3
    assert maps(lambda x, w: jnp.pad(x @ w, ((0, 0), (0, 64))).sum()) == 3  # another size: no operand fits


def chain(wrap, activation=lambda z: jnp.sin(jnp.sin(z)), layers=6):
    """The gradient of layers that keep two cosines, or what another activation keeps."""
    layer = wrap(lambda w, x: activation(x @ w))
    return jax.grad(lambda ws, x: functools.reduce(lambda x, w: layer(w, x), ws, x).sum()), [W] * layers, X


def test_remat_is_entered():
    """A layer keeps two cosines and its input, the first of which is an argument; remat keeps the inputs only."""
    assert maps(*chain(lambda layer: layer)) == 2 * 6 + 5
    assert maps(*chain(jax.jit)) == 2 * 6 + 5
    # the inputs of five layers, and two cosines of the last; then the gradient takes the place of each input
    assert maps(*chain(jax.checkpoint)) == 5 + 2


def test_peak_of_a_chain_is_that_of_xla():
    for wrap in (lambda layer: layer, jax.checkpoint):  # the latter fails if XLA removes the barriers
        function, *arguments = chain(wrap, jnp.square)
        planned = temporary_bytes(function, *arguments)
        assert peak_memory(function, *arguments).temporaries == pytest.approx(planned, rel=0.15)


def test_custom_gradients_are_entered():
    @jax.custom_vjp
    def layer(w, x):
        return x @ w

    def backward(kept, g):
        w, x = kept
        return x.T @ g, (g @ w) @ w @ w

    layer.defvjp(lambda w, x: (x @ w, (w, x)), backward)
    assert maps(jax.grad(lambda w, x: layer(w, jnp.sin(x)).sum()), W, X) == 2  # sin(x) and its transpose
    assert maps(jax.grad(lambda x, w: layer(w, x).sum()), X, W) == 2  # g @ w, g @ w @ w; the last is the result


def test_loops_take_their_first_carry_over():
    def scanned(x, w, again=False):
        a = x @ w
        b, rows = jax.lax.scan(lambda c, _: (c @ w, c[:4]), a, None, length=5)
        return b.sum() + rows.sum() + (a.sum() if again else 0.0)

    rows = 5 * 4 * 64 * 4 / ONE
    slice_of_a_round = 4 * 64 * 4 / ONE
    assert maps(scanned) == pytest.approx(2 + rows + slice_of_a_round, abs=0.01)  # the carry of two rounds
    assert maps(functools.partial(scanned, again=True)) == pytest.approx(3 + rows + slice_of_a_round, abs=0.01)

    def looped(x, w):
        return jax.lax.while_loop(lambda c: c.sum() < 9, lambda c: c @ w @ w, x @ w).sum()

    assert maps(looped) == 2


def test_the_largest_branch_counts():
    def branched(x, w, large, again=False):
        a = x @ w
        b = jax.lax.cond(x[0, 0] > 0, large, lambda a: a, a)
        return b.sum() + (a.sum() if again else 0.0)

    w = jnp.ones((64, 64))
    square = 256 * 256 * 4 / ONE
    large = functools.partial(branched, large=lambda a: a @ w @ w @ a.T @ a)
    assert maps(large) == 3 + square  # a, its transpose, a @ w @ w and their product
    freed = functools.partial(branched, large=lambda a: a @ w @ w @ w)
    assert maps(freed) == 2  # the branch frees its argument
    assert maps(functools.partial(freed, again=True)) == 3
    copied = lambda x, w: jax.lax.cond(x[0, 0] > 0, lambda a: a, lambda a: a[::-1], x).sum()  # noqa: E731
    assert maps(copied) == 1  # the result may not be the argument itself


def test_what_is_held_adds_up():
    function, *arguments = chain(lambda layer: layer)
    peak = peak_memory(function, *arguments)
    assert sum(held.size for held in peak.held) == peak.temporaries
    assert peak.held[0].what.startswith("float32[256,64]")
    looped = peak_memory(lambda x, w: jax.lax.fori_loop(0, 3, lambda _, c: c @ w @ w, x @ w).sum(), X, W)
    assert sum(held.size for held in looped.held) == looped.temporaries


def test_peak_of_a_network_is_above_what_it_keeps_and_falls_with_remat():
    plain, remat = (
        Workload(name="swiftnet_r18", size=(64, 96), batch=2, options={"remat": remat}) for remat in (False, True)
    )
    kept, peak = kept_bytes(plain, platform="gpu"), training_peak(plain, platform="gpu")
    assert 0.9 * kept < peak.temporaries < 2 * kept
    assert peak.results > 4 * 11e6  # gradients of 11.8 M parameters
    assert training_peak(remat, platform="gpu").temporaries < 0.85 * peak.temporaries


def test_peak_of_a_ladder_falls_in_the_order_of_the_paper():
    """Table 11 of Kreso et al., on a thin network; every row has the dense layers of the one before, or more."""
    rows = ("", "cat1x1", "layer", "layer+stem+td+up")
    options = {"layout": "32to4", "blocks": (4, 1, 1, 1)}
    peaks = [
        training_peak(Workload(name="ldn121", size=(256, 256), num_classes=3, options={**options, "remat": remat}))
        for remat in rows
    ]
    sizes = [peak.temporaries for peak in peaks]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == len(rows)
    assert sizes[-1] < sizes[0] / 3
