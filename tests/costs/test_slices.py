import pytest

from segjax.costs.slices import find_slice
from segjax.errors import UserError


@pytest.mark.parametrize(
    "name, chips, accelerator, links",
    [
        ("v5e:4x4", 16, "v5litepod-16", 4),
        ("v5e:2x2", 4, "v5litepod-4", 2),
        ("v5e:2x4", 8, "v5litepod-8", 3),
        ("v5e:1x1", 1, "v5litepod-1", 0),
        ("v6e:8x8", 64, "v6e-64", 4),
        ("v4:2x2x2", 8, "v4-16", 3),
        ("v5p:4x4x8", 128, "v5p-256", 6),
    ],
)
def test_a_slice_has_chips_a_type_and_connected_links(name, chips, accelerator, links):
    found = find_slice(name)
    assert (found.chips, found.accelerator_type) == (chips, accelerator)
    assert found.link == pytest.approx(found.figures.link / found.figures.links * links)


@pytest.mark.parametrize(
    "name, said",
    [
        ("v9:2x2", "there is no TPU 'v9'; choose v4, v5e, v5p, v6e with a shape, as in v5e:4x4, or local"),
        ("", "there is no TPU ''"),
        ("v5e", "v5e has no slice of the shape ''; choose 1x1, 2x2, 2x4,"),
        ("v5e:3x3", "v5e has no slice of the shape '3x3'"),
        ("v5e:4x4x4", "v5e has no slice of the shape '4x4x4'"),
        ("v5e:2 x2", "v5e has no slice"),
        ("v4:2x2", "choose 2x2x1, 2x2x2, 2x2x4, 2x4x4 or three multiples of 4"),
        ("v5p:4x4x0", "v5p has no slice"),
        ("H100:8", "programs for H100 are compiled on a machine that has one; run segjax plan there, with"),
    ],
)
def test_what_is_no_slice_is_a_sentence(name, said):
    with pytest.raises(UserError, match="^--topology=") as error:
        find_slice(name)
    assert said in str(error.value)


def test_only_the_compiler_of_v4_must_be_told_of_one_device_a_chip():
    assert find_slice("v4:2x2x1").options == {"chip_config_name": "megacore"}
    assert find_slice("v5p:2x2x1").options == {}
    assert find_slice("v6e:1x1").options == {"chips_per_host_bounds": (1, 1, 1)}
