"""The end of every image network: logits before and after their enlargement to the size of the images.

That all networks keep `low.logits` is in test_models.py.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import models
from segjax.models import heads
from segjax.ops import resize
from tests.parity_tools import formula_variables

SIZE = (33, 47)  # odd, and no multiple of what some networks pad to
RULES = [  # networks that compile quickly: align_corners, size after padding
    ("bisenet_r18", True, SIZE),
    ("bisenet_r18_coincheung", False, (64, 64)),
    ("fastscnn", True, SIZE),
    ("swiftnet_r18_pyramid", False, (36, 47)),
]


@pytest.mark.parametrize("name, align_corners, padded", RULES)
def test_low_logits_enlarged_by_the_networks_rule_are_the_logits(name, align_corners, padded):
    module = models.create(name, 5)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, *SIZE, 3)), jnp.float32)

    @jax.jit
    def run(variables, x):
        output = module.apply(variables, x, train=False)
        full = resize(output.features["low.logits"], padded, align_corners=align_corners)
        return output.logits, full[:, : SIZE[0], : SIZE[1]]

    logits, expected = run(formula_variables(module, small=".*"), x)
    assert float(logits.std()) > 0
    np.testing.assert_array_equal(logits, expected)


@pytest.mark.parametrize("padded", [None, (8, 12)])
def test_heads_are_enlarged_and_kept_and_other_outputs_pass(padded):
    low = jax.random.normal(jax.random.key(0), (1, 2, 3, 4), jnp.bfloat16)
    aux, features = {"se": jnp.ones((1, 4))}, {"stem": jnp.zeros((1, 4, 4, 8))}
    output = heads.seg_output(
        {"logits": low, "aux": 2 * low}, features, (5, 7), align_corners=True, padded=padded, aux=aux
    )
    expected = resize(low.astype(jnp.float32), padded or (5, 7), align_corners=True)[:, :5, :7]
    np.testing.assert_array_equal(output.logits, expected)
    np.testing.assert_array_equal(output.aux["aux"], 2 * expected)
    assert set(output.aux) == {"se", "aux"} and set(output.features) == {"stem", "low.logits", "low.aux"}
    np.testing.assert_array_equal(output.features["low.logits"], low.astype(jnp.float32))
    assert set(aux) == {"se"} and set(features) == {"stem"}  # what was given is not changed
    small = heads.before_enlargement(output)
    assert small.logits.shape == (1, 2, 3, 4) and small.aux["se"].shape == (1, 4) and not small.features
    again = heads.enlarged(small)
    np.testing.assert_array_equal(again.logits, output.logits)
    np.testing.assert_array_equal(again.aux["aux"], output.aux["aux"])


def test_logits_are_enlarged_in_float32_and_float64_stays():
    x = jnp.ones((1, 2, 3, 4), jnp.bfloat16)
    assert heads.upsample_logits(x, (5, 7), align_corners=True).dtype == jnp.float32
    with jax.enable_x64(True):
        assert heads.upsample_logits(x.astype(jnp.float64), (5, 7), align_corners=False).dtype == jnp.float64


def test_no_network_enlarges_logits_by_itself():
    """`seg_output` is the one place; a network that enlarged its logits elsewhere would not keep the low ones."""
    networks = [module for key, module in sys.modules.items() if key.startswith("segjax.models.")]
    assert [m.__name__ for m in networks if hasattr(m, "upsample_logits")] == ["segjax.models.heads"]
