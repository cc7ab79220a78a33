"""Runs a network on formula weights and compares it with stored outputs of the published PyTorch network.

The weights are a function of the tensor name (formulas below), so a wrong name, layout or layer shows in the output.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

FIXTURES = Path(__file__).parent / "fixtures"
LEAVES = {
    "kernel": "weight",
    "kernel_t": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def torch_name(path: Iterable[str]) -> str:
    """Path of a leaf in the variables (collection first) -> name of the published tensor."""
    _, *modules, leaf = path
    return ".".join([*modules, LEAVES.get(leaf, leaf)])


def generator(name: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))


def formula(name: str, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """Value of one tensor in PyTorch layout, float32."""
    g = generator(name)
    if kind in ("conv", "deconv", "linear"):
        fan = {
            "conv": lambda: 2 / np.prod(shape[1:]),
            "deconv": lambda: 2 / (shape[0] * shape[2] * shape[3] / 4),
            "linear": lambda: 1 / shape[1],
        }[kind]()
        return (g.standard_normal(shape) * np.sqrt(fan)).astype(np.float32)
    if kind in ("bn_weight", "bn_weight_small", "bn_var"):
        return (g.uniform(0.5, 1.5, shape) * (0.25 if kind == "bn_weight_small" else 1)).astype(np.float32)
    if kind in ("bn_mean", "bias"):
        return (0.1 * g.standard_normal(shape)).astype(np.float32)
    raise ValueError(f"{name}: kind {kind!r} has no formula")


def to_flax(value: np.ndarray, kind: str) -> np.ndarray:
    """OIHW -> HWIO, IOHW (transposed convolution) -> HWIO, (out, in) -> (in, out)."""
    axes = {"conv": (2, 3, 1, 0), "deconv": (2, 3, 0, 1), "linear": (1, 0)}.get(kind)
    return value if axes is None else value.transpose(axes)


def formula_variables(
    module, tensors: list | None = None, *, small: str = "^$", unused: str = "^$", added: str = "^$", dtype=np.float32,
    other=None, inputs: tuple = (),
):  # fmt: skip
    """Variables of `module` filled by formula.

    tensors: [name, shape, kind] of the published network; then the names must be the same on both sides, except those
        matching `unused` (theirs only) and `added` (ours only). Without it kinds follow from our own leaves, `small`
        names the BN weights scaled by 0.25.
    other: values of tensors that are stored instead.
    inputs: arguments of the module's call, by default one image.
    """
    inputs = inputs or (jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32),)
    template = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    leaves = {torch_name(path): (path, leaf.shape) for path, leaf in flatten_dict(template).items()}
    if tensors is None:
        tensors = [(name, *_published(path, shape, name, small)) for name, (path, shape) in leaves.items()]
    else:
        ours = {name: leaf for name, leaf in leaves.items() if re.search(added, name)}
        tensors = [*tensors, *((name, *_published(path, shape, name, small)) for name, (path, shape) in ours.items())]
    theirs = {name for name, _, _ in tensors if not re.search(unused, name)}
    assert theirs == set(leaves), (
        f"missing {sorted(theirs - set(leaves))[:5]}, surplus {sorted(set(leaves) - theirs)[:5]}"
    )
    filled = {}
    for name, shape, kind in tensors:
        if name in leaves:
            path, ours = leaves[name]
            stored = other is not None and name in other
            value = other[name] if stored else to_flax(formula(name, tuple(shape), kind), kind)
            assert value.shape == ours, f"{name}: published {value.shape}, ours {ours}"
            filled[path] = jnp.asarray(value, dtype)  # one by one: two copies of a big network take a gigabyte
    return unflatten_dict(filled)


def _published(path, shape, name, small):
    if path[-1] == "kernel":
        return ((shape[3], shape[2], *shape[:2]), "conv") if len(shape) == 4 else (shape[::-1], "linear")
    if path[-1] == "scale":
        return shape, "bn_weight_small" if re.search(small, name) else "bn_weight"
    if path[-1] not in LEAVES:  # a parameter of no layer (EncNet's codewords); of any value where none is stored
        return shape, "bias"
    return shape, {"bias": "bias", "mean": "bn_mean", "var": "bn_var"}[path[-1]]


def formula_input(shape: tuple[int, ...], dtype=np.float32, formula: str = "") -> np.ndarray:
    """Input (n, h, w, 3) for the stored shape (n, 3, h, w).

    formula: "128+64*..." for pixels in 0..255 that the published network normalises itself (SwiftNet).
    """
    x = generator("input").standard_normal(shape)
    if formula.startswith("128+64*"):
        pixels = (128 + 64 * x).astype(np.float32).transpose(0, 2, 3, 1).astype(np.float64)
        mean, std = np.float32([[73.15, 82.90, 72.3], [47.67, 48.49, 47.73]])
        return ((pixels - mean) / std).astype(dtype)
    return x.astype(np.float32).astype(dtype).transpose(0, 2, 3, 1)


def heads_of(output) -> dict[str, jax.Array]:
    """Outputs in the order of the published heads."""
    return {"logits": output.logits, **output.aux}


def assert_output(stored, name: str, ours, tolerance: float) -> None:
    """Compares one output (n, h, w, k) or (n, k) with what is stored of it; tolerance is relative to max|reference|."""
    y = np.asarray(ours, np.float64)
    y = y.transpose(0, 3, 1, 2) if y.ndim == 4 else y
    key = f"out__{name}"
    if key in stored:
        parts = {key: y}
    else:
        assert tuple(stored[f"{key}__shape"]) == y.shape
        s = int(stored[f"{key}__stride"])
        parts = {
            f"{key}__sub": y[:, :, ::s, ::s], f"{key}__tl": y[:, :, :12, :16], f"{key}__br": y[:, :, -12:, -16:],
            f"{key}__chmean": y.mean((2, 3)), f"{key}__chstd": y.std((2, 3)),
        }  # fmt: skip
    largest = max(np.abs(stored[k]).max() for k in parts)
    for part, value in parts.items():
        error = np.abs(value - stored[part]).max() / largest
        assert error <= tolerance, f"{part}: {error:.2e} of max|reference|, allowed {tolerance:.0e}"


def assert_mids(stored, features, tolerance: float) -> int:
    """Compares every stored intermediate map that `features` has; returns how many there were."""
    count = 0
    for name, value in features.items():
        if f"mid__{name}__tl" in stored:
            y = np.asarray(value, np.float64).transpose(0, 3, 1, 2)
            assert tuple(stored[f"mid__{name}__shape"]) == y.shape, name
            largest = max(np.abs(stored[f"mid__{name}__tl"]).max(), np.abs(stored[f"mid__{name}__chmean"]).max())
            for part, ours in {"tl": y[:, :32, :4, :4], "chmean": y.mean((2, 3))}.items():
                error = np.abs(ours - stored[f"mid__{name}__{part}"]).max() / largest
                assert error <= tolerance, f"mid {name}.{part}: {error:.2e}, allowed {tolerance:.0e}"
            count += 1
    return count


def load_other(folder: Path, spec: dict) -> dict[str, np.ndarray]:
    """Tensors that are stored, not computed by formula."""
    return dict(np.load(folder / spec["other_file"])) if "other_file" in spec else {}


def load_spec(folder: Path) -> dict:
    return json.loads((folder / "spec.json").read_text())


def check_eval(
    module, folder: Path, case: int, tolerance: float, *, unused: str = "^$", added: str = "^$",
    heads: Callable = heads_of,
):  # fmt: skip
    """Eval-mode outputs and intermediate maps of one stored case, float32."""
    spec = load_spec(folder)
    stored = np.load(folder / f"case{case}.npz")
    variables = formula_variables(module, spec["tensors"], unused=unused, added=added, other=load_other(folder, spec))
    images = formula_input(tuple(spec["cases"][case]["input_shape"]), formula=spec["input_formula"])
    output = jax.jit(lambda v, x: module.apply(v, x, train=False))(variables, images)
    for name, value in heads(output).items():
        assert_output(stored, name, value, tolerance)
    assert set(spec["cases"][case]["outputs"]) == set(heads(output))
    assert_mids(stored, output.features, max(tolerance, 1e-5) * 3)


def check_train(
    module, folder: Path, case: int, *, outputs: float, gradients: float, buffers: float = 1e-5,
    loss: float | None = None, x64: bool = False, unused: str = "^$", added: str = "^$", heads: Callable = heads_of,
):  # fmt: skip
    """One train-mode forward and backward: outputs, scalar loss, norm of every gradient, running statistics after it.

    module: built with dropout 0, and with dtype "float64" when x64. Tolerances as in the README of the stored set.
    """
    spec = load_spec(folder)
    stored = np.load(folder / f"case{case}.npz")
    dtype = np.float64 if x64 else np.float32
    with jax.enable_x64(True) if x64 else nullcontext():
        variables = formula_variables(
            module, spec["tensors"], unused=unused, added=added, dtype=dtype, other=load_other(folder, spec)
        )
        images = formula_input(tuple(spec["cases"][case]["input_shape"]), dtype, spec["input_formula"])

        def scalar(params, stats, images):
            output, new = module.apply(
                {"params": params, "batch_stats": stats}, images, train=True, mutable=["batch_stats"]
            )
            total = 0.0
            for i, value in enumerate(heads(output).values()):
                shape = value.shape if value.ndim == 2 else (value.shape[0], value.shape[3], *value.shape[1:3])
                cotangent = generator("cotangent" + (str(i) if i else "")).standard_normal(shape).astype(np.float32)
                cotangent = cotangent if value.ndim == 2 else cotangent.transpose(0, 2, 3, 1)
                total += jnp.sum(value * cotangent.astype(value.dtype))
            return total, (heads(output), new["batch_stats"])

        grad = jax.jit(jax.value_and_grad(scalar, has_aux=True))
        (value, (outs, stats)), grads = jax.device_get(grad(variables["params"], variables["batch_stats"], images))
    assert set(spec["cases"][case]["outputs"]) == set(outs)
    for name, y in outs.items():
        assert_output(stored, name, y, outputs)
    if loss is not None:
        assert abs(value - stored["loss"]) <= loss * abs(stored["loss"])

    ours = {
        torch_name(path): np.linalg.norm(g.astype(np.float64)) for path, g in flatten_dict({"params": grads}).items()
    }
    names, reference = stored["grad_names"], np.nan_to_num(stored["grad_norms"])
    floor = 1e-3 * reference.max()
    for name, ref in zip(names, reference):
        if not re.search(unused, name):
            assert abs(ours[name] - ref) <= gradients * (ref + floor), (
                f"gradient of {name}: {ours[name]} instead of {ref}"
            )
    flat = {torch_name(path): s.astype(np.float64) for path, s in flatten_dict({"batch_stats": stats}).items()}
    for name, ref in zip(stored["buf_names"], stored["buf_norms"]):
        norm = np.linalg.norm(flat[name])
        assert abs(norm - ref) <= buffers * ref, f"{name} after one step: norm {norm} instead of {ref}"


def check_fixture(module, path: Path, tolerance: float, *, heads: Callable = heads_of):
    """Eval-mode outputs of the small copy in tests/fixtures."""
    for name, error in fixture_errors(module, path, heads=heads).items():
        assert error <= tolerance, f"{name}: {error:.2e} of max|reference|, allowed {tolerance:.0e}"


def fixture_errors(module, path: Path, *, heads: Callable = heads_of) -> dict[str, float]:
    """Output -> largest error of the small copy in tests/fixtures, as a share of max|reference|."""
    stored = np.load(path)
    other = {key[7:]: stored[key] for key in stored.files if key.startswith("other__")}
    variables = formula_variables(module, small=str(stored["small"]), other=other)
    formula = str(stored["input_formula"]) if "input_formula" in stored else ""
    images = formula_input(tuple(stored["input_shape"]), formula=formula)
    output = jax.jit(lambda v, x: module.apply(v, x, train=False))(variables, images)
    outs = heads(output)
    names = [key[5:] for key in stored.files if key.startswith("out__")]
    assert set(names) == set(outs)
    errors = {}
    for name in names:
        y = np.asarray(outs[name], np.float64)
        if y.ndim == 4:
            s = int(stored[f"stride__{name}"] if f"stride__{name}" in stored else stored["stride"])
            y = y.transpose(0, 3, 1, 2)[:, :, ::s, ::s]
        errors[name] = float(np.abs(y - stored[f"out__{name}"]).max() / np.abs(stored[f"out__{name}"]).max())
    return errors


def write_fixture(folder: Path, case: int, path: Path, *, thin: int = 2) -> None:
    """Copies a strided part of one eval case (every `thin`-th stored pixel), a few tens of kB."""
    spec, stored = load_spec(folder), np.load(folder / f"case{case}.npz")
    outputs, strides = {}, {}
    for name in spec["cases"][case]["outputs"]:
        key = f"out__{name}"
        full = key in stored.files
        if full and stored[key].ndim == 2:  # logits of a classifier
            outputs[key] = stored[key]
            continue
        strides[f"stride__{name}"] = thin * (1 if full else int(stored[f"{key}__stride"]))
        outputs[key] = (stored[key] if full else stored[f"{key}__sub"])[:, :, ::thin, ::thin]
    small = spec.get("bn_weight_small_pattern", "^$")
    outputs |= {f"other__{name}": value for name, value in load_other(folder, spec).items()}
    about = dict(input_shape=spec["cases"][case]["input_shape"], small=small, **strides)
    np.savez_compressed(path, input_formula=spec["input_formula"], **about, **outputs)
