"""Datasets that a stage has written: the kind, and the steps of propagated labels."""

import numpy as np
import pytest

from segjax.data import ClassTable, Label, LabelMap
from segjax.data.derived import PROPAGATED, open_derived, open_propagated, with_ignored
from segjax.errors import UserError
from tests.data.shard_tools import contents, finish, shards


def test_steps_are_chosen_when_it_is_opened(tmp_path):
    made = shards(tmp_path)
    made.open()
    made.write(0, contents(0), {})
    directory = finish(made, 1)
    assert open_propagated(directory, mode="jp", steps=(1,)).names == ["v_000+1", "v_000-1"]
    assert open_propagated(directory, mode="jp", steps=(2,)).names == ["v_000+2"]
    both = open_propagated(directory, mode="lp", steps=(1, 2))
    assert len(both) == 3 and both[2].name == "v_000+2" and both.sizes.tolist() == [[6, 8]] * 3
    for wrong, said in (
        (dict(mode="jp", steps=(3,)), "no record 3 steps"),
        (dict(mode="jp", steps=()), "choose steps"),
        (dict(mode="jpp", steps=(1,)), "Did you mean 'jp'"),
    ):
        with pytest.raises(UserError, match=said):
            open_propagated(directory, **wrong)
    with pytest.raises(UserError, match="^.*nowhere holds no dataset of a stage; run the stage"):
        open_propagated(tmp_path / "nowhere", mode="jp", steps=(1,))


@pytest.mark.parametrize("kind", ["", PROPAGATED])  # datasets of before have no kind
def test_a_propagated_dataset_by_its_folder(tmp_path, kind):
    made = shards(tmp_path, kind=kind)
    made.open()
    made.write(0, contents(0), {})
    derived = open_derived(finish(made, 1))
    assert derived.kind == PROPAGATED and set(derived.splits) == {"jp", "lp"}
    assert derived.open("lp").names == open_propagated(derived.directory, mode="lp", steps=(1, 2)).names


def test_a_dataset_of_another_kind_needs_no_mode_and_steps(tmp_path):
    made = shards(tmp_path, kind="pseudo_labels")
    made.open()
    made.write(0, contents(0), {})
    derived = open_derived(made.finish(1), "train.extra.stage")
    assert derived.kind == "pseudo_labels" and len(derived.open("jp")) == 3
    with pytest.raises(UserError, match="of kind 'pseudo_labels', which has no mode and steps"):
        open_propagated(derived.directory, mode="jp", steps=(1,))
    with pytest.raises(UserError, match="^config key train.extra.stage: .*shards holds no dataset of a stage"):
        open_derived(tmp_path / "shards", "train.extra.stage")


def test_labels_without_void_gain_an_ignored_one():
    names, palette = ("a", "b"), np.zeros((2, 3), np.uint8)
    plain = LabelMap(ClassTable(tuple(Label(i, name, i, (0, 0, 0)) for i, name in enumerate(names))))
    assert with_ignored(plain).encode(with_ignored(plain).decode(np.array([[0, 255]]))).tolist() == [[0, 255]]
    taken = LabelMap(ClassTable((Label(0, "a", 0, (0, 0, 0)), Label(255, "b", 1, (0, 0, 0)))))
    found = with_ignored(taken)
    assert found.decode(np.array([[1, 255]])).tolist() == [[255, 256]] and found.class_names == names
    assert with_ignored(LabelMap.identity(names, palette)) == LabelMap.identity(names, palette)
