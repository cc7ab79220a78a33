import json
import logging
import struct

import jax
import pytest
from tensorboardX.proto.event_pb2 import Event

from segjax.training import metric_files as writers
from segjax.training.metric_files import JsonLines, TensorBoard, open_writers, read_entries


def write(path, steps, start=0, value=0.0):
    writer = JsonLines(path, start_step=start)
    for step in steps:
        writer.write(step, "train", {"loss": value + step})
    return writer


def test_lines_can_be_read_while_the_run_goes_on(tmp_path):
    writer = write(tmp_path / "m.jsonl", [1, 2])
    writer.write(2, "eval", {"miou": 0.5, "bad": float("nan"), "count": 3})
    assert read_entries(tmp_path / "m.jsonl", "train") == [
        {"step": 1, "kind": "train", "loss": 1.0},
        {"step": 2, "kind": "train", "loss": 2.0},
    ]
    assert read_entries(tmp_path / "m.jsonl")[2] == {"step": 2, "kind": "eval", "miou": 0.5, "bad": None, "count": 3}
    writer.close()


def test_a_resumed_run_has_no_step_twice(tmp_path):
    path = tmp_path / "m.jsonl"
    write(path, range(1, 8))  # killed, not closed
    write(path, range(5, 10), start=4, value=100.0).close()
    found = read_entries(path)
    assert [entry["step"] for entry in found] == list(range(1, 10))
    assert [entry["loss"] for entry in found] == [1, 2, 3, 4, 105, 106, 107, 108, 109]


@pytest.mark.parametrize(
    "line", ["7", '"kind"', "[]", "{}", '{"step": 3}', "null", "[" * 99_999], ids=lambda line: line[:9]
)
def test_a_damaged_line_is_skipped(tmp_path, line):
    path = tmp_path / "m.jsonl"
    write(path, [1, 2]).close()
    path.write_text(f"{line}\n{path.read_text()}")
    assert [entry["step"] for entry in read_entries(path)] == [1, 2]


def test_a_run_from_the_start_keeps_nothing(tmp_path):
    write(tmp_path / "m.jsonl", [1, 2]).close()
    write(tmp_path / "m.jsonl", [1], start=0).close()
    assert [entry["step"] for entry in read_entries(tmp_path / "m.jsonl")] == [1]


@pytest.mark.parametrize(
    "rest",
    [
        '{"step": 3, "kind": "tr',
        '{"step": 3, "kind": "train"}',
        "\x00\x00\n",
        "7\n",
        "[]\n",
        "{}\n",
        "[" * 99_999 + "\n",
    ],
)
def test_a_line_cut_off_by_a_kill_is_dropped(tmp_path, rest):
    path = tmp_path / "m.jsonl"
    write(path, [1, 2]).close()
    with open(path, "a") as file:
        file.write(rest)
    write(path, [3], start=9).close()
    assert [entry["step"] for entry in read_entries(path)] == [1, 2, 3]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_full_disk_ends_the_file_and_not_the_run(tmp_path, caplog):
    writer = JsonLines(tmp_path / "m.jsonl")
    writer._file.close()
    writer._file = open("/dev/full", "w")  # noqa: SIM115
    with caplog.at_level(logging.WARNING, "segjax"):
        writer.write(1, "train", {"loss": 1.0})
        writer.write(2, "train", {"loss": 1.0})
    assert caplog.text.count("No space left on device") == 1


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING, "segjax"):
        JsonLines(tmp_path / "file" / "m.jsonl").write(1, "train", {"loss": 1.0})
    assert "no more metrics" in caplog.text


def events(folder):
    """All events, read from the records themselves: length, crc, proto, crc."""
    for path in sorted(folder.iterdir()):
        data, place = path.read_bytes(), 0
        while place < len(data):
            (length,) = struct.unpack_from("<Q", data, place)
            yield Event.FromString(data[place + 12 : place + 12 + length])
            place += 16 + length


def scalars(folder):
    """(step, tag, value) of all event files."""
    return [(event.step, value.tag, value.simple_value) for event in events(folder) for value in event.summary.value]


def test_tensorboard_gets_the_same_numbers(tmp_path):
    writer = TensorBoard(tmp_path / "events")
    writer.write(3, "train", {"loss": 0.5, "lr": 0.25})
    writer.write(4, "eval", {"miou": 0.75})
    writer.flush()
    writer.close()
    assert scalars(tmp_path / "events") == [(3, "train/loss", 0.5), (3, "train/lr", 0.25), (4, "eval/miou", 0.75)]


def test_a_resumed_run_hides_what_comes_after_it(tmp_path):
    for start in (0, 4):
        writer = TensorBoard(tmp_path / str(start), start_step=start)
        writer.close()
    (first,) = (tmp_path / "0").iterdir()
    first.rename(first.with_name("events.first"))
    TensorBoard(tmp_path / "0", start_step=4).close()
    assert [event.step for event in events(tmp_path / "0") if event.HasField("session_log")] == [5]
    assert not [event for event in events(tmp_path / "4") if event.HasField("session_log")]


def test_a_full_disk_ends_the_events_and_not_the_run(tmp_path, caplog):
    """With the thread of tensorboardX's own writer the eleventh event would wait forever."""
    writer = TensorBoard(tmp_path / "events")
    writer._file._py_recordio_writer._writer = open("/dev/full", "wb")  # noqa: SIM115
    with caplog.at_level(logging.WARNING, "segjax"):
        for step in range(40):
            writer.write(step, "train", {"loss": 1.0})
            writer.flush()
    writer.close()
    assert caplog.text.count("No space left on device") == 1


def test_a_folder_without_events_is_a_warning(tmp_path, caplog):
    (tmp_path / "events").write_text("")
    with caplog.at_level(logging.WARNING, "segjax"):
        writer = TensorBoard(tmp_path / "events")
        writer.write(1, "train", {"loss": 1.0})
        writer.close()
    assert caplog.text.count("no more events") == 1


def test_process_0_writes_and_others_do_not(tmp_path, monkeypatch):
    opened = open_writers(tmp_path, start_step=0)
    assert [type(writer) for writer in opened] == [JsonLines, TensorBoard]
    for writer in opened:
        writer.close()
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    assert open_writers(tmp_path / "other", start_step=0) == []
    assert not (tmp_path / "other").exists()


def test_without_tensorboardx_one_line_says_so(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(writers.importlib.util, "find_spec", lambda name: None)
    writers._has_tensorboard.cache_clear()
    with caplog.at_level(logging.WARNING, "segjax"):
        for _ in range(2):
            (only,) = open_writers(tmp_path, start_step=0)
            only.close()
    writers._has_tensorboard.cache_clear()
    assert caplog.text.count("tensorboardX is not installed") == 1
