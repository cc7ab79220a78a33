"""Proposals of pairs: what people's folders look like, and the options that pair them; nothing is paired by a guess."""

import shlex

import pytest

from segjax.data.folders import pair_files
from segjax.data.pairing import better_pairs, pair_or_propose, propose
from segjax.errors import UserError

N = range(8)
BOTH = ("train", "val")


def touch(root, names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def two(image, mask):
    """Files of two folders, {} = number."""
    return [f"i/{image.format(n)}" for n in N] + [f"m/{mask.format(n)}" for n in N]


def one(image, mask):
    """Files of one folder, {0} = split, {1} = number."""
    return [form.format(split, n) for form in (image, mask) for split in BOTH for n in N]


@pytest.mark.parametrize(
    "files, options",
    [
        (two("img_{}.jpg", "mask_{}.png"), {"image_prefix": "img_", "mask_prefix": "mask_"}),
        (two("{}.jpg", "{}_gt.png"), {"mask_suffix": "_gt"}),
        (two("{}.jpg", "{}_mask.png"), {"mask_suffix": "_mask"}),
        (two("{}.jpg", "{}_labelIds.png"), {"mask_suffix": "_labelIds"}),
        (two("{}.jpg", "mask{}.png"), {"mask_prefix": "mask"}),
        (two("IMG_{} (2).jpg", "IMG_{} (2) Maske.png"), {"mask_suffix": " Maske"}),
        (two("a{}.jpg", "a{}.jpg.png"), {"mask_suffix": ".jpg"}),
        (
            [
                *two("c/{}_leftImg8bit.png", "c/{}_gtFine_color.png"),
                *two("c/{}_leftImg8bit.png", "c/{}_gtFine_ids.png"),
            ],
            {"image_suffix": "_leftImg8bit", "mask_suffix": "_gtFine_ids"},
        ),
    ],
)
def test_names_of_two_folders(tmp_path, files, options):
    touch(tmp_path, files)
    pairs = pair_or_propose(tmp_path / "i", tmp_path / "m")
    proposal = better_pairs(pairs, tmp_path / "i", tmp_path / "m")
    assert not pairs.pairs and len(pairs.images_without_mask) == len(N)
    assert proposal.options == options and proposal.pairs == len(N)
    # the recipe takes what is proposed
    assert len(pair_files(tmp_path / "i", tmp_path / "m", **proposal.options).pairs) == len(N)


@pytest.mark.parametrize(
    "files, options, count",
    [
        ([f"{n}.{kind}" for n in N for kind in ("jpg", "png")], {"image_suffix": ".jpg", "mask_suffix": ".png"}, 8),
        ([f"{n}{kind}.png" for n in N for kind in ("", "_mask")], {"mask_suffix": "_mask"}, 8),
        ([f"{kind}{n}.png" for n in N for kind in ("img", "mask")], {"image_prefix": "img", "mask_prefix": "mask"}, 8),
        ([f"{n}/{kind}.png" for n in N for kind in ("image", "mask")], {"image_suffix": "image", "mask_suffix": "mask"}, 8),  # noqa: E501
        (one("{}/images/{}.png", "{}/masks/{}.png"), {"images": "*/images", "masks": "*/masks"}, 16),
        (one("{}_images/{}.jpg", "{}_masks/{}.png"), {"images": "*_images", "masks": "*_masks"}, 16),
        (one("images_{}/{}.jpg", "masks_{}/{}.png"), {"images": "images_*", "masks": "masks_*"}, 16),
        (one("images/{}/{}.jpg", "labels/{}/{}.png"), {"images": "images", "masks": "labels"}, 16),
        (one("{}/{}.jpg", "{}annot/{}.png"), {"images": "*", "masks": "*annot"}, 16),
        (one("{}/{}.jpg", "{}/masks/{}.png"), {"images": "*", "masks": "*/masks"}, 16),
        (
            one("{}/images/img_{}.jpg", "{}/masks/mask_{}.png"),
            {"images": "*/images", "masks": "*/masks", "image_prefix": "img_", "mask_prefix": "mask_"},
            16,
        ),
    ],
)  # fmt: skip
def test_one_folder_for_both(tmp_path, files, options, count):
    touch(tmp_path, files)
    with pytest.raises(UserError, match="the same folder") as error:
        pair_or_propose(tmp_path, tmp_path)
    options = {key: str(tmp_path / text) if key in ("images", "masks") else text for key, text in options.items()}
    flags = " ".join(f"--{key.replace('_', '-')}={shlex.quote(text)}" for key, text in options.items())
    keys = " ".join(f"--config.dataset.options.{key}={shlex.quote(text)}" for key, text in options.items())
    assert str(error.value).endswith(f"; {flags} would give {count} pairs (in a recipe: {keys})")
    pairs = pair_files(options.pop("images", tmp_path), options.pop("masks", tmp_path), **options)
    assert len(pairs.pairs) == count and not pairs.images_without_mask and not pairs.masks_without_image


def test_folders_that_differ_by_a_word(tmp_path):
    touch(tmp_path, [f"i/{split}_images/{n}.jpg" for split in BOTH for n in N])
    touch(tmp_path, [f"m/{split}_masks/{n}.png" for split in BOTH for n in N])
    proposal = propose(tmp_path / "i", tmp_path / "m", found=0)
    assert proposal.options == {"images": f"{tmp_path}/i/*_images", "masks": f"{tmp_path}/m/*_masks"}
    assert proposal.pairs == 16


@pytest.mark.parametrize(
    "files",
    [
        ["i/cat.jpg", "i/dog.jpg", "m/sun.png", "m/moon.png"],  # nothing in common
        [*two("{}.jpg", "{}.png"), "i/more.jpg"],  # one image without mask is no reason for other options
        [*two("{}.jpg", "{}.png"), "m/more.png"],
    ],
)
def test_no_proposal(tmp_path, files):
    touch(tmp_path, files)
    pairs = pair_or_propose(tmp_path / "i", tmp_path / "m")
    assert better_pairs(pairs, tmp_path / "i", tmp_path / "m") is None


def test_train_and_val_are_no_images_and_masks(tmp_path):
    touch(tmp_path, [f"{split}/{n}.png" for split in BOTH for n in N])
    with pytest.raises(UserError, match="tells them apart$"):
        pair_or_propose(tmp_path, tmp_path)
