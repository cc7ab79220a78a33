"""Protocols of published results: keyword arguments of `views.predict`, by name.

    protocol              scales                  mirror  windows             averaged in
    single                1                       no      whole image         -
    cityscapes_multi      0.5, 1, 2               yes     1024, overlap 1/3   logits          VPLR, test submission
    kitti_multi           1.5, 2, 2.5             yes     368, overlap 1/3    logits          VPLR; images at 384x1280
    camvid_multi          0.5, 0.75, 1, 1.25, ..  yes     whole image         probabilities
    ldn_multi             0.5, 0.75, 1, 1.5, 2    yes     whole image         probabilities   LDN; sides x64

Sources: reference code of VPLR and LDN. The paper gives no scales for CamVid, so camvid_multi has six common ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segjax.errors import UserError, did_you_mean

PROTOCOLS: dict[str, Mapping[str, Any]] = {
    "single": {},
    "cityscapes_multi": dict(scales=(0.5, 1.0, 2.0), flip=True, window=(1024, 1024)),
    "kitti_multi": dict(scales=(1.5, 2.0, 2.5), flip=True, window=(368, 368), base_size=(384, 1280)),
    "camvid_multi": dict(scales=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75), flip=True, average="probabilities"),
    "ldn_multi": dict(scales=(0.5, 0.75, 1.0, 1.5, 2.0), flip=True, average="probabilities", multiple=64),
}


def find_protocol(name: str) -> dict[str, Any]:
    """Returns the keyword arguments of `views.predict` for a protocol. Raises UserError for an unknown name."""
    if name not in PROTOCOLS:
        raise UserError(f"protocol={name!r} does not exist.{did_you_mean(name, PROTOCOLS)}")
    return dict(PROTOCOLS[name])
