"""A local folder and its copy in a bucket: killed at any request, the copy is a state that the folder had."""

import contextlib
import os
import shutil

import pytest

from segjax.errors import UserError
from segjax.files import write_file, write_json
from segjax.remote import Store, store, tree
from segjax.remote.manifest import FILES, NEXT
from segjax.remote.mirror import Mirror
from segjax.remote.notes import read_note


class Killed(BaseException):
    pass


def content(folder):
    return {name: (folder / name).read_bytes() for name in tree.scan(folder)}


def first_state(folder):
    for name in ("report.json", "train/report.json", "train/checkpoints/2/state/a", "train/metrics.jsonl", "empty"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_file(folder / name, "" if name == "empty" else f"first {name}")


def second_state(folder):
    """Replaces two files, adds a folder, and removes another: as a stage that ends."""
    shutil.rmtree(folder / "train/checkpoints/2")
    (folder / "train/checkpoints/4/state").mkdir(parents=True)
    write_file(folder / "train/checkpoints/4/state/b", "second")
    write_file(folder / "train/report.json", "second")
    write_file(folder / "report.json", "second")


def fails_at(bucket, number):
    """Makes the writing request of that number, and all after it, kill the process."""
    left = [number]

    def counted(function):
        def call(*arguments):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return function(*arguments)

        return call

    bucket.write, bucket.delete = counted(bucket.write), counted(bucket.delete)
    return left


def test_what_is_pushed_is_pulled(place, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    first_state(here)
    os.utime(here / "train/checkpoints/2/state/a", ns=(1, 10**18 + 7))
    (here / ".x.part-1").write_text("unfinished")
    (here / "train/checkpoints/4.orbax-checkpoint-tmp").mkdir()
    (here / "train/checkpoints/4.orbax-checkpoint-tmp/a").write_text("unfinished")
    (here / ".lock").touch()
    assert Mirror(Store(place), here).push()
    assert Mirror(Store(place), there).pull()
    assert content(there) == content(here) and len(content(there)) == 5
    assert (there / "train/checkpoints/2/state/a").stat().st_mtime_ns == 10**18 + 7
    assert (there / "train/checkpoints/2").stat().st_mtime_ns == 10**18 + 7
    second_state(here)
    mirror = Mirror(Store(place), there)
    assert Mirror(Store(place), tmp_path / "empty").pull()
    writer = Mirror(Store(place), here)
    writer.pull()  # the bucket is the truth: what was not copied is gone
    assert content(here) == content(there)
    second_state(here)
    assert writer.push() and writer.push()
    assert mirror.pull() and content(there) == content(here)
    assert not (there / "train/checkpoints/2").exists()
    assert not [name for name in Store(place).names() if name.startswith(NEXT)]


def test_killed_at_any_request(place, tmp_path):
    states = []
    for number in range(100):
        here = tmp_path / f"here{number}"
        bucket = Store(place / str(number))
        mirror = Mirror(bucket, here)
        first_state(here)
        mirror.push()
        old = content(here)
        second_state(here)
        left = fails_at(bucket, number)
        with contextlib.suppress(Killed):
            mirror.push()
        again, reader = tmp_path / f"again{number}", tmp_path / f"reader{number}"
        assert Mirror(Store(bucket.address), reader).pull()
        assert Mirror(Store(bucket.address), again).pull(repair=True)
        assert content(reader) == content(again)
        assert content(again) in (old, content(here))
        states.append(content(again) == content(here))
        names = {name for name in Store(bucket.address).names() if not name.startswith(".segjax-remote/")}
        assert names == set(content(again))  # nothing is left of the killed push
        if left[0] >= 0:  # it was not killed
            break
    assert states == sorted(states) and states[0] is False and states[-1] is True and 7 < number < 20


def test_killed_twice_before_the_first_list(place, tmp_path):
    """Each push has a file of its own, as event files are; what the first one has left is not taken for another's."""
    for number in range(2):
        here = tmp_path / f"here{number}"
        mirror = Mirror(Store(place), here)
        assert mirror.pull(repair=True) is False
        first_state(here)
        write_file(here / f"train/events.{number}", "grows")
        fails_at(mirror.store, 7)  # at the list, after the note of what is begun and 6 files
        with pytest.raises(Killed):
            mirror.push()
        left = set(Store(place).names())
        assert FILES not in left and f"train/events.{number}" in left
    assert Mirror(Store(place), tmp_path / "again").pull(repair=True) is False
    assert all(name.startswith(".segjax-remote/") for name in Store(place).names())


def test_a_file_that_marks_others_is_never_ahead_of_them(place, tmp_path, monkeypatch):
    here = tmp_path / "here"
    first_state(here)
    mirror, original, times = Mirror(Store(place), here), Mirror._send, []

    def send(self, name, stamp):
        if name == "report.json" and not times:
            times.append(1)
            write_file(here / "new", "needed")
            write_file(here / "report.json", "needs new")
        return original(self, name, stamp)

    monkeypatch.setattr(Mirror, "_send", send)
    assert mirror.push() is False and Store(place).read(FILES) is None
    shutil.rmtree(here / "train/checkpoints")  # as an old checkpoint is, while it is copied
    assert mirror.push() is True and Store(place).read("new") == b"needed"
    names = {name for name in Store(place).names() if not name.startswith(".segjax-remote/")}
    assert names == set(content(here)) and not [name for name in Store(place).names() if name.startswith(NEXT)]


def test_a_push_that_was_refused_in_its_middle_is_completed(place, rule, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "RETRIES", {**store.RETRIES, "max_retries": 1})
    here = tmp_path / "here"
    first_state(here)
    mirror = Mirror(Store(place), here)
    mirror.push()
    second_state(here)
    listed = []

    def refuse(method, path):  # all that comes after the list
        if method in ("PUT", "POST") and "files.json" in path:
            listed.append(path)
            return None
        return (403, "no") if listed and method != "GET" else None

    rule.rule = refuse
    with pytest.raises(UserError, match="no permission"):
        mirror.push()
    rule.rule = lambda method, path: None
    assert Mirror(Store(place), tmp_path / "reader").pull() and content(tmp_path / "reader") == content(here)
    write_file(here / "report.json", "third")
    assert mirror.push()
    names = {name for name in Store(place).names() if not name.startswith(".segjax-remote/")}
    assert names == set(content(here)) and not [name for name in Store(place).names() if name.startswith(NEXT)]
    assert Store(place).read("report.json") == b"third" and Store(place).read("train/report.json") == b"second"


def test_other_files_are_kept_and_refused(place, tmp_path):
    Store(place).write("thesis.txt", b"mine")
    with pytest.raises(UserError, match="holds files that no run of segjax has finished writing there .thesis.txt"):
        Mirror(Store(place), tmp_path / "here").pull()
    assert Store(place).read("thesis.txt") == b"mine"


def test_what_a_user_deletes_or_damages_is_gone(place, tmp_path, caplog):
    here = tmp_path / "here"
    first_state(here)
    Mirror(Store(place), here).push()
    Store(place).delete("train/report.json")
    Store(place).write("train/checkpoints/2/state/a", b"damaged")
    Store(place).write("train/metrics.jsonl", b"first train/metrics.jsonl and more")
    assert Mirror(Store(place), tmp_path / "there").pull()
    assert set(content(tmp_path / "there")) == {"report.json", "train/metrics.jsonl", "empty"}
    assert (tmp_path / "there/train/metrics.jsonl").read_text().endswith("and more")  # it grows
    assert "1 files of" in caplog.text and "is not what was written there, and is ignored" in caplog.text
    Store(place).write(FILES, b"[")
    with pytest.raises(UserError, match="files.json is damaged, or of a newer version"):
        Mirror(Store(place), here).pull()
    Store(place).write(FILES, b'{"version": 1, "files": {"../x": [1, 1, "a"]}}')
    with pytest.raises(UserError, match="files.json is damaged, or of a newer version"):
        Mirror(Store(place), here).pull()


def test_a_list_that_is_refused_deletes_nothing(place, rule, tmp_path):
    here = tmp_path / "here"
    first_state(here)
    Mirror(Store(place), here).push()
    before = content(here)
    listing = "list-type=2" if place.scheme == "s3" else "/o?"
    empty = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
    rule.rule = lambda method, path: (
        (200, empty if place.scheme == "s3" else '{"error": {"code": 403}}') if listing in path else None
    )
    assert Store(place).names() == []
    for folder in (here, tmp_path / "there"):
        assert Mirror(Store(place), folder).pull() and content(folder) == before


def test_records_of_datasets_stay_in_the_bucket(place, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    shard = "propagate/dataset/x-train.array_record-00000-of-00001"
    first_state(here)
    (here / shard).parent.mkdir(parents=True)
    write_file(here / shard, "records")
    write_json(here / "propagate/dataset/dataset_info.json", {})
    Mirror(Store(place), here).push()
    mirror = Mirror(Store(place), there)
    mirror.pull()
    assert not (there / shard).exists() and list(read_note((there / shard).parent)[1]) == [shard.rpartition("/")[2]]
    write_file(there / "report.json", "second")
    assert mirror.push() and Store(place).read(shard) == b"records"  # that it is not here is no removal
    shutil.rmtree((there / shard).parent)
    assert mirror.push() and Store(place).read(shard) is None


def test_processes_give_their_shards_to_the_first(place, tmp_path):
    first, second = (Mirror(Store(place), tmp_path / name) for name in ("first", "second"))
    for mirror, number in ((first, 0), (second, 1)):
        (mirror.folder / "shards").mkdir(parents=True)
        write_file(mirror.folder / "shards" / f"{number}.json", str(number))
    write_file(second.folder / "mine.json", "of the second process alone")
    second.offer(1)
    first.accept(2, fetch=False)
    first.push()
    assert set(Mirror(Store(place), tmp_path / "other").files) == set()
    other = Mirror(Store(place), tmp_path / "other")
    other.pull()
    assert set(other.files) == {"shards/0.json", "shards/1.json"}  # a kill now loses nothing
    first.accept(2, fetch=True)
    first.push()
    first.forget_offers(2)
    second.pull()
    assert content(first.folder) == content(second.folder) == {"shards/0.json": b"0", "shards/1.json": b"1"}
