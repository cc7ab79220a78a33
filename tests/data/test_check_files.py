"""The check of files: splits, copies, ignored files and proposals are reported, by the command too."""

import io

import numpy as np
import pytest
from rich.console import Console

from segjax.cli import main
from segjax.data import FolderSource
from segjax.data.check import check_folder
from segjax.data.check_files import same_content
from segjax.data.image_files import encode_png
from segjax.errors import UserError

RNG = np.random.default_rng(5)


def picture():
    return encode_png(RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8))


def fill(root, keys, image="{}", mask="{}"):
    for key in keys:
        folder, slash, name = key.rpartition("/")
        write(root / f"images/{folder}{slash}{image.format(name)}.png", picture())
        write(root / f"masks/{folder}{slash}{mask.format(name)}.png", encode_png(np.eye(4, 6, dtype=np.uint8)))
    return root / "images", root / "masks"


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def printed(report):
    console = Console(file=io.StringIO(), width=120, highlight=False, soft_wrap=True)
    report.print(console)
    return console.file.getvalue()


def test_splits_are_shown(tmp_path):
    folders = fill(tmp_path, ["Train/a", "Train/b", "Val/c"])
    assert "note: splits: train 2, validation 1, by the folders Train, Val" in printed(check_folder(*folders))
    assert "splits: train 2, validation 1, at random (seed 0)" in printed(check_folder(*folders, splits="random"))
    (tmp_path / "t.txt").write_text("Train/a.png\n")
    report = check_folder(*folders, lists={"train": str(tmp_path / "t.txt")})
    assert report.ok and "2 images are in no list (Train/b, Val/c)" in printed(report)


def test_a_missing_validation_split_is_named(tmp_path):
    assert "there is no split for validation" in printed(check_folder(*fill(tmp_path, ["train/a", "test/b"])))


def test_splits_that_are_not_clear_are_a_problem(tmp_path):
    folders = fill(tmp_path, ["val/a", "test/b"])
    report = check_folder(*folders)
    assert [problem.kind for problem in report.problems] == ["split"] and report.exit_code == 1
    assert "none is for training" in printed(report)
    assert check_folder(*folders, splits="random").ok


def test_the_same_bytes_in_two_splits_are_a_problem(tmp_path):
    images, masks = fill(tmp_path, ["train/a", "train/b", "train/c", "test/d"])
    write(images / "test/d.png", (images / "train/a.png").read_bytes())
    write(images / "train/c.png", (images / "train/b.png").read_bytes())
    report = check_folder(images, masks)
    assert [problem.kind for problem in report.problems] == ["split"]
    assert "train/a.png (train) are the same image in several splits" in report.problems[0].message
    assert "test/d.png (test), " in report.problems[0].message
    assert "2 images are the same as another" in printed(report)


def test_same_content_compares_bytes(tmp_path):
    for name, data in (("a", b"12"), ("b", b"21"), ("c", b"12"), ("d", b"123"), ("e", b""), ("f", b"")):
        write(tmp_path / name, data)
    files = [tmp_path / name for name in "abcdefg"]
    assert same_content(files) == [[files[0], files[2]]]


def test_what_is_ignored_is_named(tmp_path, caplog):
    images, masks = fill(tmp_path, ["a", "b"])
    write(images / "c.xyz", b"x")
    write(images / ".d.png", b"x")
    write(images / "about.txt", b"x")
    report = check_folder(images, masks)
    text = printed(report)
    assert report.ok and "1 file is ignored: " in text and "c.xyz (no images)" in text and ".d.png (hidden)" in text
    assert "1 by-product is not counted as images: about.txt" in text
    FolderSource(images, masks, "camvid")
    assert "c.xyz (no images)" in caplog.text and ".d.png (hidden)" in caplog.text and "about" not in caplog.text
    caplog.clear()
    FolderSource(images)
    assert "c.xyz (no images)" in caplog.text


def test_masks_without_image_are_named_by_a_source(tmp_path, caplog):
    images, masks = fill(tmp_path, ["a", "b"])
    (images / "b.png").unlink()
    assert len(FolderSource(images, masks, "camvid")) == 1
    assert "1 mask is ignored for lack of an image" in caplog.text


def test_the_command_proposes_and_takes_the_proposal(tmp_path, capsys):
    images, masks = fill(tmp_path, ["train/a0", "train/a1", "val/b2"], image="img_{}", mask="mask_{}")
    words = ["check_data", f"--images={images}", f"--masks={masks}", f"--output={tmp_path / 'out'}"]
    assert main(words) == 1
    proposed = "--image-prefix=img_ --mask-prefix=mask_"
    assert f"note: the names match badly; {proposed} would give 3 pairs" in capsys.readouterr().out
    assert main([*words, *proposed.split()]) == 0
    out = capsys.readouterr().out
    assert "3 pairs" in out and "splits: train 2, validation 1, by the folders train, val" in out
    (tmp_path / "t.txt").write_text("train/img_a0.png\n")
    assert main([*words, *proposed.split(), "--lists", f"train={tmp_path / 't.txt'}"]) == 0
    assert "2 images are in no list" in capsys.readouterr().out


def test_a_source_and_its_error_propose_too(tmp_path):
    images, masks = fill(tmp_path, ["a0", "a1"], mask="{}_gt")
    with pytest.raises(UserError, match="2 images in .* have no mask .*--mask-suffix=_gt would give 2 pairs"):
        FolderSource(images, masks, "camvid")
    assert len(FolderSource(images, masks, "camvid", mask_suffix="_gt")) == 2
