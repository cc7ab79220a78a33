"""A debug run of each shipped preset of CSST's recipes.

Debug runs of presets that differ by dataset or network only have the same stages on the same street: those are slow
tests. The runs here have every kind of stage, method, loss, sampler and part of the training data.
"""

import pytest

from tests.recipe_runs import SHIPPED, debug_run, is_slow

# runs in place of shipped presets whose network takes long to compile
SMALLER = [("csst", "cityscapes,v1,schedule=coarse2fine+,coarse,net=fastscnn,teacher=fastscnn")]
# the same for other classes, which the debug run of transfer.py has too
SMALLER_AND_SLOW = [("csst", "mapillary,net=fastscnn")]


def marked(recipe: str, arg: str):
    slow = is_slow(recipe, arg) or (recipe, arg) in SMALLER_AND_SLOW
    return pytest.param(recipe, arg, marks=pytest.mark.slow if slow else ())


RUNS = [pair for pair in (*SHIPPED, *SMALLER, *SMALLER_AND_SLOW) if pair[0].startswith("csst")]


@pytest.mark.parametrize("recipe, arg", [marked(*pair) for pair in RUNS])
def test_debug_run(recipe, arg, tmp_path, street_dir):
    other = recipe == "csst_ablation" or (recipe, arg) in SMALLER  # that of ("csst", "") has the recipe's own
    debug_run(recipe, arg, tmp_path, street_dir, small=other)
