import logging
import re

import jax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.errors import UserError
from segjax.parallel import match_rules, tree_paths

TREE = {"backbone": {"layer1.0": {"conv1": {"kernel": 0}}, "bn1": {"scale": 0, "bias": 0}}, "head": {"kernel": 0}}


def test_paths_are_joined_by_slashes():
    assert tree_paths(TREE) == [
        "backbone/bn1/bias",
        "backbone/bn1/scale",
        "backbone/layer1.0/conv1/kernel",
        "head/kernel",
    ]


def test_first_rule_wins_on_the_whole_path():
    found = match_rules(TREE, ((".*/bias", 0.0), ("backbone/.*", 0.1), ("head/kernel", 2.0)), what="rates")
    assert found == {
        "backbone": {"layer1.0": {"conv1": {"kernel": 0.1}}, "bn1": {"scale": 0.1, "bias": 0.0}},
        "head": {"kernel": 2.0},
    }


def test_a_rule_must_match_all_of_the_path():
    with pytest.raises(UserError, match=r"rates has no rule for backbone/bn1/bias, .*add a last rule"):
        match_rules(TREE, (("backbone", 1.0), ("head/kernel", 1.0)), what="rates")


def test_a_rule_that_matches_nothing_is_an_error_with_the_nearest_name():
    rules = (("bakbone/.*", 0.0), (".*", 1.0))
    with pytest.raises(UserError, match=r"'bakbone/\.\*' matches nothing.*Did you mean 'backbone'"):
        match_rules(TREE, rules, what="rates")


def test_unused_rules_may_warn_or_pass(caplog):
    rules = (("neck/.*", 0.0), (".*", 1.0))
    with caplog.at_level(logging.WARNING, "segjax"):
        match_rules(TREE, rules, what="rates", unused="ignore")
        assert not caplog.records
        match_rules(TREE, rules, what="rates", unused="warn")
    assert "neck" in caplog.text


def test_a_catch_all_may_be_left_over():
    assert match_rules({"a": 0}, (("a", 1), (".*", 2)), what="x") == {"a": 1}


@pytest.mark.parametrize("rules", [(("(", 1),), (("a", 1, 2),), ("ab",), ((3, 1),)])
def test_what_is_not_a_rule_is_named(rules):
    with pytest.raises(UserError, match="x"):
        match_rules({"a": 0}, rules, what="x")


def test_every_rule_is_logged_with_its_count(caplog):
    with caplog.at_level(logging.INFO, "segjax"):
        match_rules(TREE, (("backbone/.*", 0.5), (".*", 1.0)), what="rates")
    assert "rates: 'backbone/.*' = 0.5 for 3 of 4" in caplog.text
    assert "rates: '.*' = 1.0 for 1 of 4" in caplog.text


names = st.sampled_from(["a", "b", "c1", "layer.0"])
trees = st.recursive(
    st.integers(), lambda leaf: st.dictionaries(names, leaf, min_size=1, max_size=3), max_leaves=8
).filter(lambda t: isinstance(t, dict))
patterns = st.sampled_from(["a.*", ".*/b", "b/.*", "c1|a/a", ".*0", "a/(b|c1)"])


@settings(max_examples=100)
@given(tree=trees, rules=st.lists(patterns, max_size=4, unique=True))
def test_agrees_with_a_loop_over_the_rules(tree, rules):
    rules = [(pattern, number) for number, pattern in enumerate(rules)] + [(".*", "rest")]
    found = match_rules(tree, rules, what="x", unused="ignore")
    assert jax.tree.structure(found) == jax.tree.structure(tree)
    for path, value in zip(tree_paths(tree), jax.tree.leaves(found)):
        expected = "rest"
        for pattern, number in reversed(rules[:-1]):
            if re.fullmatch(pattern, path):
                expected = number
        assert value == expected
