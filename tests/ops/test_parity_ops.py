"""Ops against stored float64 outputs and gradients of PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import ops


def nhwc(x):
    return np.transpose(x, (0, 2, 3, 1))


def check(stored, function, *inputs, names=("x",), kernel=None, tolerance=1e-5):
    """Output and gradients of sum(y * ct); inputs are NHWC, stored arrays NCHW."""
    y, vjp = jax.vjp(function, *map(jnp.asarray, inputs))
    np.testing.assert_allclose(y, nhwc(stored["y"]), rtol=0, atol=tolerance * np.abs(stored["y"]).max())
    if "ct" not in stored.files:
        return
    for name, ours in zip(names, vjp(jnp.asarray(nhwc(stored["ct"])))):
        theirs = stored[f"grad_{name}"]
        if name == "w":
            theirs = theirs.transpose(kernel)
        elif theirs.ndim == 4 and name != "grid":
            theirs = nhwc(theirs)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max(), err_msg=name)


RESIZE = {
    "bilinear_ac1_7x9_20x31": dict(align_corners=True),
    "bilinear_ac1_12x16_5x7": dict(align_corners=True),
    "bilinear_ac1_1x1_6x8": dict(align_corners=True),
    "bilinear_ac1_9x13_9x13": dict(align_corners=True),
    "bilinear_ac1_5x6_40x48": dict(align_corners=True),
    "bilinear_scale_ac1": dict(align_corners=True, scale_factor=0.75),
    "bilinear_ac0_7x9_20x31": {},
    "bilinear_ac0_12x16_5x7": {},
    "bilinear_ac0_1x1_6x8": {},
    "bilinear_ac0_9x13_9x13": {},
    "bilinear_ac0_5x6_40x48": {},
    "bilinear_scale_ac0": dict(scale_factor=0.75),
    "bicubic_0.5": dict(method="bicubic", scale_factor=0.5),
    "bicubic_0.25": dict(method="bicubic", scale_factor=0.25),
}


@pytest.mark.parametrize("name", RESIZE)
def test_resize(name, parity):
    stored = np.load(parity / "ops" / f"{name}.npz")
    size = stored["y"].shape[2:]
    check(stored, lambda x: ops.resize(x, size, **RESIZE[name]), nhwc(stored["x"]))


@pytest.mark.parametrize("name", ["8x16_12x24", "6x6_13x17", "3x3_8x8", "8x10_4x5", "1x1_5x7"])
def test_adaptive_avg_pool(name, parity):
    stored = np.load(parity / "ops" / f"adaptive_{name}.npz")
    check(stored, lambda x: ops.adaptive_avg_pool(x, stored["y"].shape[2:]), nhwc(stored["x"]))


@pytest.mark.parametrize("name", ["3210_17x22", "3201_17x22", "3211_17x22", "2200_17x22", "3201_16x23"])
def test_max_pool(name, parity):
    stored = np.load(parity / "ops" / f"maxpool_{name}.npz")
    window, stride, padding, ceil_mode = map(int, name[:4])
    check(stored, lambda x: ops.max_pool(x, window, stride, padding, ceil_mode=bool(ceil_mode)), nhwc(stored["x"]))


def test_avg_pool(parity):
    stored = np.load(parity / "ops" / "avgpool_22.npz")
    check(stored, lambda x: ops.avg_pool(x, 2), nhwc(stored["x"]))


@pytest.mark.parametrize("name, padding", [("deconv_421", 1), ("deconv_420", 0)])
def test_transposed_convolution(name, padding, parity):
    stored = np.load(parity / "ops" / f"{name}.npz")
    axes = (2, 3, 0, 1)
    check(
        stored, lambda x, w, b: ops.conv_transpose2d(x, w, stride=2, padding=padding, bias=b),
        nhwc(stored["x"]), stored["w"].transpose(axes), stored["b"], names=("x", "w", "b"), kernel=axes,
    )  # fmt: skip


def test_dilated_strided_grouped_convolution(parity):
    stored = np.load(parity / "ops" / "conv_dil4_s2_g2.npz")
    axes = (2, 3, 1, 0)
    check(
        stored, lambda x, w: ops.conv2d(x, w, stride=2, padding=4, dilation=4, groups=2),
        nhwc(stored["x"]), stored["w"].transpose(axes), names=("x", "w"), kernel=axes,
    )  # fmt: skip


def test_grid_sample(parity):
    stored = np.load(parity / "ops" / "grid_sample_ac1.npz")
    check(stored, ops.grid_sample, nhwc(stored["x"]), stored["grid"], names=("x", "grid"))


@pytest.mark.parametrize("method", ["bilinear", "nearest"])
def test_resample2d(method, parity):
    stored = np.load(parity / "ops" / f"resample2d_{method}.npz")
    flow = nhwc(stored["flow"])
    check(stored, lambda x, flow: ops.bilinear_warp(x, flow, method=method), nhwc(stored["x"]), flow)


def test_resample2d_flow_gradient_inside_the_image(parity):
    """Outside, the reference truncates where the derivative of the clamped position is 0."""
    stored = np.load(parity / "ops" / "resample2d_bilinear.npz")
    image, flow, ct = (jnp.asarray(nhwc(stored[k])) for k in ("x", "flow", "ct"))
    ours = jax.vjp(lambda flow: ops.bilinear_warp(image, flow), flow)[1](ct)[0]
    h, w = image.shape[1:3]
    x, y = jnp.arange(w) + flow[..., 0], jnp.arange(h)[:, None] + flow[..., 1]
    inside = (x > 0) & (x < w - 1) & (y > 0) & (y < h - 1)
    assert inside.sum() > 100
    np.testing.assert_allclose(
        jnp.where(inside[..., None], ours - nhwc(stored["grad_flow"]), 0), 0, atol=1e-5 * np.abs(ours).max()
    )


@pytest.mark.parametrize("name, momentum", [("0.1_4x6_n2", 0.1), ("0.05_1x1_n2", 0.05), ("0.1_1x1_n4", 0.1)])
def test_batch_norm_step(name, momentum, parity):
    from segjax.models.layers import BatchNorm

    stored = np.load(parity / "ops" / f"bn_{name}.npz")
    variables = {
        "params": {"scale": stored["weight"], "bias": stored["bias"]},
        "batch_stats": {"mean": stored["running_mean"], "var": stored["running_var"]},
    }
    y, new = BatchNorm(train=True, momentum=momentum).apply(variables, nhwc(stored["x"]), mutable=["batch_stats"])
    np.testing.assert_allclose(y, nhwc(stored["y"]), atol=2e-5 * np.abs(stored["y"]).max())
    for ours, theirs in (("mean", "running_mean_after"), ("var", "running_var_after")):
        np.testing.assert_allclose(new["batch_stats"][ours], stored[theirs], rtol=1e-5, atol=1e-6)
