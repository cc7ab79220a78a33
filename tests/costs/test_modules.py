"""Costs of modules: multiply-adds against hand counts; saved activations against remat."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from segjax import ops
from segjax.costs.modules import cost_table, module_costs, saved_for_backward
from segjax.costs.products import OTHER
from segjax.models.backbones.densenet import DenseNet
from segjax.models.backbones.resnet import ResNet, resnext50_32x4d
from tests.backbone_tools import Classifier


def shape(*dims):
    return jax.ShapeDtypeStruct(dims, jnp.float32)


def costs(fn, params, images=(1, 8, 10, 3), depth=9):
    return module_costs(fn, {"params": params}, shape(*images), depth=depth)


def macs(fn, params, images=(1, 8, 10, 3)):
    return sum(cost.multiply_adds for cost in costs(fn, params, images).values())


def kernel(*dims):
    return {"conv": {"kernel": shape(*dims)}}


def test_convolution():
    params = {"stem": {"conv": {"kernel": shape(3, 3, 3, 16), "bias": shape(16)}}}

    def net(v, x):
        leaf = v["params"]["stem"]["conv"]
        return ops.conv2d(x, leaf["kernel"], stride=2, padding=1, bias=leaf["bias"])

    (name,) = (found := costs(net, params))
    assert name == "stem.conv"
    assert found[name].multiply_adds == 4 * 5 * 16 * 3 * 3 * 3
    assert found[name].parameters == 3 * 3 * 3 * 16 + 16
    assert found[name].activation_bytes == 4 * 5 * 16 * 4


def test_values_that_enter_a_batch_norm_are_counted_apart():
    """In evaluation, whichever the type of the computation; a product with another leaf is none."""
    params = {"a": {"norm": {"scale": shape(3), "bias": shape(3)}}, "b": {"codes": shape(3)}}
    stats = {"a": {"norm": {"mean": shape(3), "var": shape(3)}}}

    def net(v, x):
        leaf, stat = v["params"]["a"]["norm"], v["batch_stats"]["a"]["norm"]
        x = ops.normalise(x, stat["mean"], stat["var"], **leaf, eps=1e-5, dtype=jnp.bfloat16)
        return x * v["params"]["b"]["codes"]

    found = module_costs(net, {"params": params, "batch_stats": stats}, shape(2, 8, 10, 3), depth=9)
    assert found["a.norm"].norm_values == 2 * 8 * 10 * 3 and found["a.norm"].multiply_adds == 0
    assert found["b"].norm_values == 0


def test_depthwise_counts_the_same_as_shifted_products():
    """Nine shifted multiply-adds stand for a depthwise convolution, whatever conv2d makes of it."""
    params = kernel(3, 3, 1, 12)

    def shifted(v, x):
        k = v["params"]["conv"]["kernel"]
        padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        return sum(padded[:, i : i + 8, j : j + 10] * k[i, j, 0] for i in range(3) for j in range(3))

    def grouped(v, x):
        return ops.conv2d(x, v["params"]["conv"]["kernel"], padding=1, groups=12)

    for net in (shifted, grouped):
        (found,) = costs(net, params, (1, 8, 10, 12)).values()
        assert found.multiply_adds == 8 * 10 * 12 * 9
        assert found.activation_bytes == 8 * 10 * 12 * 4


def test_grouped_convolution_counts_its_own_products():
    """However it is computed: XLA's CPU backend gets dense ones with zeros between the groups."""

    def grouped(v, x):
        return ops.conv2d(x, v["params"]["conv"]["kernel"], padding=1, groups=6)

    assert macs(grouped, kernel(3, 3, 2, 18), (1, 8, 10, 12)) == 8 * 10 * 18 * 9 * 2


def test_transposed_convolution_multiplies_real_pixels_only():
    assert macs(lambda v, x: ops.conv_transpose2d(x, v["params"]["conv"]["kernel"], padding=1), kernel(4, 4, 3, 5)) == (
        pytest.approx(8 * 10 * 4 * 4 * 3 * 5, rel=0.01)
    )


def test_resizing_and_batch_norm_are_free_but_attention_is_not():
    params = {"bn": {"scale": shape(3)}}
    assert macs(lambda v, x: ops.resize(x * v["params"]["bn"]["scale"], (16, 20)), params) == 0
    attention = costs(lambda v, x: jnp.einsum("bhwc,bhvc->bhwv", x, x), params)
    assert attention[OTHER].multiply_adds == 8 * 10 * 10 * 3


def test_loops_count_every_round():
    def scanned(v, x):
        k = v["params"]["conv"]["kernel"]
        return jax.lax.scan(lambda y, _: (ops.conv2d(y, k, padding=1), None), x, None, length=5)[0]

    def from_zeros(v, x):  # the carry holds an activation from its second round only
        k = v["params"]["conv"]["kernel"]
        return jax.lax.scan(lambda y, _: (ops.conv2d(y, k, padding=1) + x, None), jnp.zeros(x.shape), None, length=5)[0]

    for net in (scanned, from_zeros):
        assert macs(net, kernel(3, 3, 3, 3)) == 5 * 8 * 10 * 3 * 3 * 9


def with_own_jvp(fn):
    fn = jax.custom_jvp(fn)
    fn.defjvps(lambda t, out, k, x: out, lambda t, out, k, x: out)
    return fn


def with_own_vjp(fn):
    fn = jax.custom_vjp(fn)
    fn.defvjp(lambda k, x: (fn(k, x), None), lambda _, g: (g, g))
    return fn


@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint, with_own_jvp, with_own_vjp])
def test_wrapped_functions_are_looked_into(wrap):
    net = wrap(lambda k, x: x @ k)
    assert macs(lambda v, x: net(v["params"]["conv"]["kernel"], x), kernel(3, 7)) == 8 * 10 * 3 * 7


def test_depth_groups_by_dotted_names_in_the_order_they_run():
    params = {"z.0": kernel(1, 1, 3, 3), "a": {"b": kernel(1, 1, 3, 3), "c": kernel(1, 1, 3, 3)}}

    def net(v, x):
        p = v["params"]
        for leaf in (p["z.0"], p["a"]["c"], p["a"]["b"]):
            x = ops.conv2d(x, leaf["conv"]["kernel"])
        return x

    assert list(costs(net, params, depth=1)) == ["z", "a"]
    assert list(costs(net, params, depth=2)) == ["z.0", "a.c", "a.b"]
    assert cost_table(costs(net, params)).row_count == 3


def test_saved_for_backward_counts_activations_and_sees_remat():
    params = {f"w{i}": shape(4, 4) for i in range(6)}

    def net(params, x, wrap=lambda f: f):
        layer = wrap(lambda w, x: jnp.sin(jnp.sin(x @ w)))
        for w in params.values():
            x = layer(w, x)
        return x

    image = shape(32, 4)
    one = 32 * 4 * 4
    plain = sum(saved_for_backward(net, params, image).values())
    remat = sum(saved_for_backward(lambda p, x: net(p, x, jax.checkpoint), params, image).values())
    assert plain >= 12 * one  # two cosines per layer, and the input of each but the first
    assert remat == 5 * one  # the input of each layer but the first, which is given


def test_what_training_keeps_is_told_module_by_module():
    """A convolution keeps its input, ReLU a mask, and nothing that parameters alone determine."""
    params = {"a": {"conv": {"kernel": shape(1, 1, 3, 4)}}, "b": {"kernel": shape(1, 1, 4, 5)}}

    def net(params, x):
        with jax.named_scope("a"), jax.named_scope("conv"):
            x = jnp.tanh(ops.conv2d(x, 2 * params["a"]["conv"]["kernel"]))
        x = jnp.sin(x)  # between the modules
        with jax.named_scope("b"):
            return jax.nn.relu(ops.conv2d(x, params["b"]["kernel"]))

    saved = saved_for_backward(net, params, shape(1, 8, 10, 3), depth=9)
    pixels = 8 * 10
    assert saved["b"] == pixels * 4 * 4 + pixels * 5  # what the convolution sees, and one bool for each of its results
    assert 2 * pixels * 4 * 4 <= saved["a.conv"] <= 4 * pixels * 4 * 4  # cosine, tanh and what its derivative needs
    assert set(saved) == {"a.conv", "b"}
    assert saved_for_backward(net, params, shape(1, 8, 10, 3), depth=1) == {"a": saved["a.conv"], "b": saved["b"]}


@pytest.mark.parametrize(
    "trunk, giga",
    [
        (partial(ResNet, 18), 1.814), (partial(ResNet, 34), 3.664), (partial(ResNet, 50), 4.089),
        (partial(ResNet, 101), 7.801), (resnext50_32x4d, 4.23), (partial(DenseNet, 121, norm5=True), 2.834),
        (partial(DenseNet, 161, norm5=True), 7.728), (partial(DenseNet, 169, norm5=True), 3.36),
    ],
)  # fmt: skip
def test_multiply_adds_of_trunks_are_those_of_torchvision_table(trunk, giga):
    """At 224x224, with the classifier on 1000 classes."""
    module = Classifier(trunk, "fc")
    images = shape(1, 224, 224, 3)
    variables = jax.eval_shape(module.init, jax.random.key(0), images)
    found = module_costs(lambda v, x: module.apply(v, x).logits, variables, images)
    assert sum(cost.multiply_adds for cost in found.values()) / 1e9 == pytest.approx(giga, abs=6e-4)
