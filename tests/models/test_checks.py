"""Options of the networks: impossible values are named, values that fit are accepted."""

import jax.numpy as jnp
import numpy as np
import pytest

from segjax import models
from segjax.errors import UserError


@pytest.mark.parametrize(
    "name, options, text",
    [
        ("fastscnn", {"num_classes": 0}, "num_classes=0 of fastscnn must be 1 or more"),
        ("fastscnn", {"num_classes": 2.5}, "num_classes=2.5 .* must be a whole number"),
        ("fastscnn", {"num_classes": "19"}, "num_classes='19' .* must be a whole number"),
        ("fastscnn", {"dtype": "float99"}, "dtype='float99' .* one of float32, bfloat16"),
        ("fastscnn", {"dtype": "int8"}, "dtype='int8' .* one of float32"),
        ("fastscnn", {"dropout": 1.0}, "dropout=1.0 .* 0 or more and below 1"),
        ("fastscnn", {"dropout": "x"}, "dropout='x' .* a number"),
        ("swiftnet_r18", {"spp_momentum": 3}, "spp_momentum=3 .* above 0 and at most 1"),
        ("fastscnn", {"bn_eps": 0.0}, "bn_eps=0.0 .* above 0"),
        ("fastscnn", {"remat": 1}, "remat=1 .* True, False, or names such as 'layer"),
        ("fastscnn", {"remat": "blok"}, "remat='blok': segment 'blok' does not exist; .* Did you mean 'block'"),
        ("fastscnn", {"remat": "block+layer"}, "fastscnn has no segment 'layer' .*; choose of block, stem, .*, loss"),
        ("lrn18", {"remat": "td"}, "lrn18 has no segment 'td'"),
        ("deeplabv2_r101", {"remat": "head"}, "has no segment 'head'"),
        ("fastscnn", {"stem_padding": -1}, "stem_padding=-1 .* 0 or more"),
        ("pspnet_r50", {"align_corners": 1}, "align_corners=1 .* True or False"),
        ("deeplabv3plus_r50", {"rates": 6}, r"rates=6 .* whole numbers, such as \(6, 12\)"),
        ("encnet_r50", {"codewords": 0}, "codewords=0 .* 1 or more"),
        ("hrnet_w48_ocr", {"ocr_channels": True}, "ocr_channels=True .* a whole number"),
    ],
)
def test_impossible_values_of_options_are_named(name, options, text):
    with pytest.raises(UserError, match=text):
        models.create(name, **{"num_classes": 5, **options})


def test_values_that_jax_and_numpy_make_are_taken():
    models.create(
        "pspnet_r50", np.int64(5), dtype=jnp.bfloat16, bn_momentum=1, align_corners=None, dropout=np.float32(0)
    )
