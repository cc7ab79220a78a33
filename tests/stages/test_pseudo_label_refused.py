"""What the stage "pseudo_label" refuses: wrong sections, pools and teachers."""

from pathlib import Path

import cv2
import pytest

from segjax.data import LabelMap, class_table
from segjax.data.image_files import encode_png
from segjax.errors import UserError
from segjax.stages import run_recipe
from segjax.stages.pseudo_options import read
from tests.stages.teacher import config, label, network, street

SPLIT = dict(rest=dict(split="train::3"))


@pytest.mark.parametrize(
    "wrong, said",
    [
        (dict(labels="sfot"), "Did you mean 'soft'"),
        (dict(images="copy"), "Did you mean 'copied'"),
        (dict(top_k=3), "top_k=3 belongs to labels='soft'"),
        (dict(threshold=1.5), "threshold=1.5 must be a probability"),
        (dict(threshold=dict(road=-1)), "threshold.road=-1 must be a probability"),
        (dict(batch_size=-1), "batch_size=-1"),
        (dict(shard_images=0), "shard_images=0"),
        (dict(size=-1), "size=-1"),
        (dict(scales=(0,)), "scales="),
        (dict(protocol="singel"), "Did you mean 'single'"),
        (dict(shard_image=3), "Did you mean 'shard_images'"),
        (dict(unlabelled={}), "unlabelled={} must name pools"),
        (dict(unlabelled=dict(a=3)), "unlabelled.a must have either 'split'"),
        (dict(unlabelled=dict(a=dict(split="train", frames="x"))), "must have either 'split'"),
        (dict(unlabelled=dict(a=dict(split="train", onyl="all"))), "Did you mean 'only'"),
        (dict(unlabelled=dict(a=dict(split="train", only="al"))), "Did you mean 'all'"),
        (dict(unlabelled=dict(a=dict(frames="x", every=0))), "every=0"),
        (dict(unlabelled={"a/b": dict(frames="x")}), "a pool's name has letters"),
        (dict(images="referenced"), "images of pool 'rest' are stored in a dataset"),
        (dict(images="referenced", size=9, unlabelled=dict(a=dict(frames="x"))), "size reduces images"),
    ],
)
def test_wrong_sections(wrong, said):
    section = {"kind": "pseudo_label", "checkpoint": "teacher", "unlabelled": SPLIT, **wrong}
    with pytest.raises(UserError, match=said):
        read(section, "pseudo_label")


def refused(street_dir, workdir, **section):
    with pytest.raises(UserError) as error:
        label(street_dir, workdir, **section)
    assert not (Path(workdir) / "pseudo_label/shards").exists(), "nothing is begun"
    return str(error.value)


def test_pools_that_are_refused(street_dir, tmp_path):
    def pool(**settings):
        return dict(unlabelled=dict(a=settings))

    empty, broken, held_out = (tmp_path / name for name in ("empty", "broken", "held_out"))
    for made in (empty, broken, held_out):
        made.mkdir()
    (broken / "a.png").write_bytes(b"no image")
    assert "holds no image" in refused(street_dir, tmp_path, **pool(frames=str(empty)))
    assert "is no path" in refused(street_dir, tmp_path, **pool(frames=str(tmp_path / "nowhere")))
    assert "matches no image" in refused(street_dir, tmp_path, **pool(frames=str(tmp_path / "*.tif")))
    said = refused(street_dir, tmp_path, **pool(frames=str(broken)))
    assert "pool 'a': none of the images" in said and "a.png" in said
    said = refused(street_dir, tmp_path, **pool(split="train"))
    assert "all 18 records of synthetic_street train are labelled" in said and "only='all'" in said
    said = refused(street_dir, tmp_path, **pool(split="validation", only="all"))
    assert "unlabelled.a: 6 images are those of the run's own validation split 'validation', such as" in said

    held = street(street_dir, "validation")
    name = held.names[2]
    cv2.imwrite(str(held_out / f"{name}.jpg"), held[2].image[..., ::-1])
    said = refused(street_dir, tmp_path, **pool(frames=str(held_out)))
    assert f"1 images are those of the run's own validation split 'validation', such as {name}" in said
    assert "own validation split" in refused(street_dir, tmp_path, size=16, **pool(frames=str(held_out)))
    (held_out / f"{name}.jpg").write_bytes(encode_png(255 - held[2].image))  # of the same name by chance
    assert label(street_dir, tmp_path, **pool(frames=str(held_out)))["records"] == 1


def test_teachers_that_are_refused(street_dir, tmp_path, monkeypatch):
    assert "top_k=20 is more than the 19 classes" in refused(street_dir, tmp_path, labels="soft", top_k=20)
    said = refused(street_dir, tmp_path, threshold={"raod": 0.5})
    assert "threshold names 'raod', which is no class. Did you mean 'road'?" in said
    other = network(LabelMap(class_table("camvid")))
    monkeypatch.setattr("tests.stages.teacher.network", lambda: other)
    said = refused(street_dir, tmp_path)
    assert (
        "the teacher in teacher has other classes than the dataset synthetic_street (11 classes instead of 19)" in said
    )


def test_a_video_network_is_no_teacher(street_dir, tmp_path, monkeypatch):
    def load(path):
        return {"name": "sdcnet2d", "num_classes": 0, "options": {}}, {}, {"step": 1}

    monkeypatch.setattr("segjax.inference.network.load_for_inference", load)
    (tmp_path / "teacher").mkdir()
    with pytest.raises(UserError, match="teacher holds sdcnet2d, which labels no image; give a run of a stage of kind"):
        run_recipe(config(street_dir), workdir=tmp_path)
