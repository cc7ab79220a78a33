"""The demo video: every frame once and in order, the truth beside it, whatever the sizes; what cannot be is said."""

import functools
import tracemalloc

import cv2
import numpy as np
import pytest

from segjax import cli, visualize
from segjax.data import LabelMap, class_table, open_source
from segjax.data.image_files import encode_png
from segjax.errors import UserError
from segjax.inference import demo
from segjax.inference.demo import clip_frames
from segjax.inference.demo_layout import names_of_runs
from segjax.inference.demo_video import DemoFrame, write_demo
from segjax.inference.labels import Labels
from segjax.media.clips import open_clips
from segjax.media.masks import find_truths
from segjax.media.writers import VideoWriter, write_png
from tests import stand_in
from tests.data_builders import mini_trees

CITY = LabelMap(class_table("cityscapes"))


def by_brightness(images):
    return np.where(np.asarray(images).mean(-1) > 127, 10, 0).astype(np.uint8)


def one_network(images):
    return (Labels(by_brightness(images)),)


def frames_of(path):
    video = cv2.VideoCapture(str(path))
    frames = []
    while True:
        good, frame = video.read()
        if not good:
            return frames, video.get(cv2.CAP_PROP_FPS)
        frames.append(frame[..., ::-1])


def grey(value, size=(48, 64)):
    return np.full((*size, 3), value, np.uint8)


write = functools.partial(write_demo, one_network, palette=CITY.palette, class_names=CITY.class_names, fps=8)


def test_frames_in_order_under_a_legend(tmp_path):
    values = [10 * i for i in range(25)]
    report = write((DemoFrame(str(v), grey(v)) for v in values), tmp_path / "a.mp4", batch=4)
    frames, fps = frames_of(report.path)
    assert (report.frames, report.labelled, len(frames), fps) == (25, 0, 25, 8.0)
    for value, frame in zip(values, frames):
        image = grey(value)
        expected = visualize.overlay(image, by_brightness(image[None])[0], CITY.palette)
        assert np.abs(frame[:48].astype(int) - expected).mean() < 6
    assert frames[0].shape[0] > 60 and frames[0].shape[1] == 64  # the legend


def test_the_truth_is_beside_it(tmp_path):
    truth = np.full((48, 64), 11, np.uint8)
    truth[:10] = 255
    frames = [DemoFrame("a", grey(20), truth), DemoFrame("b", grey(20)), DemoFrame("c", grey(90, (24, 64)), None)]
    report = write(frames, tmp_path / "a.mp4", truth=True, width=40)
    (first, second, third), _ = frames_of(report.path)
    assert (report.frames, report.labelled) == (3, 1) and first.shape[1] == 80
    head = first.shape[0] - second.shape[0]
    assert head == 0
    top = 2 * 11  # the titles
    person = 0.5 * CITY.palette[11] + 10
    assert np.abs(first[top + 15 : top + 28, 44:76].astype(float) - person).mean() < 12
    assert np.abs(second[top + 5 : top + 25, 44:76].astype(float) - 20).mean() < 6
    assert np.abs(third[top : top + 4, 44:76].astype(float)).mean() < 6  # black around a frame of another shape


def test_memory_does_not_grow(tmp_path):
    def peak(count):
        tracemalloc.start()
        frames = (DemoFrame(str(i), np.full((120, 160, 3), i % 256, np.uint8)) for i in range(count))
        write(frames, tmp_path / f"{count}.mp4", batch=2)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(10)
    assert peak(200) < peak(40) + 400_000  # 160 frames more would take 9 MB


def test_truths_by_name_suffix_and_number(tmp_path):
    mini_trees.cityscapes(tmp_path)
    (clip,) = open_clips(tmp_path / "leftImg8bit/val")
    with pytest.raises(UserError, match="no mask in .* is called like an image .*--image-suffix and --mask-suffix"):
        find_truths(clip, tmp_path / "gtFine/val")
    suffixes = dict(image_suffix="_leftImg8bit", mask_suffix="_gtFine_labelIds")
    found = find_truths(clip, tmp_path / "gtFine/val", **suffixes)
    assert len(found) == 2
    frames = list(clip_frames(clip, found, CITY, on_error=print))
    assert [frame.truth is not None for frame in frames] == [True, True]
    (one,) = open_clips(tmp_path / "leftImg8bit/val/munster")  # other depth: found by the last part of the name
    assert len(find_truths(one, tmp_path / "gtFine/val", **suffixes)) == 1

    for name in ("img_1", "img_2"):
        write_png(tmp_path / f"own/{name}.png", grey(0))
        write_png(tmp_path / f"own_masks/{name.replace('img', 'mask')}.png", np.zeros((48, 64), np.uint8))
    (own,) = open_clips(tmp_path / "own")
    found = find_truths(own, tmp_path / "own_masks", image_prefix="img_", mask_prefix="mask_")
    assert {name: path.name for name, path in found.items()} == {"img_1": "mask_1.png", "img_2": "mask_2.png"}

    with VideoWriter(tmp_path / "drive.mp4", fps=10) as writer:
        for i in range(6):
            writer.write(grey(40 * i))
    write_png(tmp_path / "masks/drive_000003.png", np.full((48, 64), 23, np.uint8))
    (video,) = open_clips(tmp_path / "drive.mp4")
    frames = list(clip_frames(video, find_truths(video, tmp_path / "masks"), CITY, on_error=print))
    assert [frame.truth is not None for frame in frames] == [False, False, False, True, False, False]
    assert (frames[3].truth == 10).all()
    write_png(tmp_path / "far/drive_000300.png", np.full((48, 64), 23, np.uint8))
    with pytest.raises(UserError, match="no mask in .*far is of one of the 6 frames"):
        find_truths(video, tmp_path / "far")


@pytest.fixture
def network(monkeypatch):
    """A trained network, as far as the command knows: bright is sky, dark is road."""
    import jax
    import jax.numpy as jnp

    def logits(variables, images):
        return jax.nn.one_hot(jnp.where(images.mean(-1) > 0.5, 10, 0), 19)

    def darker(variables, images):
        return logits(variables, 0.6 * images)

    others = {"runs/dark/train": (darker, CITY), "camvid": (logits, LabelMap(class_table("camvid")))}
    monkeypatch.setattr(demo, "open_labelling", lambda name: stand_in.network(*others.get(name, (logits, CITY))))


def test_the_command(network, tmp_path, capsys, street_dir):
    for i in range(3):
        write_png(tmp_path / f"in/frame_{i}.png", grey(120 * i))
        write_png(tmp_path / f"masks/frame_{i}.png", np.full((48, 64), 7, np.uint8))
    (tmp_path / "in/frame_9.png").write_bytes(b"no image")
    output = tmp_path / "out/demo.mp4"
    words = ["demo", "--checkpoint=c", f"--input={tmp_path}/in", f"--output={output}", "--fps=5"]
    assert cli.main([*words, f"--labels={tmp_path}/masks"]) == 2  # one frame is damaged; the others are there
    said = capsys.readouterr()
    assert "3 frames, 3 with truth" in said.out and "1 of the frames could not be read" in said.err
    frames, fps = frames_of(output)
    assert len(frames) == 3 and fps == 5.0 and frames[0].shape[1] == 128

    options = ["height=64", "width=128", "train=2", "validation=1", "test=1", "frames=6"]
    words = ["demo", "--checkpoint=c", "--dataset=synthetic_street", "--split=test", f"--output={output}"]
    words += [f"--data-dir={street_dir}", "--option", *options]
    assert cli.main([*words, "--sequence=test_0000"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("6 frames, ") and "with truth" in said
    assert cli.main([*words, "--sequence=test_0009"]) == 2
    assert "no sequence 'test_0009'.Did you mean" in capsys.readouterr().err.replace(". Did", ".Did")


def panels_of(frame, count, top=22, height=48, width=64):
    return [frame[top : top + height, i * width : (i + 1) * width].astype(float) for i in range(count)]


def test_two_networks_beside_the_image_and_the_truth(network, tmp_path, capsys):
    values = (20, 160, 250)  # the second network takes the middle one for dark
    for i, value in enumerate(values):
        write_png(tmp_path / f"in/frame_{i}.png", grey(value))
    write_png(tmp_path / "masks/frame_2.png", np.full((48, 64), 7, np.uint8))
    words = ["demo", "--checkpoint=runs/plain/train", "--checkpoint=runs/dark/train", f"--input={tmp_path}/in"]
    words += [f"--output={tmp_path}/demo.mp4", "--flip", "--scales=1", "--batch=2", "--alpha=1"]
    assert cli.main([*words, f"--labels={tmp_path}/masks"]) == 0
    assert "3 frames, 1 with truth" in capsys.readouterr().out
    frames, _ = frames_of(tmp_path / "demo.mp4")
    road, sky = CITY.palette[0], CITY.palette[10]
    for value, expected, frame in zip(values, ((road, road), (sky, road), (sky, sky)), frames):
        assert frame.shape[1] == 4 * 64
        truth = road if value == 250 else np.full(3, value)
        for panel, colour in zip(panels_of(frame, 4), (np.full(3, value), *expected, truth)):
            assert np.abs(panel[8:-8, 8:-8] - colour).mean() < 10


def test_the_entropy_is_a_panel(network, tmp_path):
    write_png(tmp_path / "in/a.png", grey(250))
    words = ["demo", f"--input={tmp_path}/in", f"--output={tmp_path}/demo.mp4", "--entropy", "--checkpoint=c"]
    p = np.exp(np.eye(19)[10])
    p /= p.sum()
    colour = visualize.share_to_color(np.full((1, 1), -(p * np.log(p)).sum() / np.log(19)))[0, 0]
    for more, place, count in (([], 1, 2), (["--checkpoint=runs/dark/train"], 4, 5)):
        assert cli.main([*words, *more]) == 0
        (frame,), _ = frames_of(tmp_path / "demo.mp4")
        assert frame.shape[1] == 64 * count
        assert np.abs(panels_of(frame, count)[place][8:-8, 8:-8] - colour).mean() < 10


@pytest.mark.parametrize(
    "paths, names",
    [
        (["runs/base/train", "runs/relaxed/train"], ["base", "relaxed"]),
        (["runs/a", "/other/runs/b"], ["runs/a", "/other/runs/b"]),
        (["runs/a/train", "runs/a/finetune"], ["train", "finetune"]),
        (["runs/a", "runs/a"], ["a", "a"]),
        (["a", "a/train"], ["a", "a/train"]),
        (["runs/a/train", "runs/train"], ["a/train", "train"]),
        (["runs/camvid"], ["camvid"]),
    ],
)
def test_names_are_what_paths_differ_in(paths, names):
    assert names_of_runs(paths) == names


def test_the_demo_videos_of_cityscapes(network, tmp_path):
    mini_trees.cityscapes(tmp_path / "tree")
    options = {"source_dir": str(tmp_path / "tree"), "partial": True, "parts": ("video",)}
    report = demo.demo_of_split(
        ("c",), "cityscapes", tmp_path / "demo.mp4", split="demo_video", sequence="stuttgart_00",
        builder_options=options, data_dir=str(tmp_path / "data"), batch=None, alpha=0.5, width=1024, scales=(1.0,),
    )  # fmt: skip
    assert (report.frames, report.labelled) == (2, 0)
    source = open_source("cityscapes", "demo_video", data_dir=tmp_path / "data", builder_options=options,
                         labelled_only=False)  # fmt: skip
    assert set(source.index.sequences) == {"stuttgart_00_000000"}


def test_mistakes_are_one_sentence(network, tmp_path, capsys):
    write_png(tmp_path / "in/a.png", grey(3))
    (tmp_path / "two").mkdir()
    for name in ("a", "b"):
        with VideoWriter(tmp_path / f"two/{name}.mp4", fps=10) as writer:
            writer.write(grey(3))
    start = ["demo", "--checkpoint=c"]
    for words, said in (
        ([], "give one of these"),
        (["--dataset=cityscapes"], "needs --split=NAME"),
        ([f"--input={tmp_path}/two"], "contains 2 videos"),
        ([f"--input={tmp_path}/in", "--sequence=a"], "--sequence goes with --dataset, not with --input"),
        (["--dataset=kitti", "--split=train", "--label-map=kitti"], "--label-map goes with --input"),
        ([f"--input={tmp_path}/in", "--output=demo.avi"], "must be the name of an mp4 file"),
        ([f"--input={tmp_path}/in", "--label-map=camvid", f"--labels={tmp_path}/in"], "the labels have the 11 classes"),
        ([f"--input={tmp_path}/in", "--overlap=1"], "--overlap=1"),
        ([f"--input={tmp_path}/in", "--checkpoint=camvid"], "camvid labels the 11 classes sky, building, pole, road"),
    ):
        assert cli.main([*start, *words]) == 2, words
        assert said in capsys.readouterr().err


def test_a_mask_of_another_size_is_named(tmp_path):
    write_png(tmp_path / "in/a.png", grey(3))
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks/a.png").write_bytes(encode_png(np.zeros((5, 5), np.uint8)))
    (clip,) = open_clips(tmp_path / "in")
    with pytest.raises(UserError, match="a.png is 5x5 but its image"):
        list(clip_frames(clip, find_truths(clip, tmp_path / "masks"), CITY, on_error=print))


def test_a_frame_that_the_network_cannot_take_is_named(tmp_path):
    def picky(images):
        raise UserError("images of this size are too small")

    with pytest.raises(UserError, match="frame a: images of this size are too small"):
        frames, names = [DemoFrame("a", grey(3))], CITY.class_names
        write_demo(picky, frames, tmp_path / "demo.mp4", palette=CITY.palette, class_names=names, fps=8)
    assert not list(tmp_path.iterdir())
