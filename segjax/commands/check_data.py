"""`segjax check_data`: checks a folder of images and masks before training."""

from __future__ import annotations

import argparse

from segjax.commands import values


def describe(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    add = parser.add_argument
    add("--images", required=True, metavar="DIR", help="folder of images")
    add("--masks", required=True, metavar="DIR", help="folder of masks with the same relative names")
    add("--label-map", metavar="NAME", help="JSON file or name of a class table; default: propose one from the masks")
    add("--output", default="check_data", metavar="DIR", help="folder for label map and overlay sheet (check_data)")
    add("--image-prefix", default="", metavar="START", help="beginning of image names before the common part (img_)")
    add("--image-suffix", default="", metavar="END", help="end of image names after the common part (_leftImg8bit)")
    add("--mask-prefix", default="", metavar="START", help="beginning of mask names before the common part (mask_)")
    add("--mask-suffix", default="", metavar="END", help="end of mask names after the common part (_gtFine_labelIds)")
    add("--splits", default="auto", metavar="HOW", help="auto (by folders, or else at random), folders or random")
    add("--lists", nargs="+", type=values.file_of, default=[], metavar="SPLIT=FILE", help="lists of the splits' images")


def run(arguments: argparse.Namespace) -> int:
    """Finds everything in a folder that would stop or spoil a training; returns 1 if something must be corrected.

    Raises UserError for folders that do not exist, an unknown label map, and files that cannot be written.
    """
    from segjax.data.check import check_folder
    from segjax.outputs import check_outputs, writing_file

    overlay = f"{arguments.output}/overlay.png"
    check_outputs(arguments.output, ["overlay.png"], reads=[arguments.images, arguments.masks])
    report = check_folder(
        arguments.images,
        arguments.masks,
        arguments.label_map,
        arguments.output,
        image_prefix=arguments.image_prefix,
        image_suffix=arguments.image_suffix,
        mask_prefix=arguments.mask_prefix,
        mask_suffix=arguments.mask_suffix,
        splits=arguments.splits,
        lists=dict(arguments.lists),
    )
    if report.samples and report.label_map is not None:
        from segjax.evaluation.report import label_sheet
        from segjax.media.writers import write_png

        picture = label_sheet(report.samples, report.label_map.class_names, report.label_map.palette)
        with writing_file(overlay):
            report.files.append(write_png(overlay, picture))
    report.print()
    return report.exit_code
