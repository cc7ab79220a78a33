"""GSVNet and its baselines: equality with the published network, any size, kernels, options."""

from contextlib import nullcontext
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from segjax import models
from segjax.errors import UserError
from segjax.models.flow_light import FlowLight
from segjax.models.guided_filter import GuidedFilter, delayed, ideal_delay_kernels, label_edges
from segjax.models.propagation import on_grid
from segjax.typing import Enlargement, SegOutput
from segjax.weights.names import sizes
from tests.parity_tools import FIXTURES, assert_output, formula_variables, generator, load_other, load_spec, torch_name

KERNELS = r"^grm\.ideal_dk\.filter_copy_s$"


class Filter(nn.Module):
    """The guided filter below its published name."""

    @nn.compact
    def __call__(self, moved, image, train=False):
        return GuidedFilter(19, name="grm")(moved, image, train)


def last(x):
    return np.moveaxis(np.asarray(x), -3, -1)


def step_inputs(stored, dtype=np.float32):
    frames = (last(stored["in__frames"]).astype(dtype) - 128) / 64
    return last(stored["in__seg"]).astype(dtype), frames


def two_steps(module, variables, seg, frames, *, train=False):
    """Returns name -> output of two frames, and the batch statistics after them."""
    outputs, state, stats = {}, seg, variables["batch_stats"]
    for t in (1, 2):
        variables = {"params": variables["params"], "batch_stats": stats}
        state, new = module.apply(
            variables, state, frames[:, t], frames[:, t - 1], train=train, mutable=["batch_stats", "intermediates"]
        )
        stats, inner = new["batch_stats"], new["intermediates"]
        found = dict(flow=inner["flow"][0], warped=inner["warped"][0], edge=inner["grm"]["edge"][0], logits=state)
        outputs |= {f"{name}{t}": value for name, value in found.items()}
    return outputs, stats


def filled(module, folder, inputs, dtype=np.float32, unused=KERNELS):
    spec = load_spec(folder)
    return spec, formula_variables(
        module, spec["tensors"], unused=unused, other=load_other(folder, spec), dtype=dtype, inputs=inputs
    )


@pytest.mark.parametrize("case", [0, 1])
def test_flow_equals_the_published_network(case, parity):
    stored = np.load(parity / f"gsvnet_flow/case{case}.npz")
    spec, variables = filled(FlowLight(), parity / "gsvnet_flow", (jnp.zeros((1, 64, 64, 6)),))
    x = last(generator("input").standard_normal(spec["cases"][case]["input_shape"]).astype(np.float32))
    assert_output(stored, "flow", FlowLight().apply(variables, x), 1e-5)


@pytest.mark.parametrize("case", [0, 1])
def test_guided_filter_equals_the_published_one(case, parity):
    stored = np.load(parity / f"gsvnet_grm/case{case}.npz")
    _, variables = filled(Filter(), parity / "gsvnet_grm", (jnp.zeros((1, 8, 8, 19)), jnp.zeros((1, 8, 8, 3))))
    seg, image = last(stored["in__seg"]), last(stored["in__image"])
    logits, inner = jax.jit(partial(Filter().apply, mutable="intermediates"))(variables, seg, image)
    inner = inner["intermediates"]["grm"]
    assert_output(stored, "edge", inner["edge"][0], 0)
    assert_output(stored, "guide", inner["guide"][0], 2e-5)
    assert_output(stored, "logits", logits, 2e-5)


@pytest.mark.parametrize("case", [0, 1])
def test_two_frames_equal_the_published_network(case, parity):
    module = models.create_propagation("gsvnet", 19)
    stored = np.load(parity / f"gsvnet_step/case{case}.npz")
    _, variables = filled(module, parity / "gsvnet_step", models.FAMILIES["propagation"].inputs(module))
    outputs, _ = jax.jit(partial(two_steps, module))(variables, *step_inputs(stored))
    for name, value in outputs.items():
        assert_output(stored, name, value, 0 if "edge" in name else 6e-5)


def scalar_of(outputs):
    total = 0.0
    for name, prefix in (("logits1", "cotangent"), ("logits2", "cotangent1")):
        y = outputs[name]
        ct = generator(prefix).standard_normal((y.shape[0], y.shape[3], *y.shape[1:3])).astype(np.float32)
        total += jnp.sum(y * last(ct).astype(y.dtype))
    return total


@pytest.mark.parametrize("x64", [False, True])
def test_training_of_two_frames_equals_the_published_one(x64, parity):
    dtype = "float64" if x64 else "float32"
    module = models.create_propagation("gsvnet", 19, dtype=dtype)
    stored = np.load(parity / "gsvnet_step/case2.npz")
    outputs_tol, gradients, buffers = (1e-6, 1e-6, 1e-6) if x64 else (9e-5, 1e-3, 1e-5)
    with jax.enable_x64(True) if x64 else nullcontext():
        _, variables = filled(
            module, parity / "gsvnet_step", models.FAMILIES["propagation"].inputs(module), np.dtype(dtype)
        )
        seg, frames = step_inputs(stored, np.dtype(dtype))

        def loss(params):
            both = {"params": params, "batch_stats": variables["batch_stats"]}
            outputs, stats = two_steps(module, both, seg, frames, train=True)
            return scalar_of(outputs), (outputs, stats)

        (value, (outputs, stats)), grads = jax.device_get(
            jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
        )
    for name in ("logits1", "logits2"):
        assert_output(stored, name, outputs[name], outputs_tol)
    assert abs(value - stored["loss"]) <= (1e-6 if x64 else 1e-3) * abs(stored["loss"])
    norms = {torch_name(path): np.linalg.norm(g) for path, g in flatten_dict({"params": grads}).items()}
    reference = np.nan_to_num(stored["grad_norms"])
    for name, norm in zip(stored["grad_names"], reference):
        if name in norms:  # the kernels are no leaf
            assert abs(norms[name] - norm) <= gradients * (norm + 1e-3 * reference.max()), name
    assert len(norms) == len(stored["grad_names"]) - ("grm.ideal_dk.filter_copy_s" in stored["grad_names"])
    flat = {torch_name(path): s for path, s in flatten_dict({"batch_stats": stats}).items()}
    for name, norm in zip(stored["buf_names"], stored["buf_norms"]):
        assert abs(np.linalg.norm(flat[name]) - norm) <= buffers * norm, name


def test_two_frames_equal_the_stored_numbers():
    """The numbers are those of the published network; the frames are stored at the size of the grid."""
    stored = np.load(FIXTURES / "parity_gsvnet_step.npz")
    module = models.create_propagation("gsvnet", 19)
    variables = formula_variables(module, inputs=models.FAMILIES["propagation"].inputs(module))
    outputs, _ = jax.jit(partial(two_steps, module))(variables, stored["seg"], stored["frames"])
    for name in ("flow1", "logits1", "logits2"):
        error = np.abs(outputs[name][:, ::2, ::2] - stored[name]).max() / np.abs(stored[name]).max()
        assert error < 6e-5, name


def test_numbers_of_parameters():
    """Lee et al., Table 2 in bytes: 1.6 MB; the released network, run, has 396,487 with its frozen kernels."""

    def count(**options):
        module = models.create_propagation("gsvnet", 19, **options)
        shapes = jax.eval_shape(module.init, jax.random.key(0), *models.FAMILIES["propagation"].inputs(module))
        return sum(sizes({"params": shapes["params"]}).values())

    assert count() == 396_487 - 81 and count(learn_kernels=True) == 396_487
    assert count(kernel_size=5, learn_kernels=True) - count(kernel_size=5) == 17 * 25
    assert count(form="paper") == count() - 32 * 9 - 1 - 2  # 10 instead of 11 outputs of the last layer
    assert count(flow="flownets") - count() == 38_676_514 - 186_402
    assert count(intra=False) == count() - 15_763 - (19 * 9 * 32) - (32 * 9 + 1 + 2)


@pytest.mark.parametrize("form, size", [("released", 3), ("paper", 3), ("released", 5), ("paper", 5)])
def test_kernels_shift_by_one_neighbour(form, size):
    kernels = ideal_delay_kernels(size, form)
    assert kernels.shape == ({3: 9, 5: 17}[size], size, size) and set(kernels[:-1].sum((1, 2))) == {1}
    assert kernels[-1].sum() == (form == "paper") == kernels[-1, size // 2, size // 2]
    first = np.argwhere(kernels[: 8 if size == 3 else 16]) - [0, size // 2, size // 2]
    assert first[:3].tolist() == [[0, -1, -1], [1, -1, 0], [2, -1, 1]]
    if size == 5:
        assert first[8:].tolist() == [[i, 2 * y, 2 * x] for i, (_, y, x) in enumerate(first[:8], 8)]


def test_filter_against_loops():
    """In numpy: cross-correlation with each kernel, times its weight, 0 outside; constants and leaves alike."""
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(2, 5, 6, 3)), rng.normal(size=(2, 5, 6, 4))
    for kernels in (rng.normal(size=(4, 5, 5)), ideal_delay_kernels(5, "paper")[[0, 3, 9, 16]]):
        expected = np.zeros_like(x)
        padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
        for d, row, column in np.ndindex(4, 5, 5):
            shifted = padded[:, row : row + 5, column : column + 6]
            expected += weights[..., d : d + 1] * kernels[d, row, column] * shifted
        for given in (kernels.astype(np.float32), jnp.asarray(kernels)):
            ours = delayed(jnp.asarray(x), jnp.asarray(weights), given)
            np.testing.assert_allclose(ours, expected, atol=2e-5)


def test_edges_are_the_laplacian_of_the_classes():
    labels = np.array([[0, 0, 0, 0], [0, 0, 0, 2], [0, 0, 0, 0]])
    edges = label_edges(jnp.asarray(np.eye(3)[labels])[None], binary=True)[0, ..., 0]
    np.testing.assert_array_equal(edges, [[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]])
    soft = label_edges(jnp.asarray(np.eye(3)[labels])[None], binary=False)[0, ..., 0]
    np.testing.assert_allclose(soft[1], [0.5, 0.5, 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(16))], rtol=1e-5, atol=1e-7)


def propagate(name, state, image, before, **options):
    module = models.create_propagation(name, 5, **options)
    variables = module.init(jax.random.key(0), state, image, before)
    return module, variables, module.apply(variables, state, image, before)


@pytest.mark.parametrize(
    "options, size, stride",
    [
        ({}, (49, 73), 8),
        (dict(form="paper"), (64, 96), 4),
        (dict(kernel_size=5, learn_kernels=True), (50, 50), 8),
        (dict(intra=False, bgr=True), (49, 73), 4),
    ],
)
def test_any_size(options, size, stride):
    """The grid has a cell for the last pixels too, and neither its sides nor the image's need be multiples."""
    rng = np.random.default_rng(0)
    grid = tuple(-(-n // stride) for n in size)
    frames = rng.normal(size=(2, 2, *size, 3)).astype(np.float32)
    state = rng.normal(size=(2, *grid, 5)).astype(np.float32)
    module, variables, after = propagate("gsvnet", state, frames[0], frames[1], stride=stride, **options)
    assert module.grid(size) == grid and after.shape == state.shape and np.isfinite(after).all()
    small = [module.shrunk(frame, grid)[..., ::-1] if module.bgr else module.shrunk(frame, grid) for frame in frames]
    np.testing.assert_allclose(module.apply(variables, state, *small), after, atol=1e-5)


def test_learned_kernels_start_as_the_fixed_ones():
    rng = np.random.default_rng(0)
    state, frames = rng.normal(size=(1, 8, 8, 5)), rng.normal(size=(2, 1, 64, 64, 3))
    state, frames = state.astype(np.float32), frames.astype(np.float32)
    fixed, variables, after = propagate("gsvnet", state, *frames)
    module = models.create_propagation("gsvnet", 5, learn_kernels=True)
    learned = module.init(jax.random.key(0), state, *frames)
    kernels = learned["params"]["grm"].pop("ideal_dk.filter_copy_s")
    np.testing.assert_array_equal(kernels[:, 0, 0], ideal_delay_kernels(3, "released"))
    params = jax.tree.map(lambda x: x, variables["params"])
    params["grm"]["ideal_dk.filter_copy_s"] = kernels
    np.testing.assert_allclose(module.apply({**variables, "params": params}, state, *frames), after, atol=1e-5)


def test_copy_keeps_the_state_and_warp_moves_it():
    state = np.random.default_rng(0).normal(size=(1, 8, 8, 5)).astype(np.float32)
    frames = np.zeros((2, 1, 64, 64, 3), np.float32)
    _, variables, after = propagate("copy", state, *frames)
    assert not variables and after is state
    module, variables, _ = propagate("warp", state, *frames)
    params = jax.tree.map(jnp.zeros_like, variables["params"])
    params["ofnet"]["toflow"]["bias"] = jnp.array([4.0, 0.0])  # one cell: the flow is in quarters of a cell
    moved = module.apply({**variables, "params": params}, state, *frames)
    np.testing.assert_allclose(moved[:, :, :-1], state[:, :, 1:], atol=1e-6)
    assert not np.any(moved[:, :, -1])


def test_start_is_the_coarse_logits_of_the_keyframe_network():
    """align_corners=True, also for a keyframe at another scale; cells of padding alone are cut off."""
    low = np.random.default_rng(0).normal(size=(1, 16, 24, 5)).astype(np.float32)
    output = SegOutput(low, features={"low.logits": low})
    module = models.create_propagation("gsvnet", 5)
    np.testing.assert_array_equal(module.start(output, (128, 192)), low)
    assert module.start(output, (121, 192)).shape == (1, 16, 24, 5)
    padded = output.replace(enlargement=Enlargement(("logits",), (96, 192), True, (128, 192)))
    np.testing.assert_allclose(on_grid(low, padded, (12, 24)), low[:, :12], atol=1e-6)


def test_features_of_the_keyframe_move_in_a_lite():
    network = models.create("swiftnet_r18", 5)
    image = np.random.default_rng(0).normal(size=(1, 64, 96, 3)).astype(np.float32)
    output = network.apply(network.init(jax.random.key(0), image), image)
    module = models.create_propagation("a_lite", 5)
    state = module.start(output, (64, 96))
    assert state.features.shape == (1, 8, 12, 128) and module.logits(state).shape == (1, 8, 12, 5)
    variables = module.init(jax.random.key(0), state, image, image)
    after = module.apply(variables, state, image, image)
    assert module.logits(after).shape == (1, 8, 12, 5) and after.features.shape == state.features.shape
    with pytest.raises(UserError, match="'up3' of a_lite is not computed .* Did you mean"):
        models.create_propagation("a_lite", 5, feature="up3").start(output, (64, 96))
    with pytest.raises(UserError, match="have 128 channels; write feature_channels=128"):
        models.create_propagation("a_lite", 5, feature_channels=64).start(output, (64, 96))


@pytest.mark.parametrize(
    "options, text",
    [
        (dict(form="new"), "form='new', kernel_size=3 does not exist; give form released or paper"),
        (dict(kernel_size=7), "kernel_size=7 does not exist"),
        (dict(stride=16), "stride=16 of a propagation network must be 4 or 8"),
        (dict(flow="pwc"), "flow='pwc' of a propagation network must be light or flownets"),
    ],
)
def test_impossible_options_are_named(options, text):
    with pytest.raises(UserError, match=text):
        propagate("gsvnet", jnp.zeros((1, 8, 8, 5)), *jnp.zeros((2, 1, 64, 64, 3)), **options)
