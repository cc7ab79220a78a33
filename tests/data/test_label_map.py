"""Label maps: tables, encoding, decoding, files, and every way to get them wrong."""

import itertools
import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.data import CLASSES, ClassTable, Label, LabelMap, class_table
from segjax.errors import UserError


def test_cityscapes_table_is_the_published_one():
    table = CLASSES["cityscapes"]
    assert table.num_classes == 19 and table.names[0] == "road" and table.names[18] == "bicycle"
    trained = [raw for raw, train_id in table.ids.items() if train_id != 255]
    assert trained == [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    assert set(table.ids) == {*range(34), 255}
    assert table.palette.dtype == np.uint8 and table.palette[13].tolist() == [0, 0, 142]


def test_cityscapes_table_equals_the_authors_script():
    labels = pytest.importorskip("cityscapesscripts.helpers.labels").labels
    ours = {x.id: x for x in CLASSES["cityscapes"].labels}
    for theirs in labels:
        x = ours[theirs.id if theirs.id >= 0 else 255]
        train_id = theirs.trainId if 0 <= theirs.trainId < 255 else 255
        assert (x.name, x.train_id, x.color) == (theirs.name, train_id, theirs.color)


def test_camvid_table():
    table = CLASSES["camvid"]
    assert table.num_classes == 11 and table.ids[11] == 255
    assert len({tuple(c) for c in table.palette.tolist()}) == 11
    with pytest.raises(UserError, match="Did you mean 'camvid'"):
        class_table("camvit")


def test_each_class_of_cityscapes_is_one_of_camvid():
    into = dict(
        road="road", sidewalk="pavement", building="building", wall="building", fence="fence", pole="pole",
        vegetation="tree", terrain="tree", sky="sky", person="pedestrian", rider="bicyclist", car="car", truck="car",
        bus="car", train="car", motorcycle="bicyclist", bicycle="bicyclist",
        **{"traffic light": "sign", "traffic sign": "sign"},
    )  # fmt: skip
    camvid = class_table("camvid")
    for name in ("cityscapes", "kitti", "bdd100k", "synthetic_street"):
        table = class_table(f"{name}_to_camvid")
        assert table.names == camvid.names and (table.palette == camvid.palette).all()
        own = class_table("bdd100k" if name == "synthetic_street" else name)
        assert [label.id for label in own.labels] == sorted(table.ids, key=[x.id for x in own.labels].index)
        for label in own.labels:
            if label.train_id < 255:
                assert camvid.names[table.ids[label.id]] == into[own.names[label.train_id]], label
    ids = {label.name: label.id for label in class_table("cityscapes").labels}
    raw = class_table("cityscapes_to_camvid").ids
    more = dict(bridge="building", tunnel="building", polegroup="pole", caravan="car", trailer="car")
    assert {name: camvid.names[raw[ids[name]]] for name in more} == more
    for name in ("unlabeled", "static", "dynamic", "ground", "parking", "rail track", "guard rail", "license plate"):
        assert raw[ids[name]] == 255


@st.composite
def label_maps(draw, coding=None):
    """Any valid map: several raw labels per class, ignored labels, ids up to 16 bits."""
    num_classes = draw(st.integers(1, 12))
    num_labels = num_classes + draw(st.integers(0, 8))
    ids = draw(st.lists(st.integers(0, 65535), min_size=num_labels, max_size=num_labels, unique=True))
    colors = draw(
        st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=num_labels, max_size=num_labels, unique=True)
    )
    extra = draw(
        st.lists(
            st.one_of(st.integers(0, num_classes - 1), st.just(255)),
            min_size=num_labels - num_classes,
            max_size=num_labels - num_classes,
        )
    )
    train_ids = draw(st.permutations([*range(num_classes), *extra]))
    labels = tuple(Label(i, f"label {i}", t, c) for i, t, c in zip(ids, train_ids, colors))
    return LabelMap(ClassTable(labels), coding=coding or draw(st.sampled_from(["id", "color"])))


def masks(data, label_map):
    """A mask of the map's values, and its train ids by a plain loop."""
    labels = label_map.table.labels
    shape = data.draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    choice = np.array(
        data.draw(st.lists(st.integers(0, len(labels) - 1), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))
    ).reshape(shape)
    train_ids = np.array([[labels[i].train_id for i in row] for row in choice])
    if label_map.coding == "color":
        return np.array([[labels[i].color for i in row] for row in choice], np.uint8), train_ids
    dtype = np.uint8 if max(x.id for x in labels) < 256 else data.draw(st.sampled_from([np.uint16, np.int32]))
    return np.array([[labels[i].id for i in row] for row in choice], dtype), train_ids


@settings(max_examples=40)
@given(label_map=label_maps(), data=st.data())
def test_encode_equals_a_loop_and_decode_inverts_it(label_map, data):
    mask, expected = masks(data, label_map)
    encoded = label_map.encode(mask)
    assert encoded.dtype == np.uint8
    np.testing.assert_array_equal(encoded, expected)
    np.testing.assert_array_equal(label_map.encode(label_map.decode(encoded)), encoded)


@settings(max_examples=40)
@given(label_map=label_maps(), data=st.data())
def test_raw_ids_keep_every_label_apart(label_map, data):
    mask, expected = masks(data, label_map)
    raw = label_map.raw_ids(mask)
    np.testing.assert_array_equal(label_map.with_ids().encode(raw), expected)
    if label_map.coding == "color":
        color = {x.id: x.color for x in label_map.table.labels}
        np.testing.assert_array_equal(np.array([[color[i] for i in row] for row in raw.tolist()]), mask)


@settings(max_examples=30)
@given(label_map=label_maps())
def test_file_round_trip(label_map, tmp_path_factory):
    path = tmp_path_factory.mktemp("maps") / "map.json"
    label_map.save(path)
    assert LabelMap.load(path) == label_map
    assert len(path.read_text().splitlines()) == len(label_map.table.labels) + 5


def test_pickle_leaves_lookup_tables_behind():
    label_map = LabelMap(CLASSES["camvid"], coding="color")
    label_map.encode(np.array([[[128, 64, 128]]], np.uint8))
    data = pickle.dumps(label_map)
    assert len(data) < 5000
    assert pickle.loads(data).encode(np.array([[[128, 64, 128]]], np.uint8)).tolist() == [[3]]


def test_identity_map_keeps_train_ids():
    label_map = LabelMap.identity(("a", "b"), np.array([[1, 2, 3], [4, 5, 6]], np.uint8))
    mask = np.array([[0, 1, 255]], np.uint8)
    np.testing.assert_array_equal(label_map.encode(mask), mask)
    np.testing.assert_array_equal(label_map.decode(mask), mask)
    assert label_map.ignored_ids == (255,)


def test_unknown_values_are_named():
    label_map = LabelMap.open("camvid")
    with pytest.raises(UserError, match=r"a/b\.png holds ids 12, 77 \(3 pixels\).*does not list"):
        label_map.encode(np.array([[0, 12], [77, 77]], np.uint8), "a/b.png")
    with pytest.raises(UserError, match="300"):
        label_map.encode(np.array([[300]], np.uint16), "a.png")
    with pytest.raises(UserError, match="-1"):
        label_map.encode(np.array([[-1, 3]], np.int32), "a.png")
    colored = LabelMap(CLASSES["camvid"], coding="color")
    with pytest.raises(UserError, match=r"holds colours \(1, 2, 3\)"):
        colored.encode(np.array([[[1, 2, 3], [0, 0, 0]]], np.uint8), "c.png")


def test_masks_of_the_wrong_kind_are_refused():
    with pytest.raises(UserError, match="'coding': 'color'"):
        LabelMap.open("camvid").encode(np.zeros((2, 2, 3), np.uint8), "c.png")
    with pytest.raises(UserError, match="'coding': 'id'"):
        LabelMap(CLASSES["camvid"], coding="color").encode(np.zeros((2, 2), np.uint8), "c.png")
    with pytest.raises(UserError, match="float32"):
        LabelMap.open("camvid").encode(np.zeros((2, 2), np.float32), "c.png")


def test_decode_refuses_what_it_cannot_write():
    label_map = LabelMap(ClassTable((Label(3, "a", 0, (1, 1, 1)), Label(255, "b", 1, (2, 2, 2)))))
    with pytest.raises(UserError, match="no ignored label"):
        label_map.decode(np.array([[0, 255]], np.uint8))
    with pytest.raises(UserError, match="train ids 2"):
        label_map.decode(np.array([[0, 2]], np.uint8))
    assert label_map.decode(np.array([[0, 1]], np.uint8)).tolist() == [[3, 255]]


ROW = {"id": 0, "name": "a", "train_id": 0, "color": [0, 0, 0]}


@pytest.mark.parametrize(
    "data, message",
    [
        ([], "no list 'labels'"),
        ({"labels": [ROW], "codeing": "id"}, "Did you mean 'coding'"),
        ({"labels": [ROW], "coding": "colour"}, "Did you mean 'color'"),
        ({"labels": [{"id": 0}]}, "entry 0"),
        ({"labels": [{**ROW, "id": 0.5}]}, "0.5 is not a whole number"),
        ({"labels": [{**ROW, "id": True}]}, "entry 0"),
        ({"labels": [{**ROW, "id": 70000}]}, "70000"),
        ({"labels": [{**ROW, "color": [0, 0]}]}, "three numbers"),
        ({"labels": [{**ROW, "color": [0, 0, 256]}]}, "three numbers"),
        ({"labels": [ROW, ROW]}, "lists id 0 twice"),
        ({"labels": [ROW, {**ROW, "id": 1}], "coding": "color"}, "color .* twice"),
        ({"labels": [{**ROW, "train_id": 255}]}, "no class"),
        ({"labels": [ROW, {**ROW, "id": 1, "train_id": 2}]}, "no train_id 1"),
        ({"labels": [{**ROW, "id": i, "train_id": i} for i in range(255)]}, "at most 254"),
    ],
)
def test_wrong_files_say_what_is_wrong(tmp_path, data, message):
    path = tmp_path / "map.json"
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match=message) as error:
        LabelMap.load(path)
    assert str(path) in str(error.value)


ONE = '{"labels": [{"id": %s, "name": "a", "train_id": 0, "color": [0, 0, 0]}]}'
DEEP = "[" * 800 + "]" * 800


@pytest.mark.parametrize(
    "text, message",
    [
        ("[" * 100_000, "cannot be read as JSON"),
        (DEEP, "no list 'labels'"),
        ("Infinity", "no list 'labels'"),
        (f'{{"labels": [{DEEP}]}}', r"entry 0 \(\[\[a list\]\]\) is wrong"),
        (json.dumps({"labels": [{**ROW, "id": float("inf")}]}), "entry 0 .* infinity"),
        (json.dumps({"labels": [{**ROW, "train_id": float("nan")}]}), "entry 0 .* NaN"),
        (json.dumps({"labels": [{**ROW, "color": float("-inf")}]}), "entry 0 .*"),
        (json.dumps({"labels": [{**ROW, "color": [0, 0, 0] * 10**5}]}), "three numbers"),
        (ONE % "1e999", "entry 0 .* infinity"),
        (ONE % ("9" * 4000), "bits is too large"),
        (ONE % ("9" * 5000), "as JSON"),
        (json.dumps({"labels": [{**ROW, "train_id": 10**300}]}), "bits is too large"),
        (json.dumps({"labels": [{**ROW, "name": [["a"]]}]}), r"\[\['a'\]\] is no name"),
        (json.dumps({"labels": [{**ROW, "name": "a" * 10**5}]}), r"'a+'\.\.\. is no name"),
        (json.dumps({"labels": [ROW], "coding": float("inf")}), "has coding inf"),
        (json.dumps({"labels": [ROW], "coding": "x" * 10**6}), r"has coding 'x+'\.\.\."),
        (f'{{"labels": [], "coding": {DEEP}}}', r"has coding \[\[a list\]\]"),
        (json.dumps({"labels": [ROW], "\ud800\n" * 1000: 1}), "unknown key"),
    ],
    ids=itertools.count(),
)
def test_hostile_files_are_one_short_sentence(tmp_path, text, message):
    (tmp_path / "map.json").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        LabelMap.load(tmp_path / "map.json")
    found = str(error.value)
    assert "map.json" in found and "\n" not in found and len(found) < 700


def test_missing_or_broken_file(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        LabelMap.load(tmp_path / "no.json")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read as JSON"):
        LabelMap.load(tmp_path / "x.json")
    with pytest.raises(UserError, match="Did you mean 'cityscapes'"):
        LabelMap.open("cityscape")


def test_value_of_transparent_pixels():
    rows = [Label(3, "a", 0, (1, 2, 3)), Label(7, "void", 255, (9, 9, 9)), Label(255, "none", 255, (0, 0, 0))]
    assert LabelMap(ClassTable(tuple(rows))).transparent == 255
    assert LabelMap(ClassTable(tuple(rows)), coding="color").transparent == (0, 0, 0)
    assert LabelMap(ClassTable(tuple(rows[:2]))).transparent == 7
    assert LabelMap(ClassTable(tuple(rows[:2])), coding="color").transparent == (9, 9, 9)
    assert LabelMap(ClassTable((rows[0], Label(255, "b", 1, (0, 0, 0))))).transparent is None


def test_one_class_is_no_training():
    one = LabelMap.identity(("road",), np.zeros((1, 3), np.uint8))
    with pytest.raises(UserError, match=r"has one class only \('road'\).*background a train_id"):
        one.require_classes()
    LabelMap.open("camvid").require_classes()
