"""A TIFF writer of a few lines, for kinds of files that image libraries do not write."""

import struct

import numpy as np


def tiff(
    samples, *, bits=8, photometric=1, form=None, extra=None, colors=None, planar=1, order="<", big=False,
    orientation=0, compression=1, tile=0, predictor=1, rows=0,
):  # fmt: skip
    """Returns a TIFF of samples (h, w) or (h, w, channels).

    form: SampleFormat. extra: ExtraSamples. colors: values of the ColorMap. tile: side of tiles. rows: per strip.
    predictor: only its tag, which has no meaning without compression.
    """
    samples = np.asarray(samples)
    h, w = samples.shape[:2]
    samples = samples.reshape(h, w, -1)
    channels = samples.shape[2]
    planes = [samples] if planar == 1 else [samples[..., i : i + 1] for i in range(channels)]
    parts = []
    for plane in planes:
        if tile:
            padded = np.pad(plane, ((0, -h % tile), (0, -w % tile), (0, 0)))
            parts += [padded[y : y + tile, x : x + tile] for y in range(0, h, tile) for x in range(0, w, tile)]
        else:
            parts += [plane[y : y + (rows or h)] for y in range(0, h, rows or h)]
    strips = [_pack(part, bits, order) for part in parts]
    places = [16 + sum(map(len, strips[:i])) for i in range(len(strips))]
    tags = {
        256: ("I", [w]), 257: ("I", [h]), 258: ("H", [bits] * channels), 259: ("H", [compression]),
        262: ("H", [photometric]), 277: ("H", [channels]), 284: ("H", [planar]), 317: ("H", [predictor]),
    }  # fmt: skip
    if tile:
        tags |= {322: ("I", [tile]), 323: ("I", [tile]), 324: ("I", places), 325: ("I", list(map(len, strips)))}
    else:
        tags |= {273: ("I", places), 278: ("I", [rows or h]), 279: ("I", list(map(len, strips)))}
    if form:
        tags[339] = ("H", [form] * channels)
    if extra is not None:
        tags[338] = ("H", [extra])
    if colors is not None:
        tags[320] = ("H", colors)
    if orientation:
        tags[274] = ("H", [orientation])
    body = b"".join(strips)
    start = 16 + len(body) + len(body) % 2
    number, inline, place = ("Q", 8, "Q") if big else ("I", 4, "I")
    table, rest = struct.pack(order + ("Q" if big else "H"), len(tags)), b""
    end = start + len(table) + len(tags) * (20 if big else 12) + inline
    for tag, (kind, values) in sorted(tags.items()):
        data = struct.pack(f"{order}{len(values)}{kind}", *values)
        table += struct.pack(order + "HH" + number, tag, {"H": 3, "I": 4}[kind], len(values))
        if len(data) <= inline:
            table += data.ljust(inline, b"\0")
        else:
            table, rest = table + struct.pack(order + place, end + len(rest)), rest + data
    mark = b"II" if order == "<" else b"MM"
    head = struct.pack(order + "HHHQ", 43, 8, 0, start) if big else struct.pack(order + "HI", 42, start)
    return (mark + head).ljust(16, b"\0") + body.ljust(start - 16, b"\0") + table + bytes(inline) + rest


def _pack(part, bits, order):
    if bits < 8:
        each = (part[..., 0][..., None] >> np.arange(bits)[::-1]) & 1
        return np.packbits(each.reshape(len(part), -1).astype(np.uint8), axis=1).tobytes()
    return part.astype(part.dtype.newbyteorder(order)).tobytes()
