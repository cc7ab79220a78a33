"""A debug run of each shipped preset of VPLR and of fine-tuning; those of CSST are in test_debug_runs_csst.py."""

import pytest

from tests.networks import LIGHTEST
from tests.recipe_runs import SHIPPED, debug_run, is_slow, load

# A debug run of the second covers the first: the same dataset, loss and kinds of stages, and more; its network is that
# of another debug run, or test_lowering.py has its step. The first one's own run is slow.
COVERED = {
    ("vplr", "propagate=none"): "",
    ("vplr", "camvid,net=fastscnn"): "camvid,net=fastscnn,propagate=reconstruction",
    ("vplr", "cityscapes"): "cityscapes,released",
    ("vplr", "cityscapes,released"): "cityscapes,released,net=fastscnn",
    ("vplr", "kitti"): "kitti,net=fastscnn,propagate=flow",
}
# runs in place of shipped presets whose network takes long to compile and is proven by the run of another preset
SMALLER = [("vplr", "cityscapes,released,net=fastscnn")]

# trained with a small network: other runs have theirs, or test_lowering.py has its step
SMALL = ("gsvnet", "gsvnet_ablation", "transfer", "vplr_ablation", "vplr_camvid", "vplr_kitti", "vplr_table1")
SMALL_PRESETS = [("vplr", "camvid"), ("vplr", "own"), ("vplr", "kitti,net=fastscnn,propagate=flow")]
SMALL_PRESETS.append(("vplr", "camvid,net=fastscnn,propagate=reconstruction"))


@pytest.mark.parametrize("recipe, arg", COVERED)
def test_a_covered_preset_has_nothing_of_its_own(recipe, arg):
    covered, other = load(recipe, arg), load(recipe, COVERED[recipe, arg])
    assert set(covered.stages) <= set(other.stages) and covered.dataset.name == other.dataset.name
    for name in covered.stages:
        assert set(covered[name]) <= set(other[name]) and covered[name].kind == other[name].kind
    for key in ("augment", "normalisation"):
        assert covered.train[key] == other.train[key]
    own = [pair for pair in SHIPPED if pair[0] == recipe and pair not in (*COVERED, *SMALL_PRESETS)]
    run = [load(*pair).train.model.name for pair in own]
    assert covered.train.model.name in (other.train.model.name, *run, *LIGHTEST)
    assert covered.train.loss.main.name == other.train.loss.main.name
    assert covered.train.optimizer.name == other.train.optimizer.name
    assert covered.train.sampler.kind == other.train.sampler.kind


def marked(recipe: str, arg: str):
    slow = is_slow(recipe, arg) or (recipe, arg) in COVERED
    return pytest.param(recipe, arg, marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize("recipe, arg", [marked(*p) for p in (*SHIPPED, *SMALLER) if not p[0].startswith("csst")])
def test_debug_run(recipe, arg, tmp_path, street_dir):
    debug_run(recipe, arg, tmp_path, street_dir, small=recipe in SMALL or (recipe, arg) in SMALL_PRESETS)
