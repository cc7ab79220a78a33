"""One way from a checkpoint to a network: its family, its dtype, and what it predicts."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import augment, models, ops
from segjax.data import LabelMap
from segjax.data.resized import Resize
from segjax.errors import UserError
from segjax.inference.network import class_ids, find_run, open_network
from segjax.inference.views import predict
from segjax.typing import SegOutput

CITY = LabelMap.open("cityscapes")


class Tiny(nn.Module):
    """What the module of an image network is called with, and what it computes with its dtype."""

    num_classes: int
    dtype: str

    @nn.compact
    def __call__(self, images, train=False):
        assert not train
        x = nn.Conv(8, (3, 3), strides=2, dtype=self.dtype)(images)
        x = nn.Conv(self.num_classes, (1, 1), dtype=self.dtype)(nn.relu(x))
        return SegOutput(ops.resize(x, images.shape[1:3]))


@pytest.fixture(scope="module")
def variables():
    """Of one tiny network, by the names of its checkpoints."""
    tiny = jax.jit(Tiny(19, "float32").init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    return {"fastscnn": tiny, "sdcnet2d": {"params": {"w": np.ones(1, np.float32)}}}


@pytest.fixture
def checkpoint(monkeypatch, variables):
    """Checkpoints by the names of networks, and "fastscnn:DTYPE" for one that was trained in that dtype."""

    def load(path):
        name, _, dtype = str(path).partition(":")
        if name not in variables:
            raise UserError(f"there is no checkpoint in {name}.")
        options = {"dtype": dtype or "float32"} if name == "fastscnn" else {"width": 0.1, "levels": 3}
        spec = {"name": name, "num_classes": 19, "options": options}
        info = {"step": 7, "normalisation": "camvid", "label_map": CITY.to_dict()}
        return spec, variables[name], info if name == "fastscnn" else {"step": 8, "flow": {"name": "dis"}}

    monkeypatch.setattr("segjax.inference.network.load_for_inference", load)


@pytest.fixture
def tiny(checkpoint, monkeypatch):
    """The tiny network itself in the place of the module that its specification names."""
    monkeypatch.setattr(models, "from_spec", lambda spec: Tiny(spec["num_classes"], **spec["options"]))


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (1, 24, 32, 3), dtype=np.uint8)


def test_what_a_checkpoint_holds(checkpoint):
    network = open_network("fastscnn")
    assert network.spec["name"] == "fastscnn" and network.step == 7 and network.normalisation == "camvid"
    assert network.label_map.class_names == CITY.class_names
    video = open_network("sdcnet2d", kind="video")
    assert video.module.frames == 2 and video.label_map is None and video.normalisation == "" and video.step == 8
    assert video.info["flow"] == {"name": "dis"}


@pytest.mark.parametrize(
    "path, kind, said",
    [
        ("sdcnet2d", "image", "sdcnet2d holds sdcnet2d, which labels no image; give a run of a stage of kind train"),
        ("fastscnn", "video", "fastscnn holds fastscnn, which is no video network; give a stage of kind train_video"),
        ("nowhere", "image", "no checkpoint in nowhere"),
    ],
)
def test_networks_of_another_family_and_none(checkpoint, path, kind, said):
    with pytest.raises(UserError, match=said):
        open_network(path, kind=kind)


@pytest.mark.parametrize(
    "trained, backend, dtype, found",
    [
        ("float32", "tpu", None, "float32"),
        ("bfloat16", "tpu", None, "bfloat16"),
        ("bfloat16", "cpu", None, "float32"),  # a CPU emulates bfloat16
        ("float32", "tpu", "auto", "bfloat16"),
        ("bfloat16", "cpu", "auto", "float32"),
        ("bfloat16", "tpu", "float32", "float32"),
        ("float32", "cpu", "bfloat16", "bfloat16"),
    ],
)
def test_dtype(checkpoint, monkeypatch, trained, backend, dtype, found):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    network = open_network(f"fastscnn:{trained}", **({} if dtype is None else {"dtype": dtype}))
    assert network.spec["options"]["dtype"] == found and network.module.dtype == found


def test_images_of_another_size_than_in_training_are_a_warning(checkpoint, monkeypatch, caplog):
    from segjax.inference import network as module

    load, trained = module.load_for_inference, {}
    monkeypatch.setattr(module, "load_for_inference", lambda path: (*load(path)[:2], {**load(path)[2], **trained}))
    open_network("fastscnn")
    trained["dataset"] = dict(name="camvid", resize=0.5)
    open_network("fastscnn", resize=Resize(0.5))
    assert not caplog.records
    open_network("fastscnn")
    open_network("fastscnn", resize=Resize(width=64))
    said = [record.getMessage().partition("was trained on images ")[2].partition(";")[0] for record in caplog.records]
    assert said == [
        "resized by 0.5, and the images here are not resized",
        "resized by 0.5, and the images here are resized to width 64",
    ]
    trained["dataset"] = dict(name="camvid")
    open_network("fastscnn", resize=Resize(width=64))  # another dataset may just become as small as the training's
    assert len(caplog.records) == 2


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_module_computes_in_its_dtype(tiny, dtype):
    network = open_network("fastscnn", dtype=dtype)
    program = str(jax.make_jaxpr(network.predictor())(jnp.zeros((1, 24, 32, 3), jnp.uint8)))
    assert ("bf16" in program) == (dtype == "bfloat16")


def test_predictions_are_those_of_the_module(tiny, image):
    network = open_network("fastscnn")
    mean, std = augment.normalisation("camvid")
    normalised = augment.normalise(image, mean=mean, std=std)

    def apply(x):
        return network.module.apply(network.variables, x, train=False).logits

    np.testing.assert_allclose(network.logits(image), apply(normalised), atol=1e-4)
    for views in ({}, {"scales": (0.5, 1.0), "flip": True}):
        want = np.asarray(predict(apply, normalised, **views))
        found = np.asarray(network.predictor(**views)(image))
        assert found.dtype == np.uint8 and (found == want.argmax(-1)).mean() > 0.999


@pytest.mark.parametrize("name", ["fastscnn", "swiftnet_r18_pyramid", "deeplabv3plus_mobilenet_v2"])
def test_one_view_is_labelled_without_its_enlarged_logits(name):
    """The ids are those of the logits, also of networks that pad the image; an array of their size is never made."""
    images = np.random.default_rng(0).integers(0, 256, (2, 65, 97, 3), np.uint8)
    module = models.create(name, 5)
    mean, std = augment.normalisation("imagenet")
    normalised = augment.normalise(images, mean=mean, std=std)
    variables = jax.jit(module.init)(jax.random.key(0), normalised)
    logits = jax.jit(lambda x: module.apply(variables, x).logits)(normalised)
    compiled = jax.jit(class_ids(module, "imagenet")).lower(variables, images).compile()
    np.testing.assert_array_equal(compiled(variables, images), np.argmax(logits, -1))
    program = compiled.as_text()
    assert "[2,65,97,5]" not in program and "[2,5,65,97]" not in program


def test_class_ids_follow_variables_that_change(tiny, image):
    network = open_network("fastscnn")
    run = class_ids(network.module, "camvid")
    assert (run(network.variables, image) == network.predictor()(image)).all()
    one_scale = class_ids(network.module, "camvid", scales=[1.0])
    np.testing.assert_array_equal(run(network.variables, image), one_scale(network.variables, image))
    other = jax.tree.map(lambda x: jnp.zeros_like(x), network.variables)
    assert (run(other, image) == 0).all()


def test_the_run_comes_before_the_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run/train").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    assert find_run("train", tmp_path / "run") == tmp_path / "run/train"
    assert str(find_run("elsewhere", tmp_path / "run")) == str(find_run("elsewhere", None)) == "elsewhere"
    with pytest.raises(UserError, match="'trian' is neither a stage of .*run that was run nor a path; run it first"):
        find_run("trian", tmp_path / "run")
