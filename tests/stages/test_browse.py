"""`segjax browse`: what it shows is what the training step gets, and what its captions say is true."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from segjax import cli, parallel
from segjax.data import class_table, train_batches
from segjax.data.image_files import read_image
from segjax.errors import UserError
from segjax.stages import train, train_step
from segjax.stages.browse import browse, dataset_recipe
from segjax.stages.config.recipe_file import load_recipe
from segjax.stages.dataset import read_dataset
from segjax.stages.stage import Context
from segjax.visualize.browse_sheet import Browsed, browse_sheet

STREET = dict(height=64, width=128, train=4, validation=1, test=1, frames=6, labelled_every=1)


@pytest.fixture(scope="module")
def config(street_dir):
    dataset = dict(name="synthetic_street", options=STREET, train="train", data_dir=str(street_dir))
    stage = dict(
        kind="train", total_epochs=3, batch_size=2, crop=dict(size=(48, 64), scale_range=(0.6, 2.0)),
        sampler=dict(kind="class_uniform", tile=0, share=1.0), augment=dict(flip=True), mesh=dict(data=1),
        loader=dict(num_threads=0), model=dict(name="fastscnn"), loss=dict(main=dict(name="cross_entropy")),
        optimizer=dict(name="sgd", lr=0.1),
    )  # fmt: skip
    return ConfigDict(dict(seed=3, stages=("train",), dataset=dataset, train=stage))


@pytest.fixture(scope="module")
def shown(config, tmp_path_factory):
    return browse(config, tmp_path_factory.mktemp("sheet") / "browse.png", epoch=2, count=4)


def test_a_dataset_that_a_stage_has_not_written_yet(config, tmp_path):
    stages = dict(stages=("propagate", "train"), propagate=dict(kind="propagate"))
    other = ConfigDict({**config.to_dict(), **stages, "dataset": dict(name="propagate", train="jp")})
    with pytest.raises(UserError, match=f"config key dataset.name: {tmp_path}/propagate/dataset holds no dataset of a"):
        browse(other, tmp_path / "browse.png", workdir=tmp_path)


def test_the_samples_are_those_of_the_training(config, shown, tmp_path):
    options, dataset = train.read(config.train, "train"), read_dataset(config.dataset, "dataset")
    context = Context("train", tmp_path, tmp_path / "train", config.seed, dataset)
    _, samples, _, plan = train.open_training(options, context, parallel.make_mesh({"data": 1}))
    step, images, labels, names = plan.timeline.epoch_start(1), [], [], []
    augment = train_step.make_augmentation(options, crop=(48, 64), seed=config.seed)
    for number, batch in train_batches(samples, plan.epochs, plan.timeline, options.reading, step):
        if number == step + 2:
            break
        image, targets = augment(batch)
        images += list(np.asarray(image))
        labels += list(np.asarray(targets["labels"]))
        names += [samples.names[record] for record in batch["record"]]
    assert [sample.name for sample in shown.samples] == names
    mean, std = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
    for sample, image, label in zip(shown.samples, images, labels):
        np.testing.assert_array_equal(sample.label, label)
        np.testing.assert_allclose(sample.image, 255 * (image * std + mean), atol=0.51)
    assert "epoch 2 of 3, seed 3: crops of 48x64 (h x w), 2 to a batch, enlarged by 0.6 to 2" in shown.heading


def test_captions_are_true(config, shown, tmp_path):
    samples = [*shown.samples, *browse(config, tmp_path / "b.png", count=6, seed=9).samples]
    assert {sample.mirrored for sample in samples} == {False, True}
    centred = [sample for sample in samples if sample.place is not None]
    assert len(centred) >= 6
    names = class_table("cityscapes").names
    for sample in centred:
        y, x = sample.place_in_crop
        height, width = sample.label.shape
        assert 0 <= y < height and 0 <= x < width
        if sample.scale > 1:  # a single pixel may go where an image is made smaller
            assert names[sample.label[int(y), int(x)]] == sample.centred_on, sample.caption()
        assert f"around {sample.centred_on}" in sample.caption()
    for sample in samples:
        assert 0.59 < sample.scale < 2.01
        y0, x0, y1, x1 = (round(edge) for edge in sample.box)
        inside = sample.source[max(y0, 0) : y1, max(x0, 0) : x1].astype(float)
        crop = sample.image[sample.label < 255 if min(y0, x0) < 0 else np.ones(sample.label.shape, bool)]
        assert abs(inside.mean() - crop.mean()) < 12


def test_mirrored_is_told_from_the_pixels(shown):
    """The crop, resampled from its box in the source as it is and mirrored: it looks like the one that is told."""
    import cv2

    for sample in shown.samples:
        y0, x0, y1, x1 = sample.box
        height, width = sample.label.shape
        scale = sample.scale
        matrix = np.array([[scale, 0, -x0 * scale], [0, scale, -y0 * scale]])
        plain = cv2.warpAffine(sample.source, matrix, (width, height), flags=cv2.INTER_AREA).astype(float)
        distances = [np.abs(picture - sample.image).mean() for picture in (plain, plain[:, ::-1])]
        assert (distances[1] < distances[0]) == sample.mirrored, distances


def test_the_sheet_hatches_what_is_not_trained_on_and_marks_the_crop(shown):
    picture = read_image(shown.path)
    assert picture.shape[1] == 4 * (420 + 8) + 8 and picture.shape[0] > 4 * 300
    label = np.zeros((20, 30), int)
    label[:10] = 255
    sample = Browsed("a", np.full((40, 60, 3), 90, np.uint8), (5, -6, 25, 24), (12, 3), "x", True, label[..., None]
                     .repeat(3, -1).astype(np.uint8), label)  # fmt: skip
    assert sample.scale == 1.0 and sample.place_in_crop == (7.5, 30 - 9.5)
    assert sample.caption().split("    ") == [
        "a", "around x at y 12, x 3", "enlarged by 1.00", "mirrored", "50 % not trained on"
    ]  # fmt: skip
    sheet = browse_sheet([sample], ("road",), np.array([[128, 64, 128]], np.uint8), tile_width=120)
    frame = (sheet == (255, 214, 10)).all(-1)
    assert frame[:, :128].sum() > 100  # the crop's frame in its image
    assert (sheet == 190).all(-1).sum() > 100  # oblique lines


def test_a_data_set_without_a_recipe(street_dir, tmp_path):
    recipe = dataset_recipe("synthetic_street", options=STREET, data_dir=str(street_dir))
    assert recipe["train"]["crop"]["size"] == (32, 32)
    shown = browse(recipe, tmp_path / "a.png", count=1)
    assert len(shown.samples) == 1 and shown.path.is_file()


def test_mistakes_are_one_sentence(config, tmp_path, capsys, root):
    with pytest.raises(UserError, match="--epoch=4: stage 'train' has the epochs 1 to 3"):
        browse(config, tmp_path / "a.png", epoch=4)
    with pytest.raises(UserError, match="no stage of kind 'train'; its stages are evaluate"):
        browse(dict(stages=("evaluate",), dataset={}, evaluate=dict(kind="evaluate")), tmp_path / "a.png")
    for words, said in (
        ([], "give one"),
        (["--config=x.py", "--dataset=camvid"], "give one"),
        (["--config=x.py"], "there is no recipe x.py"),
        (["--config=x.py", "--split=test"], "--set dataset.train=NAME"),
        (["--dataset=camvid", "--output=sheet.jpg"], "--output=sheet.jpg must be the name of a PNG file"),
        (["--dataset=camvid", "--set", "seed=1"], "--set overrides the values of a recipe"),
        ([f"--config={root}/configs/vplr.py:camvit"], "did you mean 'camvid'"),
        ([f"--config={root}/configs/vplr.py", "--set", "train.crop.sise=3"], "Did you mean 'size'"),
        ([f"--config={root}/configs/vplr.py", "--stage=trian"], "Did you mean 'train'"),
    ):
        assert cli.main(["browse", *words]) == 2
        assert said in capsys.readouterr().err


def test_recipes_are_read_as_main_reads_them(root):
    config = load_recipe(f"{root}/configs/vplr.py:camvid,net=fastscnn", {"train.crop.size": (64, 96), "seed": 7})
    assert (config.dataset.name, config.train.crop.size, config.seed) == ("camvid", (64, 96), 7)


def test_values_apply_overrides_as_for_main(root):
    config = load_recipe(f"{root}/configs/vplr.py", {"train.sampler.kind": "uniform", "train.augment.antialias": False})
    assert config.train.sampler.to_dict() == {"kind": "uniform"} and config.train.augment.antialias is False


def test_a_stage_with_its_own_seed_and_data_set(config, street_dir, tmp_path):
    """As the trainings of configs/vplr_ablation.py and configs/transfer.py are."""
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.train.seed, config.train.dataset = 5, {**config.dataset.to_dict(), "train": "validation"}
    shown = browse(config, tmp_path / "a.png", count=1)
    assert "seed 5" in shown.heading
    same = browse(config, tmp_path / "b.png", count=1, seed=5)
    assert [one.name for one in shown.samples] == [one.name for one in same.samples]
