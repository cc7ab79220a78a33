"""Datasets in a bucket: built once, fetched shard by shard, within a part of the disk."""

import collections
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from segjax.data import TfdsSource, build_dataset, open_source
from segjax.errors import UserError
from segjax.remote import Store, cache_root, fetch, shards
from segjax.remote.mirror import Mirror
from tests import bucket_servers
from tests.data import shard_tools
from tests.data.toy_builders import importable_toy

COUNT = 4  # shards


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    made = shard_tools.shards(tmp_path_factory.mktemp("written"))
    made.open()
    for number in range(COUNT):
        made.write(number, shard_tools.contents(number), {})
    shard_tools.finish(made, COUNT)
    return made.directory


@pytest.fixture
def remote(place, written):
    """Address of a written dataset, as a stage leaves it in its run."""
    folder = cache_root().parent / "run"
    shutil.copytree(written, folder / "propagate" / "dataset")
    Mirror(Store(place), folder).push()
    return place / "propagate/dataset"


def fetched():
    return sorted(path.name for path in cache_root().rglob("*.array_record-*"))


def same(a, b):
    return a.name == b.name and np.array_equal(a.image, b.image) and np.array_equal(a.label, b.label)


def test_only_what_is_read_is_fetched(remote, written):
    found, local = TfdsSource(fetch(remote, "name"), "jp"), TfdsSource(written, "jp")
    assert found.names == local.names and not fetched()
    assert same(found[4], local[4])  # the second shard has records 3 to 5
    assert fetched() == ["propagated-jp.array_record-00001-of-00004"]
    again = pickle.loads(pickle.dumps(found))  # as for workers
    assert all(same(again[number], local[number]) for number in range(len(local))) and len(fetched()) == COUNT
    assert len(TfdsSource(fetch(remote, "name"), "lp")) == len(local)
    assert len(fetched()) == COUNT  # a second call fetches nothing again, and removes nothing
    assert len(shards.listed(fetch(remote, "name"))) == 2 * COUNT  # what is here may give way, too


def test_the_disk_is_bounded(remote, written, monkeypatch):
    size = max(path.stat().st_size for path in written.glob("*.array_record-*"))
    monkeypatch.setenv("SEGJAX_CACHE_GB", str(2.5 * size / 1e9))
    found, local = TfdsSource(fetch(remote, "name"), "jp"), TfdsSource(written, "jp")
    order = [0, 3, 1, 6, 2, 9, 11, 0, 5]
    assert all(same(found[number], local[number]) for number in order)
    assert [name[-14:-9] for name in fetched()] == ["00000", "00001"]  # the two that were read last
    monkeypatch.setenv("SEGJAX_CACHE_GB", str(size / 2e9))
    with pytest.raises(UserError, match="SEGJAX_CACHE_GB=.* is less than one shard .propagated-jp.*allow more"):
        found[11]
    monkeypatch.setenv("SEGJAX_CACHE_GB", "many")
    with pytest.raises(UserError, match="SEGJAX_CACHE_GB='many' must be a number of gigabytes above 0"):
        found[11]


def test_a_full_disk_and_damaged_shards(remote, monkeypatch):
    found = TfdsSource(fetch(remote, "name"), "jp")
    usage = collections.namedtuple("usage", "free")
    with monkeypatch.context() as full:
        full.setattr(shards.shutil, "disk_usage", lambda path: usage(shards.FREE))
        with pytest.raises(UserError, match="the disk of .* is full: .* needs 0 MB and .*SEGJAX_CACHE_DIR"):
            found[0]
    name = "propagated-jp.array_record-00000-of-00004"
    data = Store(remote).read(name)
    Store(remote).write(name, data[:-1])
    with pytest.raises(UserError, match=f"{remote}/{name} is damaged; delete the dataset there"):
        found[0]
    Store(remote).delete(name)
    with pytest.raises(UserError, match=f"{remote}/{name} is missing"):
        found[0]
    assert not fetched()


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    with importable_toy(tmp_path_factory.mktemp("builders")) as folder:
        yield folder


def test_one_host_builds_and_others_read(place, package, tmp_path, monkeypatch, capfd):
    options = {"log": str(tmp_path / "log")}
    first = open_source("toy", "train", data_dir=str(place), builder_options=options)
    images = [first[number].image for number in range(3)]
    said = capfd.readouterr().err
    assert "Building dataset toy" in said and f"Copying the dataset to {place}/toy/" in said
    monkeypatch.setenv("SEGJAX_CACHE_DIR", str(tmp_path / "another host"))
    monkeypatch.setenv("SEGJAX_DATA_DIR", f"{place}/")
    with pytest.raises(UserError, match="needs 1 image of 'sky'"):
        open_source("toy", "train@1shot", builder_options=options)  # which looks into all labels
    assert len((tmp_path / "log").read_text().splitlines()) == 1  # it was built once
    second = open_source("toy", "train", builder_options=options)
    assert all(np.array_equal(image, second[number].image) for number, image in enumerate(images))
    assert build_dataset("toy", builder_options=options).is_relative_to(tmp_path / "another host")


BUILD = """
import sys
sys.path.insert(0, sys.argv[3])
from pathlib import Path
from tests.data.toy_builders import add_toy_builder, importable_toy
add_toy_builder(Path(sys.argv[1]))
from segjax.data import open_source
print(len(open_source("toy", "train", data_dir=sys.argv[2], builder_options=dict(log=sys.argv[4], wait=0.3))))
"""


@pytest.mark.slow
def test_two_hosts_at_once_build_once(place, scheme, servers, package, tmp_path):
    root = str(Path(__file__).resolve().parents[2])
    environments = [
        {**os.environ, **bucket_servers.variables(scheme, servers[scheme][0]), "SEGJAX_CACHE_DIR": str(tmp_path / host)}
        for host in ("first", "second")
    ]
    command = [sys.executable, "-c", BUILD, str(package), str(place), root, str(tmp_path / "log")]
    hosts = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for environment in environments
    ]
    said = [host.communicate(timeout=120) for host in hosts]
    assert [output for output, _ in said] == ["3\n", "3\n"], said
    assert len((tmp_path / "log").read_text().splitlines()) == 1
