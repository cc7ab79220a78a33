"""Published figures of accelerators: what a program's FLOPs, bytes and messages are divided by for a lower bound."""

from __future__ import annotations

from typing import NamedTuple

TPU_PAGES = "https://docs.cloud.google.com/tpu/docs"
NVIDIA_PAGES = "https://www.nvidia.com/en-us/data-center"


class Chip(NamedTuple):
    """One chip: for jax one device.

    memory: GiB of the device's memory; vendors write GB for the same number.
    flops: FLOP/s of dense bfloat16 matrix products with float32 sums, without sparsity.
    bandwidth: bytes/s between the memory and the chip.
    link: bytes/s that the chip can send to other chips, all its links together, in one direction.
    links: number of these links, by which `link` is divided if a slice connects only some of them.
    kinds: its names as `device_kind` of jax.
    source: the vendor's page.
    """

    memory: float
    flops: float
    bandwidth: float
    link: float
    links: int
    kinds: tuple[str, ...]
    source: str

    @property
    def memory_bytes(self) -> int:
        """Bytes of the device's memory."""
        return int(self.memory * 2**30)


# Google publishes the links of a chip in Gbit/s in one direction (v5e 1600, v5p 4800, v6e 3584), or as twice that in
# both. For v4 it publishes them in the paper only: 6 links of 50 GB/s (Jouppi et al., ISCA 2023, Table 4).
# NVIDIA publishes both directions of NVLink and of PCIe together: half of it is sent.
CHIPS = {
    "v4": Chip(32, 275e12, 1200e9, 300e9, 6, ("TPU v4",), f"{TPU_PAGES}/v4"),
    "v5e": Chip(16, 197e12, 819e9, 200e9, 4, ("TPU v5 lite", "TPU v5e"), f"{TPU_PAGES}/v5e"),
    "v5p": Chip(95, 459e12, 2765e9, 600e9, 6, ("TPU v5", "TPU v5p"), f"{TPU_PAGES}/v5p"),
    "v6e": Chip(32, 918e12, 1640e9, 448e9, 4, ("TPU v6 lite", "TPU v6e"), f"{TPU_PAGES}/v6e"),
    # its tensor cores have float16 and no bfloat16: a step in bfloat16 is slower than this bound
    "T4": Chip(16, 65e12, 320e9, 16e9, 1, ("Tesla T4", "NVIDIA T4"), f"{NVIDIA_PAGES}/tesla-t4"),
    "L4": Chip(24, 121e12, 300e9, 32e9, 1, ("NVIDIA L4",), f"{NVIDIA_PAGES}/l4"),
    "A100-40": Chip(40, 312e12, 1555e9, 300e9, 12, ("NVIDIA A100-SXM4-40GB", "A100-SXM4-40GB"), f"{NVIDIA_PAGES}/a100"),
    "A100-80": Chip(80, 312e12, 2039e9, 300e9, 12, ("NVIDIA A100-SXM4-80GB", "A100-SXM4-80GB"), f"{NVIDIA_PAGES}/a100"),
    "H100": Chip(80, 989e12, 3350e9, 450e9, 18, ("NVIDIA H100 80GB HBM3",), f"{NVIDIA_PAGES}/h100"),
    "H200": Chip(141, 989e12, 4800e9, 450e9, 18, ("NVIDIA H200",), f"{NVIDIA_PAGES}/h200"),
}
_OF_KIND = {kind.lower(): name for name, chip in CHIPS.items() for kind in chip.kinds}


def chip_name(device_kind: str) -> str | None:
    """Returns the key of CHIPS of a device, None if the table does not have it.

    device_kind: as `jax.Device.device_kind` spells it, for example "TPU v5 lite"; the case does not matter. Only whole
        names match: an "NVIDIA H100 PCIe" is slower than the H100 of the table.
    """
    return _OF_KIND.get(device_kind.lower())


def chip_of(device_kind: str) -> Chip | None:
    """Returns the figures of a device, None if the table does not have it; device_kind: see `chip_name`."""
    name = chip_name(device_kind)
    return None if name is None else CHIPS[name]
