"""Shards: whole or not there, the same bytes whatever happened, and a dataset like any other at the end."""

import struct

import numpy as np
import pytest

from segjax.data import open_source
from segjax.errors import UserError
from tests.data.image_tools import png
from tests.data.shard_tools import MAP, contents, example, finish, shards


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


def test_an_image_in_a_record_has_the_limit_of_every_image(tmp_path):
    made = shards(tmp_path)
    made.open()
    huge = png([b"\0" * 3], 1, 8, 2).replace(struct.pack(">II", 1, 1), struct.pack(">II", 20000, 10000))
    made.write(0, {mode: [{**example(1, mode, 1), "image": huge}] for mode in made.splits}, {})
    with pytest.raises(UserError, match="v_001.1 .* has 200 megapixels, but at most 179 are read"):
        open_source(str(made.finish(1)), "jp")[0]
