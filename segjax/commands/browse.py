"""`segjax browse`: samples of a training after augmentation, on a sheet."""

from __future__ import annotations

import argparse

from segjax.commands import values
from segjax.commands.start import start_jax
from segjax.errors import UserError


def describe(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    add = parser.add_argument
    add("--config", metavar="FILE", help="a recipe, such as configs/vplr.py:camvid")
    add("--set", nargs="+", action="extend", type=values.option, default=[], metavar="K=V", help="override its values")
    add("--dataset", metavar="NAME", help="a data set instead of a recipe, or the folder of one that was written")
    add("--option", nargs="+", action="extend", type=values.option, default=[], metavar="K=V", help="its options")
    add("--split", default="train", metavar="NAME", help="its split (train)")
    add("--data-dir", default="", metavar="DIR", help="where it is built ($SEGJAX_DATA_DIR)")
    add("--stage", default="", metavar="NAME", help="training stage of the recipe (the first)")
    add("--workdir", default="", metavar="DIR", help="of the recipe's run, for labels that it carried to other frames")
    add("--output", default="browse.png", metavar="FILE", help="the sheet (browse.png)")
    add("--count", type=values.positive_int, default=6, metavar="N", help="samples (6)")
    add("--epoch", type=values.positive_int, default=1, metavar="N", help="epoch, counted from 1 (1)")
    add("--seed", type=values.whole, metavar="N", help="another seed than the recipe's")


def run(arguments: argparse.Namespace) -> None:
    """Draws what a training sees, through the training's own plan, reader and augmentation."""
    if bool(arguments.config) == bool(arguments.dataset):
        raise UserError("segjax browse shows a recipe (--config=FILE) or a data set (--dataset=NAME); give one")
    if arguments.set and not arguments.config:
        raise UserError("--set overrides the values of a recipe; with --dataset give --option")
    for flag in ("option", "split", "data_dir"):
        if arguments.config and getattr(arguments, flag) not in ([], "train", ""):
            raise UserError(
                f"--{flag} goes with --dataset; a recipe is changed by --set dataset.train=NAME, for example"
            )
    if not arguments.output.lower().endswith(".png"):
        raise UserError(f"--output={arguments.output} must be the name of a PNG file, for example browse.png")
    start_jax()
    from segjax.stages.browse import browse, dataset_recipe
    from segjax.stages.config.recipe_file import load_recipe

    if arguments.config:
        config = load_recipe(arguments.config, dict(arguments.set))
    else:
        options = dict(arguments.option)
        config = dataset_recipe(arguments.dataset, split=arguments.split, options=options, data_dir=arguments.data_dir)
    shown = browse(
        config,
        arguments.output,
        stage=arguments.stage,
        epoch=arguments.epoch,
        count=arguments.count,
        seed=arguments.seed,
        workdir=arguments.workdir,
    )
    print(shown.heading)
    for sample in shown.samples:
        print(f"  {sample.caption()}")
    print(shown.path)
