"""Costs of labelling a video, against the paper and its released code, run."""

import pytest

from segjax import cli
from segjax.costs.video import frame_costs, frame_multiply_adds, keyframe_multiply_adds

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
