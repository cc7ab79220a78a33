"""A user's own video: its frames, its labels, and what is wrong with them."""

import shutil

import cv2
import numpy as np
import pytest

from segjax.errors import UserError
from segjax.media.writers import write_png
from segjax.propagation.labelled_video import open_labelled_video
from tests.propagation.square import MAP, frame, mask


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
