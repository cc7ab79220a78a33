"""Weight files of the video networks as their repositories name the tensors; see family_files.py."""

from tests.weights.family_files import conv, norm


def deconv(name, inner, out):
    return {f"{name}.weight": (inner, out, 4, 4), f"{name}.bias": (out,)}


def sdcnet_recon():
    """SDCNet2DRecon of sdc_net2d.py: three frames and two flows in, with the statistics that are buffers there."""
    names = {"flow_mean": (1, 2, 1, 1), "flow_std": (1, 2, 1, 1), "rgb_mean": (1, 3, 1, 1)}
    inner, levels = 13, []
    for level, (out, kernel) in enumerate(((32, 7), (64, 5), (128, 5), (256, 3), (256, 3), (512, 3)), start=1):
        names |= conv(f"conv{level}.0", out, inner, kernel, bias=True)
        if level > 2:
            names |= conv(f"conv{level}_1.0", out, out, 3, bias=True)
        levels.append(inner)
        inner = out
    for level in reversed(range(6)):
        names |= deconv(f"deconv{level}.0", inner, 8 * 2**level)
        inner = 8 * 2**level + levels[level]
    return names | conv("final_flow", 2, inner, 3, bias=True)


def gsvnet():
    """The two dicts of a checkpoint: the network, and its flow network, which has no prefix there."""
    grm, flow = {"grm.ideal_dk.filter_copy_s": (9, 1, 1, 3, 3)}, {}

    def unit(names, name, out, inner, size=3):
        first, second = (f"{name}.{i}" for i in (0, 1)) if isinstance(name, str) else name
        names |= conv(first, out, inner, size, bias=True) | norm(second, out)

    for i, (out, inner) in zip((0, 3), ((32, 3), (32, 32))):
        name = "grm.intra_net.intra_net"
        unit(grm, (f"{name}.{i}", f"{name}.{i + 1}"), out, inner)
    grm |= conv("grm.intra_net.intra_net.6", 19, 32, 3, bias=True)
    for part, layers in (
        ("guide_conv", ((0, 32, 20),)), ("guide_conv_feat", ((0, 64, 32), (3, 128, 64))),
        ("guide_deconv", ((1, 64, 128), (5, 32, 64))), ("guide_decoder", ((0, 11, 32),)),
    ):  # fmt: skip
        for i, out, inner in layers:
            unit(grm, (f"grm.guide.{part}.{i}", f"grm.guide.{part}.{i + 1}"), out, inner)
    for name, out, inner in (("conv1", 32, 6), ("conv2", 64, 32), *((f"conv_dilate_{i}", 64, 64) for i in range(1, 5))):
        unit(flow, name, out, inner)
    unit(flow, "conv_merge", 64, 256, 1)
    return grm, flow | conv("toflow", 2, 64, 3, bias=True)
