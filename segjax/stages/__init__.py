"""Stages: what a recipe is made of. Each owns `<workdir>/<stage>/` and leaves a report.json there when it is done."""

from segjax.stages.recipe import run_recipe

__all__ = ["run_recipe"]
