"""Costs of the networks by name: stages, and sums that agree."""

from segjax.costs import networks
from segjax.costs.networks import model_costs


def test_stages_are_told_apart_whatever_the_prefix(monkeypatch):
    stages = {
        "pspnet_r50": {"layer0", "layer1", "layer2", "layer3", "layer4", "ppm.features", "cls", "aux"},
        "swiftnet_r18": {"backbone.conv1", "backbone.layer1", "backbone.spp", "backbone.upsample", "logits.conv"},
        "bisenet_r18_coincheung": {"cp.resnet.layer4", "sp.conv1", "ffm.convblk"},
        "deeplabv3plus_mobilenet_v2": {"backbone.features.0", "backbone.features.17", "aspp.features", "bot_aspp"},
        "swiftnet_efficientnet_lite0": {"backbone._conv_stem", "backbone._blocks.0", "backbone._blocks.15"},
        "fastscnn": {"learning_to_downsample.dsconv1", "global_feature_extractor.bottleneck3"},
    }
    saved = networks._saved
    for name, expected in stages.items():
        # what training keeps takes longest to find; the last of them shows that it is grouped in the same way
        monkeypatch.setattr(networks, "_saved", saved if name == "fastscnn" else lambda *_: {})
        found = model_costs(name, (64, 64), depth=None)
        assert expected <= set(found), sorted(found)
    whole = model_costs("fastscnn", (64, 64), depth=1)  # the last of them
    for field in ("parameters", "multiply_adds", "activation_bytes", "saved_bytes"):
        total = sum(getattr(cost, field) for cost in found.values())
        assert total == sum(getattr(cost, field) for cost in whole.values())


def test_what_training_keeps_of_a_network_is_all_found_in_its_modules():
    for name in ("swiftnet_r18", "fcn_r50"):  # the trunk of the latter is called by another method than __call__
        found = model_costs(name, (64, 96), depth=1)
        assert "(top)" not in found and all(cost.saved_bytes > 0 for cost in found.values())
    found = model_costs("swiftnet_r18", (64, 96), depth=1)
    remat = model_costs("swiftnet_r18", (64, 96), depth=1, remat=True)
    assert remat["backbone"].saved_bytes < 0.7 * found["backbone"].saved_bytes
