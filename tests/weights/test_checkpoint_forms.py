"""Checkpoints as people have them: the state dict below any keys, under any prefixes, beside anything else.

Each is written as a PyTorch file. It loads the same tensors as the plain state dict, or every candidate is named and
a key chooses one.
"""

import itertools
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segjax import weights
from segjax.errors import UserError
from segjax.weights import prefixes
from tests.weights.test_load import concrete, state_dict, variables
from tests.weights.test_torch_file import Tensor, write

NAMES = state_dict()


def tensors(prefix="", change=0.0, names=tuple(NAMES)):
    return {prefix + name: Tensor(NAMES[name] + np.float32(change)) for name in names}


def load(path, tree, **options):
    write(path, tree)
    found, report = weights.load(path, concrete(variables()), **options)
    return weights.to_state_dict(found), report


def assert_loaded(found, change=0.0):
    assert found.keys() == NAMES.keys()
    for name, value in found.items():
        np.testing.assert_array_equal(value, NAMES[name] + np.float32(change), err_msg=name)


SCALAR = Tensor(np.array(71.5, np.float32))
OPTIMIZER = {"state": {0: {"step": SCALAR, "exp_avg": Tensor(np.ones((4, 2, 3, 3), np.float32))}}, "param_groups": [{}]}
BESIDE = {
    "a scalar tensor": {"best_acc1": SCALAR},
    "a scalar tensor and numbers": {"iteration": SCALAR, "epoch": 3, "arch": "net", "best": None},
    "a tensor with one value": {"best_miou": Tensor(np.ones(1, np.float32))},
    "an optimizer": {"optimizer": OPTIMIZER, "epoch": 3},
    "an optimizer by names": {"optim_g": {"state": {n: {"momentum": t} for n, t in tensors(change=9).items()}}},
    "states of random numbers": {"rng_state": Tensor(np.zeros(99, np.uint8)), "cuda_rng_state": [SCALAR]},
    "weights of a loss": {"criterion": {"weight": Tensor(np.ones(19, np.float32))}},
    "callbacks": {"callbacks": {"ModelCheckpoint": {"best_model_score": SCALAR, "kth_value": SCALAR}}},
    "a list of numbers": {"history": [{"loss": 1.0}, {"loss": 0.5}], "shapes": (1, 2)},
}
WRAPPERS = [
    "state_dict", "model_state_dict", "model_state", "model", "net", "weights", "ema", "model_ema", "ema_state_dict",
    "teacher", "student", "network", "params", "params_ema", "module", "checkpoint", "checkpoint.model",
    "checkpoint.model.state_dict", "any.thing.else", "models.0",
]  # fmt: skip
PREFIXES = [
    "", "_orig_mod.", "teacher.", "student.", "ema.", "module.", "model.", "net.", "network.", "model_ema.",
    "module._orig_mod.", "_orig_mod.module.", "model.module.", "module.ema.model.", "segmentor.", "lit.backbone.net.",
]  # fmt: skip


def nest(key, content):
    for part in reversed(key.split(".")):
        content = [content] if part == "0" else {part: content}
    return content


@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize("wrapper", ["", *WRAPPERS])
def test_the_state_dict_is_found_below_any_key_and_beside_anything(tmp_path, wrapper, beside):
    content = tensors()
    if wrapper:
        assert_loaded(load(tmp_path / "x.pth", {**nest(wrapper, content), **BESIDE[beside]})[0])
        assert_loaded(weights.read(tmp_path / "x.pth"))
        assert_loaded(weights.read(tmp_path / "x.pth", key=wrapper))
    else:
        others = {key: value for key, value in BESIDE[beside].items() if not isinstance(value, Tensor)}
        assert_loaded(load(tmp_path / "x.pth", {**content, **others})[0])


@pytest.mark.parametrize("wrapper", ["", "state_dict", "checkpoint.model"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_are_cut_and_counted(tmp_path, caplog, prefix, wrapper):
    content = tensors(prefix)
    with caplog.at_level("INFO", logger="segjax"):
        assert_loaded(load(tmp_path / "x.pth", nest(wrapper, content) if wrapper else content)[0])
    found = re.findall(r"prefix '([\w.]+)' cut from (\d+) of (\d+) names", caplog.text)
    assert sorted(found) == sorted((f"{part}.", "8", "8") for part in prefix.split(".")[:-1])


KNOWN = (
    "module", "model", "_orig_mod", "_forward_module", "net", "network", "student", "teacher", "ema", "model_ema",
    "ema_model",
)  # fmt: skip


@pytest.mark.parametrize("part", KNOWN)
def test_a_known_prefix_of_some_names_is_cut_and_counted(tmp_path, caplog, part):
    names = list(NAMES)
    tree = {**tensors(f"{part}.", names=names[:3]), **tensors(names=names[3:])}
    with caplog.at_level("INFO", logger="segjax"):
        assert_loaded(load(tmp_path / "x.pth", tree)[0])
    assert f"prefix '{part}.' cut from 3 of 8 names" in caplog.text


def test_the_counter_of_an_averaged_model_is_no_weight(tmp_path):
    assert_loaded(load(tmp_path / "x.pth", {"ema": {"n_averaged": SCALAR, **tensors("module.")}})[0])


TWO = {
    "two keys": ({"state_dict": tensors(), "ema_state_dict": tensors(change=1)}, "state_dict", "ema_state_dict"),
    "two nested keys": ({"a": {"model": tensors(), "ema": tensors(change=1)}}, "a.model", "a.ema"),
    "a list": ({"models": [tensors(), tensors(change=1)]}, "models.0", "models.1"),
    "two prefixes": ({"state_dict": tensors("student.") | tensors("teacher.", 1)}, "state_dict.student",
                     "state_dict.teacher"),
    "two prefixes after one": (tensors("module.student.") | tensors("module.teacher.", 1), "student", "teacher"),
    "with and without prefix": ({"model": tensors() | tensors("ema.", 1)}, "model", "model.ema"),
    "the file itself and a key": ({**tensors(), "ema": tensors(change=1)}, ".", "ema"),
    "another number of classes": (
        {"model": tensors(), "old": tensors(change=1) | {"fc.weight": Tensor(np.ones((9, 4), np.float32)),
                                                         "fc.bias": Tensor(np.ones(9, np.float32))}}, "model", "old"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TWO)
def test_several_state_dicts_are_named_and_a_key_chooses(tmp_path, case):
    tree, first, second = TWO[case]
    with pytest.raises(UserError) as error:
        load(tmp_path / "x.pth", tree)
    text = str(error.value)
    assert "x.pth: 2 dictionaries of tensors fill the network: " in text and text.endswith(
        f"; choose one, as key={first!r} does."
    )
    for key in (first, second):
        assert f"{key} (8 tensors, " in text
    assert_loaded(load(tmp_path / "x.pth", tree, key=first)[0])
    found, report = load(tmp_path / "x.pth", tree, key=second)
    np.testing.assert_array_equal(found["dw.weight"], NAMES["dw.weight"] + np.float32(1))
    assert len(report.matched) + len(report.replaced) == 8
    with pytest.raises(UserError, match=r"x\.pth has no tensors under 'ema_state'\. (Did you mean|Choose one of)"):
        load(tmp_path / "x.pth", tree, key="ema_state")


def test_a_key_above_several_chooses_among_these(tmp_path):
    tree = {"a": {"model": tensors(), "ema": tensors(change=1)}, "b": tensors(change=2)}
    with pytest.raises(UserError, match=r"2 dictionaries .*a\.model \(8 tensors, 8 of 8 leaves\), a\.ema \("):
        load(tmp_path / "x.pth", tree, key="a")
    assert_loaded(load(tmp_path / "x.pth", tree, key="b")[0], 2)


def test_the_only_one_that_fills_the_network_is_taken_and_the_others_are_logged(tmp_path, caplog):
    """An average of the parameters alone has no statistics; another network has other shapes."""
    params = [name for name in NAMES if "running" not in name]
    wide = {f"wide.{n}": Tensor(np.ones((7, *NAMES[n].shape[1:]), np.float32)) for n in NAMES}
    tree = {"ema": tensors(change=1, names=params), "teacher": wide, "state_dict": tensors()}
    with caplog.at_level("INFO", logger="segjax"):
        assert_loaded(load(tmp_path / "x.pth", tree)[0])
    assert "loading state_dict (8 tensors), not ema, teacher" in caplog.text
    with pytest.raises(UserError, match=r"2 leaf names of the network not in the file .*running_mean"):
        load(tmp_path / "x.pth", tree, key="ema")


def test_several_with_the_same_values_are_one(tmp_path):
    shared = tensors()
    assert_loaded(load(tmp_path / "x.pth", {"model": shared, "state_dict": shared, "best": tensors()})[0])
    assert_loaded(weights.read(tmp_path / "x.pth"))


def test_the_problems_of_the_only_candidate_are_listed(tmp_path):
    less = tensors(names=list(NAMES)[1:])
    with pytest.raises(UserError, match=r"1 leaf name of the network not in the file \(layer1.0.conv1.weight\)"):
        load(tmp_path / "x.pth", {"model": less, "criterion": {"weight": Tensor(np.ones(19, np.float32))}})
    both = {"a": less, "b": tensors(change=1, names=list(NAMES)[1:])}
    with pytest.raises(UserError, match=r"can be meant: a \(7 tensors, 7 of 8 leaves\), b \(7 tensors, 7 of 8"):
        load(tmp_path / "x.pth", both)


def test_reading_without_a_network_names_all_that_can_be_meant(tmp_path):
    write(tmp_path / "x.pth", {"model": tensors(), "ema": tensors(change=1), "optimizer": OPTIMIZER, "n": SCALAR})
    with pytest.raises(UserError, match=r"x\.pth: 2 .* can be meant: model \(8 tensors\), ema \(8 tensors\)"):
        weights.read(tmp_path / "x.pth")
    assert_loaded(weights.read(tmp_path / "x.pth", key="ema"), 1)


def test_single_numbers_are_no_weights_even_if_no_name_has_a_dot(tmp_path):
    write(tmp_path / "x.pth", {"net": {"gamma": Tensor(np.arange(3.0))}, "best": {"miou": SCALAR}, "iteration": SCALAR})
    assert list(weights.read(tmp_path / "x.pth")) == ["gamma"]


def test_what_has_no_names_is_not_said_to_hold_nothing(tmp_path):
    write(tmp_path / "x.pth", {"shadow_params": [Tensor(np.ones(3, np.float32))], "epoch": 1})
    with pytest.raises(UserError, match=r"tensors without names only; its keys are shadow_params, epoch"):
        weights.read(tmp_path / "x.pth")
    write(tmp_path / "x.pth", {"state_dict": {}, "epoch": 1})
    with pytest.raises(UserError, match=r"no tensors; its keys are state_dict, epoch"):
        weights.read(tmp_path / "x.pth")


def test_nested_dicts_of_python_are_searched_too():
    arrays = {name: value.array for name, value in tensors("module.").items()}
    for tree in ({"params": arrays}, {"model": arrays, "epoch": 3}, {"checkpoint": {"state_dict": arrays}}):
        assert_loaded(weights.to_state_dict(weights.load(tree, variables())[0]))
    with pytest.raises(UserError, match="The weights: 2 dictionaries"):
        weights.load({"params": arrays, "params_ema": {n: v + 1 for n, v in arrays.items()}}, variables())


REMEDIES = {"key": "train.init.key=", "source": "train.init.source=", "skip": "train.init.skip="}


def test_errors_offer_what_the_caller_has(tmp_path):
    short, two = tensors(names=list(NAMES)[1:]), {"a": tensors(), "b": tensors(change=1)}
    cases = {
        "name what may keep its values in train.init.skip=.": (short, REMEDIES),
        "name what may keep its values in skip=, or pass strict=False.": (
            short,
            weights.load.__kwdefaults__["remedies"],
        ),
        "give the weights of this network.": (short, {}),
        "choose one, as train.init.key='a' does.": (two, REMEDIES),
        "keep one of them in the file.": (two, {}),
    }
    for end, (tree, remedies) in cases.items():
        with pytest.raises(UserError) as error:
            load(tmp_path / "x.pth", tree, remedies=remedies)
        assert str(error.value).endswith(end)
    with pytest.raises(UserError, match=r"train\.init\.skip='\(' is no regular expression"):
        load(tmp_path / "x.pth", tensors(), skip="(", remedies=REMEDIES)


KEYS = ("state_dict", "model", "ema", "teacher", "checkpoint", "x", "module", "net")
SIDE = st.dictionaries(st.sampled_from(("epoch", "best", "optimizer", "lr")), st.just(None), max_size=2)


@st.composite
def trees(draw):
    """(tree, expected): a state dict, once or twice, below wrappers and prefixes; expected: key -> change."""
    prefix = "".join(draw(st.lists(st.sampled_from(prefixes.PREFIXES), max_size=3)))
    values = {"epoch": 3, "best": SCALAR, "optimizer": OPTIMIZER, "lr": 0.1}
    paths = draw(st.lists(st.lists(st.sampled_from(KEYS), max_size=3).map(tuple), min_size=1, max_size=2, unique=True))
    side = {name: values[name] for name in draw(SIDE)}
    root: dict = {}
    for change, path in enumerate(paths):
        node = root
        for part in path:
            node = node.setdefault(part, {})
        node |= tensors(prefix, change)
        if path or draw(st.booleans()):
            node |= {name: value for name, value in side.items() if not isinstance(value, Tensor)}
    if all(paths):
        root |= side
    return root, {".".join(path) or ".": change for change, path in enumerate(paths)}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=trees())
def test_any_nesting_loads_the_same_tensors_or_names_its_candidates(tmp_path, case):
    tree, expected = case
    path = tmp_path / "x.pth"
    if len(expected) == 1:
        assert_loaded(load(path, tree)[0])
    else:
        with pytest.raises(UserError) as error:
            load(path, tree)
        assert all(f"{key} (8 tensors, 8 of 8 leaves)" in str(error.value) for key in expected)
    for key, change in expected.items():
        assert_loaded(load(path, tree, key=key)[0], change)


@settings(max_examples=100, deadline=None)
@given(names=st.lists(st.lists(st.sampled_from(("module", "ema", "student", "x", "y")), max_size=5).map(".".join)))
def test_every_name_belongs_to_a_network_and_no_two_to_one_place(names):
    """Also if prefixes are repeated; n rivals in n rounds must not become 2^n networks."""
    names = list(dict.fromkeys(names))
    found = prefixes.unwrap(names, ["x"])
    assert {original for one in found for original in one.names.values()} == set(names)
    assert len(found) <= prefixes.MOST
    for one in found:
        assert len(set(one.names.values())) == len(one.names)


def test_names_made_to_harm_are_returned_in_time():
    assert [one.names for one in prefixes.unwrap(["module." * 5000 + "x"], ["x"])] == [{"x": "module." * 5000 + "x"}]
    rounds = ["module." * i + who + f".{i}" for i, who in itertools.product(range(12), ("student", "teacher"))]
    assert 1 <= len(prefixes.unwrap(rounds, ["x"])) <= prefixes.MOST


@pytest.mark.parametrize("dtype", ["U5", "S5", "complex64", "M8[s]"])
def test_a_leaf_of_another_type_than_numbers_is_named(tmp_path, dtype):
    np.savez(tmp_path / "x.npz", **{**NAMES, "fc.bias": np.zeros(3, dtype)})
    with pytest.raises(UserError, match=r"fc\.bias of .*x\.npz: .* is no type of real numbers"):
        weights.load(tmp_path / "x.npz", variables())


def test_names_with_line_breaks_stay_in_one_sentence(tmp_path):
    tree = {"a\nb": {"x\ty": Tensor(np.ones(3, np.float32)), "c\nd.weight": Tensor(np.ones(3, np.float32))}}
    with pytest.raises(UserError, match=r"'c\\nd.weight'") as error:
        load(tmp_path / "x.pth", tree)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError) as error:
        load(tmp_path / "x.pth", {**tree, "e\nf": tree["a\nb"] | {"z": SCALAR}})
    assert "\n" not in str(error.value)


SPLIT = weights.Source(also={"state_dict_of": "layer1.0."})


@pytest.mark.parametrize("wrapper", ["", "checkpoint", "a.b"])
def test_the_further_dict_of_a_family_is_joined_wherever_both_are(tmp_path, wrapper):
    inside = {name.removeprefix("layer1.0."): t for name, t in tensors().items() if name.startswith("layer1.0.")}
    rest = {name: t for name, t in tensors("module.").items() if "layer1.0." not in name}
    tree = {"state_dict": rest, "state_dict_of": inside, "best": SCALAR}
    assert_loaded(load(tmp_path / "x.pth", nest(wrapper, tree) if wrapper else tree, source=SPLIT)[0])
    with pytest.raises(UserError, match=r"3 leaf names of the network not in the file \(dw.weight, fc.bias, fc.weight"):
        joined = {f"layer1.0.{name}": t for name, t in inside.items()}
        load(tmp_path / "x.pth", {"state_dict_of": joined}, source=SPLIT)


def test_no_tensors_at_all_are_one_sentence(tmp_path):
    with pytest.raises(UserError, match="8 leaf names of the network not in the file"):
        weights.load({}, variables())
    np.savez(tmp_path / "x.npz")
    with pytest.raises(UserError, match="holds no tensors; its keys are none"):
        weights.load(tmp_path / "x.npz", variables())
