"""Collectives are read from the HLO of a compiled program, in every way in which XLA writes groups and results."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from segjax.costs.collectives import Collective, Total, collectives, totals
from segjax.parallel import make_mesh

HEAD = "HloModule jit_step, is_scheduled=true, num_partitions=8\n\n"
MAIN = HEAD + "%add (a: f32[], b: f32[]) -> f32[] {{\n}}\n\nENTRY %main (x: f32[8]) -> f32[8] {{\n  {}\n}}\n"


def read(line: str) -> Collective:
    (found,) = collectives(MAIN.format(line))
    return found


@pytest.mark.parametrize(
    "groups, size",
    [
        ("{{0,1,2,3},{4,5,6,7}}", 4),
        ("[4,2]<=[8]", 2),
        ("[2,4]<=[4,2]T(1,0)", 4),
        ("{}", 8),
        ("mesh['x'=2,'y'=4] {'y'}", 4),
        ("mesh['x'=2,'y'=4] {'x','y'}", 8),
        ("mesh['x'=2,'y'=4] {'y':(1)2}", 2),
    ],
)
def test_groups(groups, size):
    line = "%r = f32[64,32]{1,0} all-reduce(%x), channel_id=1, replica_groups=" + groups + ", to_apply=%add"
    found = read(line)
    assert (found.kind, found.group, found.payload, found.times) == ("all-reduce", size, 64 * 32 * 4, 1)
    assert found.sent == 2 * (size - 1) / size * 64 * 32 * 4


@pytest.mark.parametrize(
    "line, kind, payload, sent",
    [
        ("ROOT %r = (f32[8]{0}, bf16[2,3]{1,0:T(8,128)(2,1)S(1)}) all-reduce(%a, %b)", "all-reduce", 44, 77),
        ("%s = f32[8]{0} all-reduce-start(%a)", "all-reduce", 32, 56),
        ("%s = (f32[8]{0:T(128)}, f32[64]{0:T(128)}) all-gather-start(%a), dimensions={0}", "all-gather", 256, 224),
        ("%s = bf16[8]{0} reduce-scatter(%a), dimensions={0}, to_apply=%add", "reduce-scatter", 128, 112),
        ("%s = (s8[8]{0}, s8[8]{0}) all-to-all(%a, %b)", "all-to-all", 16, 14),
        (
            "%s = (f32[2,1]{1,0}, f32[2,1]{1,0}, u32[], u32[]) collective-permute-start(%a), "
            "source_target_pairs={{0,1},{1,0}}",
            "collective-permute",
            8,
            8,
        ),
        ("%s = pred[] all-reduce(%a)", "all-reduce", 1, 1.75),
    ],
)
def test_bytes(line, kind, payload, sent):
    found = read(line)
    assert (found.kind, found.payload, found.sent) == (kind, payload, sent)


@pytest.mark.parametrize(
    "line",
    [
        "%d = f32[8]{0} all-reduce-done(%s)",
        "%f = f32[8]{0} fusion(%all-reduce.1), kind=kLoop, calls=%fused",
        "%p = f32[8]{0} collective-permute(%a), source_target_pairs={{0,0},{1,1}}",
        "%r = f32[8]{0} all-reduce(%a), replica_groups={{0},{1},{2},{3},{4},{5},{6},{7}}",
        '%c = f32[8]{0} add(%a, %b), metadata={op_name="jit(f)/all-reduce(x)"}',
    ],
)
def test_what_is_no_exchange_is_not_counted(line):
    assert collectives(MAIN.format(line)) == []


def test_loops_count_as_often_as_they_run():
    """A loop of known length inside a called computation, in a loop of unknown length."""
    text = HEAD + (
        "%body (p: f32[8]) -> f32[8] {\n  %r = f32[8]{0} all-reduce(%p), to_apply=%add, "
        'metadata={op_name="inner"}\n}\n\n'
        "%outer (p: f32[8]) -> f32[8] {\n  %w = f32[8]{0} while(%p), condition=%c, body=%body, "
        'backend_config={"known_trip_count":{"n":"5"}}\n}\n\n'
        "%dead (p: f32[8]) -> f32[8] {\n  %r = f32[8]{0} all-reduce(%p), to_apply=%add\n}\n\n"
        "ENTRY %main (x: f32[8]) -> f32[8] {\n  %a = f32[8]{0} call(%x), to_apply=%outer\n"
        "  %b = f32[8]{0} while(%a), condition=%c, body=%outer\n}\n"
    )
    (found,) = collectives(text)
    assert found.times == 10 and found.operation == "inner"
    assert totals([found]) == {"all-reduce": Total(10, 320, 560.0)}


@pytest.fixture(scope="module")
def mesh():
    return make_mesh({"data": 4, "space": 2})


def compiled(mesh, function, **arguments):
    def shape(size, spec):
        return jax.ShapeDtypeStruct(size, jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(*spec)))

    return collectives(jax.jit(function).lower(**{n: shape(*a) for n, a in arguments.items()}).compile().as_text())


def test_gradients_are_summed_over_the_data(mesh):
    def gradient(w, x):
        return jax.lax.with_sharding_constraint(
            jax.grad(lambda w: jnp.tanh(x @ w).sum())(w), NamedSharding(mesh, PartitionSpec())
        )

    (found,) = compiled(mesh, gradient, w=((32, 16), ()), x=((8, 32), ("data",)))
    assert (found.kind, found.group, found.payload) == ("all-reduce", 4, 32 * 16 * 4)


def test_a_convolution_exchanges_one_row_and_a_sort_gathers_the_height(mesh):
    def convolution(x, w):
        return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    found = compiled(mesh, convolution, x=((4, 16, 8, 4), ("data", "space")), w=((3, 3, 4, 4), ()))
    assert {one.kind for one in found} == {"collective-permute"}
    assert {one.arrays for one in found} == {("f32[1,1,8,4]",)} and len(found) == 2
    found = compiled(mesh, lambda x: jnp.sort(x, axis=1), x=((4, 16, 8, 4), ("data", "space")))
    assert max(one.payload for one in found if one.kind in ("all-gather", "all-to-all")) >= 16 * 8 * 4 * 4 // 2
