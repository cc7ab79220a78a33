"""Fast-SCNN: published counts and the options of its relatives."""

import pytest

from tests.networks import count, traced


def shapes(size=(64, 96), **options):
    """Shapes of the parameters and of the output."""
    output, variables = traced("fastscnn", 19, size=size, **options)
    return variables["params"], output


@pytest.mark.parametrize("options, parameters", [
    ({}, 1_138_051),
    ({"aux": True}, 1_157_174),
    ({"aux": True, "aux_channels": 64}, 1_138_051 + 64 * 64 * 9 + 2 * 64 + 64 * 19 + 19),
    ({"fusion_dilation": 4}, 1_138_051),
])  # fmt: skip
def test_published_number_of_parameters(options, parameters):
    assert count(shapes(**options)[0]) == parameters


def test_parameters_of_the_parts():
    params = shapes()[0]
    parts = {"learning_to_downsample": 6_640, "global_feature_extractor": 1_066_112, "feature_fusion": 26_752}
    for part, expected in (parts | {"classifier": 38_547}).items():
        assert count({k: v for k, v in params.items() if k.startswith(part)}) == expected


def test_sizes_of_the_maps_at_full_resolution():
    _, output = shapes((1024, 2048), aux=True)
    assert {k: v.shape[1:] for k, v in output.features.items()} == {
        "ltd": (128, 256, 64), "bottleneck1": (64, 128, 64), "bottleneck2": (32, 64, 96), "bottleneck3": (32, 64, 128),
        "gfe": (32, 64, 128), "ffm": (128, 256, 128), "low.logits": (128, 256, 19), "low.aux": (128, 256, 19),
    }  # fmt: skip
    assert output.aux["aux"].shape == (1, 1024, 2048, 19)


def test_padded_stem_gives_an_exact_eighth():
    _, output = shapes((120, 184), stem_padding=1)
    assert output.features["ltd"].shape == (1, 15, 23, 64)
