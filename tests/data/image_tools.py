"""Image files of every container, made in memory."""

import io
import struct
import zlib

import cv2
import numpy as np
from PIL import Image

Image.init()
AVIF = "AVIF" in Image.SAVE  # Pillow 11.3 or newer


def pil(array, format="PNG", **options) -> bytes:
    """Returns an array (h, w), (h, w, 3 or 4), or a Pillow image, as a file."""
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def palette(index, colors) -> Image.Image:
    """Returns a palette image of indices (h, w) and colours (n, 3)."""
    image = Image.fromarray(index).convert("P")
    image.putpalette(np.asarray(colors, np.uint8).tobytes())
    return image


def turned(orientation) -> bytes:
    """Returns EXIF data with an orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def chunk(kind: bytes, body: bytes) -> bytes:
    """Returns a chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(rows: list[bytes], width: int, bits: int, color: int, *, before=b"", interlace=0) -> bytes:
    """Returns a PNG of packed rows. before: chunks before the pixels."""
    head = struct.pack(">IIBBBBB", width, len(rows), bits, color, 0, 0, interlace)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + before + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def containers(image) -> dict[str, bytes]:
    """Returns small files of an RGB image (h, w, 3), in every container and kind of compression that is read."""
    grey, few = image[..., 0], Image.fromarray(image).quantize(16)
    rgba = np.dstack([image, grey])
    moving = {"save_all": True, "append_images": [Image.fromarray(255 - image)]}
    return {
        "plain.png": pil(image),
        "grey.png": pil(grey),
        "la.png": pil(Image.fromarray(np.dstack([grey, grey]), "LA")),
        "rgba.png": pil(rgba),
        "palette.png": pil(few),
        "bits.png": pil(Image.fromarray(grey).quantize(4), bits=2),
        "exif.png": pil(image, exif=turned(6)),
        "deep.png": cv2.imencode(".png", image.astype(np.uint16) * 257)[1].tobytes(),
        "deep_grey.png": cv2.imencode(".png", grey.astype(np.uint16) * 257)[1].tobytes(),
        "moving.png": pil(image, **moving),
        "plain.jpg": pil(image, "JPEG"),
        "exif.jpg": pil(image, "JPEG", exif=turned(8)),
        "grey.jpg": pil(grey, "JPEG"),
        "cmyk.jpg": pil(Image.fromarray(image).convert("CMYK"), "JPEG"),
        "progressive.jpg": pil(image, "JPEG", progressive=True),
        "lossless.webp": pil(image, "WEBP", lossless=True),
        "lossy.webp": pil(image, "WEBP"),
        "alpha.webp": pil(rgba, "WEBP"),
        "exif.webp": pil(image, "WEBP", lossless=True, exif=turned(3)),
        "moving.webp": pil(image, "WEBP", lossless=True, **moving),
        "plain.bmp": pil(image, "BMP"),
        "palette.bmp": pil(few, "BMP"),
        "plain.tif": pil(image, "TIFF"),
        "lzw.tif": pil(image, "TIFF", compression="tiff_lzw"),
        "deflate.tif": pil(rgba, "TIFF", compression="tiff_adobe_deflate"),
        "packbits.tif": pil(few, "TIFF", compression="packbits"),
        "fax.tif": pil(Image.fromarray(grey).convert("1"), "TIFF", compression="group4"),
        "jpeg.tif": pil(image, "TIFF", compression="jpeg"),
        "pages.tif": pil(image, "TIFF", **moving),
        "plain.gif": pil(few, "GIF"),
        "moving.gif": pil(few, "GIF", save_all=True, append_images=[Image.fromarray(255 - image).quantize(16)]),
        **({"plain.avif": pil(image, "AVIF")} if AVIF else {}),
        "plain.jp2": pil(image, "JPEG2000"),
        "plain.ppm": pil(image, "PPM"),
        "plain.pbm": pil(Image.fromarray(grey).convert("1"), "PPM"),
        "text.pgm": b"P2\n# text\n3 2 9\n" + b"0 1 2 3 4 9\n",
        "plain.tga": pil(image, "TGA"),
        "packed.tga": pil(image, "TGA", compression="tga_rle"),
    }
