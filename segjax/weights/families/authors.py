"""Weights of the networks' own repositories. Most need no renaming: the networks here have the published names."""

from __future__ import annotations

from segjax.weights.families.trunks import DEEP_RESNET
from segjax.weights.source import Place, Source

ENCODING_AUX = (r"^auxlayer\.conv5\.", "auxlayer.block.")  # its FCN head; `block` in the ports used here

SOURCES: dict[str, Source] = {
    # HRNet/HRNet-Semantic-Segmentation, branch HRNet-OCR; the training wrapper adds `model.` and the loss
    "hrnet_ocr": Source(ignore=r"^loss\."),
    # hrnetv2_w48_imagenet_pretrained.pth and its smaller sisters
    "hrnet_imagenet": Source(
        ignore=r"^(incre_modules|downsamp_modules|final_layer|classifier)\.",
        places=(Place(fills=r"^(conv[12]|bn[12]|layer1|transition\d|stage\d)\."),),
    ),
    # ivankreso/LDN; files from before 2019 have the DenseNet's old names; its pyramid has no auxiliary heads
    "ldn": Source(
        rename=((r"^(.*\.denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2."),),
        ignore=r"^features\.norm5\.|\.aux_logits\.", places=(Place(fills=r"^(?!spp\.spp\.aux)"),),
        options={"form": "released"}, normalisation="ldn",
    ),
    # orsic/swiftnet: single scale and pyramid; files contain the statistics of the input as buffers
    "swiftnet": Source(ignore=r"^backbone\.img_(mean|std)$", normalisation="swiftnet"),
    # robert80203/GSVNet: the flow network has a dict of its own
    "gsvnet": Source(ignore=r"^backbone\.img_(mean|std)$", also={"state_dict_of": "ofnet."}),
    # hszhao/semseg: PSPNet
    "semseg": Source(ignore=r"^criterion\."),
    # its ImageNet ResNets (resnet50_v2.pth, resnet101_v2.pth): deep stem conv1, bn1, conv2, bn2, conv3, bn3
    "semseg_resnet": Source(
        rename=(
            (r"^conv1\.", "conv1.0."), (r"^bn1\.", "conv1.1."), (r"^conv2\.", "conv1.3."),
            (r"^bn2\.", "conv1.4."), (r"^conv3\.", "conv1.6."), (r"^bn3\.", "bn1."),
        ),
        ignore=r"^fc\.",
        places=DEEP_RESNET,
    ),
    # zhanghang1989/PyTorch-Encoding; files may contain the ImageNet classifier's fc
    "encoding_encnet": Source(
        rename=(ENCODING_AUX,), ignore=r"^pretrained\.fc\.|^auxlayer\.", options={"square_scale": False}
    ),
    "encoding_deeplabv3": Source(
        rename=(ENCODING_AUX, (r"^(head\.aspp\.b[123])\.([01])\.", r"\1.block.\2.")),
        ignore=r"^pretrained\.fc\.|^auxlayer\.",
        options={"form": "encoding"},
    ),
    "encoding_pspnet": Source(ignore=r"^pretrained\.fc\.|^auxlayer\.", options={"form": "encoding"}),
    # its ImageNet ResNets (resnet50s, resnet101s): deep stem
    "encoding_resnet": Source(ignore=r"^fc\.", places=DEEP_RESNET),
    # ycszen/TorchSeg: BiSeNet; no classifier of the context path, but class weights of the loss
    "torchseg": Source(ignore=r"^(criterion|ohem_criterion)\."),
    # CoinCheung/BiSeNet: the BiSeNetV1 network
    "coincheung": Source(normalisation="bisenet"),
    # kazuto1011/deeplab-pytorch: DeepLabV2
    "kazuto1011": Source(options={"bgr": True}, normalisation="caffe"),
    # its initial weights, converted from Caffe: the trunk and the classifier of COCO
    "kazuto1011_resnet": Source(
        ignore=r"^fc\.", places=(Place(rename=((r"^", "base."),), fills=r"^base\.layer\d\."),),
        options={"bgr": True}, normalisation="caffe",
    ),
    # Tramac's ports; files contain the unused ImageNet classifier
    "tramac": Source(ignore=r"^pretrained\.fc\."),
}  # fmt: skip
