"""Video files, opened with OpenCV: of known containers only, because a text may name other files to be opened."""

from __future__ import annotations

import os
from pathlib import Path

import cv2

from segjax.data.file_limits import check_regular
from segjax.data.image_header import check_pixels
from segjax.errors import UserError

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # its log lines do not name the file; the UserErrors below do
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".mxf")
_BEGINNINGS = (
    *(b"RIFF", b"\x1aE\xdf\xa3", b"\x06\x0e\x2b\x34", b"\0\0\x01", b"\0\0\0\x01"),  # AVI, Matroska, MXF, MPEG, H.264
    *(b"FLV", b"OggS", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", b"DKIF", b"YUV4MPEG2"),
)
_BOXES = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"pnot", b"uuid")  # MP4, MOV
_LISTS = (b"ffconcat", b"#EXTM3U", b"<?xml", b"<MPD", b"v=0", b"# VobSub")  # that FFmpeg would follow
_PACKET, _SYNC = 188, 0x47  # of a transport stream, whose packets may begin with 4 bytes of time


def open_video(file: str | os.PathLike) -> cv2.VideoCapture:
    """Opens a video file.

    Raises UserError for a file that is missing, no regular one, a list of other files, damaged or of an unknown kind,
    and for frames of more than MAX_PIXELS.
    """
    check_regular(file)
    head = _head(Path(file))
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(_LISTS):
        raise UserError(f"{file} is a list that may name other files, not a video; give the videos themselves")
    # a whole path, as "concat:a|b" or "http:" would be an address; other readers of OpenCV take similar names, too
    capture = cv2.VideoCapture(os.path.abspath(file), _reader()) if _is_video(head) else None
    if capture is None or not capture.isOpened():
        raise UserError(
            f"{file} cannot be opened as a video: damaged or of an unknown kind; copy it again or convert it to mp4"
        )
    try:
        check_pixels(int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT) * capture.get(cv2.CAP_PROP_FRAME_WIDTH)), str(file))
    except UserError:
        capture.release()
        raise
    return capture


def _head(file: Path) -> bytes:
    try:
        with open(file, "rb") as stream:
            return stream.read(2 * _PACKET)
    except FileNotFoundError:
        raise UserError(f"{file} does not exist; check the path") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}); check its permissions") from None


def _is_video(head: bytes) -> bool:
    packets = any(len(head) > _PACKET + time and head[time] == head[time * 2 + _PACKET] == _SYNC for time in (0, 4))
    return packets or head.startswith(_BEGINNINGS) or head[4:8] in _BOXES


def _reader() -> int:
    return cv2.CAP_FFMPEG if cv2.videoio_registry.hasBackend(cv2.CAP_FFMPEG) else cv2.CAP_ANY
