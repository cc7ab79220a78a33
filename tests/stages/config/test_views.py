"""The views of a section: those of the protocol, overridden by what the section says."""

import pytest

from segjax.errors import UserError
from segjax.stages.config.views import ViewOptions


def test_options_override_the_protocol():
    assert ViewOptions().views == {}
    found = ViewOptions(protocol="cityscapes_multi", scales=(1.0,)).views
    assert found == {"scales": (1.0,), "flip": True, "window": (1024, 1024)}
    assert ViewOptions(protocol="", average="probabilities").views == {"average": "probabilities"}
    with pytest.raises(UserError, match="Did you mean 'camvid_multi'"):
        ViewOptions(protocol="camvid").views  # noqa: B018


def test_windows_that_do_not_overlap():
    assert ViewOptions(window=(8, 8), overlap=0).views == {"window": (8, 8), "overlap": 0}
    assert ViewOptions(window=(8, 8), overlap=0.0).views["overlap"] == 0
