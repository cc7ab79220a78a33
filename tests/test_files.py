"""Files that are whole or absent whatever happens while they are written, notes of settings, and settings as text."""

import errno
import json
import math
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from ml_collections import ConfigDict

from segjax import files
from segjax.errors import UserError

SETTINGS = {"steps": 2, "flow": {"name": "dis", "options": {"preset": "fast"}}, "sizes": (1, 2.5), "label": None}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_block_that_succeeds_replaces_the_file(tmp_path):
    path = tmp_path / "a.txt"
    for text in ("old", "new"):
        with files.replacing(path) as part:
            assert part.parent == tmp_path and part.name.startswith(".")
            part.write_text(text)
            assert not path.exists() or path.read_text() == "old"
        assert path.read_text() == text and names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError(errno.ENOSPC, "No space left on device")])
@pytest.mark.parametrize("old", [None, "old"])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, error, old):
    path = tmp_path / "a.txt"
    if old:
        path.write_text(old)
    with pytest.raises(error if isinstance(error, type) else OSError), files.replacing(path) as part:
        part.write_text("half")
        raise error
    assert names(tmp_path) == (["a.txt"] if old else []) and (not old or path.read_text() == old)


def test_an_error_before_anything_is_written_is_not_hidden(tmp_path):
    with pytest.raises(FileNotFoundError), files.replacing(tmp_path / "no folder" / "a.txt") as part:
        part.write_text("x")
    with pytest.raises(FileNotFoundError), files.replacing(tmp_path / "a.txt"):
        pass  # nothing was written


@pytest.mark.parametrize("step", ["write", "sync", "rename"])
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, step):
    """A disk is found to be full by a write, or by the system when it stores what was written."""

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "a.bin"
    files.write_file(path, b"old")
    if step == "write":
        monkeypatch.setattr(files.Path, "write_bytes", lambda part, data: (part.touch(), full()))
    else:
        monkeypatch.setattr(files.os, {"sync": "fsync", "rename": "replace"}[step], full)
    with pytest.raises(OSError, match="No space"):
        files.write_file(path, b"new")
    assert path.read_bytes() == b"old" and names(tmp_path) == ["a.bin"]


def test_a_file_that_need_not_last_is_not_waited_for(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(files.os, "fsync", synced.append)
    files.write_file(tmp_path / "a", b"x", durable=False)
    assert not synced
    files.write_file(tmp_path / "a", "ä")  # the file, and the name in its folder
    assert len(synced) == 2 and (tmp_path / "a").read_bytes() == "ä".encode()


def test_threads_that_write_one_file_never_mix(tmp_path):
    path, contents, seen = tmp_path / "a.bin", [bytes([i]) * 100_000 for i in range(4)], set()

    def work(data):
        for _ in range(20):
            files.write_file(path, data, durable=False)
            seen.add(path.read_bytes())

    threads = [threading.Thread(target=work, args=(data,)) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen <= set(contents) and names(tmp_path) == ["a.bin"]


def test_two_writers_at_once_do_not_share_a_temporary_file(tmp_path):
    path = tmp_path / "a.txt"
    with files.replacing(path) as one:
        one.write_text("one")
        with files.replacing(path) as two:
            two.write_text("two")
        assert path.read_text() == "two" and one.read_text() == "one"
    assert path.read_text() == "one" and names(tmp_path) == ["a.txt"]


KILLED = """
import os, signal, sys
from pathlib import Path
from segjax.files import replacing
with replacing(Path(sys.argv[1])) as part:
    part.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_leaves_is_hidden_and_can_be_removed(tmp_path, root):
    path = tmp_path / "deep" / "a.json"
    path.parent.mkdir()
    files.write_file(path, "{}")
    assert subprocess.run([sys.executable, "-c", KILLED, path], cwd=root).returncode == -9
    assert path.read_text() == "{}" and len(names(path.parent)) == 2
    assert list(tmp_path.rglob("*.json")) == [path]
    files.remove_parts(tmp_path)
    assert names(path.parent) == ["a.json"]


def test_json_has_null_for_what_is_not_finite(tmp_path):
    content = {"miou": math.nan, "scores": [1.5, math.inf, (np.float64("nan"), -math.inf)], "name": "nan", "count": 3}
    files.write_json(tmp_path / "a.json", content)
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == {"miou": None, "scores": [1.5, None, [None, None]], "name": "nan", "count": 3}
    assert text.startswith('{\n  "miou": null,') and text.endswith("}\n")
    assert math.isnan(content["miou"])


def test_json_that_cannot_be_made_leaves_the_old_file(tmp_path):
    files.write_json(tmp_path / "a.json", [1])
    with pytest.raises(TypeError):
        files.write_json(tmp_path / "a.json", {"a": object()})
    assert (tmp_path / "a.json").read_text() == "[\n  1\n]\n" and names(tmp_path) == ["a.json"]


def test_a_link_is_a_copy_without_hard_links(tmp_path, monkeypatch):
    source = tmp_path / "a"
    source.write_text("x")
    files.link(source, tmp_path / "b")
    assert os.path.samefile(source, tmp_path / "b")

    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(files.os, "link", refuse)
    files.link(source, tmp_path / "c")
    assert not os.path.samefile(source, tmp_path / "c") and (tmp_path / "c").read_text() == "x"


def begin(folder, settings, **options):
    return files.begin(folder / "note.json", settings, **{"remedy": "delete it.", **options})


def test_the_same_settings_resume(tmp_path):
    work = tmp_path / "deep" / "work"
    assert begin(work, SETTINGS)
    text = (work / "note.json").read_bytes()
    (work / ".00001.array_record.part-1f").write_text("of a killed process")
    (work / "00000.array_record").write_text("done")
    assert not begin(work, json.loads(json.dumps(SETTINGS)))
    assert not begin(work, dict(reversed(SETTINGS.items())))
    assert names(work) == ["00000.array_record", "note.json"] and (work / "note.json").read_bytes() == text
    assert text == files.as_text(SETTINGS).encode() + b"\n"


@pytest.mark.parametrize(
    "change, said",
    [
        ({"steps": 3}, "steps: 2 -> 3"),
        ({"flow": {"name": "dis", "options": {}}}, "flow.options.preset: 'fast' -> nothing"),
        ({"flow": "dis"}, "flow: {'name': 'dis', "),
        ({"flip": True, "sizes": [1]}, "flip: nothing -> True; sizes: [1, 2.5] -> [1]"),
        ({"label": 0}, "label: None -> 0"),
    ],
)
def test_other_settings_are_refused_by_name(tmp_path, change, said):
    begin(tmp_path, SETTINGS)
    with pytest.raises(UserError) as error:
        begin(tmp_path, {**SETTINGS, **change})
    assert str(error.value).startswith(f"{tmp_path} was begun with other settings ({said}")
    assert str(error.value).endswith("); delete it.")
    with pytest.raises(UserError, match=r"^/the/work was .* \(settings\.\S+: "):
        begin(tmp_path, {**SETTINGS, **change}, work="/the/work", where="settings")
    assert not begin(tmp_path, SETTINGS)


def test_a_damaged_note_is_not_taken_for_any_settings(tmp_path):
    (tmp_path / "note.json").write_text('{"steps": 2')
    with pytest.raises(UserError, match=r"other settings \(note.json is damaged\)"):
        begin(tmp_path, SETTINGS)


def test_changes_tell_new_work_from_the_same(tmp_path):
    note = tmp_path / "note.json"
    assert files.changes(note, {"path": tmp_path}) is None
    begin(tmp_path, {"path": tmp_path})
    assert files.changes(note, {"path": tmp_path}) == []
    assert files.changes(note, {"path": "other"}) == [f"path: {str(tmp_path)!r} -> 'other'"]


def test_differences():
    assert files.differences({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}}, where="train") == ["train.b.c: 2 -> 3"]
    assert files.differences({"a": 1}, {"b": 2}) == ["a: 1 -> nothing", "b: nothing -> 2"]
    assert files.differences([1, 2], [1], where="x") == ["x: [1, 2] -> [1]"]
    assert files.differences({"a": None}, {}) == ["a: None -> nothing"]
    assert files.differences({}, {}) == files.differences(SETTINGS, dict(SETTINGS)) == []


def test_the_hash_of_a_config_is_stable():
    """Reports of finished stages hold it: another value would refuse every run that exists."""
    assert files.config_hash(SETTINGS) == "37a8f6bbaae8"
    assert files.config_hash(ConfigDict(SETTINGS)) == files.config_hash(SETTINGS)
    assert files.config_hash(dict(reversed(SETTINGS.items()))) == files.config_hash(SETTINGS)
    assert files.config_hash({**SETTINGS, "steps": 3}) != files.config_hash(SETTINGS)
    assert files.config_hash("a", "b") != files.config_hash("b", "a")


@pytest.mark.parametrize(
    "error, said",
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full while building /x; .* with --workdir"),
        (RuntimeError("write() failed: No space left on device"), "the disk is full while building /x"),
        (
            PermissionError(errno.EACCES, "Permission denied"),
            r"/x cannot be created \(Permission denied\); .* --workdir",
        ),
    ],
)
def test_errors_of_the_disk_are_one_sentence(error, said):
    with pytest.raises(UserError, match=said), files.creating("/x", option="--workdir"):
        raise error


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), OSError(errno.EIO, "Input/output error")])
def test_other_errors_are_not_hidden(error):
    with pytest.raises(type(error), match=str(error.args[-1])), files.creating("/x"):
        raise error


def test_any_error_of_the_system_while_writing_is_one_sentence():
    with (
        pytest.raises(UserError, match=r"^/x cannot be written \(Input/output error\); give another place$"),
        files.writing("/x", remedy="give another place"),
    ):
        raise OSError(errno.EIO, "Input/output error")


def test_what_is_stored_is_what_the_file_contains(tmp_path):
    content = ConfigDict({**SETTINGS, "limit": math.inf, "seed": 3})
    files.write_json(tmp_path / "a.json", files.plain(content))
    stored = files.as_stored(content)
    assert stored == json.loads((tmp_path / "a.json").read_text())
    assert stored["sizes"] == [1, 2.5] and stored["limit"] is None
    assert files.differences(stored, files.as_stored(ConfigDict({**content.to_dict(), "seed": 4}))) == ["seed: 3 -> 4"]
