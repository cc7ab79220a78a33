"""Places of the networks' ResNets, which ImageNet files can fill."""

from __future__ import annotations

from segjax.weights.source import Place, under

STAGES = r"layer[1-4]\."
TRUNK_PREFIXES = ("", "backbone.", "context_path.", "cp.resnet.", "pretrained.")

# torchvision's stem: conv1, bn1
RESNET = (
    Place(rename=((r"^conv1\.", "layer0.0."), (r"^bn1\.", "layer0.1.")), fills=r"^layer[0-4]\."),  # VPLR
    *under(*TRUNK_PREFIXES, leaves=rf"conv1\.|bn1\.|{STAGES}"),
    Place(  # SwiftNet's pyramid: one norm per scale, all with the same initial values
        rename=(
            (r"^((?:layer\d\.\d+\.)?bn[12])\.", (r"backbone.\1.0.", r"backbone.\1.1.", r"backbone.\1.2.")),
            (r"^", "backbone."),
        ),
        fills=rf"^backbone\.(conv1\.|bn1\.|{STAGES})",
    ),
)

# deep stem, with the names of PyTorch-Encoding: conv1.{0,1,3,4,6}, bn1
DEEP_RESNET = (
    Place(  # semseg
        rename=((r"^conv1\.(\d)\.", r"layer0.\1."), (r"^bn1\.", "layer0.7.")), fills=r"^layer[0-4]\."
    ),
    *under(*TRUNK_PREFIXES, leaves=rf"conv1\.|bn1\.|{STAGES}"),
)

# SE-ResNeXt, with Cadene's names: layer0.conv1, layer0.bn1, se_module
SE_RESNEXT = under("", "backbone.", leaves=r"layer[0-4]\.")
