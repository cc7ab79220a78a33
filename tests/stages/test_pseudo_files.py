"""The command that labels a user's own images: its folder, what it may write over, and what mistakes are told."""

import json
import shutil

import cv2
import numpy as np
import pytest

from segjax import cli
from segjax.data import FolderSource, LabelMap, record_shards
from segjax.data.derived import PSEUDO, open_derived
from segjax.media.writers import VideoWriter
from segjax.stages import pseudo_label
from tests.stages.teacher import MAP, files, network, probabilities


@pytest.fixture(autouse=True)
def teacher(monkeypatch, tmp_path):
    monkeypatch.setattr(pseudo_label, "open_network", lambda path, **options: network())
    (tmp_path / "run").mkdir()


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    (folder / "b").mkdir(parents=True)
    for name in ("a.jpg", "b/c.png", "d.jpg"):
        palette = MAP.palette[rng.integers(0, 19, (4, 6))]
        picture = np.kron(palette, np.ones((4, 4, 1), np.uint8))
        cv2.imwrite(str(folder / name), np.clip(picture + rng.integers(0, 50, picture.shape), 0, 255))
    return folder


def words(tmp_path, images, *more):
    return [
        "pseudo_label", f"--checkpoint={tmp_path / 'run'}", f"--images={images}", f"--output={tmp_path / 'out'}",
        "--batch=2", *more,
    ]  # fmt: skip


def fails(capsys, *argv):
    assert cli.main(list(argv)) == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith("segjax: error: ") and "\n" not in line
    return line


def test_a_folder_to_train_on_and_masks_to_correct(tmp_path, images, capsys):
    (images / "bad.jpg").write_bytes(b"nothing")
    argv = words(tmp_path, images, "--masks", "--labels=soft", "--top-k=2", "--confidence", "--threshold", "road=0.9")
    assert cli.main(argv) == 0
    said = capsys.readouterr()
    assert "3 images labelled by formula, step 1" in said.out and "bad.jpg is damaged" in said.err
    assert f"train.extra.pseudo = dict(stage='{tmp_path / 'out'}')" in said.out
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [".segjax-written.json", "dataset", "images", "label_map.json", "masks", "report.json", "sheets", "shards"]
    )
    derived = open_derived(out)
    source = derived.open(PSEUDO, fields=derived.soft)
    assert source.names == ["photos/a", "photos/b/c", "photos/d"] and source.top_k == 2
    assert (out / "images/a.jpg").read_bytes() == (images / "a.jpg").read_bytes()
    own = FolderSource(out / "images", out / "masks", out / "label_map.json")  # as `segjax check_data` reads it
    for i in range(3):
        assert (own[i].image == source[i].image).all() and (own[i].label == source[i].label).all()
        kept = own[i].label != 255
        assert (own[i].label == probabilities(own[i].image).argmax(-1))[kept].mean() > 0.99
    assert LabelMap.load(out / "label_map.json").class_names == MAP.class_names
    report = json.loads((out / "report.json").read_text())
    assert report["records"] == 3 and report["ignored"] > 0 and report["truth"] is None
    assert (out / "sheets/photos.png").is_file()


def test_the_same_command_again_and_another_one(tmp_path, images, capsys):
    assert cli.main(words(tmp_path, images)) == 0
    before = files(tmp_path / "out/dataset")
    assert cli.main(words(tmp_path, images)) == 0 and files(tmp_path / "out/dataset") == before
    capsys.readouterr()
    said = fails(capsys, *words(tmp_path, images, "--threshold=0.5"))
    assert "was begun with other settings (threshold: 0.0 -> 0.5); delete the folder to start again" in said
    assert "or give another --output" in said
    (tmp_path / "out/report.json").write_text("mine")
    assert "report.json exists and was changed since segjax wrote it" in fails(capsys, *words(tmp_path, images))


def test_a_full_disk(tmp_path, images, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(
            record_shards, "write_shard", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
        )
        assert "the disk is full while building" in fails(capsys, *words(tmp_path, images))
    assert not (tmp_path / "out/dataset").exists()
    assert cli.main(words(tmp_path, images)) == 0


def test_a_video_and_a_pattern(tmp_path, images, capsys):
    with VideoWriter(tmp_path / "drive.mp4", fps=5) as video:
        for i in range(7):
            video.write(np.full((16, 24, 3), 30 * i, np.uint8))
    assert cli.main(words(tmp_path, tmp_path / "drive.mp4", "--every=3")) == 0
    assert open_derived(tmp_path / "out").open(PSEUDO).names == [f"drive/drive/00000{n}" for n in (0, 3, 6)]
    shutil.rmtree(tmp_path / "out")
    assert cli.main(words(tmp_path, images / "*.jpg", "--reference", "--limit=1")) == 0
    source = open_derived(tmp_path / "out").open(PSEUDO)
    assert source.names == ["photos/a.jpg"] and (source[0].image == cv2.imread(str(images / "a.jpg"))[..., ::-1]).all()


def test_its_output_is_not_read(tmp_path, images):
    out = ["--masks", f"--output={images / 'out'}"]
    assert cli.main(words(tmp_path, images, *out)) == 0
    assert cli.main(words(tmp_path, images, *out)) == 0
    assert len(open_derived(images / "out").open(PSEUDO)) == 3


def test_mistakes(tmp_path, images, capsys):
    def said(*more, of=images):
        return fails(capsys, *words(tmp_path, of, *more))

    assert "--top-k is for --labels=soft" in said("--top-k=2")
    assert "--top-k=20 is more than the 19 classes" in said("--labels=soft", "--top-k=20")
    assert "--threshold names 'raod', which is no class. Did you mean 'road'" in said("--threshold", "raod=0.5")
    assert "--threshold has a number for all classes and others" in said("--threshold", "0.5", "road=0.6")
    assert "is no share" in said("--threshold=2")
    assert "--size reduces images" in said("--size=8", "--reference")
    assert "does not exist" in said(of=tmp_path / "nowhere")
    assert "matches no image" in said(of=images / "*.tif")
    assert "lies in" in said(f"--output={images}")
    assert "Did you mean '--every'" in said("--evry=3")
    with VideoWriter(tmp_path / "drive.mp4", fps=5) as video:
        video.write(np.zeros((16, 24, 3), np.uint8))
    assert "has frames of videos" in said("--reference", of=tmp_path / "drive.mp4")
    assert not (tmp_path / "out").exists()
    assert (images / "a.jpg").is_file()
