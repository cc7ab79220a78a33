"""Training steps of one network of each family, compiled by the TPU's compiler for 4 chips; half an hour of a core.

The compiler's own output shows: a donated state, convolutions in bfloat16, nothing that reaches the host, one message
for the gradients, and no map that is gathered: neighbours exchange rows. The numbers of messages are those of
golden/tpu_steps.json; `UPDATE_GOLDEN=1 pytest -m slow tests/test_tpu_steps.py` writes them anew.
"""

import json
import os
from importlib.metadata import version
from pathlib import Path

import pytest

from segjax.costs import tpu
from tests.tpu_step import compiled_step

GOLDEN = Path(__file__).parent / "golden" / "tpu_steps.json"
FAMILIES = (
    "bisenet_r18", "deeplabv3_r50", "deeplabv3plus_r18", "encnet_r50", "fastscnn", "fcn_r50", "hrnet_w18_ocr",
    "icnet_r50", "ldn121", "pspnet_r50", "swiftnet_r18",
)  # fmt: skip
SPLIT = ("deeplabv3plus_r18", "fastscnn", "swiftnet_r18")  # also with the height of the images split over two chips
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(tpu.missing()), reason="libtpu is not installed")]


def golden() -> dict:
    return json.loads(GOLDEN.read_text()) if GOLDEN.is_file() else {}


def check_golden(key, found):
    known = golden()
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(json.dumps(dict(sorted({**known, key: found}.items())), indent=1) + "\n")
    elif found["made_by"] != known[key]["made_by"]:
        pytest.skip(f"the rest holds; the numbers are of {known[key]['made_by']}, other compilers may have others")
    else:
        assert found == known[key]


def check(found):
    assert found["donated"] >= found["state"] > 0
    assert set(found["convolutions"]) == {"bf16"} and not found["host"]
    gradients = found["messages"]["all-reduce"]
    assert gradients["count"] - found["small"] <= 8  # combined; the others are statistics of the norms


@pytest.mark.parametrize("network", FAMILIES)
def test_a_step_on_four_chips(network):
    found = compiled_step(network, {"data": 4, "space": 1})
    check(found)
    assert list(found["messages"]) == ["all-reduce"] and not found["moved"]
    check_golden(network, found)


@pytest.mark.parametrize("network", SPLIT)
def test_a_step_on_two_chips_for_each_image(network):
    found = compiled_step(network, {"data": 2, "space": 2})
    check(found)
    assert "collective-permute" in found["messages"]
    # the dilated convolutions of a pyramid read more rows than a neighbour has on so small a map
    assert all("/aspp/" in origin for origin in found["moved"]), found["moved"]
    check_golden(f"{network} space=2", found)


def test_the_golden_numbers_are_of_these_networks():
    assert set(golden()) == {*FAMILIES, *(f"{network} space=2" for network in SPLIT)}


def test_the_compilers_are_those_that_are_pinned():
    assert {found["made_by"]["jax"] for found in golden().values()} == {version("jax")}
