"""Every command refuses, before a network is opened, to write over what it reads and what segjax did not write."""

import json
import os

import cv2
import numpy as np
import pytest

from segjax import cli
from segjax.media.writers import VideoWriter, write_png
from segjax.outputs import NOTE
from tests import stand_in

BAD = "--checkpoint=missing"


@pytest.fixture
def fails(capsys):
    """Runs a command that must end with exit code 2 and one line; returns the line."""

    def run(*words):
        assert cli.main([str(word) for word in words]) == 2
        line = capsys.readouterr().err
        assert line.startswith("segjax: error: ") and line.count("\n") == 1
        return line

    return run


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "clips"
    with VideoWriter(folder / "drive.mp4", fps=5) as video:
        for grey in (0, 100, 200):
            video.write(np.full((16, 32, 3), grey, np.uint8))
    return folder


@pytest.fixture
def images(tmp_path):
    for name in "abc":
        write_png(tmp_path / "images" / f"{name}.png", np.full((8, 16, 3), ord(name), np.uint8))
        write_png(tmp_path / "masks" / f"{name}.png", np.eye(8, 16, dtype=np.uint8))
    return tmp_path / "images"


def test_predict_keeps_the_video(clips, fails, tmp_path):
    video, before = clips / "drive.mp4", (clips / "drive.mp4").read_bytes()
    (tmp_path / "link").symlink_to(clips)
    for output in (clips, tmp_path / "link"):
        said = fails("predict", BAD, f"--input={video}", f"--output={output}")
        assert "drive.mp4 is read, and would be replaced; give another --output" in said
    assert video.read_bytes() == before and os.listdir(clips) == ["drive.mp4"]


def test_predict_does_not_feed_on_its_output(images, fails, tmp_path, monkeypatch, capsys):
    assert "is read, so that the next call" in fails("predict", BAD, f"--input={images}", f"--output={images}")
    monkeypatch.setattr("segjax.inference.files.open_labelling", stand_in.open_brightness)
    for output in ("first", "first", "second"):
        assert cli.main(["predict", "--checkpoint=good", f"--input={images}", f"--output={images / output}"]) == 0
        assert "3 images in" in capsys.readouterr().out


def test_predict_keeps_files_of_the_user(images, fails, tmp_path):
    write_png(tmp_path / "out" / "ids" / "b.png", np.ones((4, 4), np.uint8))
    said = fails("predict", BAD, f"--input={images}", f"--output={tmp_path / 'out'}")
    assert "b.png exists and was not written by segjax; move it away, or give another --output" in said


def test_predict_writes_one_file_for_every_image(tmp_path, monkeypatch, capsys, clips):
    """Names that differ in their suffix or in case, in other scripts; a video beside a folder of its name."""
    os.makedirs(clips / "drive")
    names = ["a.jpg", "a.png", "a.jpg.png", "A.bmp", "cafe\u0301.png", "drive/000000.png", "١٢.png"]
    for name in names:
        assert cv2.imwrite(str(clips / name), np.full((16, 32, 3), 9, np.uint8))
    monkeypatch.setattr("segjax.inference.files.open_labelling", stand_in.open_brightness)
    assert cli.main(["predict", "--checkpoint=good", f"--input={clips}", f"--output={tmp_path / 'out'}"]) == 0
    frames = len(names) + 3
    assert f"{frames} images in" in capsys.readouterr().out
    assert len(list((tmp_path / "out" / "ids").rglob("*.png"))) == frames
    assert len({str(path).casefold() for path in (tmp_path / "out").rglob("*.png")}) == frames + len(names) + 1


def test_predict_refuses_names_that_some_disks_mix_up(images, fails, tmp_path):
    for name in ("caf\u00e9.png", "cafe\u0301.png"):
        write_png(images / name, np.zeros((8, 8, 3), np.uint8))
    said = fails("predict", BAD, f"--input={images}", f"--output={tmp_path / 'out'}")
    assert "would get the same names of outputs; rename all of them but one" in said


def test_demo_keeps_its_input_and_other_videos(clips, images, fails, tmp_path):
    assert "is read, and would be replaced" in fails(
        "demo", BAD, f"--input={clips / 'drive.mp4'}", f"--output={clips / 'drive.mp4'}"
    )
    assert "is read, so that the next call" in fails("demo", BAD, f"--input={images}", f"--output={images / 'd.mp4'}")
    (tmp_path / "d.mp4").write_bytes(b"holiday")
    said = fails("demo", BAD, f"--input={clips / 'drive.mp4'}", f"--output={tmp_path / 'd.mp4'}")
    assert "was not written by segjax" in said and (tmp_path / "d.mp4").read_bytes() == b"holiday"


def test_check_data_keeps_an_edited_label_map(images, tmp_path, capsys):
    words = ["check_data", f"--images={images}", f"--masks={tmp_path / 'masks'}", f"--output={tmp_path / 'chk'}"]
    written = tmp_path / "chk" / "label_map.json"
    for _ in range(2):  # its own file is written again
        assert cli.main(words) == 0
    first = written.read_text()
    edited = first.replace("class 1", "road")
    written.write_text(edited)
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert "label_map.json was edited, or not written by this command, and is kept" in out
    assert written.read_text() == edited and (tmp_path / "chk" / "label_map.new.json").read_text() == first
    (tmp_path / "chk" / "label_map.new.json").write_text("{}")
    assert cli.main(words) == 0
    assert (tmp_path / "chk" / "label_map.new1.json").read_text() == first
    capsys.readouterr()
    assert cli.main([*words, f"--label-map={written}"]) == 0  # the map in use is the file itself
    assert "is kept" not in capsys.readouterr().out and written.read_text() == edited


def test_check_data_stays_out_of_the_images(images, fails, tmp_path):
    words = ["check_data", f"--images={images}", f"--masks={tmp_path / 'masks'}"]
    assert "is read, so that the next call" in fails(*words, f"--output={images / 'chk'}")
    write_png(tmp_path / "chk" / "overlay.png", np.zeros((4, 4), np.uint8))
    assert "overlay.png exists and was not written" in fails(*words, f"--output={tmp_path / 'chk'}")


def test_files_of_the_user_are_kept_by_the_other_commands(images, fails, tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"mine")
    (tmp_path / "page.md").write_text("mine")
    (tmp_path / "scores.json").write_text("mine")
    write_png(tmp_path / "browse.png", np.zeros((4, 4), np.uint8))
    kept = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    for words in (
        ["export_weights", "--checkpoint=missing", f"--output={tmp_path / 'w.safetensors'}"],
        ["export_weights", f"--checkpoint={tmp_path / 'w.safetensors'}", f"--output={tmp_path / 'w.safetensors'}"],
        ["summary", "--all", "--size=64x128", f"--output={tmp_path / 'page.md'}"],
        ["submit", "--dataset=kitti", f"--input={images}", f"--report={tmp_path / 'scores.json'}"],
        ["browse", "--dataset=kitti", f"--output={tmp_path / 'browse.png'}"],
    ):
        said = fails(*words)
        assert "was not written by segjax" in said or "is read, and would be replaced" in said, said
    assert kept == {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}


def test_propagate_keeps_the_label_map_that_it_reads(images, fails, tmp_path):
    chk = tmp_path / "chk"
    assert cli.main(["check_data", f"--images={images}", f"--masks={tmp_path / 'masks'}", f"--output={chk}"]) == 0
    words = [f"--video={images}", f"--labels={tmp_path / 'masks'}", f"--label-map={chk / 'label_map.json'}"]
    before = (chk / "label_map.json").read_bytes()
    assert "label_map.json is read, and would be replaced" in fails("propagate", *words, f"--output={chk}")
    assert (chk / "label_map.json").read_bytes() == before
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "report.json").write_text("{}")
    assert "report.json exists and was not written" in fails("propagate", *words, f"--output={tmp_path / 'more'}")
    assert "is read, so that the next call" in fails("propagate", *words, f"--output={images / 'more'}")


@pytest.mark.parametrize("address", ["gs://bucket/x", "s3://bucket/x"])
def test_remote_addresses_are_one_sentence(fails, address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in (
        ["predict", "--checkpoint=a", "--input=a", f"--output={address}"],
        ["check_data", f"--images={address}", "--masks=b"],
        ["demo", BAD, "--dataset=camvid", "--split=test", "--option", f"source_dir={address}"],
        ["export_weights", BAD, f"--output={address}.safetensors"],
    ):
        assert f"={address}" in (said := fails(*words)) and "is a remote address" in said
    for words in (
        ["predict", f"--checkpoint=x{address}", "--input=a", "--output=b"],
        ["datasets", f"--data-dir=x{address}"],
    ):
        assert f"=x{address} is a remote address that segjax cannot read" in fails(*words)
    assert os.listdir(tmp_path) == []


def test_home_is_found_after_an_equals_sign(images, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(images)
    assert cli.main(["check_data", "--images=~/images", "--masks=~/masks", "--output=~/chk"]) == 0
    assert json.loads((tmp_path / "chk" / NOTE).read_text())["files"].keys() == {"label_map.json", "overlay.png"}
