import pytest

from segjax.costs.chips import CHIPS, chip_name, chip_of


@pytest.mark.parametrize(
    "kind, name",
    [
        ("TPU v4", "v4"), ("TPU v5 lite", "v5e"), ("TPU v5", "v5p"), ("TPU v6 lite", "v6e"), ("Tesla T4", "T4"),
        ("NVIDIA L4", "L4"), ("NVIDIA A100-SXM4-40GB", "A100-40"), ("NVIDIA A100-SXM4-80GB", "A100-80"),
        ("NVIDIA H100 80GB HBM3", "H100"), ("NVIDIA H200", "H200"), ("tpu V5 LITE", "v5e"),
        ("cpu", None), ("NVIDIA H100 PCIe", None), ("NVIDIA L40S", None), ("TPU v4 lite", None), ("", None),
    ],
)  # fmt: skip
def test_a_device_kind_finds_its_chip_or_none(kind, name):
    assert chip_name(kind) == name
    assert chip_of(kind) is (None if name is None else CHIPS[name])


def test_no_kind_names_two_chips():
    kinds = [kind.lower() for chip in CHIPS.values() for kind in chip.kinds]
    assert len(kinds) == len(set(kinds))


def test_the_figures_have_the_units_they_say():
    """A factor of 1000 between units would show here; v5e's pod: 256 chips, 50.63 PFLOP/s, 51.2 TB/s of all-reduce."""
    for chip in CHIPS.values():
        assert 16 <= chip.memory <= 141
        assert chip.memory_bytes == chip.memory * 2**30
        assert 100 < chip.flops / chip.bandwidth < 600
        assert 5e9 < chip.link / chip.links < 120e9
        assert chip.link < chip.bandwidth
        assert chip.source.startswith("https://")
    v5e = CHIPS["v5e"]
    assert 256 * v5e.flops == pytest.approx(50.63e15, rel=0.01)
    assert 256 * v5e.link == pytest.approx(51.2e12)
