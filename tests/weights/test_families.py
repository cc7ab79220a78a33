"""Files of every family, made from the naming of their own repository, fill the published networks without a rest.

The names and shapes of the networks are those of the published ones (tests/fixtures/published_names.json.xz).
"""

import json
import lzma
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from segjax import weights
from segjax.errors import UserError
from segjax.weights import SOURCES

PUBLISHED = Path(__file__).resolve().parent.parent / "fixtures" / "published_names.json.xz"
LEAVES = {"running_mean": ("batch_stats", "mean"), "running_var": ("batch_stats", "var"), "bias": ("params", "bias")}
BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


# The networks


@cache
def published():
    return json.loads(lzma.decompress(PUBLISHED.read_bytes()))


class Shape:
    """A leaf that needs no memory."""

    def __init__(self, shape):
        self.shape, self.dtype = tuple(shape), np.dtype(np.float32)


def network(folder):
    """Abstract variables with the published names; a weight of one axis is the scale of a norm."""
    flat = {}
    for name, shape in published()[folder].items():
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


# The files, in the naming of their repositories


def conv(name, out, inner, size=1, bias=False):
    return {f"{name}.weight": (out, inner, size, size)} | ({f"{name}.bias": (out,)} if bias else {})


def norm(name, c):
    leaves = {f"{name}.{leaf}": (c,) for leaf in ("weight", "bias", "running_mean", "running_var")}
    return leaves | {f"{name}.num_batches_tracked": ()}


def linear(name, out, inner):
    return {f"{name}.weight": (out, inner), f"{name}.bias": (out,)}


def resnet(depth, stem, *, groups=1, se="", first=64):
    """layer1 .. layer4 of torchvision, timm, Cadene, Encoding and mmsegmentation alike, after a stem."""
    names = dict(stem)
    basic, inner = depth < 50, first
    for i, count in enumerate(BLOCKS[depth], start=1):
        width = 64 * 2 ** (i - 1)
        out = width if basic else 4 * width
        middle = width if groups == 1 else 2 * width
        for j in range(count):
            block = f"layer{i}.{j}"
            if basic:
                names |= conv(f"{block}.conv1", width, inner, 3) | norm(f"{block}.bn1", width)
                names |= conv(f"{block}.conv2", width, width, 3) | norm(f"{block}.bn2", width)
            else:
                names |= conv(f"{block}.conv1", middle, inner) | norm(f"{block}.bn1", middle)
                names |= conv(f"{block}.conv2", middle, middle // groups, 3) | norm(f"{block}.bn2", middle)
                names |= conv(f"{block}.conv3", out, middle) | norm(f"{block}.bn3", out)
            if se:
                names |= conv(f"{block}.{se}.fc1", out // 16, out, bias=True)
                names |= conv(f"{block}.{se}.fc2", out, out // 16, bias=True)
            if j == 0 and (i > 1 or not basic):
                names |= conv(f"{block}.downsample.0", out, inner) | norm(f"{block}.downsample.1", out)
            inner = out
    return names


def stem7(first="conv1", second="bn1"):
    return conv(first, 64, 3, 7) | norm(second, 64)


def deep_stem(*names):
    c1, n1, c2, n2, c3, n3 = names
    return conv(c1, 64, 3, 3) | norm(n1, 64) | conv(c2, 64, 64, 3) | norm(n2, 64) | conv(c3, 128, 64, 3) | norm(n3, 128)


def prefixed(prefix, names):
    return {prefix + name: shape for name, shape in names.items()}


def torchvision_resnet(depth):
    return resnet(depth, stem7()) | linear("fc", 1000, 512 if depth < 50 else 2048)


def old_densenet121():
    names = conv("features.conv0", 64, 3, 7) | norm("features.norm0", 64)
    c = 64
    for block, count in enumerate((6, 12, 24, 16), start=1):
        for layer in range(1, count + 1):
            name = f"features.denseblock{block}.denselayer{layer}"
            names |= norm(f"{name}.norm.1", c) | conv(f"{name}.conv.1", 128, c)
            names |= norm(f"{name}.norm.2", 128) | conv(f"{name}.conv.2", 32, 128, 3)
            c += 32
        if block < 4:
            names |= norm(f"features.transition{block}.norm", c) | conv(f"features.transition{block}.conv", c // 2, c)
            c //= 2
    return names | norm("features.norm5", c) | linear("classifier", 1000, c)


def wider_resnet38():
    names = conv("mod1.conv1", 64, 3, 3)
    inner = 64
    for mod, count, channels in (
        (2, 3, (128, 128)), (3, 3, (256, 256)), (4, 6, (512, 512)), (5, 3, (512, 1024)), (6, 1, (512, 1024, 2048)),
        (7, 1, (1024, 2048, 4096)),
    ):  # fmt: skip
        for block in range(1, count + 1):
            name = f"mod{mod}.block{block}"
            names |= norm(f"{name}.bn1.0", inner)
            if block == 1:
                names |= conv(f"{name}.proj_conv", channels[-1], inner)
            c = inner
            for i, out in enumerate(channels, start=1):
                size = 3 if len(channels) == 2 or i == 2 else 1
                names |= conv(f"{name}.convs.conv{i}", out, c, size)
                names |= norm(f"{name}.convs.bn{i}.0", c) if i > 1 else {}
                c = out
            inner = channels[-1]
    return prefixed("module.", names | norm("bn_out.0", 4096) | linear("classifier.fc", 1000, 4096))


def nvidia_main():
    """DeepLabV3+ of branch main on SE-ResNeXt-50."""
    names = resnet(50, stem7("layer0.conv1", "layer0.bn1"), groups=32, se="se_module")
    names = prefixed("backbone.", names)
    for i in range(4):
        names |= conv(f"aspp.features.{i}.0", 256, 2048, 3 if i else 1) | norm(f"aspp.features.{i}.1", 256)
    names |= conv("aspp.img_conv.0", 256, 2048) | norm("aspp.img_conv.1", 256)
    names |= conv("bot_fine", 48, 256) | conv("bot_aspp", 256, 1280)
    names |= conv("final.0", 256, 304, 3) | norm("final.1", 256)
    names |= conv("final.3", 256, 256, 3) | norm("final.4", 256) | conv("final.6", 19, 256)
    return prefixed("module.", names)


def hrnet_trunk():
    """From the published list: only the head is named otherwise in the other repositories."""
    heads = ("conv3x3_ocr", "aux_head", "cls_head", "ocr_distri_head")
    return {n: tuple(s) for n, s in published()["hrnet_w48_ocr"].items() if not n.startswith(heads)}


def hrnet_ocr_of_branch_main():
    names = prefixed("backbone.", hrnet_trunk())
    names |= conv("ocr.conv3x3_ocr.0", 512, 720, 3, bias=True) | norm("ocr.conv3x3_ocr.1.0", 512)
    names |= conv("ocr.aux_head.0", 720, 720, bias=True) | norm("ocr.aux_head.1.0", 720)
    names |= conv("ocr.aux_head.2", 19, 720, bias=True) | conv("ocr.cls_head", 19, 512, bias=True)
    block = "ocr.ocr_distri_head.object_context_block"
    for part in ("f_pixel", "f_object"):
        names |= conv(f"{block}.{part}.0", 256, 512) | norm(f"{block}.{part}.1.0", 256)
        names |= conv(f"{block}.{part}.2", 256, 256) | norm(f"{block}.{part}.3.0", 256)
    names |= conv(f"{block}.f_down.0", 256, 512) | norm(f"{block}.f_down.1.0", 256)
    names |= conv(f"{block}.f_up.0", 512, 256) | norm(f"{block}.f_up.1.0", 512)
    names |= conv("ocr.ocr_distri_head.conv_bn_dropout.0", 512, 1024)
    names |= norm("ocr.ocr_distri_head.conv_bn_dropout.1.0", 512)
    names |= conv("scale_attn.conv0", 256, 512, 3) | norm("scale_attn.bn0", 256)
    return prefixed("module.", names)


def hrnet_imagenet():
    names = hrnet_trunk() | conv("incre_modules.0.0.conv1", 32, 48) | norm("incre_modules.0.0.bn1", 32)
    return names | conv("downsamp_modules.0.0", 256, 128, 3, bias=True) | linear("classifier", 1000, 2048)


def encoding_trunk(depth):
    stem = deep_stem("conv1.0", "conv1.1", "conv1.3", "conv1.4", "conv1.6", "bn1")
    names = resnet(depth, stem, first=128)
    return prefixed("pretrained.", names | linear("fc", 1000, 2048))


def fcn_head(name, k):
    return conv(f"{name}.0", 256, 1024, 3) | norm(f"{name}.1", 256) | conv(f"{name}.4", k, 256, bias=True)


def encoding_deeplabv3():
    names = encoding_trunk(101) | fcn_head("auxlayer.conv5", 19)
    for i in range(4):
        names |= conv(f"head.aspp.b{i}.0", 256, 2048, 3 if i else 1) | norm(f"head.aspp.b{i}.1", 256)
    names |= conv("head.aspp.b4.gap.1", 256, 2048) | norm("head.aspp.b4.gap.2", 256)
    names |= conv("head.aspp.project.0", 256, 1280) | norm("head.aspp.project.1", 256)
    names |= conv("head.block.0", 256, 256, 3) | norm("head.block.1", 256)
    return names | conv("head.block.4", 19, 256, bias=True)


def semseg_resnet101():
    stem = deep_stem("conv1", "bn1", "conv2", "bn2", "conv3", "bn3")
    return resnet(101, stem, first=128) | linear("fc", 1000, 2048)


def mmseg_resnet101():
    """A DeepLabV3+ on the plain ResNet; one tensor of each head."""
    names = prefixed("backbone.", resnet(101, stem7()))
    names |= conv("decode_head.conv_seg", 19, 512, bias=True) | conv("auxiliary_head.conv_seg", 19, 256, bias=True)
    return names | conv("decode_head.aspp_modules.1.depthwise_conv.conv", 2048, 1, 3)


def same(folder, prefix="", extra=()):
    """A file with the published names and a wrapper's prefix."""
    return prefixed(prefix, {n: tuple(s) for n, s in published()[folder].items()} | {n: (19,) for n in extra})


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
    "torchvision densenet121": ("torchvision_densenet", "ldn121_32to4", old_densenet121, TRUNK),
    "torchvision deeplabv3": ("torchvision_segmentation", "deeplabv3_r101", lambda: same("deeplabv3_r101"), ALL),
    "timm seresnext50": (
        "timm_seresnext", "deepv3plus_srnx50",
        lambda: resnet(50, stem7(), groups=32, se="se") | linear("fc", 1000, 2048), TRUNK,
    ),
    "timm resnet101": ("timm_resnet", "deeplabv3_r101", lambda: torchvision_resnet(101), TRUNK),
    "Cadene se_resnext50": (
        "cadene_se_resnext", "deepv3plus_srnx50",
        lambda: resnet(50, stem7("layer0.conv1", "layer0.bn1"), groups=32, se="se_module")
        | linear("last_linear", 1000, 2048), TRUNK,
    ),
    "NVIDIA sdcnet": (
        "nvidia_sdcnet", "deepv3plus_wrn38",
        lambda: same("deepv3plus_wrn38", "module.", ["criterion.nll_loss.weight"]), ALL,
    ),
    "NVIDIA ImageNet": ("nvidia_wider_resnet38", "deepv3plus_wrn38", wider_resnet38, TRUNK),
    "NVIDIA main DeepLabV3+": ("nvidia_main_deeplabv3plus", "deepv3plus_srnx50", nvidia_main, ALL),
    "NVIDIA main OCR": ("nvidia_main_ocr", "hrnet_w48_ocr", hrnet_ocr_of_branch_main, ALL),
    "HRNet-OCR": (
        "hrnet_ocr", "hrnet_w48_ocr",
        lambda: same("hrnet_w48_ocr", "model.") | {"loss.criterion.weight": (19,)}, ALL,
    ),
    "HRNet ImageNet": ("hrnet_imagenet", "hrnet_w48_ocr", hrnet_imagenet, TRUNK),
    "LDN": ("ldn", "ldn121_32to4", lambda: same("ldn121_32to4"), ALL),
    "SwiftNet": (
        "swiftnet", "swiftnet_r18", lambda: same("swiftnet_r18") | {"backbone.img_mean": (1, 3, 1, 1)}, ALL
    ),
    "semseg": ("semseg", "pspnet_r101", lambda: same("pspnet_r101", "module."), ALL),
    "semseg ImageNet": ("semseg_resnet", "pspnet_r101", semseg_resnet101, TRUNK),
    "semseg ImageNet in a Tramac network": ("semseg_resnet", "deeplabv3_r101_tramac", semseg_resnet101, TRUNK),
    "Encoding DeepLabV3": ("encoding_deeplabv3", "deeplabv3_r101_tramac", encoding_deeplabv3, ALL),
    "Encoding ImageNet": (
        "encoding_resnet", "pspnet_r101",
        lambda: {n.removeprefix("pretrained."): s for n, s in encoding_trunk(101).items()}, TRUNK,
    ),
    "TorchSeg BiSeNet": ("torchseg", "bisenet_r18", lambda: same("bisenet_r18", "module."), ALL),
    "CoinCheung BiSeNet": ("coincheung", "bisenetv1_coincheung", lambda: same("bisenetv1_coincheung"), ALL),
    "Tramac ICNet": ("tramac", "icnet_r50", lambda: same("icnet_r50", extra=["pretrained.fc.bias"]), ALL),
    "mmsegmentation resnet101": ("mmseg_resnet", "deeplabv3_r101", mmseg_resnet101, TRUNK),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_the_files_of_a_family_fill_a_network(family):
    source, folder, file, what = FAMILIES[family]
    tensors = {name: np.broadcast_to(np.float32(0), shape) for name, shape in file().items()}
    target = network(folder)
    report = weights.load(tensors, target, source=source)[1]
    assert not report.unexpected and not report.replaced
    if what is ALL:
        assert not report.missing and len(report.matched) == len(published()[folder])
    else:
        trunk = trunk_leaves(folder)
        assert set(report.matched) == trunk and len(trunk) > 90


def trunk_leaves(folder):
    """Leaves of the trunk, by the prefix the published network has for it."""
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


def test_the_flow_network_of_a_gsvnet_file_is_found(tmp_path):
    from tests.weights.test_torch_file import Tensor, write

    one = Tensor(np.ones((2, 2, 1, 1), np.float32))
    write(tmp_path / "g.pth", {"state_dict": {"grm.a.weight": one}, "state_dict_of": {"toflow.weight": one}})
    target = unflatten_dict({("params", n, "kernel"): Shape((1, 1, 2, 2)) for n in ("grm.a", "ofnet.toflow")})
    report = weights.load(tmp_path / "g.pth", target, source="gsvnet")[1]
    assert set(report.matched) == {"grm.a.weight", "ofnet.toflow.weight"}


def test_a_missing_trunk_tensor_is_noticed_in_every_place():
    for folder in ("swiftnet_r18", "bisenet_r18", "bisenetv1_coincheung"):
        tensors = {n: np.broadcast_to(np.float32(0), s) for n, s in torchvision_resnet(18).items()}
        del tensors["layer4.1.bn2.bias"]
        with pytest.raises(UserError, match=r"1 leaf name of the network not in the file \(.*layer4.1.bn2.bias\)"):
            weights.load(tensors, network(folder), source="torchvision_resnet")


def test_a_family_that_does_not_fit_fails():
    tensors = {n: np.broadcast_to(np.float32(0), s) for n, s in torchvision_resnet(18).items()}
    with pytest.raises(UserError, match="no place in the network"):
        weights.load(tensors, network("deepv3plus_wrn38"), source="torchvision_resnet")


def test_every_family_has_a_test_or_needs_no_names():
    tested = {source for source, *_ in FAMILIES.values()}
    elsewhere = {"efficientnet_lite", "gsvnet"}  # real weights; above
    identity = {"kazuto1011", "sdcnet"}
    assert tested | elsewhere | identity | WITHOUT_NETWORK == set(SOURCES)


WITHOUT_NETWORK = {"torchvision_mobilenet_v2", "encoding_encnet", "encoding_pspnet"}
