"""The video of the square as a folder of frames and as a film, each beside a folder of masks and a label map."""

import cv2
import pytest

from segjax.media.writers import write_png
from tests.propagation.square import MAP, frame, mask


@pytest.fixture
def folder(tmp_path):
    for number in range(8):
        write_png(tmp_path / f"frames/drive_{number:04d}.png", frame(number))
    write_png(tmp_path / "labels/drive_0003.png", mask(3))
    MAP.save(tmp_path / "map.json")
    return tmp_path


@pytest.fixture
def film(tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "film.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (48, 32))
    for number in range(8):
        writer.write(cv2.cvtColor(frame(number), cv2.COLOR_RGB2BGR))
    writer.release()
    write_png(tmp_path / "labels/3.png", mask(3))
    MAP.save(tmp_path / "map.json")
    return tmp_path
