"""A user's own video: its frames, its labels, what is wrong with them, and the command that carries them."""

import json
import logging
import shutil
import signal
import subprocess
import sys

import cv2
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import cli
from segjax.data import LabelMap
from segjax.errors import UserError
from segjax.media.writers import write_png
from segjax.propagation import label_frames
from segjax.propagation import own_video as stage
from segjax.propagation.labelled_video import open_labelled_video

MAP = LabelMap.identity(("dark", "bright"), np.array([(10, 20, 30), (200, 210, 220)], np.uint8))


def frame(number, size=(32, 48)):
    """A bright square that moves 2 pixels to the right per frame over a dark gradient."""
    image = np.zeros((*size, 3), np.uint8)
    image[..., 1] = np.linspace(0, 60, size[1]).astype(np.uint8)
    image[10:22, 8 + 2 * number : 20 + 2 * number] = (240, 200, 180)
    return image


def mask(number, size=(32, 48)):
    found = np.zeros(size, np.uint8)
    found[10:22, 8 + 2 * number : 20 + 2 * number] = 1
    return found


@pytest.fixture
def folder(tmp_path):
    for number in range(8):
        write_png(tmp_path / f"frames/drive_{number:04d}.png", frame(number))
    write_png(tmp_path / "labels/drive_0003.png", mask(3))
    MAP.save(tmp_path / "map.json")
    return tmp_path


@pytest.fixture
def film(tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "film.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (48, 32))
    for number in range(8):
        writer.write(cv2.cvtColor(frame(number), cv2.COLOR_RGB2BGR))
    writer.release()
    write_png(tmp_path / "labels/3.png", mask(3))
    MAP.save(tmp_path / "map.json")
    return tmp_path


def follow_the_square(a, b):
    """Flow of a camera that does so."""
    return np.stack([np.full((*x.image.shape[:2], 2), (2.0 * (y.frame - x.frame), 0)) for x, y in zip(a, b)])


@pytest.fixture(autouse=True)
def moving_square(monkeypatch):
    """In place of an optical flow that a tiny picture would mislead."""
    monkeypatch.setattr(stage, "open_flow", lambda *_, **__: follow_the_square)


def opened(root, video):
    return open_labelled_video(root / video, root / "labels", root / "map.json")


def test_folder_of_frames(folder):
    clip = opened(folder, "frames")
    assert len(clip.names) == 8 and clip.frames.tolist() == list(range(8)) and np.flatnonzero(clip.labelled) == [3]
    found = clip.read([2, 3])
    assert (found[2].image == frame(2)).all() and found[2].label is None and (found[3].label == mask(3)).all()


def test_video_file_in_any_order(film):
    clip = opened(film, "film.mp4")
    assert len(clip.names) == 8 and clip.sizes.tolist() == [[32, 48]] * 8 and not clip.problems
    for wanted in ([2, 3, 4], [3, 4, 5], [0, 7], [1]):
        found = clip.read(wanted)
        assert sorted(found) == sorted(wanted)
        for number in wanted:
            assert np.abs(found[number].image.astype(int) - frame(number)).mean() < 6  # mp4 compresses


def test_labels_of_frames_that_do_not_exist_are_listed(folder):
    write_png(folder / "labels/drive_0099.png", mask(3))
    clip = opened(folder, "frames")
    assert len(clip.masks) == 1 and len(clip.problems) == 1
    assert "0099.png is of frame 99" in clip.problems[0] and "0 to 7" in clip.problems[0]
    (folder / "labels/drive_0003.png").unlink()
    with pytest.raises(UserError, match="no label in"):
        opened(folder, "frames")


def test_a_video_that_ends_early(film, monkeypatch):
    data = (film / "film.mp4").read_bytes()
    monkeypatch.setattr("segjax.media.clips.Video.__len__", lambda self: 100)
    (film / "film.mp4").write_bytes(data)
    assert opened(film, "film.mp4").problems == [f"{film}/film.mp4 ends after 8 of 100 frames"]


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("drive_0003.png", mask(3)[:-1], "48x31"),
        ("drive_0004.png", np.full((32, 48), 7, np.uint8), "holds ids 7"),
        ("photo.png", mask(3), "no frame number"),
        ("other_3.png", mask(3), "both of frame 3"),
    ],
)
def test_masks_that_do_not_fit(folder, name, content, said):
    write_png(folder / "labels" / name, content)
    with pytest.raises(UserError, match=said):
        opened(folder, "frames")


def test_labels_that_are_not_there(folder):
    with pytest.raises(UserError, match="nowhere does not exist; give the folder of the masks"):
        open_labelled_video(folder / "frames", folder / "nowhere", MAP)


def test_frames_without_numbers_and_several_videos(film):
    for number in range(3):
        write_png(film / f"frames/drive_{number:04d}.png", frame(number))
    (film / "other.mp4").write_bytes((film / "film.mp4").read_bytes())
    with pytest.raises(UserError, match="holds 2 videos"):
        open_labelled_video(film, film / "labels", MAP)
    folder = film
    write_png(folder / "frames/extra.png", frame(0))
    with pytest.raises(UserError, match="extra of .* has no number"):
        opened(folder, "frames")


def words(root, video, *more):
    return [
        "propagate", f"--video={root / video}", f"--labels={root / 'labels'}", f"--label_map={root / 'map.json'}",
        f"--output={root / 'out'}", "--steps=2", "--batch=2", *more,
    ]  # fmt: skip


def test_the_command_writes_a_folder_to_train_on(folder, capsys):
    assert cli.main(words(folder, "frames")) == 0
    said = capsys.readouterr().out
    assert "1 of 8 frames labelled; flow" in said and "4 frames carried: +1 1, -1 1, +2 1, -2 1" in said
    names = sorted(path.name for path in (folder / "out/masks").iterdir())
    assert names == [f"drive_0003{step}.png" for step in ("+1", "+2", "-1", "-2")]
    for step in (1, 2, -1, -2):
        name = f"drive_0003{step:+d}.png"
        found = cv2.imread(str(folder / "out/masks" / name), cv2.IMREAD_UNCHANGED)
        seen = found != 255
        assert (found[seen] == mask(3 + step)[seen]).all() and seen.mean() > 0.9
        assert (folder / "out/images" / name).is_file() and (folder / "out/overlay" / name).is_file()
    report = json.loads((folder / "out/report.json").read_text())
    assert report["carried"] == {"+1": 1, "-1": 1, "+2": 1, "-2": 1} and report["problems"] == []
    assert LabelMap.load(folder / "out/label_map.json").class_names == ("dark", "bright")
    assert not (folder / "out/.unfinished").exists()
    assert cli.main(words(folder, "frames")) == 2 and "exists already" in capsys.readouterr().err


def test_one_mask_without_number_is_that_of_the_first_frame(folder, capsys):
    write_png(folder / "mask.png", mask(0))
    given = [word for word in words(folder, "frames") if not word.startswith("--labels")]
    assert cli.main([*given, f"--label={folder / 'mask.png'}"]) == 0
    assert "mask.png has no frame number in its name: taken as frame 0" in capsys.readouterr().out
    assert {path.name for path in (folder / "out/masks").iterdir()} == {"drive_0000+1.png", "drive_0000+2.png"}
    found = cv2.imread(str(folder / "out/masks/drive_0000+2.png"), cv2.IMREAD_UNCHANGED)
    assert (found[found != 255] == mask(2)[found != 255]).all()


def numberless(folder, *names):
    shutil.rmtree(folder / "labels")
    for i, name in enumerate(names):
        write_png(folder / "labels" / f"{name}.png", mask(min(3 * i, 7)))
    return lambda **more: open_labelled_video(folder / "frames", folder / "labels", MAP, **more)


def test_masks_without_numbers_are_of_every_nth_frame_in_order(folder):
    opened = numberless(folder, "a", "b", "c", "d")
    clip = opened(every=3)
    assert {number: path.stem for number, path in clip.masks.items()} == {0: "a", 3: "b", 6: "c"}
    assert len(clip.problems) == 1 and "d.png is of no frame" in clip.problems[0] and "takes 3" in clip.problems[0]
    assert (clip.read([6])[6].label == mask(6)).all()
    with pytest.raises(UserError, match="no frame number in its name; .* or say that they are of --every=Nth frame"):
        opened()


def test_every_nth_of_the_masks_that_have_numbers(folder):
    """Counted in frames of the video, from its first one, whatever their numbers are."""
    for number in range(8):
        (folder / f"frames/drive_{number:04d}.png").rename(folder / f"frames/drive_{100 + 2 * number}.png")
    shutil.rmtree(folder / "labels")
    for number in (100, 104, 106, 112, 113):
        write_png(folder / f"labels/{number}.png", mask(0))
    clip = open_labelled_video(folder / "frames", folder / "labels", MAP, every=3)
    assert sorted(clip.masks) == [100, 106, 112] and np.flatnonzero(clip.labelled).tolist() == [0, 3, 6]
    assert "113.png is of frame 113, which" in clip.problems[0] and "100 to 114" in clip.problems[0]
    assert clip.problems[1:] == ["--every=3 leaves out 1 labels, of frames 104"]


def test_a_network_labels_every_nth_frame(folder, monkeypatch, capsys):
    """What it wrote can be given as labels: the same comes out."""

    def load_network(checkpoint):
        assert checkpoint == "runs/segmenter"
        bright = lambda variables, x: jnp.stack([100 - x[..., 0], x[..., 0] - 100], -1) * variables  # noqa: E731
        return bright, jnp.float32(1), lambda x: x.astype(jnp.float32), MAP

    monkeypatch.setattr(label_frames, "load_network", load_network)
    given = [word for word in words(folder, "frames") if not word.startswith("--label")]
    assert cli.main([*given, "--segmenter=runs/segmenter", "--every=5"]) == 0
    assert "2 of 8 frames labelled" in capsys.readouterr().out
    masks = sorted((folder / "out/labels").iterdir())
    assert [path.name for path in masks] == ["drive_0000.png", "drive_0005.png"]
    assert (cv2.imread(str(masks[1]), cv2.IMREAD_UNCHANGED) == mask(5)).all()
    carried = {path.name: path.read_bytes() for path in (folder / "out/masks").iterdir()}
    assert sorted(carried) == sorted(f"drive_000{s}.png" for s in ("0+1", "0+2", "5+1", "5+2", "5-1", "5-2"))
    again = [word for word in words(folder, "frames") if not word.startswith(("--labels", "--label_map", "--output"))]
    again += [f"--labels={folder}/out/labels", f"--label_map={folder}/out/label_map.json", f"--output={folder}/again"]
    assert cli.main(again) == 0
    assert {path.name: path.read_bytes() for path in (folder / "again/masks").iterdir()} == carried


def test_where_labels_come_from_must_be_clear(folder, capsys):
    video, label_map, output = (next(w for w in words(folder, "frames") if w.startswith(f"--{n}"))
                                for n in ("video", "label_map", "output"))  # fmt: skip
    labels = f"--label={folder / 'labels'}"
    for given, said in (
        ([], "no label to carry"),
        (["--every=2"], "--segmenter=RUN"),
        (["--segmenter=run"], "--every=N"),
        ([labels], "--label-map is missing"),
        ([labels, "--segmenter=run", "--every=2"], "leave one of them out"),
        ([label_map, "--segmenter=run", "--every=2"], "leave it out"),
        ([label_map, labels, "--every=0"], "argument --every: '0' is no number of at least 1"),
    ):
        assert cli.main(["propagate", video, output, *given]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and said in err and not (folder / "out").exists()


KILLED = """
import os, signal, sys
from segjax import cli
from segjax.propagation import own_video as propagate_video
from tests.propagation.test_own_video import follow_the_square

def once(*arguments, summarise=propagate_video.summarise, calls=[]):
    calls.append(arguments)
    return summarise(*arguments) if len(calls) == 1 else os.kill(os.getpid(), signal.SIGKILL)

propagate_video.summarise, propagate_video.open_flow = once, lambda *_, **__: follow_the_square
cli.main(sys.argv[1:])
"""


def test_after_a_kill_the_same_command_goes_on(folder, root, caplog):
    """Of eight labels, four at a time, the first four are not carried again; other arguments start again."""
    for number in range(8):
        write_png(folder / f"labels/drive_{number:04d}.png", mask(number))
    command = words(folder, "frames")
    killed = subprocess.run([sys.executable, "-c", KILLED, *command], cwd=root, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    unfinished = folder / "out/.unfinished"
    shutil.copytree(folder / "out", folder / "other")
    assert [path.name for path in unfinished.glob("part-*")] == ["part-000000.json"]
    assert not (folder / "out/masks").exists()
    done = {p.name: p.stat().st_mtime_ns for p in (unfinished / "masks").glob("drive*") if int(p.name[9]) < 4}
    other = [*command, f"--output={folder / 'other'}", "--mode=lp"]
    for arguments, output, goes_on in ((command, "out", True), (other, "other", False)):
        caplog.clear()
        with caplog.at_level(logging.INFO, "segjax"):
            assert cli.main(arguments) == 0
        assert ("going on after 4 of 8 labels" in caplog.text) == goes_on
        assert not (folder / output / ".unfinished").exists()
    assert done == {name: (folder / "out/masks" / name).stat().st_mtime_ns for name in done} and len(done) == 13
    masks = [{p.name: p.read_bytes() for p in (folder / name / "masks").iterdir()} for name in ("out", "other")]
    assert masks[0] == masks[1] and len(masks[0]) == 26
    reports = [json.loads((folder / name / "report.json").read_text()) for name in ("out", "other")]
    assert reports[0]["carried"] == reports[1]["carried"] and reports[0]["ignored"] == reports[1]["ignored"]


def test_a_failure_half_way_leaves_nothing(folder, capsys):
    (folder / "frames/drive_0004.png").write_bytes(b"\x89PNG" + bytes(100))
    assert cli.main(words(folder, "frames")) == 2
    assert "drive_0004.png" in capsys.readouterr().err and not (folder / "out").exists()


def test_a_video_file_that_was_cut_short(tmp_path):
    """Two thirds of the bytes of a film: some frames can be read, and the header promises the others."""
    writer = cv2.VideoWriter(str(tmp_path / "film.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (48, 32))
    for number in range(15):
        writer.write(cv2.cvtColor(frame(number % 8), cv2.COLOR_RGB2BGR))
    writer.release()
    data = (tmp_path / "film.avi").read_bytes()
    (tmp_path / "film.avi").write_bytes(data[: 2 * len(data) // 3])
    for number in (2, 14):
        write_png(tmp_path / f"labels/{number}.png", mask(number % 8))
    clip = open_labelled_video(tmp_path / "film.avi", tmp_path / "labels", MAP)
    assert 3 < len(clip.names) < 13 and sorted(clip.masks) == [2]
    assert clip.problems[0].endswith(f"film.avi ends after {len(clip.names)} of 15 frames")
    assert "14.png is of frame 14" in clip.problems[1]


def test_lp_keeps_the_real_frames(folder):
    assert cli.main(words(folder, "frames", "--mode=lp")) == 0
    picture = cv2.cvtColor(cv2.imread(str(folder / "out/images/drive_0003+2.png")), cv2.COLOR_BGR2RGB)
    assert (picture == frame(5)).all()


def test_missing_frames_are_counted_and_listed(folder, capsys):
    (folder / "frames/drive_0005.png").unlink()
    write_png(folder / "frames/drive_0001.png", frame(1, (32, 40)))
    assert cli.main(words(folder, "frames")) == 0
    said = capsys.readouterr().out
    assert "drive_0003 -> step +2: a frame is missing" in said
    assert "drive_0003 -> step -2: a frame has another size" in said
    assert len(list((folder / "out/masks").iterdir())) == 2


def test_nothing_is_left_when_nothing_can_be_carried(folder, capsys):
    for number in (2, 4):
        (folder / f"frames/drive_{number:04d}.png").unlink()
    assert cli.main(words(folder, "frames")) == 2
    assert "no label could be carried" in capsys.readouterr().err
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    "more, said",
    [
        (["--mode=jpp"], "Did you mean 'jp'"),
        (["--max-cycle-error=-1"], "at least 0"),
        (["--checkpoint=nowhere"], "nowhere"),
        (["--labels=nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_one_sentence(folder, capsys, more, said):
    assert cli.main(words(folder, "frames", *more)) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and said in err and not (folder / "out/masks").exists()
