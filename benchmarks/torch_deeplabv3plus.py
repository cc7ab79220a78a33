"""DeepLabV3+ in VPLR's form on torchvision's ResNet-50, the peer of `deeplabv3plus_r50`: the same layers."""

import torch
import torch.nn.functional as F
from torch import nn


def conv_bn_relu(c, d, k=1, dilation=1):
    conv = nn.Conv2d(c, d, k, padding=dilation * (k - 1) // 2, dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(d), nn.ReLU(inplace=True))


def enlarged(y, like):
    return F.interpolate(y, like.shape[2:], mode="bilinear", align_corners=True)


class DeepLabV3Plus(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        from torchvision.models import resnet50

        trunk = resnet50(weights=None, replace_stride_with_dilation=[False, True, True])
        self.stem = nn.Sequential(trunk.conv1, trunk.bn1, trunk.relu, trunk.maxpool)
        self.layer1, self.rest = trunk.layer1, nn.Sequential(trunk.layer2, trunk.layer3, trunk.layer4)
        self.image = conv_bn_relu(2048, 256)
        self.branches = nn.ModuleList(
            [conv_bn_relu(2048, 256), *(conv_bn_relu(2048, 256, 3, rate) for rate in (12, 24, 36))]
        )
        self.bottleneck = nn.Conv2d(1280, 256, 1, bias=False)
        self.skip = nn.Conv2d(256, 48, 1, bias=False)
        self.head = nn.Sequential(
            conv_bn_relu(304, 256, 3), conv_bn_relu(256, 256, 3), nn.Conv2d(256, num_classes, 1, bias=False)
        )

    def forward(self, images):
        fine = self.layer1(self.stem(images))
        x = self.rest(fine)
        pooled = enlarged(self.image(x.mean((2, 3), keepdim=True)), x)
        x = self.bottleneck(torch.cat([pooled, *(branch(x) for branch in self.branches)], 1))
        return enlarged(self.head(torch.cat([self.skip(fine), enlarged(x, fine)], 1)), images)
