"""Text files of users: every usual encoding and line ending gives the same text."""

import json
import logging

import pytest

from segjax.data import LabelMap
from segjax.data.text_files import read_lines, read_text
from segjax.errors import UserError

TEXT = "straße/Žluť 1.png\nx\u2028y.jpg\n"


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_every_encoding_and_line_ending_gives_the_same_text(tmp_path, encoding, ending):
    (tmp_path / "list.txt").write_bytes(TEXT.replace("\n", ending).encode(encoding))
    assert read_text(tmp_path / "list.txt") == TEXT
    assert read_lines(tmp_path / "list.txt") == ["straße/Žluť 1.png", "x\u2028y.jpg", ""]


def test_big_endian_utf_16(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xfe\xff" + TEXT.encode("utf-16-be"))
    assert read_text(tmp_path / "list.txt") == TEXT


@pytest.mark.parametrize(
    "data, text, name", [(b"\x80\xe9.png", "€é.png", "Windows-1252"), (b"\x81\xe9", "\x81é", "Latin-1")]
)
def test_older_encodings_are_read_with_a_warning(tmp_path, caplog, data, text, name):
    (tmp_path / "list.txt").write_bytes(data)
    with caplog.at_level(logging.WARNING, "segjax"):
        assert read_text(tmp_path / "list.txt") == text
    assert f"list.txt is not UTF-8 and is read as {name}" in caplog.text


@pytest.mark.parametrize(
    "data, message",
    [
        (b"\xff\xfea", "begins as utf-16 but is damaged"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "holds bytes that are no text"),
        (b"", "is empty"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, data, message):
    (tmp_path / "list.txt").write_bytes(data)
    with pytest.raises(UserError, match=f"list.txt {message}"):
        read_text(tmp_path / "list.txt")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_label_maps_in_every_encoding(tmp_path, encoding):
    rows = [{"id": 0, "name": "Straße", "train_id": 0, "color": [1, 2, 3]}]
    text = json.dumps({"coding": "id", "labels": rows}, ensure_ascii=False, indent=1)
    (tmp_path / "map.json").write_bytes(text.replace("\n", "\r\n").encode(encoding))
    assert LabelMap.load(tmp_path / "map.json").class_names == ("Straße",)


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"labels": [{"id": 0, "name": "\\ud800", "train_id": 0, "color": [1, 2, 3]}]}', "not valid Unicode"),
        ('{"labels": [{"id": Infinity, "name": "a", "train_id": 0, "color": [1, 2, 3]}]}', "entry 0"),
        ("[" * 100_000, "cannot be read as JSON"),
    ],
)
def test_odd_label_maps_are_refused(tmp_path, text, message):
    (tmp_path / "map.json").write_text(text)
    with pytest.raises(UserError, match=message):
        LabelMap.load(tmp_path / "map.json")
