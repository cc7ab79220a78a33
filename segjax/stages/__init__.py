"""Stages of a recipe: each owns the folder `<workdir>/<stage>/` and writes report.json there when it is done."""

from segjax.stages.recipe import run_recipe

__all__ = ["run_recipe"]
