"""Ladder DenseNets: layouts, sizes, heads and options; equality with the published ones is in test_parity_models.py."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import models, weights
from segjax.errors import UserError
from segjax.models.blocks import PyramidPooling
from segjax.models.layers import BatchNorm, Conv
from segjax.models.ldn import TRUNKS
from tests import networks
from tests.networks import count, traced

THIN = dict(growth=4, blocks=(2, 2, 2, 2), width=8)
# layout -> stride of the smallest map, strides after each TU
STRIDES = {
    "32": (32, []), "32to4": (32, [16, 8, 4]), "32to2": (32, [16, 8, 4, 2]), "16to2": (16, [8, 4, 2]),
    "64to4": (64, [32, 16, 8, 4]), "64to4_s4": (64, [32, 16, 8, 4]), "128to4": (128, [64, 32, 16, 8, 4]),
    "8": (8, []), "8to4": (8, [4]), "16to4": (16, [8, 4]),
}  # fmt: skip
every_layout = pytest.mark.parametrize("layout", STRIDES)


def thin(layout="64to4", size=(128, 192), **options):
    return traced("ldn121", 5, size=size, layout=layout, **{**THIN, **options})


@every_layout
def test_a_layout_has_a_map_and_a_head_at_every_level(layout):
    down, ups = STRIDES[layout]
    output, _ = thin(layout)
    sizes = {stride: (128 // stride, 192 // stride) for stride in (down, *ups)}
    expected = {f"level{s}": sizes[s] for s in ups} | {f"stride{s}": sizes[s] for s in sizes}
    expected |= {"spp": sizes[down], "low.logits": sizes[(ups or [down])[-1]]}
    assert {name: y.shape[1:3] for name, y in output.features.items()} == expected
    rows = (1, 2, 4) if layout == "128to4" else (1, 2, 4, 8)
    heads = {f"aux{s}": sizes[s] for s in (down, *ups[:-1]) if ups}
    heads |= {f"aux_spp{n}": (n, round(n * 1.5)) for n in rows}
    if layout == "128to4":  # the smallest map has one row and one column: the cells of square grids follow it
        heads |= {f"aux_spp{n}": (n, n) for n in rows}
    assert {name: head.shape[1:3] for name, head in output.aux.items()} == heads
    assert list(models.create("ldn121", 5, layout=layout).loss_weights) == ["logits", *_ordered(heads)]


def _ordered(heads):
    """Heads coarse to fine, then those of the pyramid."""
    ladder = sorted((name for name in heads if "spp" not in name), key=lambda name: -int(name[3:]))
    return ladder + sorted((name for name in heads if "spp" in name), key=lambda name: int(name[7:]))


def test_losses_of_the_heads():
    network = models.create("ldn121", 19)
    found = network.loss_weights
    assert found.pop("logits") == 0.6 and len(found) == 8
    assert sum(found.values()) == pytest.approx(0.4) and len(set(found.values())) == 1
    cells = {64: "aux64", 32: "aux32", 16: "aux16", 8: "aux8"}
    expected = {head: ("soft_target_cross_entropy", {"cell": cell}) for cell, head in cells.items()}
    expected |= {f"aux_spp{rows}": ("soft_target_cross_entropy", {}) for rows in (1, 2, 4, 8)}
    assert network.loss_names == expected
    without = models.create("ldn121", 19, aux=False)
    assert without.loss_weights == {"logits": 1.0} and without.loss_names == {}
    assert models.create("ldn121", 19, layout="8", spp="none").loss_weights == {"logits": 1.0}


@pytest.mark.parametrize("trunk, layout", [("resnet18", "8to4"), ("dpn68", "32to2"), ("efficientnet_lite0", "32to2")])
def test_layouts_of_other_trunks(trunk, layout):
    down, ups = STRIDES[layout]
    output, _ = traced("ldn121", 5, size=(65, 97), layout=layout, trunk=trunk, width=8)
    assert output.logits.shape == (1, 65, 97, 5)
    assert output.features["low.logits"].shape[1:3] == tuple(-(-n // ups[-1]) for n in (65, 97))
    assert output.features["spp"].shape[1:3] == tuple(-(-n // down) for n in (65, 97))


@every_layout
def test_the_smallest_image_is_the_one_that_the_error_names(layout):
    """Odd maps are rounded down from the first pooling on; one pixel less and the smallest map would be empty."""
    limit = models.create("ldn121", 5, layout=layout).smallest
    output, variables = thin(layout, size=(limit, limit + 1))
    assert output.features[f"stride{STRIDES[layout][0]}"].shape[1:3] == (1, 1)
    assert output.logits.shape == (1, limit, limit + 1, 5)
    network = models.create("ldn121", 5, layout=layout, **THIN)
    with pytest.raises(UserError, match=rf"images of {limit - 1}x200 .* takes {limit}x{limit} or more"):
        jax.eval_shape(lambda v, x: network.apply(v, x), variables, jnp.zeros((1, limit - 1, 200, 3)))


def test_networks_are_initialised_with_images_that_they_take():
    for layout, side in (("64to4", 64), ("128to4", 127)):
        spec = {"name": "ldn121", "num_classes": 5, "options": {"layout": layout}}
        (images,) = models.example_inputs(spec, models.from_spec(spec))
        assert images.shape == (1, side, side, 3)


def test_odd_maps_are_rounded_down_as_published():
    """97x145, the size of the stored cases: 49x73 after the first convolution."""
    output, _ = thin(size=(97, 145))
    found = {stride: output.features[f"stride{stride}"].shape[1:3] for stride in (4, 8, 16, 32, 64)}
    assert found == {4: (24, 36), 8: (12, 18), 16: (6, 9), 32: (3, 4), 64: (1, 2)}


def trunk_of(name, **options):
    network = models.create(name, 5, **options)
    return TRUNKS[network.trunk].build(conv=Conv, norm=BatchNorm, **network.trunk_options(train=True))


def test_trunks_for_random_initial_weights_lack_a_norm_and_the_first_bottlenecks():
    """Those whose input has at most 4 growth channels: in DenseNet-121 three of the first block, one of the second."""
    images = jnp.zeros((1, 64, 64, 3))
    full, fresh = (
        jax.eval_shape(trunk_of("ldn121", random_init=on, blocks=(6, 12, 2, 2)).init, jax.random.key(0), images)[
            "params"
        ]
        for on in (False, True)
    )
    assert set(full) - set(fresh) == {"features.norm0"} and not set(fresh) - set(full)
    plain = {name for name, layer in fresh.items() if "denselayer" in name and "conv1" not in layer}
    assert plain == {f"features.denseblock1.denselayer{i}" for i in (1, 2, 3)} | {"features.denseblock2.denselayer1"}
    assert all(set(fresh[name]) == {"norm2", "conv2"} for name in plain)
    assert count(full) - count(fresh) == 82_048


def test_dropout_for_random_initial_weights_is_the_published_one():
    rates = {
        (n, on): trunk_of(f"ldn{n}", random_init=on).layer_dropout for n in (121, 161, 169) for on in (False, True)
    }
    assert {key for key, rate in rates.items() if rate} == {(161, True), (169, True)} and rates[161, True] == 0.2
    assert trunk_of("ldn161", random_init=True, layer_dropout=0.0).layer_dropout == 0
    assert trunk_of("ldn121", layer_dropout=0.1).layer_dropout == 0.1


@pytest.mark.parametrize("rows, square, size", [((8, 4, 2, 1), False, (5, 11)), ((6, 3, 2, 1), True, (4, 7))])
def test_pyramid_pooling_equals_numpy(rows, square, size):
    """Also grids with more cells than the map has pixels, and bins that overlap."""
    conv, norm = partial(Conv, dtype=jnp.float64), partial(BatchNorm, dtype=jnp.float64)
    pooling = PyramidPooling(12, conv, norm, rows, 8, 5, square)
    rng = np.random.default_rng(3)
    with jax.enable_x64(True):
        x = rng.standard_normal((2, *size, 6))
        shapes = jax.eval_shape(pooling.init, jax.random.key(0), x)
        variables = jax.tree.map(lambda leaf: rng.uniform(0.5, 1.5, leaf.shape), shapes)
        found, levels = jax.jit(pooling.apply)(variables, x)

    def unit(name, x):
        stats, params = variables["batch_stats"][name]["norm"], variables["params"][name]
        y = (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * params["norm"]["scale"] + params["norm"]["bias"]
        return np.maximum(y, 0) @ params["conv"]["kernel"][0, 0]

    h, w = size
    y = unit("spp_bn", x)
    joined = [y]
    for i, n in enumerate(rows):
        columns = n if square else max(1, round(n * w / h))
        means = np.empty((2, n, columns, 8))
        for r in range(n):
            for c in range(columns):
                top, bottom = r * h // n, -(-(r + 1) * h // n)
                left, right = c * w // columns, -(-(c + 1) * w // columns)
                means[:, r, c] = y[:, top:bottom, left:right].mean((1, 2))
        level = unit(f"spp{i}", means)
        np.testing.assert_allclose(levels[n], level, rtol=1e-12, atol=1e-12)
        joined.append(enlarged(enlarged(level, h, 1), w, 2))
    np.testing.assert_allclose(found, unit("spp_fuse", np.concatenate(joined, -1)), rtol=1e-12, atol=1e-12)


def enlarged(x, size, axis):
    """Linear interpolation between the centres of pixels along one axis; beyond the outer centres it is constant."""
    n = x.shape[axis]
    place = np.clip((np.arange(size) + 0.5) * n / size - 0.5, 0, n - 1)
    low = np.minimum(place.astype(int), max(n - 2, 0))
    share = np.expand_dims(place - low, tuple(range(1, x.ndim - axis)))
    return np.take(x, low, axis) * (1 - share) + np.take(x, np.minimum(low + 1, n - 1), axis) * share


def test_one_level_of_one_image_uses_the_running_statistics():
    """The mean of one whole image is one value per channel, whose variance is 0 (PyTorch refuses it)."""
    pooling = PyramidPooling(4, Conv, partial(BatchNorm, train=True), (2, 1), 4, 4)
    x = np.random.default_rng(0).standard_normal((1, 4, 4, 3)).astype(np.float32)
    variables = networks.full(jax.eval_shape(pooling.init, jax.random.key(0), x), 1)
    _, new = jax.jit(partial(pooling.apply, mutable=["batch_stats"]))(variables, x)
    kept = {name: bool((leaf["norm"]["mean"] == 1).all()) for name, leaf in new["batch_stats"].items()}
    assert kept == {"spp_bn": False, "spp0": False, "spp1": True, "spp_fuse": False}


def test_grids_of_other_rows_and_of_psp_net():
    """The heads are named by the rows; PSPNet's grids are square, its levels twice as wide."""
    for options, heads in (
        (dict(grid_rows=(6, 3)), {"aux_spp3": (3, 4), "aux_spp6": (6, 9)}),
        (dict(grid_rows=(6, 3), square_grids=True), {"aux_spp3": (3, 3), "aux_spp6": (6, 6)}),
        (dict(spp="pspnet"), {f"aux_spp{n}": (n, n) for n in (1, 2, 3, 6)}),
        (dict(spp="none"), {}),
    ):
        output, variables = thin("32to4", **options)
        assert {name: y.shape[1:3] for name, y in output.aux.items() if "spp" in name} == heads
        pyramid = variables["params"].get("spp.spp", {})
        assert ("spp_bn" in pyramid) == ("grid_rows" in options)
        if options.get("spp") == "pspnet":
            assert pyramid["spp0"]["conv"]["kernel"].shape[3] == 16 and output.features["spp"].shape[3] == 32
    assert {"spp.spp.spp_bn", "spp.spp.spp_fuse"} <= set(variables["params"])  # a 1x1 and a 3x3 convolution


def test_separable_ladders_lack_the_1x1_before_the_3x3():
    _, variables = thin(separable=True)
    tu = variables["params"]["upsample_layers.upsample_0"]
    assert set(tu) == {"bottleneck", "blend_conv"} and set(tu["blend_conv"]["conv"]) == {"depthwise", "pointwise"}
    assert tu["blend_conv"]["conv"]["depthwise"]["kernel"].shape == (3, 3, 1, 16)


@pytest.mark.parametrize(
    "name, options, text",
    [
        ("ldn121", dict(layout="64-4"), "layout='64-4' does not exist. Did you mean '64to4'"),
        ("ldn121", dict(trunk="densenet120"), "trunk='densenet120' does not exist. Did you mean 'densenet"),
        ("ldn121", dict(form="release"), "form='release' of LDN does not exist. Did you mean 'released'"),
        ("ldn121", dict(spp="grid"), "spp='grid' does not exist. Did you mean 'grids'"),
        ("ldn121", dict(spp="none", grid_rows=(2, 1)), r"grid_rows=\(2, 1\) means nothing with spp='none'"),
        ("ldn121", dict(grid_rows=(2, 2)), "must be different numbers of rows"),
        ("ldn121", dict(blocks=(2, 2)), "must be four numbers of layers"),
        ("ldn121", dict(blocks=(2, 2, 1, 2)), r"splits=\(3,\) are not possible"),
        ("ldn121", dict(layer_dropout=1.0), "layer_dropout=1.0 of ldn121 must be 0 or more and below 1"),
        ("lrn18", dict(layout="64to4"), "resnet18, which has no dense layers to split; choose one of 32, 32to4"),
        ("lrn18", dict(layout="16to2"), "does not fit resnet18, which has no maps of these strides"),
        ("ldn_dpn68", dict(layout="8"), "does not fit dpn68, which has no maps of these strides"),
        ("lrn50", dict(random_init=True), "random_init=True does not fit resnet50, which has no dense layers"),
        ("lrn50", dict(growth=8), "growth=8 does not fit resnet50, which has no dense layers"),
    ],
)
def test_impossible_settings_are_named(name, options, text):
    with pytest.raises(UserError, match=text):
        traced(name, 5, size=(64, 64), **options)


def test_released_files_fill_a_network_whose_pyramid_has_heads():
    """The released code has none there; a network without heads ignores those of the file."""
    tensors = weights.to_state_dict(networks.full(thin(form="released")[1], 1))
    file = {name: value for name, value in tensors.items() if not name.startswith("spp.spp.aux")}
    assert len(file) == len(tensors) - 4 * 6
    old = {re.sub(r"(denselayer\d+\.(norm|conv))(\d)", r"\1.\3", name): value for name, value in file.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    old["features.norm5.weight"] = np.ones(8, np.float32)
    for aux in (True, False):
        _, target = thin(form="released", aux=aux)
        loaded, report = weights.load(old, networks.full(target, 0), source="ldn")
        assert not report.unexpected and all("spp.aux" in name for name in report.missing)
        filled = {name: bool(np.all(value)) for name, value in weights.to_state_dict(loaded).items()}
        assert {name for name, one in filled.items() if not one} == {name for name in filled if "spp.aux" in name}
