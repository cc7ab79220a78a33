"""Labels of a video as it comes: pictures, live drops, stopping, the command."""

import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segjax import cli, models
from segjax.data.image_files import read_image
from segjax.inference.network import open_labelling
from segjax.inference.streaming import StreamSegmenter
from segjax.inference.video import label_video
from segjax.media.clips import open_clips
from segjax.media.feeds import FileFeed
from segjax.media.writers import write_png
from segjax.training.checkpoints import Checkpoints
from segjax.training.state import create_state
from segjax.weights.runs import KEYFRAME
from segjax.weights.save import save
from tests import tiny_network
from tests.inference.test_streaming import network
from tests.media.test_feeds import write_video
from tests.media.test_sinks import frames_of

PALETTE = np.random.default_rng(0).integers(0, 256, (5, 3), np.uint8)
SIZE = (32, 48)


@pytest.fixture(scope="module")
def video():
    return network()


@pytest.fixture
def clip(tmp_path):
    return open_clips(write_video(tmp_path / "a.mp4", count=7, size=SIZE, fps=20))[0]


def collected():
    found = []
    return found, lambda name, shown, times: found.append((name, shown, times))


def test_every_frame_is_labelled_in_order(video, clip):
    found, write = collected()
    stream = StreamSegmenter(video, 3)
    report = label_video(stream, FileFeed(clip), write, palette=PALETTE, view="ids")
    again = StreamSegmenter(video, 3)
    images = [frame.image for frame in clip.frames(on_error=pytest.fail)]
    for (_, ids, times), frame in zip(found, images, strict=True):
        assert times == 1 and (ids == again(frame)).all()
    assert [name for name, *_ in found] == [f"{n:06d}" for n in range(7)]
    assert (report.frames, report.keyframes, report.dropped) == (7, 3, 0) and len(report.milliseconds) == 7
    assert not report.ages and not report.problems
    first, second = report.sentences()
    assert first.startswith("7 frames, 3 of them keyframes, in ") and "(median)" in second


def test_live_labels_the_newest_frame_and_bounds_the_age(video, tmp_path):
    """The network takes 3 frames' time: two thirds are dropped, and no picture is older than two labels' time."""
    clip = open_clips(write_video(tmp_path / "a.mp4", count=30, size=SIZE, fps=50))[0]
    found, write = collected()
    stream = StreamSegmenter(video, 2)
    stream.prepare(SIZE)
    begin = stream.start

    def slow(frame):
        time.sleep(0.06)
        return begin(frame)

    stream.start = slow
    report = label_video(stream, FileFeed(clip, paced=True), write, palette=PALETTE, live=True)
    assert report.frames + report.dropped == 30 and report.dropped >= 10
    assert sum(times for *_, times in found) == int(found[-1][0]) - int(found[0][0]) + 1  # it plays at its speed
    assert len(report.ages) == report.frames and max(report.ages) < 1.0 and "frames dropped" in report.sentences()[-1]


def test_it_ends_when_it_is_stopped_and_keeps_what_is_written(video, clip):
    found, write = collected()
    stop = threading.Event()

    def stopping(name, shown, times):
        write(name, shown, times)
        if len(found) == 2:
            stop.set()

    report = label_video(StreamSegmenter(video, 3), FileFeed(clip), stopping, palette=PALETTE, stopped=stop.is_set)
    assert 2 <= report.frames <= 7 and len(found) == report.frames


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A finished stage train_gsvnet with `Tiny` as its keyframe network, as a folder."""
    tiny_network.register(monkeypatch)
    folder = tmp_path / "run/train_gsvnet"
    propagation = models.create_propagation("gsvnet", 19)
    variables = propagation.init(jax.random.key(0), *models.FAMILIES["propagation"].inputs(propagation))
    keyframe = {"name": "tiny", "num_classes": 19, "options": {}}
    spec = {"name": "gsvnet", "num_classes": 19, "options": {}, "keyframe": {"spec": keyframe, "scale": 1.0}}
    meta = {"model": spec, "normalisation": "imagenet", "label_map": tiny_network.MAP.to_dict()}
    with Checkpoints(folder / "checkpoints") as checkpoints:
        state = create_state(variables, optax.sgd(0.1), ema=False)
        checkpoints.save(state.replace(step=jnp.asarray(1, jnp.int32)), step=1, meta=meta)
    own = tiny_network.Tiny(19).init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    save(folder / KEYFRAME, own, info={**meta, "model": keyframe, "step": 0})
    return tmp_path / "run"


def test_the_command(run, tmp_path, capsys):
    source = write_video(tmp_path / "drive.mp4", count=5, size=SIZE)
    words = ["video", f"--checkpoint={run}", f"--input={source}"]
    assert cli.main([*words, f"--output={tmp_path / 'a.mkv'}", "--interval=2", "--view=side"]) == 0
    printed = capsys.readouterr().out
    assert "5 frames, 3 of them keyframes" in printed and frames_of(tmp_path / "a.mkv") == 5
    assert cli.main([*words, f"--output={tmp_path / 'out'}", "--view=ids"]) == 0
    assert len(list((tmp_path / "out/ids").glob("*.png"))) == 5 and "5 frames, 2 of" in capsys.readouterr().out
    assert cli.main([*words, f"--output={tmp_path / 'b.mp4'}", "--live"]) == 0
    assert "live: " in capsys.readouterr().out and frames_of(tmp_path / "b.mp4") >= 1


def test_the_command_writes_to_another_program(run, tmp_path, capsysbinary):
    source = write_video(tmp_path / "drive.mp4", count=3, size=SIZE)
    assert cli.main(["video", f"--checkpoint={run}", f"--input={source}", "--output=-"]) == 0
    captured = capsysbinary.readouterr()
    assert captured.out.count(b"\xff\xd8\xff") == 3 and b"3 frames" in captured.err


@pytest.mark.parametrize(
    "flags, text",
    [
        (["--interval=0"], "--interval"),
        (["--interval=x"], "write a number of at least 1, or auto"),
        (["--max-interval=3"], "--max-interval=3 needs --interval=auto"),
        (["--view=colour"], "--view=colour is no picture. Did you mean 'color'"),
        (["--view=ids", "--output=a.mp4"], "--view=ids is for a folder of PNG files"),
        (["--output=a.avi"], "must end with .mp4 or .mkv"),
        (["--input=nothing.mp4"], "nothing.mp4 does not exist"),
        (["--checkpoint=nowhere"], "nowhere"),
    ],
)
def test_wrong_flags_are_one_sentence(flags, text, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "drive.mp4", count=2, size=SIZE)
    words = {"--checkpoint": str(run), "--input": "drive.mp4", "--output": "out.mp4"}
    words |= dict(flag.split("=") for flag in flags)
    assert cli.main(["video", *(f"{name}={value}" for name, value in words.items())]) == 2
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1


def test_a_truncated_video_is_labelled_as_far_as_it_goes(run, tmp_path, capsys):
    source = write_video(tmp_path / "drive.mkv", count=40, size=SIZE)
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 2 // 3])
    (tmp_path / "empty.mp4").write_bytes(b"")
    words = ["video", f"--checkpoint={run}", f"--output={tmp_path / 'out.mp4'}"]
    code = cli.main([*words, f"--input={source}"])
    labelled = frames_of(tmp_path / "out.mp4")
    assert 5 < labelled < 40 and (code == 2) == ("labelled all the same" in capsys.readouterr().err)
    assert cli.main([*words, f"--input={tmp_path / 'empty.mp4'}"]) == 2
    assert "empty.mp4 cannot be opened as a video" in capsys.readouterr().err


def test_an_image_network_needs_no_interval(run, tmp_path, monkeypatch, capsys):
    tiny_network.save(tmp_path / "image/train/checkpoints")
    source = write_video(tmp_path / "drive.mp4", count=2, size=SIZE)
    words = ["video", f"--checkpoint={tmp_path / 'image'}", f"--input={source}", f"--output={tmp_path / 'o.mp4'}"]
    assert cli.main(words) == 0 and "2 frames, 2 of them keyframes" in capsys.readouterr().out
    assert cli.main([*words, "--interval=4"]) == 2
    assert "interval=4 needs a network that carries labels on" in capsys.readouterr().err


def test_a_signal_keeps_every_picture(run, tmp_path, capsys):
    source = write_video(tmp_path / "drive.mp4", count=200, size=SIZE, fps=20)
    timer = threading.Timer(6.0, signal.raise_signal, (signal.SIGTERM,))
    timer.start()
    words = ["video", f"--checkpoint={run}", f"--input={source}", f"--output={tmp_path / 'o.mp4'}", "--live"]
    assert cli.main(words) == 0  # 10 s at its own rate
    timer.cancel()
    frames = int(capsys.readouterr().out.split(" frames")[0].split()[-1])
    assert 0 < frames < 200 and frames_of(tmp_path / "o.mp4") >= frames


def test_predict_and_demo_take_the_network_too(run, tmp_path, capsys):
    """Frames of a video from keyframes; unrelated images are keyframes, each the same alone."""
    folder = tmp_path / "in"
    folder.mkdir()
    write_video(folder / "drive.mp4", count=5, size=SIZE)
    images = [frame.image for frame in open_clips(folder / "drive.mp4")[0].frames(on_error=pytest.fail)]
    for number, image in enumerate(images[:3]):
        write_png(folder / f"{number}.png", image)
    words = [f"--checkpoint={run}", f"--input={folder}"]
    assert cli.main(["predict", *words, f"--output={tmp_path / 'out'}", "--write", "ids", "--interval=3"]) == 0
    ids = {path.stem: read_image(path)[..., 0] for path in (tmp_path / "out/ids").rglob("*.png")}
    network = open_labelling(run)
    decode = network.label_map.with_ids().decode
    streams = StreamSegmenter(network, 3), StreamSegmenter(network, 1)
    for number, image in enumerate(images):
        np.testing.assert_array_equal(ids[f"{number:06d}"], decode(streams[0](image)))
        if number < 3:
            np.testing.assert_array_equal(ids[str(number)], decode(streams[1](image)))
    words = [f"--checkpoint={run}", f"--input={folder / 'drive.mp4'}"]
    assert cli.main(["demo", *words, f"--output={tmp_path / 'demo.mp4'}", f"--checkpoint={run}", "--interval=3"]) == 0
    assert cli.main(["demo", *words, f"--output={tmp_path / 'other.mp4'}", "--entropy"]) == 2
    assert "knows no entropy of frames between keyframes" in capsys.readouterr().err
    capsys.readouterr()
    for flags, text in (
        (["--flip"], "labels video from keyframes, each in one view; leave out --flip"),
        (["--write", "confidence"], "knows no confidence"),
        (["--write", "entropy"], "knows no entropy of frames between keyframes; leave it out"),
        (["--batch=4"], "so that --batch=4 has no meaning; leave it out"),
    ):
        assert cli.main(["predict", *words, f"--output={tmp_path / 'other'}", *flags]) == 2
        assert text in capsys.readouterr().err
