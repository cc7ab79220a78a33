"""Costs of labelling a video, against the paper and its released code, run."""

import math

import jax
import pytest

from segjax import cli, models
from segjax.costs.video import frame_costs, frame_multiply_adds, keyframe_multiply_adds, snippet_flops, triple_flops

SIZE = (1024, 2048)


def total(costs, field):
    return sum(getattr(cost, field) for cost in costs.values())


def test_a_frame_between_keyframes():
    """2.312 G of the filter and 0.390 G of the flow (the release, run); the paper prints 2.8 G (Table 2)."""
    costs = frame_costs("gsvnet", SIZE, depth=1)
    assert total({"grm": costs["grm"]}, "multiply_adds") == pytest.approx(2.312e9, abs=1e6)
    assert total({"ofnet": costs["ofnet"]}, "multiply_adds") == pytest.approx(0.390e9, abs=1e6)
    assert total(costs, "parameters") == 396_406
    spec = dict(name="gsvnet", num_classes=19, options=dict(dtype="bfloat16", remat=True, stride=4))
    assert frame_multiply_adds(spec, (512, 1024)) == total(costs, "multiply_adds")


def test_keyframes_and_the_mean():
    """58.5 G of a keyframe by SwiftNet-R18 at 0.75, and 16.7 G on average with every fourth (Table 2)."""
    key = keyframe_multiply_adds("swiftnet_r18", SIZE, scale=0.75)
    assert key == pytest.approx(58.3e9, rel=2e-3)
    between = total(frame_costs("gsvnet", SIZE), "multiply_adds")
    assert (key + 3 * between) / 4 == pytest.approx(16.6e9, rel=2e-3)
    assert keyframe_multiply_adds("fastscnn", SIZE) < key


def test_a_triple_of_a_training():
    """Of each convolution, the values of its kernel at all pixels of its stride; three times with the backward pass.

    A transposed convolution multiplies the pixels of its input, not the zeros between them.
    """
    spec = dict(name="sdcnet2d_recon", num_classes=0, options=dict(width=0.25, levels=3, dtype="bfloat16", remat=True))
    strides = {"conv1.0": 2, "conv2.0": 4, "conv3.0": 8, "conv3_1.0": 8, "final_flow": 1}
    strides |= {"deconv2.0": 8, "deconv1.0": 4, "deconv0.0": 2}
    module = models.create_video("sdcnet2d_recon", width=0.25, levels=3)
    shapes = jax.eval_shape(module.init, jax.random.key(0), *models.FAMILIES["video"].inputs(module))["params"]
    kernels = {name: math.prod(leaf.get("kernel", leaf.get("kernel_t")).shape) for name, leaf in shapes.items()}
    assert triple_flops(spec, (64, 128)) == 3 * 2 * sum(
        kernels[name] * 64 * 128 / stride**2 for name, stride in strides.items()
    )


def test_a_snippet_of_a_training():
    """The keyframe network labels the first frame and one more, at half the size; a gradient takes three passes."""
    keyframe = dict(name="fastscnn", num_classes=11, options=dict(dtype="bfloat16"))
    spec = dict(name="gsvnet", num_classes=11, options=dict(stride=4, remat=True), keyframe=dict(spec=keyframe))
    labelled = [keyframe_multiply_adds("fastscnn", size, num_classes=11) for size in ((128, 256), (64, 128))]
    between = frame_multiply_adds(spec, (128, 256))
    found = snippet_flops(spec, (128, 256), scales=(1.0, 0.5), fixed=1, trained=2)
    assert found == 2 * (sum(labelled) + 7 * between)


@pytest.mark.parametrize("name", ["copy", "warp", "a_lite"])
def test_baselines(name):
    costs = frame_costs(name, (256, 512), num_classes=11)
    assert (total(costs, "parameters") == 0) == (name == "copy") == (total(costs, "multiply_adds") == 0)


def test_the_command_prints_the_table(capsys):
    options = ["--keyframe=swiftnet_r18", "--keyframe-scale=0.75"]
    cli.main(["summary", "--model=gsvnet", "--size=1024x2048", *options])
    printed = capsys.readouterr().out
    for text in ("2.70 G", "396,406", "1,585,624 bytes", "swiftnet_r18 at 768x1536: 58.26 G", "4: 16.59 G"):
        assert text in printed


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["--model=gsvnet", "--compile"], "--compile and --batch are for image networks"),
        (["--model=fastscnn", "--keyframe=fastscnn"], "--keyframe is for networks that label video"),
        (["--model=gsvnet", "--keyframe=fastscn"], "Did you mean 'fastscnn'"),
        (["--model=gsvne"], "model 'gsvne' does not exist"),
    ],
)
def test_wrong_flags(arguments, text, capsys):
    assert cli.main(["summary", "--size=64x64", *arguments]) == 2
    assert text in capsys.readouterr().err
