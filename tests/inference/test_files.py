"""Images, folders and videos in, overlays and label images out."""

import cv2
import numpy as np
import pytest

from segjax import visualize
from segjax.data.classes import class_table
from segjax.data.label_map import LabelMap
from segjax.errors import UserError
from segjax.inference.files import predict_files
from segjax.inference.labels import Labels
from segjax.media.clips import Images, Video, open_clips
from segjax.media.writers import VideoWriter, write_png

CITY = LabelMap(class_table("cityscapes"))


def by_brightness(images):
    """A network of two classes: bright is sky (10), dark is road (0)."""
    return Labels(np.where(np.asarray(images).mean(-1) > 127, 10, 0).astype(np.uint8))


def save(path, value=200, size=(12, 16)):
    image = np.full((*size, 3), value, np.uint8)
    image[:, : size[1] // 2] = 20
    write_png(path, image)
    return image


def run(clips, output, **options):
    options = {"palette": CITY.palette, "decode": CITY.decode, **options}
    return predict_files(by_brightness, clips, output, **options)


def read(path):
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None, f"{path} was not written"
    return image if image.ndim == 2 else image[..., ::-1]


@pytest.fixture
def video(tmp_path):
    """30 frames of 64x48 with a bright bar that moves to the right by one pixel per frame."""
    path = tmp_path / "drive.mp4"
    with VideoWriter(path, fps=10) as writer:
        for i in range(30):
            frame = np.zeros((48, 64, 3), np.uint8)
            frame[:, i : i + 20] = 255
            writer.write(frame)
    return path


def test_one_image(tmp_path):
    image = save(tmp_path / "a.png")
    report = run(open_clips(tmp_path / "a.png"), tmp_path / "out", write=("overlay", "ids", "color"))
    ids = by_brightness(image).ids
    assert report.images == 1 and report.sizes == {(12, 16): 1} and not report.problems
    raw = read(tmp_path / "out/ids/a.png")
    assert set(np.unique(raw)) == {7, 23}  # Cityscapes' own ids of road and sky
    np.testing.assert_array_equal(raw, CITY.decode(ids))
    np.testing.assert_array_equal(read(tmp_path / "out/color/a.png"), CITY.palette[ids])
    np.testing.assert_array_equal(read(tmp_path / "out/overlay/a.png"), visualize.overlay(image, ids, CITY.palette))


def test_confidence_is_a_grey_picture(tmp_path):
    save(tmp_path / "a.png")
    shares = np.linspace(0.25, 1, 12 * 16, dtype=np.float32).reshape(1, 12, 16)

    def label(images):
        return Labels(by_brightness(images).ids, confidence=shares)

    clips = open_clips(tmp_path / "a.png")
    report = predict_files(label, clips, tmp_path / "out", palette=CITY.palette, write=("confidence",))
    assert report.outputs == (tmp_path / "out/confidence",)
    np.testing.assert_array_equal(read(tmp_path / "out/confidence/a.png"), np.round(255 * shares[0]))


def test_entropy_is_coloured_and_its_scale_is_in_the_legend(tmp_path):
    save(tmp_path / "a.png")
    shares = np.linspace(0, 1, 12 * 16, dtype=np.float32).reshape(1, 12, 16)

    def label(images):
        return Labels(by_brightness(images).ids, entropy=shares)

    clips, heights = open_clips(tmp_path / "a.png"), []
    for write in (("ids",), ("entropy",)):
        options = dict(palette=CITY.palette, class_names=CITY.class_names, write=write)
        report = predict_files(label, clips, tmp_path / "out", **options)
        heights.append(read(tmp_path / "out/legend.png").shape[0])
    assert report.outputs == (tmp_path / "out/entropy",) and heights[1] > heights[0] + 20
    np.testing.assert_array_equal(read(tmp_path / "out/entropy/a.png"), visualize.share_to_color(shares[0]))


def test_folder_keeps_its_tree_and_the_natural_order(tmp_path):
    for name in ("b/frame10.png", "b/frame2.png", "a.png", ".hidden.png"):
        save(tmp_path / "in" / name)
    cv2.imwrite(str(tmp_path / "in/a.jpg"), np.full((8, 8, 3), 9, np.uint8))
    (tmp_path / "in/notes.txt").write_text("no image")
    (clip,) = open_clips(tmp_path / "in")
    # two files called a: their results must not overwrite each other
    assert [name for name, _ in clip.files] == ["a.jpg", "a.png", "b/frame2", "b/frame10"]
    report = run([clip], tmp_path / "out", write=("ids",))
    assert report.images == len(clip) == len(list((tmp_path / "out/ids").rglob("*.png")))
    assert (tmp_path / "out/ids/b/frame10.png").is_file()


def test_results_inside_the_input_folder_are_not_read_again(tmp_path):
    save(tmp_path / "a.png")
    for _ in range(2):
        report = run(open_clips(tmp_path, exclude=tmp_path / "out"), tmp_path / "out")
        assert report.images == 1


def test_images_of_many_sizes_are_grouped_and_all_written(tmp_path):
    sizes = [(8, 8), (8, 10), (8, 8), (6, 6), (8, 10), (8, 8), (8, 8)]
    for i, size in enumerate(sizes):
        save(tmp_path / "in" / f"{i}.png", size=size)
    shapes = []

    def predict_fn(images):
        shapes.append(images.shape)
        return by_brightness(images)

    report = predict_files(predict_fn, open_clips(tmp_path / "in"), tmp_path / "out", palette=CITY.palette, batch=3)
    assert report.images == 7 and report.sizes == {(8, 8): 4, (8, 10): 2, (6, 6): 1}
    # 8x8 was compiled for three images, so its fourth comes filled up; the others never had a full batch
    assert sorted(shapes) == [(1, 6, 6, 3), (2, 8, 10, 3), (3, 8, 8, 3), (3, 8, 8, 3)]
    for i, size in enumerate(sizes):
        assert read(tmp_path / "out/ids" / f"{i}.png").shape == size


def test_an_unreadable_image_is_reported_and_the_rest_is_written(tmp_path):
    for i in range(3):
        save(tmp_path / "in" / f"{i}.png")
    data = (tmp_path / "in/1.png").read_bytes()
    (tmp_path / "in/1.png").write_bytes(data[: len(data) // 2])
    report = run(open_clips(tmp_path / "in"), tmp_path / "out")
    assert report.images == 2 and len(report.problems) == 1 and "1.png" in report.problems[0]


def test_what_the_network_cannot_take_is_told_once_for_a_video(tmp_path, video):
    for i in range(2):
        save(tmp_path / "in" / f"{i}.png")

    def picky(images):
        raise UserError("images of this size are too small; this network takes 99x99 or more.")

    clips = [*open_clips(tmp_path / "in"), *open_clips(video)]
    report = predict_files(picky, clips, tmp_path / "out", palette=CITY.palette)
    want = [tmp_path / "in/0.png", tmp_path / "in/1.png", video]
    assert [text.split(": images")[0] for text in report.problems] == [str(path) for path in want]
    assert report.images == 0 and not (tmp_path / "out").exists()


def test_video_becomes_a_video_of_the_same_length(tmp_path, video):
    (clip,) = open_clips(video)
    assert clip.is_video and len(clip) == 30 and clip.fps == pytest.approx(10)
    seen = []
    report = run([clip], tmp_path / "out", batch=4, progress=seen.append, class_names=CITY.class_names)
    assert report.images == 30 and seen == list(range(1, 31))
    (result,) = open_clips(tmp_path / "out/drive.mp4")
    frames = list(result.frames(on_error=pytest.fail))
    assert len(frames) == 30 and frames[0].image.shape == (48, 64, 3) and result.fps == pytest.approx(10)
    ids = [read(tmp_path / f"out/ids/drive/{i:06d}.png") for i in (0, 29)]
    for i, raw in zip((0, 29), ids):  # frames did not change places
        columns = np.flatnonzero((raw == 23).mean(0) > 0.5)
        assert abs(columns.min() - i) <= 1 and abs(columns.max() - i - 19) <= 1
    assert (tmp_path / "out/legend.png").is_file()
    assert not list((tmp_path / "out").glob(".*"))


def test_folder_with_images_and_videos(tmp_path, video):
    save(tmp_path / "still.png")
    found = open_clips(tmp_path)
    assert [type(clip) for clip in found] == [Images, Video]
    report = run(found, tmp_path / "out")
    assert report.images == 31
    assert set(report.outputs) == {tmp_path / "out/overlay", tmp_path / "out/ids", tmp_path / "out/drive.mp4"}


def test_a_video_that_stops_early_keeps_its_good_frames(tmp_path, video, monkeypatch):
    (clip,) = open_clips(video)
    broken = Video(clip.name, clip.path, clip.fps, 300)
    report = run([broken], tmp_path / "out")
    assert report.images == 30 and "ends after 30 of 300 frames" in report.problems[0]


def test_a_wrong_kind_is_named():
    with pytest.raises(UserError, match="overlay"):
        predict_files(by_brightness, [], "out", palette=CITY.palette, write=("overly",))


def test_output_that_cannot_be_written(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(UserError, match="cannot be written"):
        run(open_clips(tmp_path / "a.png"), tmp_path / "out")


def test_errors_of_the_network_are_raised_and_threads_end(tmp_path):
    import threading

    for i in range(40):
        save(tmp_path / "in" / f"{i}.png")

    def fails(images):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        predict_files(fails, open_clips(tmp_path / "in"), tmp_path / "out", palette=CITY.palette)
    assert not [t for t in threading.enumerate() if t.name.startswith(("frames", "png"))]


def test_one_bad_input_of_a_folder_does_not_cost_the_others(tmp_path, video):
    """A damaged video, and an image that the network refuses."""
    save(tmp_path / "a.png")
    save(tmp_path / "tiny.png", size=(1, 1))
    (tmp_path / "broken.mp4").write_bytes(b"no video")

    def network(images):
        if images.shape[1] < 3:
            raise UserError("images of 1x1 pixels are too small")
        return by_brightness(images)

    report = predict_files(network, open_clips(tmp_path), tmp_path / "out", palette=CITY.palette)
    assert report.images == 31 and (tmp_path / "out/overlay/a.png").is_file() and (tmp_path / "out/drive.mp4").is_file()
    assert len(report.problems) == 2
    assert "tiny.png: images of 1x1" in report.problems[0] and "broken.mp4 cannot be opened" in report.problems[1]
