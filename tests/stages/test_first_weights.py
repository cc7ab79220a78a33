"""What `train.init` does: weights by file, name or trunk, their options, the trunk only, exported weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import cli, models, weights
from segjax.errors import UserError
from segjax.models import deeplabv3plus
from segjax.stages import build
from segjax.training import checkpoints

NET = "deeplabv3plus_efficientnet_lite0"


def spec(name=NET, **options):
    return {"name": name, "num_classes": 3, "options": {"dtype": "float32", **options}}


def abstract(model):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))


def zeros(name, num_classes=3, **options):
    """Variables of the network, all 0, and 1 for the statistics."""
    shapes = abstract(models.create(name, num_classes, **options))
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)


def fast_init(monkeypatch, model):
    """Fresh variables without compiling the network: ones."""
    shapes = abstract(model)
    monkeypatch.setattr(
        build.jax, "jit", lambda f: lambda *_: jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), shapes)
    )


@pytest.mark.parametrize("name", models.names())
def test_every_network_tells_its_trunk(name):
    module = models.create(name, 3)
    size = trunk_size(module)
    if name == "fastscnn":
        assert size is None
    else:
        assert 0.05 < size / sum(leaf.size for leaf in jax.tree.leaves(abstract(module)["params"])) < 1


def trunk_size(module):
    try:
        return build._trunk_size(module, abstract(module))
    except UserError as error:
        assert "which has none" in str(error)
        return None


def test_scope_backbone_fills_the_trunk_and_nothing_else(monkeypatch, tmp_path):
    path = weights.save(tmp_path / "w.safetensors", zeros("deeplabv3plus_r18", 7))
    model = models.create("deeplabv3plus_r18", 3)
    fast_init(monkeypatch, model)
    found = build.first_variables(model, {"weights": str(path), "scope": "backbone"}, seed=0)
    values = {n.split(".")[0]: float(v.max()) for n, v in weights.to_state_dict(found).items()}
    assert {n: v for n, v in values.items() if n.startswith("layer")} == {f"layer{i}": 0.0 for i in range(5)}
    assert {v for n, v in values.items() if not n.startswith("layer")} == {1.0}


def test_scope_all_swaps_the_classifier_and_says_so(monkeypatch, tmp_path, caplog):
    path = weights.save(tmp_path / "w.safetensors", zeros("deeplabv3plus_r18", 7))
    model = models.create("deeplabv3plus_r18", 3)
    fast_init(monkeypatch, model)
    with caplog.at_level("INFO", logger="segjax"):
        found = build.first_variables(model, {"weights": str(path), "scope": "all"}, seed=0)
    ones = {n for n, v in weights.to_state_dict(found).items() if v.max() == 1}
    assert ones == {"final.6.weight"}
    assert "final.6 has 7 classes there and 3 here, so it keeps its fresh values" in caplog.text


def test_a_classifier_of_other_classes_is_not_kept_in_silence(monkeypatch, caplog):
    model, weights_there = models.create("deeplabv3plus_r18", 3), zeros("deeplabv3plus_r18")
    fast_init(monkeypatch, model)
    rows = [{"id": i, "name": x, "train_id": i, "color": [0, 0, i]} for i, x in enumerate(("road", "sky", "car"))]
    info = {"step": 7, "label_map": {"coding": "id", "labels": rows}}
    monkeypatch.setattr(build, "load_for_inference", lambda path: (spec(), weights_there, info))

    def told(*names, **settings):
        caplog.clear()
        with caplog.at_level("WARNING", logger="segjax"):
            build.first_variables(model, {"checkpoint": "runs/x", **settings}, seed=0, class_names=names)
        return caplog.text

    text = told("road", "car", "sky")
    assert "checkpoint runs/x: of its 3 classes 'sky' is 'car' in the data set and 1 more; final.6 is kept" in text
    assert "name it in train.init.skip" in text
    assert not told("road", "car", "sky", skip=(r"^final\.6",))
    assert not told("road", "car", "sky", scope="backbone")
    assert not told("Road", "sky", "car") and not told()


def test_imagenet_takes_what_fits_the_trunk_and_says_from_where(monkeypatch, tmp_path, caplog):
    model = models.create("deeplabv3plus_r18", 3)
    trunk = {n: v for n, v in weights.to_state_dict(zeros("deeplabv3plus_r18")).items() if n.startswith("layer")}
    names = {n.replace("layer0.0", "conv1").replace("layer0.1", "bn1"): v for n, v in trunk.items()}
    np.savez(tmp_path / "w.npz", **names, **{"fc.weight": np.zeros((1000, 512)), "fc.bias": np.zeros(1000)})
    fast_init(monkeypatch, model)
    monkeypatch.setattr(
        weights, "find", lambda name: weights.published.Found(tmp_path / "w.npz", "torchvision_resnet", f"{name} here")
    )
    with caplog.at_level("INFO", logger="segjax"):
        found = build.first_variables(model, {"weights": "imagenet"}, seed=0)
    assert float(found["params"]["layer0.0"]["kernel"].max()) == 0
    assert float(found["params"]["final.6"]["kernel"].max()) == 1
    assert "weights resnet18, from resnet18 here: 100 matched" in caplog.text


def test_imagenet_without_network_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("SEGJAX_WEIGHTS_DIR", str(tmp_path))
    source, _, sha256 = weights.published.PUBLISHED["resnet18"]
    monkeypatch.setitem(weights.published.PUBLISHED, "resnet18", (source, "http://127.0.0.1:9/r-f37072fd.pth", sha256))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    model = models.create("deeplabv3plus_r18", 3)
    fast_init(monkeypatch, model)
    with pytest.raises(UserError, match=f"download it by other means and save it as {tmp_path}/r-f37072fd.pth"):
        build.first_variables(model, {"weights": "imagenet"}, seed=0)


@pytest.mark.parametrize("init", [{"weights": "imagenet"}, {"checkpoint": "x", "scope": "backbone"}])
def test_a_network_without_trunk_is_named(monkeypatch, init):
    model = models.create("fastscnn", 3)
    fast_init(monkeypatch, model)
    with pytest.raises(UserError, match="the trunk of FastSCNN, which has none"):
        build.first_variables(model, init, seed=0)


def test_wrong_settings_are_named(monkeypatch):
    model = models.create("fastscnn", 3)
    fast_init(monkeypatch, model)
    with pytest.raises(UserError, match="Did you mean 'backbone'"):
        build.first_variables(model, {"scope": "backbones"}, seed=0)
    with pytest.raises(UserError, match="both weights and a checkpoint"):
        build.first_variables(model, {"weights": "a", "checkpoint": "b"}, seed=0)


def test_options_come_with_the_weights(caplog):
    init = {"weights": "x.pth", "source": "nvidia_main_deeplabv3plus"}
    name = "deeplabv3plus_r50"
    assert build.with_source_options(spec(name), init)["options"] == {"align_corners": False, "dtype": "float32"}
    with caplog.at_level("INFO", logger="segjax"):
        kept = build.with_source_options(spec(name, align_corners=True), init)
    assert kept["options"]["align_corners"] is True and "the config says True" in caplog.text
    assert build.with_source_options(spec(name), {}) == spec(name)
    assert build.with_source_options(spec(name), {"weights": "resnet18"}) == spec(name)
    with pytest.raises(UserError, match="needs a network with the option align_corners=False, which 'fastscnn' does"):
        build.with_source_options(spec("fastscnn"), init)


def test_align_corners_is_that_of_every_upsampling(monkeypatch):
    seen = []
    resize = deeplabv3plus.resize
    monkeypatch.setattr(
        deeplabv3plus, "resize", lambda x, size, *, align_corners: seen.append(align_corners) or resize(x, size)
    )
    for value in (True, False):
        abstract(models.create(NET, 3, align_corners=value))
        assert seen == [value] * 2
        seen.clear()


@pytest.mark.parametrize("name, value", [("deeplabv3plus_efficientnet_lite0", 1), ("deeplabv3plus_r18", 2)])
def test_a_pool_padding_that_is_not_possible_is_named(name, value):
    with pytest.raises(UserError, match=f"pool_padding={value} is not possible"):
        abstract(models.create(name, 3, pool_padding=value))


def test_exported_weights_take_the_place_of_a_run(tmp_path, monkeypatch, capsys):
    variables = zeros("fastscnn")
    info = {"normalisation": "imagenet", "label_map": {"a": 1}, "step": 5, "metrics": 0.5}
    original = checkpoints.load_for_inference
    monkeypatch.setattr(
        checkpoints,
        "load_for_inference",
        lambda path: (spec("fastscnn"), variables, info) if str(path) == "runs/x" else original(path),
    )
    path = str(tmp_path / "w.safetensors")
    assert cli.main(["export_weights", "--checkpoint=runs/x", f"--output={path}"]) == 0
    assert capsys.readouterr().out.strip() == path
    found_spec, found, found_info = checkpoints.load_for_inference(path)
    assert found_spec == spec("fastscnn")
    assert {k: found_info[k] for k in ("normalisation", "label_map", "step")} == {k: info[k] for k in list(info)[:3]}
    jax.tree.map(np.testing.assert_array_equal, found, variables)
    model = models.create("fastscnn", 3)
    fast_init(monkeypatch, model)
    loaded = build.first_variables(model, {"checkpoint": path}, seed=0)
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)
    assert cli.main(["export_weights", "--checkpoint=runs/x", "--output=w.pth"]) == 2
    assert "must be the name of a .safetensors file" in capsys.readouterr().err
