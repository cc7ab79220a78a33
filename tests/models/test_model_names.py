"""Families of networks, their names and options, and networks built from a checkpoint's description."""

import json

import jax
import pytest

from segjax import models
from segjax.errors import UserError

ALL = [(name, kind) for kind, family in models.FAMILIES.items() for name in family.networks]
every_of_all_families = pytest.mark.parametrize("name, kind", ALL)


def spec_of(name, kind, **options):
    """A checkpoint's description of a network, as JSON returns it."""
    return json.loads(
        json.dumps({"name": name, "num_classes": 5 if models.FAMILIES[kind].classes else None, "options": options})
    )


def test_every_name_belongs_to_one_family():
    assert [models.family_of(name) for name, _ in ALL] == [kind for _, kind in ALL]
    assert len({name for name, _ in ALL}) == len(ALL) and set(models.FAMILIES) == {
        "image",
        "video",
        "flow",
        "propagation",
    }
    assert models.names() == sorted(name for name, kind in ALL if kind == "image")


@pytest.mark.parametrize("name", models.names())
def test_example_inputs_of_image_networks_are_one_image(name):
    """Which every network takes: test_models.py."""
    spec = spec_of(name, "image")
    (images,) = models.example_inputs(spec, models.from_spec(spec))
    assert images.shape == (1, 64, 64, 3) and images.dtype == "float32"


@pytest.mark.parametrize("name, kind", [(n, k) for n, k in ALL if k != "image" or n in ("fastscnn", "bisenet_r18")])
def test_example_inputs_fit(name, kind):
    spec = spec_of(name, kind)
    module = models.from_spec(spec)
    inputs = models.example_inputs(spec, module)
    output, _ = jax.eval_shape(module.init_with_output, jax.random.key(0), *inputs)
    if kind == "propagation":
        assert module.logits(output).shape == (1, 8, 8, 5)
        return
    full = {"image": ("logits", 5), "video": ("frame", 3), "flow": (None, 2)}
    field, channels = full[kind]
    assert (getattr(output, field) if field else output).shape == (*inputs[0].shape[:1], 64, 64, channels)


@every_of_all_families
def test_options_of_a_specification_build_the_same_network(name, kind):
    """All options at their defaults; tuples have become lists."""
    options = models.options(name, kind=kind)
    assert not {"num_classes", "parent", "name", "frames"} & set(options)
    constructor = models.FAMILIES[kind].networks[name]
    given = {"num_classes": 5} if models.FAMILIES[kind].classes else {}
    assert models.from_spec(spec_of(name, kind, **options)) == constructor(**given)


@pytest.mark.parametrize(
    "name, option, value",
    [("deeplabv3plus_r50", "trunk", "resnet18"), ("pspnet_r50", "depth", 101), ("bisenet_r18", "form", "coincheung")],
)
def test_options_that_a_name_presets_can_be_overridden(name, option, value):
    default = models.options(name)[option]
    module = models.from_spec(spec_of(name, "image", **{option: value}))
    assert getattr(module, option) == value != default


def test_lists_become_tuples_as_a_module_must_be_hashable():
    """JSON makes lists of the tuples in a checkpoint's options."""
    network = models.create("deeplabv3plus_r18", 5, output_stride=32, skip_strides=[16, 8, 4])
    spec = spec_of("deeplabv3plus_r18", "image", output_stride=32, skip_strides=(16, 8, 4))
    assert network == models.from_spec(spec)
    assert network == models.create("deeplabv3plus_r18", 5, output_stride=32, skip_strides=(16, 8, 4))
    video = models.create_video("sdcnet2d_recon", flow_mean=[0.0, 1.0])
    assert video == models.from_spec(spec_of("sdcnet2d_recon", "video", flow_mean=(0.0, 1.0)))
    assert video.flow_mean == (0.0, 1.0) and hash(network) != hash(video)


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda: models.family_of("fastscn"), "model 'fastscn' does not exist. Did you mean 'fastscnn'"),
        (lambda: models.options("fastscn"), "model 'fastscn' .*Did you mean 'fastscnn'"),
        (lambda: models.options("sdcnet", kind="video"), "video network 'sdcnet' .*Did you mean 'sdcnet2d'"),
        (lambda: models.options("flownet2s", kind="flow"), "flow network 'flownet2s' .*Did you mean 'flownet2_s'"),
        (lambda: models.options("sdcnet2d"), "model 'sdcnet2d' does not exist"),
        (lambda: models.from_spec(spec_of("fastscn", "image")), "model 'fastscn' .*Did you mean 'fastscnn'"),
        (lambda: models.from_spec(spec_of("fastscnn", "image", drpout=0)), "'drpout'.*Did you mean 'dropout'"),
        (lambda: models.from_spec(spec_of("sdcnet2d", "video", frames=3)), "video network .* no option 'frames'"),
        (lambda: models.from_spec(spec_of("flownet2_s", "flow", dtyp="x")), "'dtyp'.*Did you mean 'dtype'"),
        (lambda: models.example_inputs(spec_of("fastscn", "image"), None), "Did you mean 'fastscnn'"),
    ],
)
def test_unknown_names_and_options_of_all_families_are_named(call, text):
    with pytest.raises(UserError, match=text):
        call()


def test_unknown_names_and_options_are_named_with_a_suggestion():
    with pytest.raises(UserError, match="'fastscn'.*Did you mean 'fastscnn'"):
        models.create("fastscn", 5)
    for name in models.names():
        with pytest.raises(UserError, match="no option 'bn_momentm'.*Did you mean 'bn_momentum'"):
            models.create(name, 5, bn_momentm=0.1)
