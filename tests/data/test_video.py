"""Neighbours of frames, and frames of video files and folders in any order."""

import pickle

import cv2
import numpy as np
import pytest

from segjax.data import FolderSource, open_source
from segjax.data.image_files import encode_png
from segjax.data.video import FrameIndex, VideoSource, open_frames
from segjax.errors import UserError
from tests.video_tools import Table


def test_neighbours_and_those_that_are_missing():
    table = Table((4, 3), stride=5, without=[(0, 2)])
    index = FrameIndex(table)
    assert index.step == 5
    assert [index.neighbour(0, offset) for offset in (-1, 0, 1, 2, 3)] == [None, 0, 1, None, 2]
    assert index.groups().tolist() == [[3, 4, 5]]
    assert index.missing() == ["v0_000", "v0_001", "v0_003", "v1_000", "v1_002"]
    assert index.groups((0, 1)).tolist() == [[0, 1], [3, 4], [4, 5]]
    assert FrameIndex(table, step=15).groups((0, 1)).tolist() == [[0, 2]]


def test_neighbours_of_another_size_do_not_fit():
    table = Table((3,))
    table.sizes[2] = (9, 9)
    assert FrameIndex(table).groups().tolist() == [] and len(FrameIndex(table).missing()) == 3


def test_a_split_without_video():
    with pytest.raises(UserError, match="no frame has a neighbour"):
        FrameIndex(Table((1, 1, 1)))
    with pytest.raises(UserError, match="must be 1 or more"):
        FrameIndex(Table((3,)), step=-1)


def test_frames_of_a_folder(tmp_path):
    for name in ("a_f2.png", "a_f10.png", "a_f6.png", "b.png"):
        (tmp_path / name).write_bytes(encode_png(np.zeros((4, 6, 3), np.uint8)))
    source = open_frames(tmp_path)
    assert isinstance(source, FolderSource)
    index = FrameIndex(source)
    assert index.step == 4 and [source.names[i] for i in index.groups()[0]] == ["a_f2", "a_f6", "a_f10"]
    assert index.table.sizes.tolist() == [[4, 6]] * 4 and not index.table.labelled.any()


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "drive.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for t in range(80):
        picture = np.full((48, 64, 3), 3 * t, np.uint8)
        picture[:, :, 2] = 0
        writer.write(picture)
    writer.release()
    return path


def test_frames_of_a_video_in_any_order(video):
    source = open_frames(video)
    assert isinstance(source, VideoSource) and len(source) == 80 and source.label_map is None
    assert source.names[7] == "drive_000007" and source.sizes[0].tolist() == [48, 64]
    for frame in (0, 1, 5, 4, 60, 61, 2, 79, 0):
        record = source[frame]
        assert (record.frame, record.sequence, record.label) == (frame, "drive", None)
        assert abs(record.image[..., 1].mean() - 3 * frame) < 4 and record.image[..., 0].mean() < 8, "RGB"
    assert source.label(60) is None
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy[33].image, source[33].image)
    assert FrameIndex(source).groups().shape == (78, 3)


def test_a_folder_of_videos_and_errors(video, tmp_path):
    assert len(open_frames(video.parent)) == 80
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(UserError, match="cannot be opened"):
        open_frames(tmp_path / "broken.mp4")
    with pytest.raises(UserError, match="does not exist"):
        open_frames(tmp_path / "nowhere")


def test_a_video_that_ends_early_is_told_and_read_as_far_as_it_goes(video, tmp_path, caplog):
    with caplog.at_level("WARNING", logger="segjax"):
        assert len(open_frames(video)) == 80 and not caplog.messages
        cut = tmp_path / "cut.avi"
        cut.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
        source = open_frames(cut)
    assert 20 < len(source) < 60 and abs(source[len(source) - 2].image[..., 1].mean() - 3 * (len(source) - 2)) < 4
    assert caplog.messages == [f"{cut} ends early: {len(source)} of its 80 frames can be read"]


def test_compressed_video_is_read_exactly(videos):
    path = sorted(p for p in videos.rglob("*") if p.suffix in (".mp4", ".avi"))[0]
    source = VideoSource([path])
    capture, wanted = cv2.VideoCapture(str(path)), (3, 40, 41, 7)
    frames = [capture.read()[1] for _ in range(max(wanted) + 1)]
    for frame in wanted:
        np.testing.assert_array_equal(source[frame].image, frames[frame][..., ::-1])


def test_stored_labels_of_unlabelled_frames(street_dir):
    options = dict(height=64, width=128, train=2, validation=1, test=1, frames=6)
    plain, full = (
        open_source("synthetic_street", "train", data_dir=street_dir, builder_options=options,
                    labelled_only=False, fields=fields)
        for fields in ((), ("all_labels",))
    )  # fmt: skip
    hidden = np.flatnonzero(~plain.index.labelled)
    assert len(hidden) and plain[int(hidden[0])].label is None
    label = full[int(hidden[0])].label
    assert label.shape == (64, 128) and len(np.unique(label)) > 3
    assert (full.index.labelled == plain.index.labelled).all()
