"""Mutated files of every container give an array or a UserError that names the file, and print nothing."""

import random
import warnings

import cv2
import numpy as np
import pytest

from segjax.data import image_files, image_header
from segjax.data.image_files import decode_image, decode_mask, image_size, is_plain_rgb
from segjax.errors import UserError
from tests.data.image_tools import containers

SMALL = cv2.resize(np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8), (60, 40))
FILES = containers(SMALL)
ROUNDS = 150


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Flips bits, cuts the end off, or repeats or removes a part; often near the header."""
    changed = bytearray(data)
    place = chance.randrange(len(data) if chance.random() < 0.5 else min(64, len(data)))
    match chance.randrange(4):
        case 0:
            for _ in range(chance.randrange(1, 5)):
                changed[place] ^= 1 << chance.randrange(8)
                place = chance.randrange(len(data))
        case 1:
            del changed[max(1, place) :]
        case 2:
            changed[place:place] = changed[place : place + chance.randrange(1, 60)]
        case 3:
            del changed[place : place + chance.randrange(1, 30)]
    return bytes(changed) or b"\0"


def repeat_chunk(data: bytes, chance: random.Random) -> bytes:
    """Repeats a whole chunk of a PNG, whose checksum stays right."""
    chunks, place = [], 8
    while place < len(data):
        size = 12 + int.from_bytes(data[place : place + 4])
        chunks.append(data[place : place + size])
        place += size
    index = chance.randrange(len(chunks))
    chunks.insert(chance.randrange(len(chunks) + 1), chunks[index])
    return data[:8] + b"".join(chunks)


@pytest.mark.parametrize("name", sorted(FILES))
def test_mutated_files(name, capfd, tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "_say_once", lambda *_: None)
    monkeypatch.setattr(image_header, "MAX_PIXELS", 10**6)  # a flipped bit makes a canvas of any size
    path, chance = tmp_path / name, random.Random(f"seed of {name}")
    read = {
        "image": lambda data: decode_image(data, str(path)),
        "ids": lambda data: decode_mask(data, str(path), transparent=255),
        "colours": lambda data: decode_mask(data, str(path), coding="color", transparent=(0, 0, 0)),
    }
    whole = 0
    with warnings.catch_warnings(record=True) as caught:
        for number in range(ROUNDS // len(read) + 1):
            twice = name.endswith(".png") and number % 4 == 0
            data = repeat_chunk(FILES[name], chance) if twice else mutate(FILES[name], chance)
            for kind, decode in read.items():
                try:
                    array = decode(data)
                except UserError as error:
                    assert str(error).startswith(str(path)) and "\n" not in str(error)
                    continue
                whole += 1
                assert array.dtype in ((np.uint8, np.uint16) if kind == "ids" else (np.uint8,))
                assert array.ndim == (2 if kind == "ids" else 3) and array.flags.writeable
                if kind == "image":
                    path.write_bytes(data)
                    assert image_size(path) == array.shape[:2]
                    assert is_plain_rgb(data) in (True, False)
    assert not caught, caught[0].message
    assert capfd.readouterr().err == ""
    assert whole < ROUNDS


@pytest.mark.parametrize("name", sorted(FILES))
def test_files_are_read_before_they_are_mutated(name):
    decode_image(FILES[name], name)
