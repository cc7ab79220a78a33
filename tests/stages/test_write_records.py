"""A dataset written group by group: the processes share it, a kill repeats one shard, other settings are refused."""

import numpy as np
import pytest

from segjax.data import LabelMap, TfdsSource
from segjax.data.image_files import encode_png
from segjax.data.record_shards import RecordShards
from segjax.errors import UserError
from segjax.stages.write_records import finish_records, write_records

LABELS = [{"id": i, "name": f"class {i}", "train_id": i, "color": [i, i, i]} for i in range(3)]
GROUPS = [(0, 1), (2,), (), (3, 4, 5), (6,)]  # numbers of records; the third group has none


def shards_in(folder, **identity):
    return RecordShards(
        folder,
        name="squares",
        splits=("a", "b"),
        label_map=LabelMap.from_dict({"coding": "id", "labels": LABELS}),
        extra={"square": "int"},
        identity={"side": 8, **identity},
    )


def compute(group):
    return [number**2 for number in group]


def encode(squares):
    label = encode_png(np.full((8, 8), 1, np.uint8))
    image = encode_png(np.full((8, 8, 3), 7, np.uint8))
    common = {"image": image, "label": label, "sequence": "", "frame": 0, "height": 8, "width": 8, "labelled": True}
    return (
        {split: [{**common, "name": f"{split}{square}", "square": square} for square in squares] for split in "ab"},
        {"sum": sum(squares)},
    )


def write(shards, *, compute=compute, encode=encode):
    return write_records(shards, GROUPS, compute, encode)


def done(shards):
    return [number for number in range(len(GROUPS)) if shards.summary(number)]


def files(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.array_record*")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(folder of the dataset, what `write_records` returned) of a call that nothing disturbed."""
    shards = shards_in(tmp_path_factory.mktemp("whole"))
    written = write(shards)
    return finish_records(shards, written, extra_files={"sums.npz": {"sums": np.arange(3)}}), written


def test_records_of_all_groups_their_summaries_and_the_rate(whole):
    directory, written = whole
    assert [note["sum"] for note in written.notes] == [1, 4, 0, 50, 36]
    assert [note["lengths"] for note in written.notes] == [{"a": n, "b": n} for n in map(len, GROUPS)]
    assert written.records == 7 and written.rate > 0
    for split in "ab":
        found = TfdsSource(directory, split)
        assert found.names == [f"{split}{n**2}" for n in range(7)] and found[3].image.shape == (8, 8, 3)
    with np.load(directory / "sums.npz") as stored:
        assert stored["sums"].tolist() == [0, 1, 2]


class Killed(BaseException):
    """As a signal would end the process: no handler of the program sees it."""


@pytest.mark.parametrize("where", ["compute", "encode"])
@pytest.mark.parametrize("at", range(len(GROUPS)))
def test_a_killed_call_repeats_at_most_one_shard(whole, tmp_path, where, at):
    computed, encoded = [], []

    def one_killed(name, function, seen):
        def call(argument):
            seen.append(argument)
            if where == name and len(seen) == at + 1:
                raise Killed
            return function(argument)

        return call

    shards = shards_in(tmp_path)
    with pytest.raises(Killed):
        write(shards, compute=one_killed("compute", compute, computed), encode=one_killed("encode", encode, encoded))
    there, before = done(shards), files(tmp_path / "shards")
    assert there == list(range(at)), "a shard is whole or not there, and the one before it is written"
    assert len(computed) <= at + 2  # one is written while the next is computed
    times = {number: (tmp_path / "shards" / f"{number:05d}.json").stat().st_mtime_ns for number in there}

    again = []
    written = write(shards_in(tmp_path), compute=lambda group: again.append(group) or compute(group))
    assert again == GROUPS[at:] and written.records == sum(map(len, GROUPS[at:]))
    assert all((tmp_path / "shards" / f"{n:05d}.json").stat().st_mtime_ns == time for n, time in times.items())
    assert before.items() <= files(tmp_path / "shards").items()
    assert written.notes == whole[1].notes
    directory = finish_records(shards, written)
    assert files(directory) == files(whole[0])


def test_a_call_after_the_last_shard_computes_nothing(tmp_path):
    shards = shards_in(tmp_path)
    write(shards)
    written = write(shards, compute=None, encode=None)
    assert written.records == 0 and written.rate is None and len(written.notes) == len(GROUPS)


def test_an_error_while_writing_ends_the_call(tmp_path):
    def broken(squares):
        raise UserError("the disk is full")

    with pytest.raises(UserError, match="the disk is full"):
        write(shards_in(tmp_path), encode=broken)
    assert done(shards_in(tmp_path)) == []


def test_groups_are_prepared_one_ahead_and_in_order(whole, tmp_path):
    prepared, seen = [], []

    def prepare(group):
        prepared.append(group)
        return [number for number in group]

    def compute_prepared(numbers):
        seen.append((numbers, len(prepared)))
        return compute(numbers)

    shards = shards_in(tmp_path)
    written = write_records(shards, GROUPS, compute_prepared, encode, prepare=prepare)
    assert prepared == GROUPS and [numbers for numbers, _ in seen] == [list(group) for group in GROUPS]
    assert all(count <= number + 2 for number, (_, count) in enumerate(seen)), "no more than one ahead"
    assert files(finish_records(shards, written)) == files(whole[0])


def test_an_error_of_preparing_ends_the_call(tmp_path):
    def prepare(group):
        if group == GROUPS[2]:
            raise UserError("record 2 is damaged")
        return group

    with pytest.raises(UserError, match="record 2 is damaged"):
        write_records(shards_in(tmp_path), GROUPS, compute, encode, prepare=prepare)
    assert done(shards_in(tmp_path)) == [0, 1]


def test_other_settings_are_refused_and_nothing_is_computed(tmp_path):
    write(shards_in(tmp_path))
    with pytest.raises(UserError, match=r"other settings \(colour: nothing -> 'red'; side: 8 -> 9\); delete"):
        write(shards_in(tmp_path, side=9, colour="red"), compute=None)


def test_processes_share_the_shards(whole, tmp_path, monkeypatch):
    """Each writes every second shard; the files are those that one process writes."""
    waits = []
    monkeypatch.setattr("segjax.parallel.sync", waits.append)
    monkeypatch.setattr("jax.process_count", lambda: 2)

    def as_process(index):
        monkeypatch.setattr("jax.process_index", lambda: index)
        return shards_in(tmp_path)

    as_process(0).open()  # which the others wait for
    shards = as_process(1)
    other = write(shards)
    assert done(shards) == [1, 3] and other.records == 4
    shards = as_process(0)
    written = write(shards)
    assert done(shards) == [0, 1, 2, 3, 4] and written.records == 3
    assert written.notes == whole[1].notes
    assert waits == ["squares: folder", "squares: shards"] * 2
    as_process(1)
    directory = finish_records(shards, written)
    assert not directory.exists(), "process 0 puts the shards together"
    as_process(0)
    assert finish_records(shards, written) == directory and files(directory) == files(whole[0])
    assert waits[4:] == ["squares: dataset"] * 2
