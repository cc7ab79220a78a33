"""NVIDIA/semantic-segmentation: branch sdcnet (VPLR, align_corners=True) and branch main (align_corners=False)."""

from __future__ import annotations

from segjax.weights.source import Place, Source

SOURCES: dict[str, Source] = {
    # all networks of the branch; some checkpoints contain the class weights of their loss
    "nvidia_sdcnet": Source(ignore=r"^criterion\."),
    # wider_resnet38.pth.tar, the ImageNet classifier
    "nvidia_wider_resnet38": Source(ignore=r"^(bn_out|classifier)\.", places=(Place(fills=r"^mod\d\."),)),
    # DeepLabV3+: its trunk has the prefix `backbone`, unlike that of sdcnet
    "nvidia_main_deeplabv3plus": Source(
        rename=((r"^backbone\.", ""),), ignore=r"^criterion\.", options={"align_corners": False}
    ),
    # HRNet-OCR: each norm is in a Sequential with its ReLU; the attention over scales is not part of the network here
    "nvidia_main_ocr": Source(
        rename=(
            (r"^backbone\.", ""),
            (r"^ocr\.(conv3x3_ocr|aux_head)\.1\.0\.", r"\1.1."),
            (r"^ocr\.aux_head\.2\.", "aux_head.3."),
            (r"^ocr\.", ""),
        ),
        ignore=r"^(criterion|scale_attn)\.",
        options={"align_corners": False},
    ),
    # SDCNet2D as released: the statistics are options here; some files contain the flow network
    "sdcnet": Source(ignore=r"^(flow_mean|flow_std|rgb_mean)$|^flownet2\."),
}
