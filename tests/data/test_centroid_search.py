"""The search for places of classes: labels only, kept in files, never repeated after a kill."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segjax.data import centroid_search
from segjax.data.centroid_search import find_centroids
from segjax.data.centroids import tile_centroids
from segjax.errors import UserError
from tests.data.fake_source import FakeSource
from tests.data.test_centroids import rows

ROOT = Path(__file__).resolve().parents[2]
EARLIER = {"components": "components-c4dc6f5c67a69d1646c7", "tiles": "tiles-ad6b96190765fd3296eb"}


def same(one, two):
    return all((getattr(one, f.name) == getattr(two, f.name)).all() for f in dataclasses.fields(one))


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_find_reads_all_records_once_and_then_the_file(tmp_path):
    source = FakeSource(5)
    found = find_centroids(source, "tiles", tile=16, cache=tmp_path)
    for i in range(5):
        mine = found.take(found.records == i)
        assert rows((mine.classes, mine.places, mine.areas)) == rows(tile_centroids(source[i].label, 4, tile=16))
    source.reads = source.images = 0
    again = find_centroids(source, "tiles", tile=16, cache=tmp_path)
    assert source.reads <= 8 and source.images == 0 and len(list(tmp_path.iterdir())) == 1
    assert all(
        (getattr(found, name) == getattr(again, name)).all() for name in ("records", "classes", "places", "areas")
    )


@pytest.mark.parametrize("change", ["setting", "names", "labels", "classes", "kind"])
def test_the_file_is_not_used_for_anything_else(tmp_path, change):
    options = dict(cache=tmp_path, min_area=1)
    find_centroids(FakeSource(5), "components", **options)
    source, kind = FakeSource(5), "components"
    if change == "setting":
        options["min_area"] = 2
    elif change == "names":
        source = FakeSource(4)
    elif change == "labels":
        source = FakeSource(5, shift=1)
    elif change == "classes":
        source = FakeSource(5, num_classes=3)
    else:
        kind = "tiles"
    source.reads = source.images = 0
    find_centroids(source, kind, **options)
    assert source.images == 0, "only labels are decoded"
    assert source.reads > min(8, len(source)) and len(list(tmp_path.iterdir())) == 2


def test_errors_name_the_remedy():
    with pytest.raises(UserError, match="Did you mean 'tiles'"):
        find_centroids(FakeSource(2), "tile")
    with pytest.raises(UserError, match="fake-1 has no label"):
        find_centroids(FakeSource(3, unlabelled=1), "tiles")
    with pytest.raises(UserError, match="no records"):
        find_centroids(FakeSource(0), "tiles")


def test_a_damaged_file_is_named(tmp_path):
    find_centroids(FakeSource(2), cache=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match=f"{file.name} is damaged; delete it"):
        find_centroids(FakeSource(2), cache=tmp_path)


@pytest.mark.parametrize("kind, options", [("components", dict(min_area=1)), ("tiles", dict(tile=16))])
def test_files_of_earlier_versions_are_found(tmp_path, kind, options):
    find_centroids(FakeSource(5), kind, cache=tmp_path, **options)
    assert files(tmp_path) == [f"centroids-{EARLIER[kind]}.npz"]


def test_parts_are_put_together(tmp_path, monkeypatch):
    whole = find_centroids(FakeSource(11), "components")
    monkeypatch.setattr(centroid_search, "PART", 4)
    assert same(find_centroids(FakeSource(11), "components", cache=tmp_path), whole)
    assert len(files(tmp_path)) == 1, "the parts are removed"


def test_an_error_keeps_the_parts_before_it(tmp_path, monkeypatch):
    monkeypatch.setattr(centroid_search, "PART", 4)
    bad = FakeSource(11, damaged=9)
    with pytest.raises(UserError, match="fake-9.png is damaged"):
        find_centroids(bad, "components", cache=tmp_path)
    assert [name[-11:] for name in files(tmp_path)] == ["0000000.npz", "0000004.npz"]


def test_a_process_that_is_overtaken_takes_what_the_other_found(tmp_path, monkeypatch):
    monkeypatch.setattr(centroid_search, "PART", 4)

    class Overtaken(FakeSource):
        def label(self, index):
            if index == 5 and self.reads > 8:  # not while the digest is made
                find_centroids(FakeSource(11), "components", cache=tmp_path, workers=1)
            return super().label(index)

    source = Overtaken(11)
    assert same(
        find_centroids(source, "components", cache=tmp_path, workers=1), find_centroids(FakeSource(11), "components")
    )
    assert source.reads <= 8 + 8, "the last part was found by the other process"
    assert len(files(tmp_path)) == 1


class Slow(FakeSource):
    """Slows down after the first part, so that the process is killed within the second."""

    def label(self, index):
        time.sleep(0.01 if 1000 <= index < 2000 and self.reads > 8 else 0)
        return super().label(index)


def test_kill_9_repeats_the_records_of_one_part(tmp_path):
    code = (
        "from tests.data import test_centroid_search as t\n"
        f"t.find_centroids(t.Slow(2300, ((4, 4),)), 'components', cache={str(tmp_path)!r}, workers=1)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, stderr=subprocess.PIPE)
    deadline = time.time() + 120
    while process.poll() is None and not list(tmp_path.glob("centroids-*-0000000.npz")) and time.time() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [name[-11:] for name in files(tmp_path) if name.endswith("npz")] == ["0000000.npz"], process.stderr.read()
    source = FakeSource(2300, ((4, 4),))
    found = find_centroids(source, "components", cache=tmp_path)
    assert source.reads == 8 + 1300
    assert same(found, find_centroids(source, "components"))
