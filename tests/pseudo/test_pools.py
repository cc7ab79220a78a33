"""Pools: which images a path means, what is read of them, and in which size they are stored."""

import cv2
import numpy as np
import pytest
from PIL import Image

from segjax.data import ClassTable, Label, LabelMap, TfdsSource
from segjax.data.image_files import decode_image, encode_png, read_image
from segjax.data.record_shards import RecordShards
from segjax.errors import UserError
from segjax.media.writers import VideoWriter
from segjax.pseudo.pools import FilePool, SplitPool, find_files, folder_of, reduce_image


def picture(seed, size=(24, 32)):
    """Blocks of colour, which JPEG and MPEG-4 keep well enough to tell them apart."""
    small = np.random.default_rng(seed).integers(0, 256, (size[0] // 8, size[1] // 8, 3), dtype=np.uint8)
    return np.kron(small, np.ones((8, 8, 1), np.uint8))


@pytest.fixture
def root(tmp_path):
    for number in (1, 2, 10):
        cv2.imwrite(str(tmp_path / f"drive_{number}.jpg"), picture(number))
    with VideoWriter(tmp_path / "clip.mp4", fps=5) as video:
        for number in range(40):
            video.write(picture(number))
    return tmp_path


def pool(path, *, every=1, size=0, **options):
    return FilePool("own", path, every=every, size=size, **options)


def test_names_of_a_folder_a_pattern_and_a_file(root):
    folder = pool(root, every=2)
    assert folder.index.names.tolist() == ["drive_1", "drive_10", *(f"clip/{n:06d}" for n in range(0, 40, 2))]
    assert folder.index.sequences.tolist() == ["", ""] + ["clip"] * 20
    assert [folder.in_order(place) for place in (0, 1, 2)] == [False, False, True]
    assert pool(root / "*.jpg").index.names.tolist() == ["drive_1.jpg", "drive_2.jpg", "drive_10.jpg"]
    assert pool(root / "drive_2.jpg").index.names.tolist() == ["drive_2"]
    assert len(pool(root / "clip.mp4", every=7)) == 6
    assert folder_of(root / "*.jpg") == root and folder_of(root / "a*/b/*.jpg") == root and folder_of(root) == root
    (root / "star*.jpg").write_bytes((root / "drive_1.jpg").read_bytes())
    assert pool(root / "star*.jpg").index.names.tolist() == ["star*"]  # a file of that name


def test_files_keep_their_bytes_unless_they_must_change(root):
    image = pool(root).read(0)
    assert image.data == (root / "drive_1.jpg").read_bytes() and image.file == (root / "drive_1.jpg", image.data)
    small = pool(root, size=12).read(0)
    assert small.data == b"" and small.image.shape == (12, 16, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(picture(1)).save(root / "turned.jpg", exif=exif)
    image = pool(root / "turned.jpg").read(0)
    assert image.image.shape == (32, 24, 3) and image.data == b""  # stored as it is shown, as PNG


def test_the_area_average(root):
    image = picture(3)
    assert reduce_image(image, 0) is image and reduce_image(image, 24) is image
    half = image.reshape(12, 2, 16, 2, 3).astype(float).mean((1, 3))
    assert np.abs(reduce_image(image, 12) - half).max() <= 0.5
    assert reduce_image(picture(1, (48, 32)), 24).shape == (36, 24, 3)


def test_a_frame_is_the_same_after_any_other(root):
    """A call that resumes begins in the middle of a video."""
    whole, other = pool(root / "clip.mp4"), pool(root / "clip.mp4")
    frames = [whole.read(place).image for place in range(40)]
    assert all((other.read(place).image == frames[place]).all() for place in (39, 3, 17, 16, 30))
    later = pool(root / "clip.mp4", every=13)
    assert [(later.read(place).image == frames[13 * place]).all() for place in (3, 1, 2)] == [True] * 3


def test_what_cannot_be_read(root):
    (root / "drive_2.jpg").write_bytes(b"")
    (root / "bad.mp4").write_bytes(b"nothing")
    found = pool(root)
    assert len(found.problems) == 1 and "bad.mp4 cannot be opened as a video" in found.problems[0]
    with pytest.raises(UserError, match=r"drive_2.jpg is empty"):
        found.read(1)
    (root / "empty").mkdir()
    for path, said in (
        (root / "empty", "holds no image"),
        (root / "*.tif", "matches no image"),
        (root / "nowhere", "does not exist"),
        (root / "drive_2.jpg", "none of the images in .*drive_2.jpg is empty"),
        (root / "bad.mp4", "cannot be opened as a video"),
    ):
        with pytest.raises(UserError, match=said):
            pool(path)


def test_results_are_not_read(root):
    (root / "out").mkdir()
    (root / "out/x.png").write_bytes((root / "drive_1.jpg").read_bytes())
    assert "out/x" in [name for name, _ in find_files(root)[0]]
    assert "out/x" not in [name for name, _ in find_files(root, root / "out")[0]]


def test_the_identity_changes_with_the_files(root):
    before = pool(root).identity
    assert pool(root).identity == before
    (root / "drive_3.jpg").write_bytes((root / "drive_1.jpg").read_bytes())
    assert pool(root).identity != before


def test_names_that_are_no_text(root):
    (root / b"\xff.png".decode(errors="surrogateescape")).write_bytes(b"x")
    with pytest.raises(UserError, match="not valid UTF-8"):
        pool(root)


def test_images_are_those_of_the_reader(root):
    image = pool(root).read(2)
    assert (image.image == read_image(root / "drive_10.jpg")).all()
    assert (decode_image(image.data, "x") == image.image).all()


def test_the_truth_of_records_without_label(tmp_path):
    """What a builder stores in place of a label is no truth, even if the classes do not know its value."""
    labels = LabelMap(ClassTable((Label(3, "a", 0, (0, 0, 0)), Label(5, "b", 1, (9, 9, 9)))))
    mask = np.full((24, 32), 3, np.uint8)
    mask[:, 9:] = 5
    rows = [("labelled", mask, True), ("nothing", np.zeros_like(mask), False), ("known", mask[:, ::-1], False)]
    made = RecordShards(tmp_path, "few", ("train",), labels, {}, {})
    made.open()
    common = dict(sequence="", frame=0, height=24, width=32, image=encode_png(picture(1)))
    made.write(0, {"train": [dict(name=n, label=encode_png(m), labelled=known, **common) for n, m, known in rows]}, {})
    opened = TfdsSource(made.finish(1), "train", labelled_only=False)
    found = SplitPool("own", "few train", opened, only="unlabelled", size=0, class_names=("a", "b"))
    assert found.index.names.tolist() == ["nothing", "known"]
    assert found.read(0).truth is None and (found.read(1).truth == labels.encode(mask[:, ::-1])).all()
    whole = SplitPool("own", "few train", opened, only="all", size=12, class_names=("a", "b"))
    assert whole.read(0).truth.shape == (12, 16) and set(np.unique(whole.read(0).truth)) == {0, 1}
    other = SplitPool("own", "few train", opened, only="all", size=0, class_names=("b", "a"))
    assert other.read(0).truth is None
