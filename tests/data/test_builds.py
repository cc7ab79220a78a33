"""First-use builds: right records, one build per configuration, atomic, concurrent, without TensorFlow."""

import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from segjax.data import Source, TfdsSource, build_dataset, dataset_names, open_source
from segjax.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
PRELUDE = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from tests.data.toy_builders import add_toy_builder
add_toy_builder(Path(sys.argv[1]))
from segjax.data import open_source
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The folder that holds the toy builder, importable while this module's tests run."""
    import data_builders
    from tests.data.toy_builders import add_toy_builder

    before = list(data_builders.__path__)
    folder = tmp_path_factory.mktemp("builders")
    add_toy_builder(folder)
    yield folder
    data_builders.__path__[:] = before


@pytest.fixture(scope="module")
def data_dir(package, tmp_path_factory):
    return tmp_path_factory.mktemp("datasets")


def expected_image(i, size=8, split=0):
    rng = np.random.default_rng(split)
    for j in range(i + 1):
        image = rng.integers(0, 256, (size, size + j, 3), dtype=np.uint8)
    return image


def test_records_come_back_as_they_were_written(data_dir, capfd):
    source = open_source("toy", "train", data_dir=data_dir, labelled_only=False)
    assert "Built data set toy: train 6, test 6 records" in capfd.readouterr().err
    assert isinstance(source, Source) and len(source) == 6
    assert source.names == [f"v_{i:03d}" for i in range(6)]
    np.testing.assert_array_equal(source.sizes, [[8, 8 + i] for i in range(6)])
    np.testing.assert_array_equal(source.index.labelled, [True, False] * 3)
    for i in range(6):
        record, image = source[i], expected_image(i)
        np.testing.assert_array_equal(record.image, image)
        assert (record.name, record.sequence, record.frame, record.flow) == (f"v_{i:03d}", "v", i, None)
        if i % 2:
            assert record.label is None
        else:
            raw = image[..., 0] % 12
            np.testing.assert_array_equal(record.label, np.where(raw == 11, 255, raw))
    assert source.class_names[3] == "road" and source.num_classes == 11


def test_second_open_builds_nothing_and_filters_labels(data_dir, capfd):
    source = open_source("toy", "train", data_dir=data_dir)
    assert capfd.readouterr().err == ""
    assert source.names == ["v_000", "v_002", "v_004"] and len(source) == 3
    np.testing.assert_array_equal(source.sizes[:, 1], [8, 10, 12])
    assert source[-1].name == "v_004"
    with pytest.raises(IndexError):
        source[3]


def test_expressions_of_tfds(data_dir):
    both = open_source("toy", "train+test", data_dir=data_dir, labelled_only=False)
    assert len(both) == 12
    np.testing.assert_array_equal(both[6].image, expected_image(0, split=1))
    part = open_source("toy", "train[2:5]", data_dir=data_dir, labelled_only=False)
    assert part.names == ["v_002", "v_003", "v_004"]
    with pytest.raises(UserError, match="cannot be read"):
        open_source("toy", "train[nonsense", data_dir=data_dir)


def test_flow_only_when_asked_for(data_dir):
    options = {"flow": True}
    assert open_source("toy", "train", data_dir=data_dir, builder_options=options)[1].flow is None
    record = open_source("toy", "train", data_dir=data_dir, builder_options=options, flow=True)[1]
    np.testing.assert_array_equal(record.flow, np.full((8, 8, 2), 2, np.float32))
    np.testing.assert_array_equal(record.flow_valid, np.eye(8, dtype=bool))


def test_pickles_and_reads_from_threads(data_dir):
    source = open_source("toy", "train", data_dir=data_dir, labelled_only=False)
    source[0]
    again = pickle.loads(pickle.dumps(source))
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(lambda i: again[i % 6].image, range(60)))
    for i, image in enumerate(images):
        np.testing.assert_array_equal(image, expected_image(i % 6))


def test_options_make_other_builds(data_dir):
    options = [{}, {"size": 16}, {"config": "large"}, {"config": "large", "count": 2}]
    folders = [build_dataset("toy", data_dir=data_dir, builder_options=x) for x in options]
    assert folders[1] == folders[2] and len(set(folders)) == 3
    assert open_source("toy", "train", data_dir=data_dir, builder_options={"size": 16})[0].image.shape == (16, 16, 3)
    assert build_dataset("toy", data_dir=data_dir, builder_options={"count": 6, "size": 8}) == folders[0]


def test_changed_source_files_are_noticed(data_dir, tmp_path, capfd):
    source = tmp_path / "source"
    source.touch()
    options = {"source": str(source), "count": 1}
    first = build_dataset("toy", data_dir=data_dir, builder_options=options)
    assert build_dataset("toy", data_dir=data_dir, builder_options=options) == first
    capfd.readouterr()
    os.utime(source, ns=(1, 1))
    (first.parent.parent / f"{first.parent.name[:-4]}none").mkdir()  # as a preparation that failed leaves it
    assert build_dataset("toy", data_dir=data_dir, builder_options=options) != first
    assert f"may be deleted: {first.parent.name}\n" in capfd.readouterr().err


def test_wrong_names(data_dir, tmp_path):
    assert {"camvid", "segmentation_folder", "toy"} <= set(dataset_names())
    with pytest.raises(UserError, match="no data set 'camvit'. Did you mean 'camvid'"):
        open_source("camvit", "train", data_dir=data_dir)
    with pytest.raises(UserError, match="no split 'trian'. Did you mean 'train'"):
        open_source("toy", "trian", data_dir=data_dir)
    with pytest.raises(UserError, match="no option 'sise'. Did you mean 'size'"):
        open_source("toy", "train", data_dir=data_dir, builder_options={"sise": 3})
    with pytest.raises(UserError, match="no config 'larg'. Did you mean 'large'"):
        open_source("toy", "train", data_dir=data_dir, builder_options={"config": "larg"})
    with pytest.raises(UserError, match="not a local path"):
        open_source("toy", "train", data_dir="gs://bucket/x")
    with pytest.raises(UserError, match="no built data set"):
        TfdsSource(tmp_path, "train")
    with pytest.raises(UserError, match="no optical flow"):
        open_source("toy", "train", data_dir=data_dir, flow=True)


def test_empty_splits(data_dir):
    with pytest.raises(UserError, match="6 records but none is labelled.*labelled_only=False"):
        open_source("toy", "test", data_dir=data_dir)
    with pytest.raises(UserError, match="holds no record"):
        open_source("toy", "train[:0]", data_dir=data_dir)
    with pytest.raises(UserError, match='split "train" of data set toy would hold no record'):
        open_source("toy", "train", data_dir=data_dir, builder_options={"count": 0})


def test_full_disk_and_wrong_place(data_dir, tmp_path):
    for count in (13, 14):
        with pytest.raises(UserError, match="disk is full.*data_dir"):
            open_source("toy", "train", data_dir=data_dir, builder_options={"count": count})
    assert not list(data_dir.rglob(".building-*"))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be created.*data_dir"):
        open_source("toy", "train", data_dir=tmp_path / "file" / "x")


def test_damaged_build_says_how_to_repair(package, tmp_path):
    folder = build_dataset("toy", data_dir=tmp_path)
    shard = next(folder.glob("toy-train.array_record*"))
    shard.write_bytes(shard.read_bytes()[:200])
    with pytest.raises(UserError, match="delete the folder, it is built again"):
        TfdsSource(folder, "train")[0]
    shard.unlink()
    with pytest.raises(UserError, match="delete the folder, it is built again"):
        TfdsSource(folder, "train")[0]


def start(package, code, *arguments):
    command = [sys.executable, "-c", PRELUDE + code, str(package), *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


CONCURRENT = """
options = {"wait": 0.05, "log": sys.argv[3]}
print(len(open_source("toy", "train", data_dir=sys.argv[2], builder_options=options)))
"""


def test_processes_share_one_build(package, tmp_path):
    log = tmp_path / "log"
    workers = [start(package, CONCURRENT, tmp_path / "data", log) for _ in range(3)]
    outputs = [worker.communicate(timeout=300) for worker in workers]
    assert [out.strip() for out, _ in outputs] == ["3"] * 3, outputs
    assert len(log.read_text().splitlines()) == 1
    assert sum("Built data set" in err for _, err in outputs) == 1


SLOW = """
options = {"wait": 0.05, "log": sys.argv[3], "count": 40}
print(len(open_source("toy", "train", data_dir=sys.argv[2], builder_options=options)))
"""


def test_killed_build_leaves_nothing_half_read(package, tmp_path):
    log, data = tmp_path / "log", tmp_path / "data"
    worker = start(package, SLOW, data, log)
    deadline = time.monotonic() + 300
    while not log.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    os.kill(worker.pid, signal.SIGKILL)
    worker.communicate()
    assert list(data.rglob(".building-*")) and not list(data.rglob("1.0.0/index-train.npz"))
    options = {"wait": 0.05, "log": str(log), "count": 40}
    source = open_source("toy", "train", data_dir=data, builder_options=options, labelled_only=False)
    assert len(source) == 40 and len(log.read_text().splitlines()) == 2
    assert not list(data.rglob(".building-*"))


NO_TENSORFLOW = """
import importlib.machinery
found = importlib.machinery.PathFinder.find_spec
def find(name, *args, **kwargs):
    return None if name.split(".")[0] in ("tensorflow", "torch", "jax") else found(name, *args, **kwargs)
importlib.machinery.PathFinder.find_spec = find
from segjax.data import builds as build
source = build.open_source("toy", "train", data_dir=sys.argv[2])
source[0]
assert not {"tensorflow", "torch", "jax"} & set(sys.modules)
print("ok")
"""


def test_builds_and_reads_without_tensorflow_and_jax(package, tmp_path):
    out, err = start(package, NO_TENSORFLOW, tmp_path).communicate(timeout=300)
    assert out.strip() == "ok", err
