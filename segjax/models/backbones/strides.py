"""Names of the maps of each stride in light trunks; they are those of a ResNet, so that its decoders fit."""

LAYERS = {2: "layer0", 4: "layer1", 8: "layer2", 16: "layer3", 32: "layer4"}  # stride without dilation -> name
