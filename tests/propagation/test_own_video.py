"""The command that propagates the labels of a user's own video, and what its mistakes are told."""

import json
import logging
import shutil
import signal
import subprocess
import sys

import cv2
import jax.numpy as jnp
import pytest

from segjax import cli
from segjax.data import LabelMap
from segjax.media.writers import write_png
from segjax.propagation import label_frames, own_video
from tests import stand_in
from tests.propagation.square import MAP, follow_the_square, frame, mask


@pytest.fixture(autouse=True)
def moving_square(monkeypatch):
    """In place of an optical flow that a tiny picture would mislead."""
    monkeypatch.setattr(own_video, "open_flow", lambda *_, **__: follow_the_square)


def words(root, video, *more):
    return [
        "propagate", f"--video={root / video}", f"--labels={root / 'labels'}", f"--label_map={root / 'map.json'}",
        f"--output={root / 'out'}", "--steps=2", "--batch=2", *more,
    ]  # fmt: skip


def test_the_command_writes_a_folder_to_train_on(folder, capsys):
    assert cli.main(words(folder, "frames")) == 0
    said = capsys.readouterr().out
    assert "1 of 8 frames labelled; flow" in said and "4 frames with propagated labels: +1 1, -1 1, +2 1, -2 1" in said
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


def test_a_network_labels_every_nth_frame(folder, monkeypatch, capsys):
    """What it wrote can be given as labels: the same comes out."""

    def open_network(checkpoint):
        assert checkpoint == "runs/segmenter"
        bright = lambda variables, x: jnp.stack([100 - 255 * x[..., 0], 255 * x[..., 0] - 100], -1) * variables  # noqa: E731
        return stand_in.network(bright, MAP, jnp.float32(1))

    monkeypatch.setattr(label_frames, "open_network", open_network)
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
        ([], "no label to propagate"),
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
from segjax.propagation import own_video
from tests.propagation.square import follow_the_square

def once(*arguments, summarise=own_video.summarise, calls=[]):
    calls.append(arguments)
    return summarise(*arguments) if len(calls) == 1 else os.kill(os.getpid(), signal.SIGKILL)

own_video.summarise, own_video.open_flow = once, lambda *_, **__: follow_the_square
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
        assert ("resuming after 4 of 8 labels" in caplog.text) == goes_on
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
    assert "no label could be propagated" in capsys.readouterr().err
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


def test_the_weights_of_a_flow_network_have_a_key(folder, monkeypatch):
    given = []
    monkeypatch.setattr(own_video, "open_flow", lambda *flow: given.append(flow) or follow_the_square)
    flags = ["--flow=flownet2_s", "--flow-weights=flow.pth"]
    assert cli.main(words(folder, "frames", *flags, "--key=model.ema")) == 0
    assert given == [("flownet2_s", {"weights": "flow.pth", "key": "model.ema"})]
