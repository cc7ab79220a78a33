"""Files of every family, made from the naming of their own repository, fill the published networks without a rest.

The names and shapes of the networks are those of the published ones (tests/fixtures/published_names.json.xz); where
none is listed there, those of ours, whose numbers equal the published ones (tests/models).
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from segjax import models, weights
from segjax.augment import NORMALISATION
from segjax.errors import UserError
from segjax.weights import SOURCES
from tests import networks
from tests.weights import family_files as files
from tests.weights import video_files
from tests.weights.family_files import published, same, torchvision_resnet
from tests.weights.test_torch_file import Tensor, write

LEAVES = {"running_mean": ("batch_stats", "mean"), "running_var": ("batch_stats", "var"), "bias": ("params", "bias")}


class Shape:
    """A leaf that needs no memory."""

    def __init__(self, shape):
        self.shape, self.dtype = tuple(shape), np.dtype(np.float32)


def network(folder):
    """Abstract variables with the published names; a weight of one axis is the scale of a norm.

    folder: of a published network, or (name, options) of ours.
    """
    if folder == SDCNET:
        images, flows = jnp.zeros((1, 3, 64, 64, 3)), jnp.zeros((1, 2, 64, 64, 2))
        return jax.eval_shape(models.create_video(folder[0]).init, jax.random.key(0), images, flows)
    if isinstance(folder, tuple):
        return networks.shapes(folder[0], 19, **folder[1])
    return abstract(published()[folder])


def abstract(names):
    """Variables whose leaves have these published names and shapes."""
    flat = {}
    for name, shape in names.items():
        module, leaf = name.rsplit(".", 1)
        if leaf == "weight" and len(shape) > 1:
            flat["params", module, "kernel"] = Shape((*shape[2:], shape[1], shape[0]))
        elif leaf == "weight":
            flat["params", module, "scale"] = Shape(shape)
        elif leaf in LEAVES:
            collection, ours = LEAVES[leaf]
            flat[collection, module, ours] = Shape(shape)
        else:
            flat["params", module, leaf] = Shape(shape)
    return unflatten_dict(flat)


SDCNET = ("sdcnet2d_recon", {})
TRUNK = "the trunk only"
ALL = "every leaf"
# source, network, file, what it fills
FAMILIES = {
    "torchvision resnet18 in SwiftNet": (
        "torchvision_resnet", "swiftnet_r18", lambda: torchvision_resnet(18), TRUNK
    ),
    "torchvision resnet18 in SwiftNet pyramid": (
        "torchvision_resnet", "swiftnet_r18_pyramid", lambda: torchvision_resnet(18), TRUNK
    ),
    "torchvision resnet18 in BiSeNet": ("torchvision_resnet", "bisenet_r18", lambda: torchvision_resnet(18), TRUNK),
    "torchvision resnet18 in CoinCheung's": (
        "torchvision_resnet", "bisenetv1_coincheung", lambda: torchvision_resnet(18), TRUNK
    ),
    "torchvision resnet101": ("torchvision_resnet", "deeplabv3_r101", lambda: torchvision_resnet(101), TRUNK),
    "torchvision densenet121": ("torchvision_densenet", "ldn121_32to4", files.old_densenet121, TRUNK),
    "torchvision deeplabv3": ("torchvision_segmentation", "deeplabv3_r101", lambda: same("deeplabv3_r101"), ALL),
    "timm seresnext50": (
        "timm_seresnext", "deepv3plus_srnx50",
        lambda: files.resnet(50, files.stem7(), groups=32, se="se") | files.linear("fc", 1000, 2048), TRUNK,
    ),
    "timm resnet101": ("timm_resnet", "deeplabv3_r101", lambda: torchvision_resnet(101), TRUNK),
    "Cadene se_resnext50": (
        "cadene_se_resnext", "deepv3plus_srnx50",
        lambda: files.resnet(50, files.stem7("layer0.conv1", "layer0.bn1"), groups=32, se="se_module")
        | files.linear("last_linear", 1000, 2048), TRUNK,
    ),
    "NVIDIA sdcnet": (
        "nvidia_sdcnet", "deepv3plus_wrn38",
        lambda: same("deepv3plus_wrn38", "module.", ["criterion.nll_loss.weight"]), ALL,
    ),
    "NVIDIA ImageNet": ("nvidia_wider_resnet38", "deepv3plus_wrn38", files.wider_resnet38, TRUNK),
    "NVIDIA main DeepLabV3+": ("nvidia_main_deeplabv3plus", "deepv3plus_srnx50", files.nvidia_main, ALL),
    "NVIDIA main OCR": ("nvidia_main_ocr", "hrnet_w48_ocr", files.hrnet_ocr_of_branch_main, ALL),
    "HRNet-OCR": (
        "hrnet_ocr", "hrnet_w48_ocr",
        lambda: same("hrnet_w48_ocr", "model.") | {"loss.criterion.weight": (19,)}, ALL,
    ),
    "HRNet ImageNet": ("hrnet_imagenet", "hrnet_w48_ocr", files.hrnet_imagenet, TRUNK),
    "LDN": ("ldn", "ldn121_32to4", lambda: same("ldn121_32to4"), ALL),
    "timm dpn68": ("timm_dpn", ("ldn_dpn68", {}), files.dpn68, TRUNK),
    "SwiftNet": (
        "swiftnet", "swiftnet_r18", lambda: same("swiftnet_r18") | {"backbone.img_mean": (1, 3, 1, 1)}, ALL
    ),
    "semseg": ("semseg", "pspnet_r101", lambda: same("pspnet_r101", "module."), ALL),
    "semseg ImageNet": ("semseg_resnet", "pspnet_r101", files.semseg_resnet101, TRUNK),
    "semseg ImageNet in a Tramac network": ("semseg_resnet", "deeplabv3_r101_tramac", files.semseg_resnet101, TRUNK),
    "Encoding DeepLabV3": ("encoding_deeplabv3", "deeplabv3_r101_tramac", files.encoding_deeplabv3, ALL),
    "Encoding ImageNet": (
        "encoding_resnet", "pspnet_r101", lambda: files.encoding_trunk(101, prefix=""), TRUNK
    ),
    "TorchSeg BiSeNet": ("torchseg", "bisenet_r18", lambda: same("bisenet_r18", "module."), ALL),
    "CoinCheung BiSeNet": ("coincheung", "bisenetv1_coincheung", lambda: same("bisenetv1_coincheung"), ALL),
    "Tramac ICNet": ("tramac", "icnet_r50", lambda: same("icnet_r50", extra=["pretrained.fc.bias"]), ALL),
    "timm resnet101 v1s": (
        "timm_resnet_v1s", "pspnet_r101", lambda: files.encoding_trunk(101, prefix=""), TRUNK
    ),
    "kazuto1011": ("kazuto1011", ("deeplabv2_r101", {"scales": ()}), files.kazuto_deeplabv2, ALL),
    "kazuto1011 start": (
        "kazuto1011_resnet", ("deeplabv2_r101", {"scales": ()}),
        lambda: files.kazuto_resnet101() | files.conv("fc", 91, 2048, bias=True), TRUNK,
    ),
    "NVIDIA SDC-Net": (
        "sdcnet", SDCNET, lambda: video_files.sdcnet_recon() | files.conv("flownet2.conv1.0", 64, 6, 7), ALL
    ),
    "EfficientNet-Lite0 in SwiftNet": (
        "efficientnet_lite", ("swiftnet_efficientnet_lite0", {}), lambda: files.efficientnet_lite(0), TRUNK
    ),
    "EfficientNet-Lite2 in DeepLabV3+": (
        "efficientnet_lite", ("deeplabv3plus_efficientnet_lite2", {}), lambda: files.efficientnet_lite(2), TRUNK
    ),
    "torchvision mobilenet_v2": (
        "torchvision_mobilenet_v2", ("deeplabv3plus_mobilenet_v2", {}), files.mobilenet_v2, TRUNK
    ),
    "Encoding EncNet": ("encoding_encnet", ("encnet_r50", {}), files.encoding_encnet50, ALL),
    "Encoding PSPNet": (
        "encoding_pspnet", ("pspnet_r50", {"form": "encoding"}), files.encoding_pspnet50, ALL
    ),
    "mmsegmentation PSPNet": (
        "mmseg_pspnet", ("pspnet_r50", {"form": "mmseg"}), lambda: files.mmseg_pspnet(50), ALL
    ),
    "mmsegmentation PSPNet R-50b without auxiliary head": (
        "mmseg_pspnet", ("pspnet_r50", {"form": "mmseg_b", "aux": False}), lambda: files.mmseg_pspnet(50, False), ALL
    ),
    "mmsegmentation DeepLabV3+": (
        "mmseg_deeplabv3plus", ("deeplabv3plus_r50_mmseg", {}), lambda: files.mmseg_deeplabv3plus(50), ALL
    ),
    "mmsegmentation DeepLabV3+ R-101b": (
        "mmseg_deeplabv3plus", ("deeplabv3plus_r101_mmseg", {"deep_stem": False}),
        lambda: files.mmseg_deeplabv3plus(101, False), ALL,
    ),
    "mmsegmentation resnet50_v1c": (
        "mmseg_resnet", ("pspnet_r50", {"form": "mmseg"}),
        lambda: files.mmseg_trunk(50) | files.linear("fc", 1000, 2048), TRUNK,
    ),
    "mmsegmentation resnet101": ("mmseg_resnet", "deeplabv3_r101", files.mmseg_resnet101, TRUNK),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_the_files_of_a_family_fill_a_network(family):
    source, folder, file, what = FAMILIES[family]
    target = network(folder)
    report = weights.load(zeros(file()), target, source=source)[1]
    assert not report.unexpected and not report.replaced
    if what is ALL:
        assert not report.missing and len(report.matched) == len(weights.sizes(target))
    else:
        trunk = trunk_leaves(folder, target)
        assert set(report.matched) == trunk and len(trunk) > 90


def zeros(names):
    """Tensors of these shapes that need no memory."""
    return {name: np.broadcast_to(np.float32(0), shape) for name, shape in names.items()}


def trunk_leaves(folder, target):
    """Leaves of the trunk, by the prefix the published network has for it; ours are asked."""
    if isinstance(folder, tuple):
        pattern = models.trunk_pattern(models.create(folder[0], 19, **folder[1]))
        return {name for name in weights.sizes(target) if re.search(pattern, name)}
    prefixes = {
        "swiftnet_r18": ("backbone.conv1", "backbone.bn1", "backbone.layer"), "bisenet_r18": ("context_path.",),
        "bisenetv1_coincheung": ("cp.resnet.",), "deeplabv3_r101": ("backbone.",), "ldn121_32to4": ("features.",),
        "deepv3plus_srnx50": ("layer",), "deepv3plus_wrn38": ("mod",), "pspnet_r101": ("layer",),
        "hrnet_w48_ocr": ("conv1", "bn1", "conv2", "bn2", "layer1", "transition", "stage"),
        "deeplabv3_r101_tramac": ("pretrained.",),
    }  # fmt: skip
    prefixes["swiftnet_r18_pyramid"] = prefixes["swiftnet_r18"]
    found = {n for n in published()[folder] if n.startswith(prefixes[folder])}
    return {n for n in found if not n.startswith("conv3x3_ocr")}


def test_every_norm_of_the_pyramid_starts_from_the_same_values():
    tensors = {n: np.full(s, float(len(n)), np.float32) for n, s in torchvision_resnet(18).items()}
    found, _ = weights.load(tensors, network("swiftnet_r18_pyramid"), source="torchvision_resnet")
    scales = [found["params"][f"backbone.layer2.0.bn1.{i}"]["scale"] for i in range(3)]
    assert all((scale == len("layer2.0.bn1.weight")).all() for scale in scales)


def test_a_gsvnet_file_fills_the_network_and_its_flow_network(tmp_path):
    tensors = [
        {n: Tensor(np.full(s, i, np.float32)) for n, s in part.items()} for i, part in enumerate(video_files.gsvnet())
    ]
    write(tmp_path / "g.pth", {"epoch": 3, "state_dict": tensors[0], "state_dict_of": tensors[1]})
    grm, flow = ({n: s for n, s in part.items() if "num_batches" not in n} for part in video_files.gsvnet())
    target = abstract(grm | {f"ofnet.{n}": s for n, s in flow.items()})
    found, report = weights.load(tmp_path / "g.pth", target, source="gsvnet")
    assert not report.missing and not report.unexpected and not report.replaced and len(report.matched) == 95
    assert sum(weights.sizes({"params": target["params"]}).values()) == 396_487
    values = {name: np.unique(value).tolist() for name, value in weights.to_state_dict(found).items()}
    assert all(value == [float(name.startswith("ofnet."))] for name, value in values.items())


def test_a_missing_trunk_tensor_is_noticed_in_every_place():
    for folder in ("swiftnet_r18", "bisenet_r18", "bisenetv1_coincheung"):
        tensors = zeros(torchvision_resnet(18))
        del tensors["layer4.1.bn2.bias"]
        with pytest.raises(UserError, match=r"1 leaf name of the network not in the file \(.*layer4.1.bn2.bias\)"):
            weights.load(tensors, network(folder), source="torchvision_resnet")


def test_a_family_that_does_not_fit_fails():
    with pytest.raises(UserError, match="no place in the network"):
        weights.load(zeros(torchvision_resnet(18)), network("deepv3plus_wrn38"), source="torchvision_resnet")


def test_a_file_without_source_is_answered_with_its_family():
    target = network(("pspnet_r50", {"form": "mmseg", "aux": False}))
    with pytest.raises(UserError, match="the names are those of source=.*'mmseg_pspnet'"):
        weights.load(zeros(files.mmseg_pspnet(50)), target)


OPTIONS = {
    "timm_seresnext": "deeplabv3plus_srnx50", "nvidia_main_deeplabv3plus": "deeplabv3plus_srnx50",
    "nvidia_main_ocr": "hrnet_w48_ocr", "encoding_deeplabv3": "deeplabv3_r101", "encoding_pspnet": "pspnet_r50",
    "encoding_encnet": "encnet_r50", "mmseg_pspnet": "pspnet_r50", "kazuto1011": "deeplabv2_r101",
    "kazuto1011_resnet": "deeplabv2_r101", "ldn": "ldn121",
}  # fmt: skip


def test_the_options_that_come_with_weights_are_options_of_their_network():
    assert set(OPTIONS) == {name for name, source in SOURCES.items() if source.options}
    for source, name in OPTIONS.items():
        models.create(name, 19, **SOURCES[source].options)
        assert all(models.options(name)[key] != value for key, value in SOURCES[source].options.items())


def test_the_normalisation_of_every_family_exists():
    assert {source.normalisation for source in SOURCES.values()} <= set(NORMALISATION)
    assert SOURCES["kazuto1011"].normalisation == "caffe" and SOURCES["timm_resnet"].normalisation == "imagenet"


def test_every_family_has_a_test():
    assert {source for source, *_ in FAMILIES.values()} | {"gsvnet"} == set(SOURCES)
