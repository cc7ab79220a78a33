"""What `train.init` does: weights by file, name or trunk, their options, the trunk only, exported weights."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import cli, models, weights
from segjax.errors import UserError
from segjax.models import deeplabv3plus, heads
from segjax.training import start
from segjax.training.start import Init, first_variables
from segjax.weights import runs
from tests import networks
from tests.weights import family_files as files
from tests.weights.test_torch_file import Tensor, write

NET = "deeplabv3plus_efficientnet_lite0"


def spec(name=NET, **options):
    return {"name": name, "num_classes": 3, "options": {"dtype": "float32", **options}}


def zeros(name, num_classes=3, **options):
    """Variables of the network, all 0."""
    return networks.full(networks.shapes(name, num_classes, **options), 0)


def fast_init(monkeypatch, name):
    """The network, whose fresh variables are ones: nothing is compiled."""
    ones = networks.full(networks.shapes(name, 3), 1)
    monkeypatch.setattr(start.jax, "jit", lambda f: lambda *_: ones)
    return models.create(name, 3)


IMAGENET = {
    **{f"resnet{depth}": lambda depth=depth: files.torchvision_resnet(depth) for depth in (18, 50, 101)},
    **{f"resnet{depth}_v1s": lambda depth=depth: files.encoding_trunk(depth, prefix="") for depth in (50, 101)},
    **{f"resnet{depth}_v1c": lambda depth=depth: files.mmseg_trunk(depth) for depth in (50, 101)},
    "resnext50_32x4d": lambda: files.resnet(50, files.stem7(), groups=32),
    **{
        f"se_resnext{depth}_32x4d": lambda depth=depth: files.resnet(
            depth, files.stem7("layer0.conv1", "layer0.bn1"), groups=32, se="se_module"
        )
        for depth in (50, 101)
    },
    "densenet121": files.old_densenet121,
    "densenet161": lambda: files.old_densenet(48, (6, 12, 36, 24)),
    "densenet169": lambda: files.old_densenet(32, (6, 12, 32, 32)),
    "dpn68": files.dpn68,
    "mobilenet_v2": files.mobilenet_v2,
    **{f"hrnet_w{width}": lambda width=width: files.hrnet_imagenet(width) for width in (18, 48)},
    **{f"efficientnet_lite{n}": lambda n=n: files.efficientnet_lite(n) for n in range(3)},
}
BY_HAND = {
    "deeplabv2_r101": ("deeplabv1_resnet101-coco.pth", "kazuto1011_resnet", files.kazuto_resnet101),
    "deeplabv3plus_wrn38": ("wider_resnet38.pth.tar", "nvidia_wider_resnet38", files.wider_resnet38),
}
OTHERS = {
    "fcn_r50": "efficientnet_lite0", "pspnet_r101": "efficientnet_lite1", "deeplabv3_r50": "efficientnet_lite2",
    "encnet_r50": "efficientnet_lite0", "bisenet_r18": "mobilenet_v2", "swiftnet_r18": "efficientnet_lite1",
    "deeplabv3plus_r50": "densenet121",
}  # fmt: skip
TRUNKS = [
    *(pytest.param(name, {}, marks=[pytest.mark.slow] * (name in networks.DEEP)) for name in models.names()),
    *((name, {"trunk": trunk}) for name, trunk in OTHERS.items()),
]


@pytest.mark.parametrize(
    "name, options", TRUNKS, ids=lambda value: value if isinstance(value, str) else value.get("trunk", "")
)
def test_the_imagenet_weights_of_every_network_fill_its_trunk(name, options):
    """The file has the names and shapes of the published one; it is loaded by the family that comes with it."""
    module = models.create(name, networks.CLASSES, **options)
    variables = networks.shapes(name, **options)
    if name == "fastscnn":
        with pytest.raises(UserError, match="which has none"):
            start._imagenet(module, variables)
        return
    assert 0.05 < sum(start._trunk(module, variables).values()) / sum(weights.sizes(variables).values()) < 1
    if name in BY_HAND:
        what, source, file = BY_HAND[name]
        with pytest.raises(UserError, match=f"fetch {what}.* source='{source}'"):
            start._imagenet(module, variables)
    else:
        found = start._imagenet(module, variables)
        source, file = weights.source_of(found), IMAGENET[found]
    tensors = {name: np.broadcast_to(np.float32(0), shape) for name, shape in file().items()}
    _, report = weights.load(tensors, variables, source=source)
    pattern = models.trunk_pattern(module)
    assert set(report.matched) == {leaf for leaf in weights.sizes(variables) if re.search(pattern, leaf)}
    assert not report.unexpected and not report.replaced


def test_scope_backbone_fills_the_trunk_and_nothing_else(monkeypatch, tmp_path):
    path = weights.save(tmp_path / "w.safetensors", zeros("deeplabv3plus_r18", 7))
    model = fast_init(monkeypatch, "deeplabv3plus_r18")
    found = first_variables(model, Init(weights=str(path), scope="backbone"), seed=0)
    values = {n.split(".")[0]: float(v.max()) for n, v in weights.to_state_dict(found).items()}
    assert {n: v for n, v in values.items() if n.startswith("layer")} == {f"layer{i}": 0.0 for i in range(5)}
    assert {v for n, v in values.items() if not n.startswith("layer")} == {1.0}


def test_scope_all_swaps_the_classifier_and_says_so(monkeypatch, tmp_path, caplog):
    path = weights.save(tmp_path / "w.safetensors", zeros("deeplabv3plus_r18", 7))
    model = fast_init(monkeypatch, "deeplabv3plus_r18")
    with caplog.at_level("INFO", logger="segjax"):
        found = first_variables(model, Init(weights=str(path), scope="all"), seed=0)
    ones = {n for n, v in weights.to_state_dict(found).items() if v.max() == 1}
    assert ones == {"final.6.weight"}
    assert "final.6 has 7 classes there and 3 here, so it keeps its fresh values" in caplog.text


def test_a_classifier_of_other_classes_is_not_kept_in_silence(monkeypatch, caplog):
    model, weights_there = fast_init(monkeypatch, "deeplabv3plus_r18"), zeros("deeplabv3plus_r18")
    rows = [{"id": i, "name": x, "train_id": i, "color": [0, 0, i]} for i, x in enumerate(("road", "sky", "car"))]
    info = {"step": 7, "normalisation": "ldn", "label_map": {"coding": "id", "labels": rows}}
    monkeypatch.setattr(start, "load_for_inference", lambda path: (spec(), weights_there, info))

    def told(*names, **settings):
        caplog.clear()
        with caplog.at_level("WARNING", logger="segjax"):
            first_variables(model, Init(checkpoint="runs/x", **settings), seed=0, class_names=names)
        return caplog.text

    text = told("road", "car", "sky")
    assert "checkpoint runs/x: of its 3 classes 'sky' is 'car' in the dataset and 1 more; final.6 is kept" in text
    assert "name it in train.init.skip" in text
    assert not told("road", "car", "sky", skip=(r"^final\.6",)) and not told("road", "car", "sky", skip=r"^final\.6")
    assert "final.6 is kept" in told("road", "car", "sky", skip="^bot_fine")  # one rule, not its letters
    assert not told("road", "car", "sky", scope="backbone")
    assert not told("Road", "sky", "car") and not told()
    with caplog.at_level("WARNING", logger="segjax"):
        first_variables(model, Init(checkpoint="runs/x"), seed=0, normalisation="imagenet")
    assert "checkpoint runs/x: trained on images with normalisation='ldn'; here it is 'imagenet'" in caplog.text


def test_imagenet_takes_what_fits_the_trunk_and_says_from_where(monkeypatch, tmp_path, caplog):
    model = fast_init(monkeypatch, "deeplabv3plus_r18")
    trunk = {n: v for n, v in weights.to_state_dict(zeros("deeplabv3plus_r18")).items() if n.startswith("layer")}
    names = {n.replace("layer0.0", "conv1").replace("layer0.1", "bn1"): v for n, v in trunk.items()}
    np.savez(tmp_path / "w.npz", **names, **{"fc.weight": np.zeros((1000, 512)), "fc.bias": np.zeros(1000)})
    monkeypatch.setattr(
        weights, "find", lambda name: weights.published.Found(tmp_path / "w.npz", "torchvision_resnet", f"{name} here")
    )
    with caplog.at_level("INFO", logger="segjax"):
        found = first_variables(model, Init(weights="imagenet"), seed=0, normalisation="imagenet")
    assert "normalisation" not in caplog.text
    first_variables(model, Init(weights="imagenet"), seed=0, normalisation="swiftnet")
    assert "weights resnet18: trained on images with normalisation='imagenet'; here it is 'swiftnet'" in caplog.text
    assert float(found["params"]["layer0.0"]["kernel"].max()) == 0
    assert float(found["params"]["final.6"]["kernel"].max()) == 1
    assert "weights resnet18, from resnet18 here: 100 matched" in caplog.text


def test_imagenet_without_network_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("SEGJAX_WEIGHTS_DIR", str(tmp_path))
    source, _, sha256 = weights.published.PUBLISHED["resnet18"]
    monkeypatch.setitem(weights.published.PUBLISHED, "resnet18", (source, "http://127.0.0.1:9/r-f37072fd.pth", sha256))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    model = fast_init(monkeypatch, "deeplabv3plus_r18")
    with pytest.raises(UserError, match=f"download it by other means and save it as {tmp_path}/r-f37072fd.pth"):
        first_variables(model, Init(weights="imagenet"), seed=0)


@pytest.mark.parametrize("init", [Init(weights="imagenet"), Init(checkpoint="x", scope="backbone")])
def test_a_network_without_trunk_is_named(monkeypatch, init):
    model = fast_init(monkeypatch, "fastscnn")
    with pytest.raises(UserError, match="the trunk of FastSCNN, which has none"):
        first_variables(model, init, seed=0)


def test_wrong_settings_are_named(monkeypatch):
    model = fast_init(monkeypatch, "fastscnn")
    with pytest.raises(UserError, match="Did you mean 'backbone'"):
        first_variables(model, Init(scope="backbones"), seed=0)
    with pytest.raises(UserError, match="both weights and a checkpoint"):
        first_variables(model, Init(weights="a", checkpoint="b"), seed=0)


def test_options_come_with_the_weights(caplog):
    init = Init(weights="x.pth", source="nvidia_main_deeplabv3plus")
    name = "deeplabv3plus_r50"
    assert start.with_source_options(spec(name), init)["options"] == {"align_corners": False, "dtype": "float32"}
    with caplog.at_level("INFO", logger="segjax"):
        kept = start.with_source_options(spec(name, align_corners=True), init)
    assert kept["options"]["align_corners"] is True and "the recipe overrides it: True" in caplog.text
    assert start.with_source_options(spec(name), Init()) == spec(name)
    assert start.with_source_options(spec(name), Init(weights="resnet18")) == spec(name)
    with pytest.raises(UserError, match="needs a network with the option align_corners=False, which 'fastscnn' does"):
        start.with_source_options(spec("fastscnn"), init)


def test_align_corners_is_that_of_every_upsampling(monkeypatch):
    seen = []
    resize = heads.resize
    for module in (deeplabv3plus, heads):  # the decoder, and what brings logits to the image's size
        monkeypatch.setattr(
            module, "resize", lambda x, size, *, align_corners: seen.append(align_corners) or resize(x, size)
        )
    for value in (True, False):
        networks.traced.__wrapped__(NET, align_corners=value)  # traced anew: what is traced is counted
        assert seen == [value] * 2
        seen.clear()


@pytest.mark.parametrize("name, value", [("deeplabv3plus_efficientnet_lite0", 1), ("deeplabv3plus_r18", 2)])
def test_a_pool_padding_that_is_not_possible_is_named(name, value):
    with pytest.raises(UserError, match=f"pool_padding={value} is not possible"):
        networks.shapes(name, pool_padding=value)


def test_exported_weights_take_the_place_of_a_run(tmp_path, monkeypatch, capsys):
    variables = zeros("fastscnn")
    info = {"normalisation": "imagenet", "label_map": {"a": 1}, "step": 5, "metrics": 0.5}
    original = runs.load_for_inference
    monkeypatch.setattr(
        runs,
        "load_for_inference",
        lambda path: (spec("fastscnn"), variables, info) if str(path) == "runs/x" else original(path),
    )
    path = str(tmp_path / "w.safetensors")
    assert cli.main(["export_weights", "--checkpoint=runs/x", f"--output={path}"]) == 0
    assert capsys.readouterr().out.strip() == path
    found_spec, found, found_info = runs.load_for_inference(path)
    assert found_spec == spec("fastscnn")
    assert {k: found_info[k] for k in ("normalisation", "label_map", "step")} == {k: info[k] for k in list(info)[:3]}
    jax.tree.map(np.testing.assert_array_equal, found, variables)
    model = fast_init(monkeypatch, "fastscnn")
    loaded = first_variables(model, Init(checkpoint=path), seed=0)
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)
    assert cli.main(["export_weights", "--checkpoint=runs/x", "--output=w.pth"]) == 2
    assert "must be the name of a .safetensors file" in capsys.readouterr().err


def test_exported_weights_of_a_video_network_are_read(tmp_path):
    options = {"width": 0.1, "levels": 3, "flow_mean": [0.0, 1.0]}
    model = models.create_video("sdcnet2d_recon", **options)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 3, 64, 64, 3)), jnp.zeros((1, 2, 64, 64, 2)))
    variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), shapes)
    spec_ = {"name": "sdcnet2d_recon", "num_classes": 0, "options": options}
    path = weights.save(tmp_path / "v.safetensors", variables, info={"model": spec_, "step": 3})
    found_spec, found, _ = runs.load_for_inference(path)
    assert found_spec == spec_
    jax.tree.map(np.testing.assert_array_equal, found, variables)


def test_a_key_chooses_among_several_state_dicts(monkeypatch, tmp_path):
    tensors = {n: Tensor(v) for n, v in weights.to_state_dict(zeros("fastscnn")).items()}
    tree = {"model": tensors, "ema": {f"module.{n}": Tensor(t.array + 2) for n, t in tensors.items()}, "epoch": 3}
    path = str(tmp_path / "w.pth")
    write(path, tree)
    model = fast_init(monkeypatch, "fastscnn")
    with pytest.raises(
        UserError, match=r"2 dictionaries .* model \(.*, ema \(.*choose one, as train\.init\.key='model' does\."
    ):
        first_variables(model, Init(weights=path), seed=0)
    for key, value in (("model", 0), ("ema", 2)):
        found = first_variables(model, Init(weights=path, key=key), seed=0)
        assert {float(x.max()) for x in jax.tree.leaves(found)} == {value}
    with pytest.raises(UserError, match=r"no tensors under 'teacher'. Choose one of: ema, model"):
        first_variables(model, Init(weights=path, key="teacher"), seed=0)
    with pytest.raises(UserError, match=r"features\.init\.key='ema' means nothing without features\.init\.weights"):
        first_variables(model, Init(checkpoint="runs/x", key="ema"), seed=0, where="features.init")


def test_what_does_not_fit_is_answered_with_keys_of_the_recipe(monkeypatch, tmp_path):
    model = fast_init(monkeypatch, "deeplabv3plus_r18")
    np.savez(tmp_path / "w.npz", a=np.ones(3, np.float32))
    with pytest.raises(UserError, match=r"; name what may keep its values in train\.init\.skip=\.$"):
        first_variables(model, Init(weights=str(tmp_path / "w.npz")), seed=0)
    resnet = {n: np.broadcast_to(np.float32(0), shape) for n, shape in files.torchvision_resnet(18).items()}
    monkeypatch.setattr(start.weights, "find", lambda name: weights.published.Found(tmp_path / "r.npz", "", "here"))
    np.savez(tmp_path / "r.npz", **resnet)
    with pytest.raises(UserError, match=r"the names are those of train\.init\.source='torchvision_resnet'"):
        first_variables(model, Init(weights="r.npz"), seed=0)
    info = {"step": 7, "normalisation": ""}
    monkeypatch.setattr(start, "load_for_inference", lambda path: (spec(), {"params": {}}, info))
    with pytest.raises(UserError, match=r"name what may keep its values in train\.init\.skip=\.$"):
        first_variables(model, Init(checkpoint="runs/x"), seed=0)
