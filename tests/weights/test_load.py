"""Filling a network from weights: names, layouts, prefixes, head swap, errors; and saving as the inverse."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict

from segjax import weights
from segjax.errors import UserError
from segjax.weights import names
from tests import networks


def variables(c=4, k=3):
    """A small network with every kind of leaf; abstract leaves, as jax.eval_shape gives them."""
    s = jax.ShapeDtypeStruct
    f = jnp.float32
    return {
        "params": {
            "layer1.0": {"conv1": {"kernel": s((3, 3, 2, c), f)}, "bn1": {"scale": s((c,), f), "bias": s((c,), f)}},
            "dw": {"kernel": s((5, 5, 1, c), f)},
            "fc": {"kernel": s((c, k), f), "bias": s((k,), f)},
        },
        "batch_stats": {"layer1.0": {"bn1": {"mean": s((c,), f), "var": s((c,), f)}}},
    }


def concrete(tree):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(leaf.dtype), tree)


def state_dict(c=4, k=3):
    rng = np.random.default_rng(1)
    shapes = {
        "layer1.0.conv1.weight": (c, 2, 3, 3), "layer1.0.bn1.weight": (c,), "layer1.0.bn1.bias": (c,),
        "layer1.0.bn1.running_mean": (c,), "layer1.0.bn1.running_var": (c,), "dw.weight": (c, 1, 5, 5),
        "fc.weight": (k, c), "fc.bias": (k,),
    }  # fmt: skip
    return {n: rng.standard_normal(shape).astype(np.float32) for n, shape in shapes.items()}


def test_layouts():
    source = state_dict()
    found, report = weights.load(source, variables())
    assert set(report.matched) == set(source) and not (report.missing + report.unexpected + report.replaced)
    params = found["params"]
    for o, i, y, x in np.ndindex(4, 2, 3, 3):
        assert params["layer1.0"]["conv1"]["kernel"][y, x, i, o] == source["layer1.0.conv1.weight"][o, i, y, x]
    np.testing.assert_array_equal(params["dw"]["kernel"][1, 2, 0], source["dw.weight"][:, 0, 1, 2])
    np.testing.assert_array_equal(params["fc"]["kernel"], source["fc.weight"].T)
    np.testing.assert_array_equal(found["batch_stats"]["layer1.0"]["bn1"]["var"], source["layer1.0.bn1.running_var"])


@pytest.mark.parametrize("prefix", ["module.", "model.", "module.model."])
def test_wrappers_prefixes_and_counters_are_dropped(prefix):
    source = {prefix + name: value for name, value in state_dict().items()}
    source[f"{prefix}layer1.0.bn1.num_batches_tracked"] = np.array(7)
    _, report = weights.load(source, variables())
    assert len(report.matched) == 8 and not report.unexpected


def test_a_prefix_the_network_uses_is_kept():
    target = {"params": {"model.0": {"kernel": np.zeros((2, 2), np.float32)}}}
    found, _ = weights.load({"module.model.0.weight": np.eye(2)}, target)
    np.testing.assert_array_equal(found["params"]["model.0"]["kernel"], np.eye(2))


def test_the_argument_is_not_changed_and_other_collections_are_kept():
    target = concrete(variables()) | {"ema": {"x": np.ones(2)}}
    before = jax.tree.map(np.copy, target)
    found, _ = weights.load(state_dict(), target)
    jax.tree.map(np.testing.assert_array_equal, target, before)
    np.testing.assert_array_equal(found["ema"]["x"], 1)


def test_half_precision_tensors_take_the_type_of_the_leaf():
    source = {n: v.astype(ml_dtypes.bfloat16) for n, v in state_dict().items()}
    found, _ = weights.load(source, variables())
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype(np.float32)}


def test_a_classifier_of_other_classes_keeps_its_values_and_one_line_says_so(caplog):
    target = concrete(variables(k=5))
    with caplog.at_level("INFO", logger="segjax"):
        found, report = weights.load(state_dict(k=3), target)
    assert [r.message for r in caplog.records] == [
        "The weights: fc has 3 classes there and 5 here, so it keeps its fresh values"
    ]
    assert set(report.replaced) == {"fc.weight", "fc.bias"} and len(report.matched) == 6
    assert not report.missing + report.unexpected
    np.testing.assert_array_equal(found["params"]["fc"]["kernel"], target["params"]["fc"]["kernel"])
    _, same = weights.load(state_dict(k=3), target, skip=(r"^fc\.",))
    assert same == report


def wide(**shapes):
    return {n: np.ones(shape, np.float32) for n, shape in shapes.items()}


@pytest.mark.parametrize(
    "other",
    [
        {"fc.weight": (3, 7), "fc.bias": (3,)},  # other features
        {"fc.weight": (3, 4), "fc.bias": (9,)},  # no classifier: two numbers
        {"fc.bias": (3,)},  # a bias alone
        {"layer1.0.bn1.weight": (9,)},  # a norm
        {"layer1.0.conv1.weight": (9, 2, 3, 3), "fc.weight": (3, 4), "fc.bias": (3,)},  # a wider network
    ],
)
def test_only_the_number_of_classes_may_differ(other):
    with pytest.raises(UserError, match=f"{len(other)} tensors? of another shape.*skip="):
        weights.load(state_dict(k=5) | wide(**other), variables(k=5))


def test_only_fills_and_expects_nothing_elsewhere():
    source = state_dict(k=3) | {"decoder.weight": np.ones(1)}
    del source["dw.weight"]
    target = concrete(variables(k=5))
    found, report = weights.load(source, target, only=r"^layer1\.")
    assert len(report.matched) == 5 and not report.missing + report.unexpected + report.replaced
    np.testing.assert_array_equal(found["params"]["dw"]["kernel"], target["params"]["dw"]["kernel"])
    del source["layer1.0.bn1.bias"]
    with pytest.raises(UserError, match=r"1 leaf name of the network not in the file \(layer1.0.bn1.bias\)"):
        weights.load(source, target, only=r"^layer1\.")


def test_not_strict_takes_what_fits_and_reports_the_rest():
    source = state_dict(k=3) | {"extra": np.ones(1)}
    del source["dw.weight"]
    found, report = weights.load(source, concrete(variables(k=5)), strict=False)
    assert set(report.replaced) == {"fc.weight", "fc.bias"}
    assert report.missing == ("dw.weight",) and report.unexpected == ("extra",)
    assert str(report).startswith("5 matched, 1 missing (dw.weight), 1 unexpected (extra), 2 replaced")


def test_all_problems_come_in_one_sentence():
    source = state_dict(k=5) | wide(**{"fc.weight": (3, 7), "fc.bias": (3,)})
    source |= {f"extra{i}": np.ones(1) for i in range(5)}
    del source["dw.weight"]
    with pytest.raises(UserError) as error:
        weights.load(source, variables(k=5), skip=("nothing_like_this",))
    text = str(error.value)
    for part in (
        "1 leaf name of the network not in the file (dw.weight)",
        "5 tensors of the file with no place in the network (extra0, extra1, extra2, and 2 more)",
        "2 tensors of another shape",
        "1 skip rule matching nothing (nothing_like_this)",
    ):
        assert part in text
    assert "\n" not in text


def test_a_transposed_kernel_is_no_match():
    source = state_dict(c=4, k=3)
    source["fc.weight"] = source["fc.weight"].T
    with pytest.raises(UserError, match="fc.weight"):
        weights.load(source, variables())


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_save_and_load_are_inverse(tmp_path, suffix):
    original = concrete(variables())
    path = weights.save(tmp_path / f"w{suffix}", original)
    found, report = weights.load(path, variables())
    assert len(report.matched) == 8
    jax.tree.map(np.testing.assert_array_equal, found, original)


def test_saved_files_have_pytorch_names_and_layouts(tmp_path):
    found = safetensors.numpy.load_file(weights.save(tmp_path / "w.safetensors", concrete(variables())))
    assert {n: v.shape for n, v in found.items()} == {n: v.shape for n, v in state_dict().items()}


def test_variables_of_another_network_are_a_source():
    teacher = concrete(variables(k=3))
    found, report = weights.load(teacher, concrete(variables(k=9)), skip=("^fc",))
    assert len(report.matched) == 6
    np.testing.assert_array_equal(found["params"]["dw"]["kernel"], teacher["params"]["dw"]["kernel"])


@pytest.mark.parametrize(
    "name, data, text",
    [
        ("w.safetensors", b"\x08\x00\x00\x00\x00\x00\x00\x00{}", "truncated"),
        ("w.npz", b"PK\x03\x04", "truncated"),
        ("w.txt", b"hello", "no weight file"),
        (None, None, "does not exist"),
    ],
)
def test_files_that_are_no_weights_are_named(tmp_path, name, data, text):
    path = tmp_path / (name or "absent.pth")
    if data:
        path.write_bytes(data)
    with pytest.raises(UserError, match=text) as error:
        weights.load(path, variables())
    assert path.name in str(error.value)
    with pytest.raises(UserError, match="bin"):
        weights.save(tmp_path / "w.bin", concrete(variables()))


def test_unknown_source_is_named():
    with pytest.raises(UserError, match="Did you mean 'torchvision_resnet'"):
        weights.load(state_dict(), variables(), source="torchvision_resnets")


@networks.every(networks.LIGHTEST)
def test_names_of_a_network_are_a_bijection(name):
    """Every leaf has a PyTorch name of its own, and load is the inverse of to_state_dict."""
    target = networks.shapes(name)
    flat = flatten_dict(dict(target))
    assert set(names.leaves(target).values()) == set(flat)
    source = weights.to_state_dict(networks.full(target, 0))
    assert len(source) == len(flat)
    _, report = weights.load(source, target)
    assert len(report.matched) == len(flat)


RESNET50 = {"conv1.weight": (64, 3, 7, 7)} | {
    f"bn1.{n}": (64,) for n in ("weight", "bias", "running_mean", "running_var")
}


def test_torchvision_resnet_fills_the_trunk_and_nothing_else():
    target = networks.shapes("deeplabv3plus_r18")
    shapes = {n: v.shape for n, v in weights.to_state_dict(networks.full(target, 0)).items()}
    source = {n: np.full(s, 2.0) for n, s in shapes.items() if n.startswith(("layer1", "layer2", "layer3", "layer4"))}
    source |= {n: np.full(s, 2.0) for n, s in RESNET50.items()} | {
        "fc.weight": np.ones((1000, 512)),
        "fc.bias": np.ones(1000),
    }
    with pytest.raises(UserError, match="source='torchvision_resnet'"):
        weights.load(source, target)
    found, report = weights.load(source, target, source="torchvision_resnet")
    assert len(report.matched) == 102 - 2 and not report.unexpected
    assert {n.split(".")[0] for n in report.missing} == {"aspp", "bot_fine", "bot_aspp", "final"}
    np.testing.assert_array_equal(found["params"]["layer0.0"]["kernel"], 2)
    del source["layer4.1.bn2.bias"]
    with pytest.raises(UserError, match=r"1 leaf name of the network not in the file \(layer4.1.bn2.bias\)"):
        weights.load(source, target, source="torchvision_resnet")


def test_every_efficientnet_tensor_is_used_or_named_as_ignored():
    try:
        path = weights.pretrained("efficientnet_lite0")
    except UserError as error:
        pytest.skip(str(error))
    _, report = weights.load(path, networks.shapes("deeplabv3plus_efficientnet_lite0"), source="efficientnet_lite")
    assert not report.unexpected and not report.replaced
    assert not [name for name in report.missing if name.startswith("backbone.")]
    tensors = [n for n in weights.read(path) if "num_batches_tracked" not in n]
    ignored = [n for n in tensors if n.startswith(("_conv_head", "_bn1", "_fc"))]
    assert len(report.matched) == len(tensors) - len(ignored) and len(ignored) == 7


def test_damaged_values_are_named_and_kept_only_where_strict_is_false():
    source = state_dict()
    source["fc.bias"][1] = np.nan
    source["dw.weight"][0] = np.inf
    with pytest.raises(UserError, match=r"2 tensors with values that are nan or infinite \(dw.weight, fc.bias\)"):
        weights.load(source, variables())
    assert np.isnan(weights.load(source, variables(), strict=False)[0]["params"]["fc"]["bias"][1])
    half = {name: value.astype(ml_dtypes.bfloat16) for name, value in state_dict().items()}
    assert not weights.load(half, variables())[1].missing


def test_what_is_no_number_or_no_rule_is_named():
    with pytest.raises(UserError, match="fc.bias of the weights: <U1 is no type of real numbers"):
        weights.load(state_dict() | {"fc.bias": np.array(["a"])}, variables())
    with pytest.raises(UserError, match=r"skip='\(' is no regular expression"):
        weights.load(state_dict(), variables(), skip="(")
