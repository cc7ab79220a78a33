"""Archives for the servers: their names, ids, palettes and bytes; what a server would refuse is said before."""

import gzip
import io
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from segjax.data import class_table, open_source
from segjax.data.image_files import encode_png
from segjax.errors import UserError
from segjax.media.archives import open_files, write_archive
from segjax.metrics import official_scores
from segjax.submission import package as submission
from segjax.submission.servers import SERVERS, find_server
from tests.data_builders import mini_trees

SPLITS = {"cityscapes": "validation", "kitti": "train", "bdd100k": "validation", "voc2012": "validation"}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """name -> (labelled source, folder of predictions: the truth with every 5th column wrong)."""
    made = {}
    for name, split in SPLITS.items():
        tree, folder = tmp_path_factory.mktemp(name), tmp_path_factory.mktemp("predictions")
        getattr(mini_trees, name)(tree)
        options = {"source_dir": str(tree), "partial": True}
        options |= {"instances": True} if name in ("cityscapes", "kitti") else {}
        source = open_source(
            name, split, data_dir=tmp_path_factory.mktemp("data"), builder_options=options,
            fields=("instances",) if "instances" in options else (),
        )  # fmt: skip
        raw = [label.id for label in class_table(name).classes]
        for record in source:
            label = np.where(record.label == 255, 0, record.label)
            label[:, ::5] = (label[:, ::5] + 1) % len(raw)
            (folder / f"{record.name}.png").write_bytes(encode_png(np.array(raw, np.uint8)[label]))
        made[name] = source, folder
    return made


def packed(built, name, output, **options):
    server, (source, folder) = find_server(name, **options), built[name]
    with open_files(folder) as files:
        return server, source, submission.pack(server, files, source, output)


@pytest.mark.parametrize(
    "name, ending, files",
    [
        ("cityscapes", "zip", ["frankfurt_000000_000294_pred_labelIds.png", "munster_000003_000019_pred_labelIds.png"]),
        ("kitti", "zip", [f"semantic/{number:06d}_10.png" for number in (0, 1, 2, 5)]),
        ("bdd100k", "zip", ["7d06fefd-f7be05a6.png"]),
        ("voc2012", "tgz", ["results/VOC2012/Segmentation/comp6_test_cls/2007_000033.png"]),
    ],
)
def test_the_archive_holds_what_the_server_wants(built, tmp_path, name, ending, files):
    server, source, path = packed(built, name, tmp_path / f"x.{ending}")
    if ending == "zip":
        with zipfile.ZipFile(path) as archive:
            content = {name: archive.read(name) for name in archive.namelist()}
    else:
        with tarfile.open(path) as archive:
            content = {member.name: archive.extractfile(member).read() for member in archive}
    assert list(content) == files
    for data, record in zip(content.values(), source):
        picture = Image.open(io.BytesIO(data))
        assert picture.mode == ("P" if name == "voc2012" else "L") and picture.size == record.image.shape[1::-1]
        if name == "voc2012":
            assert picture.getpalette()[3 * 15 : 3 * 15 + 3] == [192, 128, 128]  # person
        expected = Image.open(built[name][1] / f"{record.name}.png")
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(expected))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]  # no half archive beside it
    with open_files(path) as archive:
        scores = official_scores(server.rule, submission.score(server, archive, source))
    assert 0.5 < scores["miou"] < 0.9 and scores["pixel_accuracy"] == pytest.approx(0.8, abs=0.05)
    assert ("mean_iiou" in scores) == (name in ("cityscapes", "kitti"))


def test_other_competitions_of_voc(built, tmp_path):
    server, _, path = packed(built, "voc2012", tmp_path / "a.tar.gz", competition="comp5")
    with tarfile.open(path) as archive:
        assert archive.getnames() == ["results/VOC2012/Segmentation/comp5_test_cls/2007_000033.png"]
    with pytest.raises(UserError, match="'comp7'.*Did you mean"):
        find_server("voc2012", competition="comp7")
    with pytest.raises(UserError, match="is for voc2012; leave it out for kitti"):
        find_server("kitti", competition="comp6")
    with pytest.raises(UserError, match="no server for the data set 'camvid'"):
        find_server("camvid")


@pytest.mark.parametrize("ending", ["zip", "tgz"])
def test_the_same_predictions_make_the_same_bytes(built, tmp_path, ending):
    first = packed(built, "kitti", tmp_path / f"a.{ending}")[2].read_bytes()
    for file in built["kitti"][1].iterdir():
        file.touch()
    assert packed(built, "kitti", tmp_path / f"other.{ending}")[2].read_bytes() == first
    with open_files(tmp_path / f"a.{ending}") as files:  # and an archive can be packed again
        again = submission.pack(SERVERS["kitti"], files, built["kitti"][0], tmp_path / f"c.{ending}")
    assert again.read_bytes() == first


def faults():
    size = mini_trees.SIZE
    return {
        "missing": (lambda f: (f / "000001_10.png").unlink(), r"lacks 1 of 4 predictions \(semantic/000001_10.png"),
        "extra": (
            lambda f: (f / "000009_10.png").write_bytes(b"x"),
            r"1 files that belong to no image .*000009_10.png",
        ),
        "twice": (
            lambda f: ((f / "b").mkdir(), (f / "b/000001_10.png").write_bytes(b"x")),
            "2 predictions of 000001_10",
        ),
        "size": (
            lambda f: (f / "000002_10.png").write_bytes(encode_png(np.zeros((8, 9), np.uint8))),
            "000002_10.png in .* is 9x8 but its image is 64x32",
        ),
        "ids": (
            lambda f: (f / "000005_10.png").write_bytes(encode_png(np.full(size, 255, np.uint8))),
            r"000005_10.png in .* holds the ids 255 but the server of kitti takes 0..33; write label ids",
        ),
        "wide ids": (
            lambda f: (f / "000005_10.png").write_bytes(encode_png(np.full(size, 26001, np.uint16))),
            "holds the ids 26001",
        ),
        "colours": (
            lambda f: (f / "000005_10.png").write_bytes(encode_png(mini_trees.image(np.random.default_rng(0)))),
            "000005_10.png in .* holds colours, not ids",
        ),
        "no PNG": (lambda f: (f / "000005_10.png").write_bytes(b"\xff\xd8\xff" + bytes(50)), "is no PNG"),
        "cut": (
            lambda f: (f / "000005_10.png").write_bytes((f / "000005_10.png").read_bytes()[:-20]),
            "000005_10.png in .* is truncated or damaged",
        ),
    }


@pytest.mark.parametrize("fault", faults())
def test_what_a_server_would_refuse_is_said_before(built, tmp_path, fault):
    source, good = built["kitti"]
    folder = tmp_path / "predictions"
    folder.mkdir()
    for file in good.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    change, message = faults()[fault]
    change(folder)
    with open_files(folder) as files, pytest.raises(UserError, match=message):
        submission.pack(SERVERS["kitti"], files, source, tmp_path / "out.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["predictions"]


def test_an_archive_must_have_its_files_where_the_server_looks(built, tmp_path):
    source, folder = built["kitti"]
    flat = write_archive(tmp_path / "flat.zip", [(f.name, f.read_bytes()) for f in folder.iterdir()])
    with open_files(flat) as files, pytest.raises(UserError, match="lacks 4 of 4 predictions .semantic/000000_10.png"):
        submission.check(SERVERS["kitti"], files, source)
    source, folder = built["cityscapes"]  # its server searches all folders for NAME*.png
    data = [(f"results/x/{f.stem}_anything.png", f.read_bytes()) for f in folder.iterdir()]
    with open_files(write_archive(tmp_path / "deep.tgz", data)) as files:
        submission.check(SERVERS["cityscapes"], files, source)


def test_a_damaged_file_within_an_archive_is_named(built, tmp_path):
    server, source, archive = SERVERS["kitti"], built["kitti"][0], packed(built, "kitti", tmp_path / "a.zip")[2]
    data = bytearray(archive.read_bytes())
    data[data.index(b"IDAT") + 9] ^= 255
    archive.write_bytes(data)
    with open_files(archive) as files, pytest.raises(UserError, match=r"semantic/00000\d_10.png in .*a.zip cannot be"):
        submission.check(server, files, source)


def test_damaged_and_foreign_archives(built, tmp_path):
    whole = packed(built, "kitti", tmp_path / "a.zip")[2].read_bytes()
    for name, data in (
        ("half.zip", whole[: len(whole) // 2]),
        ("half.tgz", gzip.compress(whole)[:-100]),
        ("no.tgz", b"no archive"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=f"{name} is damaged or no archive"), open_files(tmp_path / name):
            pass
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no file"), open_files(tmp_path / "empty"):
        pass
    with pytest.raises(UserError, match="nowhere does not exist"), open_files(tmp_path / "nowhere"):
        pass
    with pytest.raises(UserError, match="must end with .zip or .tgz"):
        write_archive(tmp_path / "a.rar", [])


def test_what_keeps_the_real_server_from_taking_it(built):
    source = built["cityscapes"][0]
    found = submission.warnings(SERVERS["cityscapes"], "validation", source)
    assert found[0] == "validation has 500 images and these are 2" and "wants 2048x1024" in found[1]
    assert "64x32" in found[1] and len(found) == 2
    assert "tar archive" in submission.warnings(SERVERS["voc2012"], "any", built["voc2012"][0], "x.zip")[0]
