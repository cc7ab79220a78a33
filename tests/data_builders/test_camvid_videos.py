"""CamVid's raw videos as frames_dir: where their numbers begin, their size, and what is wrong with a file."""

import shutil

import cv2
import numpy as np
import pytest

from segjax.data import open_source
from segjax.data.image_files import read_image
from segjax.errors import UserError
from tests.data_builders import mini_trees


def picture(rng, size=mini_trees.SIZE):
    """Smooth, so that it survives a codec."""
    return cv2.resize(rng.integers(0, 256, (3, 5, 3), dtype=np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC)


def write_video(path, frames, fourcc="MJPG"):
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*fourcc), 30, frames[0].shape[1::-1])
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame[..., ::-1])
    writer.release()


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """(tree, folder of two videos, their pictures): of 0001TP from frame 6663 on, of Seq05VD from frame 1 on."""
    root = tmp_path_factory.mktemp("camvid")
    mini_trees.camvid_full(root / "tree")
    rng, shown = np.random.default_rng(0), {}
    (root / "videos").mkdir()
    for name, still, place in (("01TP_extract.avi", "0001TP_006690", 27), ("0005VD.MXF", "Seq05VD_f00030", 29)):
        shown[name] = [picture(rng) for _ in range(40)]
        mini_trees.write(root / f"tree/701_StillsRaw_full/{still}.png", shown[name][place])
        wide = [cv2.resize(frame, (128, 32)) for frame in shown[name]]  # pixels that are not square
        write_video(root / "videos" / name, wide, "mpg2" if name.endswith("MXF") else "MJPG")
    return root / "tree", root / "videos", shown


def opened(split, tree, frames_dir, data_dir, **options):
    options = {"config": "full", "source_dir": str(tree), "frames_dir": str(frames_dir), **options}
    return open_source("camvid", split, data_dir=data_dir, builder_options=options, labelled_only=False)


def test_frames_around_the_stills_come_from_the_videos(published, tmp_path):
    tree, folder, shown = published
    train = opened("train", tree, folder, tmp_path, neighbours=2, partial=True)
    numbers = train.index.frames[train.index.sequences == "0001TP"].tolist()
    assert numbers == [6688, 6689, 6690, 6691, 6692]
    for number in numbers:
        record = train[train.find("0001TP", number)]
        assert record.name == f"0001TP_{number:06d}" and record.image.shape == (*mini_trees.SIZE, 3)
        assert (record.label is None) == (number != 6690)
        assert np.abs(record.image.astype(int) - shown["01TP_extract.avi"][number - 6663]).mean() < 12
    test = opened("test", tree, folder, tmp_path, neighbours=2, partial=True)
    found = [name for name in test.names if name.startswith("Seq05VD")]
    assert found == [f"Seq05VD_f{number:05d}" for number in range(28, 33)]
    image = test[test.find("Seq05VD", 32)].image
    assert np.abs(image.astype(int) - shown["0005VD.MXF"][31]).mean() < 12


def test_frames_that_the_videos_lack_are_named(published, tmp_path):
    tree, folder, _ = published
    with pytest.raises(UserError, match=r"frames within 2 of a labelled one are missing \(0006R0 frame 928"):
        opened("train", tree, folder, tmp_path, neighbours=2)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda folder: (folder / "0006R0.MXF").write_bytes(b"none" * 999), "0006R0.MXF cannot be opened as a video"),
        (
            lambda folder: (folder / "0005VD.MXF").rename(folder / "005VD.MXF"),
            "005VD.MXF is no video of CamVid.*0005VD",
        ),
        (lambda folder: (folder / "0001TP_006691.png").write_bytes(b""), "holds both videos and images"),
        (lambda folder: shutil.copy(folder / "0005VD.MXF", folder / "0005vd.mp4"), "are the same video; keep one"),
        (lambda folder: [path.unlink() for path in folder.iterdir()], "holds no image"),
        (shutil.rmtree, "does not exist; give the folder"),
    ],
)
def test_what_is_wrong_with_the_folder_is_named(published, tmp_path, change, message):
    tree, folder, _ = published
    shutil.copytree(folder, tmp_path / "videos")
    change(tmp_path / "videos")
    with pytest.raises(UserError, match=message):
        opened("train", tree, tmp_path / "videos", tmp_path / "data", partial=True)
    assert not list((tmp_path / "data").rglob("dataset_info.json"))


def test_another_video_of_the_same_name_is_refused(published, tmp_path):
    tree, _, _ = published
    still = read_image(tree / "701_StillsRaw_full/0001TP_006690.png")
    write_video(tmp_path / "01TP_extract.avi", [255 - still] * 40)
    with pytest.raises(UserError, match=r"no frame of .*01TP_extract.avi .* looks like them"):
        opened("train", tree, tmp_path, tmp_path / "data", partial=True)


def test_frames_go_with_the_stills_of_their_size(published, tmp_path):
    tree, folder, _ = published
    with pytest.raises(UserError, match="frames_dir=.* needs config='full'"):
        opened("train", tree, folder, tmp_path, config="default")
