"""Plain PyTorch Fast-SCNN and training step, the peer of benchmarks/train_step.py. Run by a python that has torch."""

import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn


def conv_bn_relu(c, d, k=1, stride=1, padding=0, groups=1):
    conv = nn.Conv2d(c, d, k, stride, padding, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(d), nn.ReLU(inplace=True)]


def separable(c, d, stride=1):
    return nn.Sequential(*conv_bn_relu(c, c, 3, stride, 1, c), *conv_bn_relu(c, d))


class Residual(nn.Module):
    def __init__(self, c, d, stride):
        super().__init__()
        e = 6 * c
        self.block = nn.Sequential(
            *conv_bn_relu(c, e), *conv_bn_relu(e, e, 3, stride, 1, e), nn.Conv2d(e, d, 1, bias=False), nn.BatchNorm2d(d)
        )
        self.shortcut = stride == 1 and c == d

    def forward(self, x):
        return x + self.block(x) if self.shortcut else self.block(x)


class FastSCNN(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.down = nn.Sequential(*conv_bn_relu(3, 32, 3, 2), separable(32, 48, 2), separable(48, 64, 2))
        widths = [(64, 64, 2), (64, 64, 1), (64, 64, 1), (64, 96, 2), (96, 96, 1), (96, 96, 1)]
        widths += [(96, 128, 1), (128, 128, 1), (128, 128, 1)]
        self.context = nn.Sequential(*[Residual(*w) for w in widths])
        self.levels = nn.ModuleList([nn.Sequential(*conv_bn_relu(128, 32)) for _ in range(4)])
        self.out = nn.Sequential(*conv_bn_relu(256, 128))
        self.dwconv = nn.Sequential(*conv_bn_relu(128, 128, 3, 1, 1, 128))
        self.low = nn.Sequential(nn.Conv2d(128, 128, 1), nn.BatchNorm2d(128))
        self.high = nn.Sequential(nn.Conv2d(64, 128, 1), nn.BatchNorm2d(128))
        self.head = nn.Sequential(
            separable(128, 128), separable(128, 128), nn.Dropout(0.1), nn.Conv2d(128, num_classes, 1)
        )

    def forward(self, x):
        def up(y, like):
            return F.interpolate(y, like.shape[2:], mode="bilinear", align_corners=True)

        high = self.down(x)
        y = self.context(high)
        pools = [up(level(F.adaptive_avg_pool2d(y, n)), y) for level, n in zip(self.levels, (1, 2, 3, 6))]
        y = self.out(torch.cat([y, *pools], 1))
        y = F.relu(self.low(self.dwconv(up(y, high))) + self.high(high), inplace=True)
        return up(self.head(y), x)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", default="352x480")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--classes", type=int, default=11)
    parser.add_argument("--serve", action="store_true", help="time one step per line read from stdin")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    h, w = map(int, args.size.split("x"))
    torch.manual_seed(0)
    model = FastSCNN(args.classes).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)
    images = torch.randn(args.batch, 3, h, w).to(memory_format=torch.channels_last)
    labels = torch.randint(0, args.classes, (args.batch, h, w))

    def step():
        start, cpu = time.perf_counter(), time.process_time()
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        return time.perf_counter() - start, time.process_time() - cpu

    for _ in range(2):
        step()
    if args.serve:
        print("ready", flush=True)
        while input().strip() != "quit":
            print(*step(), flush=True)
        return
    print(json.dumps({"median_s": statistics.median(step()[0] for _ in range(args.steps))}))


if __name__ == "__main__":
    main()
