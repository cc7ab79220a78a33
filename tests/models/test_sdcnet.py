"""SDC-Net and FlowNetS: equality with the published networks, any size, the first weights, names and layouts."""

import json
from contextlib import nullcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from segjax import models, weights
from segjax.errors import UserError
from segjax.models.flownets import FlowNetS
from segjax.models.sdcnet import SDCNet2D, pad_flows, pad_reflect
from segjax.ops import bilinear_warp
from segjax.training.video_step import RELEASED, video_loss
from segjax.weights.names import to_state_dict
from tests.parity_tools import FIXTURES, assert_output, formula, generator, load_spec, to_flax, torch_name

NETS = {"sdcnet2d": (2, 4e-5, 5e-5, 0.05), "sdcnet2d_recon": (3, 2e-5, 5e-5, 1e-3)}
by_net = pytest.mark.parametrize("name", NETS)


def run(function, *args):
    return jax.jit(function)(*args)


def fill(module, *inputs, dtype=np.float32):
    """Variables by formula of the tensor's name; kinds follow from the leaves."""
    shapes = flatten_dict(jax.eval_shape(lambda: module.init(jax.random.key(0), *inputs)))
    filled = {}
    for path, leaf in shapes.items():
        kind = {"kernel": "conv", "kernel_t": "deconv", "bias": "bias"}[path[-1]]
        h, w, *rest = leaf.shape if kind != "bias" else (0, 0)
        shape = {"conv": (*rest[::-1], h, w), "deconv": (*rest, h, w), "bias": leaf.shape}[kind]
        filled[path] = to_flax(formula(torch_name(path), shape, kind), kind).astype(dtype)
    return unflatten_dict(filled)


def zeros(frames, size=(64, 64)):
    return jnp.zeros((1, frames, *size, 3)), jnp.zeros((1, frames - 1, *size, 2))


def stored_inputs(stored, dtype=np.float32):
    """frames (n, 3, h, w, 3) RGB, flows; the published network reads BGR, the stored channels are in its order."""
    frames = stored["in__frames"].transpose(0, 1, 3, 4, 2)[..., ::-1].astype(dtype)
    return frames, stored["in__flows"].transpose(0, 1, 3, 4, 2).astype(dtype)


@by_net
def test_names_and_parameter_count_are_the_published_ones(name, parity):
    spec = load_spec(parity / name)
    module = models.create_video(name)
    shapes = flatten_dict(jax.eval_shape(lambda: module.init(jax.random.key(0), *zeros(NETS[name][0]))))
    published = {tensor: tuple(shape) for tensor, shape, kind in spec["tensors"] if kind != "other"}
    assert {torch_name(path) for path in shapes} == set(published)
    assert sum(int(np.prod(leaf.shape)) for leaf in shapes.values()) == spec["params"]


@pytest.mark.slow
@by_net
@pytest.mark.parametrize("case", [0, 1])
def test_eval_outputs_equal_the_published_network(name, case, parity):
    frames, tolerance, *_ = NETS[name]
    stored = np.load(parity / name / f"case{case}.npz")
    module = models.create_video(name)
    variables = fill(module, *zeros(frames))
    images, flows = stored_inputs(stored)

    def forward(v, images, flows):
        output, state = module.apply(v, images[:, :frames], flows, capture_intermediates=True, mutable="intermediates")
        return output, {k: nn_value["__call__"][0] for k, nn_value in state["intermediates"].items() if "." in k}

    output, maps = run(forward, variables, images, flows)
    assert_output(stored, "flow", output.flow, tolerance)
    assert_output(stored, "warped", output.frame[..., ::-1], tolerance)
    for layer in ("conv2", "conv4_1", "conv6_1", "deconv2"):
        ours = np.asarray(jax.nn.leaky_relu(maps[f"{layer}.0"], 0.1)).transpose(0, 3, 1, 2)
        np.testing.assert_allclose(ours.mean((2, 3)), stored[f"mid__{layer}__chmean"], atol=3e-5)
    label = stored["in__label"].transpose(0, 2, 3, 1)
    moved = bilinear_warp(label, output.flow, method="nearest")[..., 0]
    assert (np.asarray(moved) != stored["out__warped_label_nn"][:, 0]).mean() <= 0.002


@pytest.mark.slow
@by_net
@pytest.mark.parametrize("x64", [False, True], ids=["float32", "float64"])
def test_training_gradients_equal_the_published_network(name, x64, parity):
    frames, _, tolerance, gradients = NETS[name]
    tolerance, gradients = (1e-5, 1e-5) if x64 else (tolerance, gradients)
    stored = np.load(parity / name / "case2.npz")
    dtype = np.float64 if x64 else np.float32
    with jax.enable_x64(True) if x64 else nullcontext():
        module = models.create_video(name, dtype="float64" if x64 else "float32")
        variables = fill(module, *zeros(frames), dtype=dtype)
        images, flows = stored_inputs(stored, dtype)
        cotangents = [
            generator("cotangent" + i).standard_normal(s).astype(np.float32).astype(dtype)
            for i, s in (("", (2, 2, 64, 64)), ("1", (2, 3, 64, 64)), ("2", (4,)))
        ]

        def scalar(params):
            output = module.apply({"params": params}, images[:, :frames], flows, train=True)
            total, terms = video_loss(
                output.frame, output.flow, jnp.asarray(images[:, 2]), jnp.ones(2, dtype), weights=RELEASED
            )
            losses = jnp.stack([terms["color"], terms["gradient"], terms["smooth"], total])
            outs = (output.flow.transpose(0, 3, 1, 2), output.frame[..., ::-1].transpose(0, 3, 1, 2), losses)
            return sum((o * c).sum() for o, c in zip(outs, cotangents)), outs

        (value, (flow, warped, losses)), grads = run(jax.value_and_grad(scalar, has_aux=True), variables["params"])
        norms = {torch_name(("params", *p)): np.linalg.norm(np.asarray(g)) for p, g in flatten_dict(grads).items()}
    for ours, key in ((flow, "flow"), (warped, "warped"), (losses, "losses")):
        reference = stored[f"out__{key}"]
        assert np.abs(np.asarray(ours) - reference).max() <= tolerance * np.abs(reference).max(), key
    largest = stored["grad_norms"].max()
    for tensor, reference in zip(stored["grad_names"], stored["grad_norms"]):
        assert abs(norms[tensor] - reference) <= gradients * (reference + 1e-3 * largest), tensor
    if x64:
        assert abs(value - stored["loss"]) <= 1e-5 * abs(stored["loss"])


def formula_clip(frames, size=(64, 64)):
    images = generator("frames").integers(0, 256, (1, 3, *size, 3)).astype(np.uint8)
    flows = (4 * generator("flows").standard_normal((1, 2, *size, 2))).astype(np.float32)
    return images[:, :frames], flows[:, : frames - 1]


@by_net
def test_outputs_equal_the_stored_numbers(name):
    """Stored when all cases of the published network agreed: flow and frame of a clip that is a formula."""
    stored = np.load(FIXTURES / f"video_{name}.npz")
    frames = NETS[name][0]
    module = models.create_video(name)
    output = run(module.apply, fill(module, *zeros(frames)), *formula_clip(frames))
    for key in ("flow", "frame"):
        ours, reference = np.asarray(getattr(output, key))[:, ::4, ::4], stored[key]
        assert np.abs(ours - reference).max() <= 1e-4 * np.abs(reference).max(), key


SMALL = dict(width=0.1, levels=3)


def test_any_size_is_padded_by_reflection_and_cropped():
    module = SDCNet2D(frames=3, **SMALL)
    images, flows = formula_clip(3, (21, 30))
    variables = fill(module, *zeros(3))
    output = run(module.apply, variables, images, flows)
    assert output.flow.shape == (1, 21, 30, 2) and output.frame.shape == (1, 21, 30, 3)
    padded = pad_reflect(jnp.asarray(images), 8), pad_flows(jnp.asarray(flows), 8)
    assert padded[0].shape[2:4] == (24, 32)
    whole = run(module.apply, variables, *padded).flow
    np.testing.assert_allclose(output.flow, whole[:, :21, :30], atol=1e-4)


def test_flow_of_mirrored_pixels_moves_the_other_way():
    image = np.random.default_rng(0).integers(0, 256, (1, 1, 12, 13, 3)).astype(np.float32)
    flow = np.random.default_rng(1).normal(0, 1, (1, 1, 12, 13, 2)).astype(np.float32)
    flow[:, :, -5:] = flow[:, :, :, -5:] = (0.6, -0.4)  # nothing near the border leads beyond the mirror's reach
    wide, moved = pad_reflect(jnp.asarray(image), 8)[0], pad_flows(jnp.asarray(flow), 8)[0]
    warped = np.asarray(bilinear_warp(wide, moved))[0]
    np.testing.assert_allclose(warped[12], warped[10], atol=1e-3)  # the mirror lies on row 11 and on column 12
    np.testing.assert_allclose(warped[:10, 13], warped[:10, 11], atol=1e-3)


@pytest.mark.parametrize("frames, dtype", [(2, "bfloat16"), (3, "float32")])
def test_a_fresh_network_returns_the_last_flow(frames, dtype):
    module = SDCNet2D(frames=frames, flow_mean=(1.0, -2.0), flow_std=(3.0, 4.0), dtype=dtype, **SMALL)
    images, flows = formula_clip(frames, (40, 48))
    variables = run(module.init, jax.random.key(0), images, flows)
    output = run(module.apply, variables, images, flows)
    np.testing.assert_allclose(output.flow, flows[:, -1], atol=1e-4)
    np.testing.assert_allclose(output.frame, bilinear_warp(images[:, 1].astype(np.float32), flows[:, -1]), atol=0.1)
    other = SDCNet2D(frames=frames, init_as="released", **SMALL)
    released = run(other.init, jax.random.key(0), images, flows)
    leaves = flatten_dict(released["params"]).items()
    biases = [np.asarray(v) for path, v in leaves if path[0].startswith("conv") and path[-1] == "bias"]
    assert all((b >= 0).all() and (b <= 1).all() for b in biases) and np.concatenate(biases).max() > 0.5
    assert np.abs(run(other.apply, released, images, flows).flow - flows[:, -1]).max() > 1


def test_width_and_levels_make_it_smaller():
    count = lambda **o: sum(  # noqa: E731
        int(np.prod(x.shape))
        for x in jax.tree.leaves(jax.eval_shape(lambda: SDCNet2D(**o).init(jax.random.key(0), *zeros(3))))
    )
    assert count() == 9_698_420
    assert 0.2 < count(width=0.5) / count() < 0.3
    assert count(levels=4) < 0.3 * count()


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match="Did you mean 'sdcnet2d_recon'"):
        models.create_video("sdcnet2d_reco")
    with pytest.raises(UserError, match="no option 'widht'"):
        models.create_video("sdcnet2d", widht=0.5)
    with pytest.raises(UserError, match="no option 'frames'"):
        models.create_video("sdcnet2d", frames=3)
    with pytest.raises(UserError, match="levels=9"):
        models.create_video("sdcnet2d", levels=9).init(jax.random.key(0), *zeros(2))
    with pytest.raises(ValueError, match="must be"):
        models.create_video("sdcnet2d", **SMALL).init(jax.random.key(0), *zeros(3))
    with pytest.raises(UserError, match="Did you mean 'flownet2_s'"):
        models.create_flow("flownet2s")


def test_released_files_are_read(tmp_path):
    """Names, the layout of transposed convolutions, and what such a file holds beside the network."""
    module = models.create_video("sdcnet2d", **SMALL)
    variables = fill(module, *zeros(2))
    tensors = to_state_dict(variables)
    np.testing.assert_array_equal(
        tensors["deconv2.0.weight"].transpose(2, 3, 0, 1), variables["params"]["deconv2.0"]["kernel_t"]
    )
    tensors |= {"flow_mean": np.zeros((1, 2, 1, 1)), "flownet2.conv1.0.weight": np.zeros(3)}
    np.savez(tmp_path / "released.npz", **tensors)
    fresh = run(module.init, jax.random.key(1), *zeros(2))
    loaded, report = weights.load(tmp_path / "released.npz", fresh, source="sdcnet")
    assert not report.missing and not report.unexpected
    for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(variables), strict=True):
        np.testing.assert_array_equal(a, b)


GSVNET = dict(up_padding=0, flow_bias=True, pool=True)


def test_flow_network_has_the_published_names(parity):
    spec = json.loads((parity / "gsvnet_flownets" / "spec.json").read_text())
    published = {name for name, _, _ in spec["tensors"]}
    module = models.create_flow("flownet2_s")
    shapes = flatten_dict(jax.eval_shape(lambda: module.init(jax.random.key(0), *(jnp.zeros((1, 64, 64, 3)),) * 2)))
    ours = {torch_name(path) for path in shapes}
    assert published - ours == {f"upsampled_flow{i}_to_{i - 1}.bias" for i in (6, 5, 4, 3)} and ours < published
    pair = jax.ShapeDtypeStruct((2, 70, 90, 3), jnp.uint8)
    flow = jax.eval_shape(lambda a, b: module.init_with_output(jax.random.key(0), a, b)[0], pair, pair)
    assert flow.shape == (2, 70, 90, 2)


@pytest.mark.slow
@pytest.mark.parametrize("case", [0, 1])
def test_flownets_equals_the_published_variant_of_gsvnet(case, parity):
    folder = parity / "gsvnet_flownets"
    stored = np.load(folder / f"case{case}.npz")
    shape = load_spec(folder)["cases"][case]["input_shape"]
    x = generator("input").standard_normal(shape).astype(np.float32).transpose(0, 2, 3, 1)
    module = FlowNetS(**GSVNET)
    assert_output(stored, "flow", run(module.apply, fill(module, jnp.zeros((1, 64, 64, 6))), x), 1e-5)
