"""What light trunks call the maps of each stride, so that decoders for ResNets find them."""

LAYERS = {2: "layer0", 4: "layer1", 8: "layer2", 16: "layer3", 32: "layer4"}  # stride without dilation -> name
