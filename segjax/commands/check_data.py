"""`segjax check_data`: a folder of images and masks, checked before training."""

from __future__ import annotations

import argparse


def describe(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    add = parser.add_argument
    add("--images", required=True, metavar="DIR", help="folder of images")
    add("--masks", required=True, metavar="DIR", help="folder of masks with the same relative names")
    add("--label-map", metavar="NAME", help="JSON file or name of a class table; default: propose one from the masks")
    add("--output", default="check_data", metavar="DIR", help="for the label map and the overlay sheet (check_data)")
    add("--image-suffix", default="", metavar="END", help="what follows the common name, for example _leftImg8bit")
    add("--mask-suffix", default="", metavar="END", help="the same for masks, for example _gtFine_labelIds")


def run(arguments: argparse.Namespace) -> int:
    """Looks for everything in a folder that would stop or spoil a training; 1 when something must be corrected."""
    from segjax.data.check import check_folder

    report = check_folder(
        arguments.images,
        arguments.masks,
        arguments.label_map,
        arguments.output,
        image_suffix=arguments.image_suffix,
        mask_suffix=arguments.mask_suffix,
    )
    if report.samples and report.label_map is not None:
        from segjax.evaluation.report import label_sheet
        from segjax.media.writers import write_png

        picture = label_sheet(report.samples, report.label_map.class_names, report.label_map.palette)
        report.files.append(write_png(f"{arguments.output}/overlay.png", picture))
    report.print()
    return report.exit_code
