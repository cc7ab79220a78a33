"""Shards: whole or not there, the same bytes whatever happened, and a data set like any other at the end."""

import numpy as np
import pytest

from segjax.data import ClassTable, Label, LabelMap, class_table, open_source
from segjax.data.derived import PROVENANCE, open_propagated, provenance_file, with_ignored
from segjax.data.image_files import encode_png
from segjax.data.record_shards import RecordShards
from segjax.errors import UserError

MAP = LabelMap(class_table("camvid"))


def shards(folder, **identity):
    return RecordShards(
        folder, name="propagated", splits=("jp", "lp"), label_map=MAP, extra=PROVENANCE,
        identity={"method": "flow", "steps": 2, **identity}, description="a test",
    )  # fmt: skip


def example(number, mode, step):
    image = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return {
        "image": encode_png(image),
        "label": encode_png(image[..., 0] % 12),
        "name": f"v_{number:03d}{step:+d}",
        "sequence": "v",
        "frame": number + step,
        "height": 6,
        "width": 8,
        "labelled": True,
        "source_name": f"v_{number}",
        "source_frame": number,
        "step": abs(step),
        "direction": int(np.sign(step)),
        "mode": mode,
        "method": "flow",
        "model": "none",
        "config": "abc",
    }


def contents(number, steps=(1, -1, 2)):
    return {mode: [example(number, mode, step) for step in steps] for mode in ("jp", "lp")}


def finish(made, count, steps=(1, -1, 2)):
    files = {
        provenance_file(mode): {"steps": np.int32([*steps] * count), "config": np.array("abc")} for mode in made.splits
    }
    return made.finish(count, extra_files=files)


def test_a_data_set_like_any_other(tmp_path):
    made = shards(tmp_path)
    made.open()
    for number in (1, 0):  # in any order
        assert made.summary(number) is None
        made.write(number, contents(10 * number), {"carried": 3})
        assert made.summary(number)["carried"] == 3 and made.summary(number)["lengths"] == {"jp": 3, "lp": 3}
    directory = finish(made, 2)
    source = open_source(str(directory), "lp")
    assert source.names == ["v_000+1", "v_000-1", "v_000+2", "v_010+1", "v_010-1", "v_010+2"]
    record = source[3]
    image = np.random.default_rng(10).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    assert (record.image == image).all() and (record.label == MAP.encode(image[..., 0] % 12)).all()
    assert record.frame == 11 and record.sequence == "v" and source.class_names == MAP.class_names
    raw = source._reader("lp")[4]
    assert raw["source_name"] == b"v_10" and raw["step"] == 1 and raw["direction"] == -1 and raw["mode"] == b"lp"
    assert finish(made, 2) == directory  # again: nothing
    assert not list((tmp_path / "shards").glob("*.array_record"))


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
    with pytest.raises(UserError, match="holds no propagated"):
        open_propagated(tmp_path / "nowhere", mode="jp", steps=(1,))


def test_the_same_bytes_after_a_death_in_the_middle_of_a_shard(tmp_path):
    a, b = shards(tmp_path / "a"), shards(tmp_path / "b")
    for made in (a, b):
        made.open()
    for number in range(2):
        a.write(number, contents(number), {})
    b.write(0, contents(0), {})

    def dies():
        yield example(1, "jp", 1)
        raise KeyboardInterrupt

    class Dying(list):
        def __iter__(self):
            return dies()

    with pytest.raises(KeyboardInterrupt):
        b.write(1, {"jp": contents(1)["jp"], "lp": Dying([1])}, {})
    assert b.summary(1) is None
    b = shards(tmp_path / "b")
    b.open()
    b.write(1, contents(1), {})
    one, other = finish(a, 2), finish(b, 2)
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir()) and any("array_record" in name for name in names)
    for name in names:
        if "array_record" in name:
            assert (one / name).read_bytes() == (other / name).read_bytes()


def test_other_settings_are_refused_by_name(tmp_path):
    shards(tmp_path).open()
    shards(tmp_path).open()
    with pytest.raises(UserError, match=r"other settings \(steps: "):
        shards(tmp_path, steps=3).open()


def test_empty_shards_are_left_out_and_an_empty_data_set_is_refused(tmp_path):
    made = shards(tmp_path / "some")
    made.open()
    for number, steps in enumerate(((), (1,), ())):
        made.write(number, contents(number, steps), {})
    directory = made.finish(3)
    assert open_source(str(directory), "jp").names == ["v_001+1"]
    made = shards(tmp_path / "none")
    made.open()
    made.write(0, contents(0, ()), {})
    with pytest.raises(UserError, match="would hold no record"):
        made.finish(1)


def test_labels_without_void_gain_an_ignored_one():
    names, palette = ("a", "b"), np.zeros((2, 3), np.uint8)
    plain = LabelMap(ClassTable(tuple(Label(i, name, i, (0, 0, 0)) for i, name in enumerate(names))))
    assert with_ignored(plain).encode(with_ignored(plain).decode(np.array([[0, 255]]))).tolist() == [[0, 255]]
    taken = LabelMap(ClassTable((Label(0, "a", 0, (0, 0, 0)), Label(255, "b", 1, (0, 0, 0)))))
    found = with_ignored(taken)
    assert found.decode(np.array([[1, 255]])).tolist() == [[255, 256]] and found.class_names == names
    assert with_ignored(LabelMap.identity(names, palette)) == LabelMap.identity(names, palette)
