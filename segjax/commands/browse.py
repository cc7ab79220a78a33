"""`segjax browse`: a sheet of training samples after augmentation."""

from __future__ import annotations

import argparse

from segjax.commands import values
from segjax.commands.start import start_jax
from segjax.errors import UserError
from segjax.outputs import writing_file


def describe(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    add = parser.add_argument
    add("--config", metavar="RECIPE", help="a recipe, by name or file, such as vplr:camvid")
    add("--set", nargs="+", action="extend", type=values.option, default=[], metavar="K=V", help="recipe overrides")
    add("--dataset", metavar="NAME", help="a dataset, or the folder of a written one, instead of a recipe")
    add("--option", nargs="+", action="extend", type=values.option, default=[], metavar="K=V", help="dataset options")
    add("--split", default="train", metavar="NAME", help="split of the dataset (train)")
    add("--data-dir", default="", metavar="DIR", help="folder of built datasets ($SEGJAX_DATA_DIR)")
    add("--stage", default="", metavar="NAME", help="training stage of the recipe (the first)")
    add("--workdir", default="", metavar="DIR", help="workdir of the recipe's run, for its propagated labels")
    add("--output", default="browse.png", metavar="FILE", help="the sheet (browse.png)")
    add("--count", type=values.positive_int, default=6, metavar="N", help="number of samples (6)")
    add("--epoch", type=values.positive_int, default=1, metavar="N", help="epoch, counted from 1 (1)")
    add("--seed", type=values.whole, metavar="N", help="seed instead of the recipe's")


def run(arguments: argparse.Namespace) -> None:
    """Draws samples through the plan, the reader and the augmentation of a training.

    Raises UserError for flags that exclude each other, and as `segjax.stages.browse.browse` does.
    """
    if bool(arguments.config) == bool(arguments.dataset):
        raise UserError("segjax browse shows a recipe (--config=RECIPE) or a dataset (--dataset=NAME); give one")
    if arguments.set and not arguments.config:
        raise UserError("--set overrides the values of a recipe; with --dataset give --option")
    for flag in ("option", "split", "data_dir"):
        if arguments.config and getattr(arguments, flag) not in ([], "train", ""):
            raise UserError(
                f"--{flag} goes with --dataset; a recipe is changed by --set dataset.train=NAME, for example"
            )
    if not arguments.output.lower().endswith(".png"):
        raise UserError(f"--output={arguments.output} must be the name of a PNG file, for example browse.png")
    with writing_file(arguments.output):
        _browse(arguments)


def _browse(arguments: argparse.Namespace) -> None:
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
