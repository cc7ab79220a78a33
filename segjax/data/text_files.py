"""Text files that people write: lists and label maps, in any usual encoding and with any line ending."""

from __future__ import annotations

import codecs
import logging
import os

from segjax.data.image_files import read_bytes
from segjax.data.listing import shown
from segjax.errors import UserError

log = logging.getLogger("segjax")

_MARKS = (  # the mark of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)


def read_text(path: str | os.PathLike) -> str:
    r"""Returns the text of a file, with lines that end with "\n".

    Without a mark at its beginning the text is UTF-8, else, with a warning, Windows-1252 or Latin-1.

    Raises UserError if the file is missing, unreadable or empty, or holds no text.
    """
    return decode_text(read_bytes(path), shown(path))


def read_lines(path: str | os.PathLike) -> list[str]:
    """Returns the lines of a file, see `read_text`; other marks of Unicode end no line, because names may hold them."""
    return read_text(path).split("\n")


def decode_text(data: bytes, file: str) -> str:
    """Decodes the bytes of a text file, see `read_text`; file: its name, for messages."""
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "")
    try:
        text = data.decode(encoding or "utf-8")
    except UnicodeDecodeError:
        if encoding:
            raise UserError(f"{file} begins as {encoding} but is damaged; save it again as UTF-8") from None
        try:
            text, encoding = data.decode("cp1252"), "Windows-1252"
        except UnicodeDecodeError:
            text, encoding = data.decode("latin-1"), "Latin-1"
        if "\0" not in text:
            log.warning("%s is not UTF-8 and is read as %s; save it as UTF-8 if names look wrong", file, encoding)
    if "\0" in text:
        raise UserError(f"{file} holds bytes that are no text; save it as plain text, encoded as UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")
