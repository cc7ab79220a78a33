"""First-use builds: right records, one build per configuration, atomic, concurrent, without TensorFlow."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segjax.data import TfdsSource, build_dataset, dataset_names, open_source
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
    with pytest.raises(UserError, match="no dataset 'camvit'. Did you mean 'camvid'"):
        open_source("camvit", "train", data_dir=data_dir)
    with pytest.raises(UserError, match="no split 'trian'. Did you mean 'train'"):
        open_source("toy", "trian", data_dir=data_dir)
    with pytest.raises(UserError, match="no option 'sise'. Did you mean 'size'"):
        open_source("toy", "train", data_dir=data_dir, builder_options={"sise": 3})
    with pytest.raises(UserError, match="no config 'larg'. Did you mean 'large'"):
        open_source("toy", "train", data_dir=data_dir, builder_options={"config": "larg"})
    with pytest.raises(
        UserError, match="data_dir=gcs://bucket/x is no address of a bucket. Did you mean gs://bucket/x"
    ):
        open_source("toy", "train", data_dir="gcs://bucket/x")
    with pytest.raises(UserError, match="no built dataset"):
        TfdsSource(tmp_path, "train")


def test_empty_splits(data_dir):
    with pytest.raises(UserError, match="6 records but none is labelled.*labelled_only=False"):
        open_source("toy", "test", data_dir=data_dir)
    with pytest.raises(UserError, match="holds no record"):
        open_source("toy", "train[:0]", data_dir=data_dir)
    with pytest.raises(UserError, match='split "train" of dataset toy would hold no record'):
        open_source("toy", "train", data_dir=data_dir, builder_options={"count": 0})


def test_full_disk_and_wrong_place(data_dir, tmp_path):
    for count in (13, 14):
        with pytest.raises(UserError, match="disk is full.*data_dir"):
            open_source("toy", "train", data_dir=data_dir, builder_options={"count": count})
    assert not list(data_dir.rglob(".building-*"))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be created.*data_dir"):
        open_source("toy", "train", data_dir=tmp_path / "file" / "x")


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
    assert sum("Built dataset" in err for _, err in outputs) == 1


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
