"""Names of images and masks: prefixes, suffixes with and without type, accents, folders with a star."""

import unicodedata

import pytest

from segjax.data.folders import list_images, natural_key, pair_files, split_frame
from segjax.data.naming import common_part
from segjax.errors import UserError


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def keys(pairs):
    return [key for key, _, _ in pairs.pairs]


@pytest.mark.parametrize(
    "name, prefix, suffix, expected",
    [
        ("img_0.jpg", "img_", "", "0"),
        ("0_gt.png", "", "_gt", "0"),
        ("m0_gt.png", "m", "_gt", "0"),
        ("aba.png", "ab", "ba", None),  # prefix and suffix must not share letters
        ("x.png", "y", "", None),
        (unicodedata.normalize("NFD", "0_café.png"), "", "_café", "0"),
    ],
)
def test_common_part(name, prefix, suffix, expected):
    assert common_part(name, prefix, suffix) == expected


def test_a_suffix_may_include_the_type(tmp_path):
    touch(tmp_path, "a.jpg", "b.JPG", "a.png", "b.png")
    assert keys(pair_files(tmp_path, tmp_path, image_suffix=".jpg", mask_suffix=".png")) == ["a", "b"]
    with pytest.raises(UserError, match=r"a.jpg and .*a.png have the same name 'a' without type.*rename.*'.jpg'"):
        list_images(tmp_path)


def test_masks_that_keep_the_type_of_their_image(tmp_path):
    touch(tmp_path, "i/a.jpg", "m/a.jpg.png")
    assert keys(pair_files(tmp_path / "i", tmp_path / "m", mask_suffix=".jpg")) == ["a"]


def test_prefixes_and_one_folder_for_both(tmp_path):
    touch(tmp_path, "d/img_0.png", "d/mask_0.png", "d/img_1.png", "d/other.png")
    pairs = pair_files(tmp_path, tmp_path, image_prefix="img_", mask_prefix="mask_")
    assert keys(pairs) == ["d/0"] and [key for key, _ in pairs.images_without_mask] == ["d/1"]
    assert [path.name for path in pairs.ignored.names] == ["other.png"]


def test_masks_in_a_folder_of_the_images(tmp_path):
    touch(tmp_path, "a.jpg", "masks/a.png")
    pairs = pair_files(tmp_path, tmp_path / "masks")
    assert keys(pairs) == ["a"] and not pairs.images_without_mask and not pairs.ignored.names and not pairs.plain


def test_composed_and_decomposed_accents_are_one_name(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "Žluťoučký/kůň") for form in ("NFC", "NFD"))
    touch(tmp_path, f"i/{composed}.jpg", f"m/{decomposed}.png", "i/x.jpg", "m/x.png")
    pairs = pair_files(tmp_path / "i", tmp_path / "m")
    assert keys(pairs) == ["x", composed] and not pairs.images_without_mask and not pairs.masks_without_image
    assert not pairs.plain  # builds of earlier versions skipped this image


def test_both_forms_in_one_folder_stay_apart(tmp_path):
    forms = [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")]
    touch(tmp_path, *(f"{kind}/{form}.png" for kind in "im" for form in forms))
    pairs = pair_files(tmp_path / "i", tmp_path / "m")
    assert len(pairs.pairs) == 2 and all(image.name == mask.name for _, image, mask in pairs.pairs)


@pytest.mark.parametrize(
    "images, masks, layout",
    [
        ("*/images", "*/masks", ("{}/images", "{}/masks")),
        ("*_images", "*_masks", ("{}_images", "{}_masks")),
        ("images_*", "masks_*", ("images_{}", "masks_{}")),
        ("*", "*annot", ("{}", "{}annot")),
    ],
)
def test_a_star_stands_for_what_both_folders_share(tmp_path, images, masks, layout):
    for split in ("train", "val"):
        touch(tmp_path, f"{layout[0].format(split)}/c/1.jpg", f"{layout[1].format(split)}/c/1.png")
    pairs = pair_files(tmp_path / images, tmp_path / masks)
    assert keys(pairs) == ["train/c/1", "val/c/1"]
    assert not pairs.images_without_mask and not pairs.masks_without_image and not pairs.ignored.names


def test_wrong_stars(tmp_path):
    touch(tmp_path, "a*b/1.png")
    assert [*list_images(tmp_path / "a*b")] == ["1"]  # a folder may be called so
    with pytest.raises(UserError, match="more than one star"):
        list_images(tmp_path / "*/*")
    with pytest.raises(UserError, match="no of .* does not exist"):
        list_images(tmp_path / "no" / "*")
    with pytest.raises(UserError, match="holds no image"):
        list_images(tmp_path / "*/images")


@pytest.mark.parametrize("text", ["²", "a1²", "1²3", "٣", "१२", "a٣b", "x" + "9" * 200])
def test_digits_of_every_script_sort_and_split(text):
    assert sorted([text, "a"], key=natural_key)
    assert split_frame(f"d/{text}")[0].startswith("d")


def test_other_digits_are_numbers_and_times_are_not():
    assert sorted(["٣", "12", "2"], key=natural_key) == ["2", "٣", "12"]
    assert split_frame("d/cam_٣") == ("d/cam", 3)
    assert split_frame("d/2147483647") == ("d", 2147483647)
    assert split_frame("d/1691234567890123456") == ("d", None)  # records store frames with 32 bits
