"""Built datasets: records come back as they were written; splits, fields, pickling, damage."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from segjax.data import Source, TfdsSource, build_dataset, open_source, tfds_source
from segjax.errors import UserError


def expected_image(i, size=8, split=0):
    rng = np.random.default_rng(split)
    for j in range(i + 1):
        image = rng.integers(0, 256, (size, size + j, 3), dtype=np.uint8)
    return image


def test_records_come_back_as_they_were_written(data_dir, capfd):
    source = open_source("toy", "train", data_dir=data_dir, labelled_only=False)
    assert "Built dataset toy: train 6, test 6 records" in capfd.readouterr().err
    assert isinstance(source, Source) and len(source) == 6
    assert source.names == [f"v_{i:03d}" for i in range(6)]
    np.testing.assert_array_equal(source.sizes, [[8, 8 + i] for i in range(6)])
    np.testing.assert_array_equal(source.index.labelled, [True, False] * 3)
    for i in range(6):
        record, image = source[i], expected_image(i)
        np.testing.assert_array_equal(record.image, image)
        assert (record.name, record.sequence, record.frame, record.flow) == (f"v_{i:03d}", "v", i, None)
        if i % 2:
            assert record.label is None
        else:
            raw = image[..., 0] % 12
            np.testing.assert_array_equal(record.label, np.where(raw == 11, 255, raw))
    assert source.class_names[3] == "road" and source.num_classes == 11


@pytest.mark.parametrize("fields", [(), ("all_labels",)])
def test_labels_without_their_images(data_dir, monkeypatch, fields):
    source = open_source("toy", "train", data_dir=data_dir, labelled_only=False, fields=fields)
    records = [source[i].label for i in range(6)]

    def decode_image(data, file):
        raise AssertionError(f"the image of {file} is decoded")

    monkeypatch.setattr(tfds_source, "decode_image", decode_image)
    for i, label in enumerate(records):
        assert (label is None) == (i % 2 == 1 and not fields)  # a toy's unlabelled records store the mask they had
        np.testing.assert_equal(source.label(i), label)
    source.index.sizes[0] = (9, 8)
    with pytest.raises(UserError, match="the mask of v_000 .* is 8x8 but its image .* is 8x9"):
        source.label(0)


def test_second_open_builds_nothing_and_filters_labels(data_dir, capfd):
    source = open_source("toy", "train", data_dir=data_dir)
    assert capfd.readouterr().err == ""
    assert source.names == ["v_000", "v_002", "v_004"] and len(source) == 3
    np.testing.assert_array_equal(source.sizes[:, 1], [8, 10, 12])
    assert source[-1].name == "v_004"
    with pytest.raises(IndexError):
        source[3]


def test_expressions_of_tfds(data_dir):
    both = open_source("toy", "train+test", data_dir=data_dir, labelled_only=False)
    assert len(both) == 12
    np.testing.assert_array_equal(both[6].image, expected_image(0, split=1))
    part = open_source("toy", "train[2:5]", data_dir=data_dir, labelled_only=False)
    assert part.names == ["v_002", "v_003", "v_004"]
    with pytest.raises(UserError, match="cannot be read"):
        open_source("toy", "train[nonsense", data_dir=data_dir)


def test_flow_only_when_asked_for(data_dir):
    options = {"flow": True}
    assert open_source("toy", "train", data_dir=data_dir, builder_options=options)[1].flow is None
    record = open_source("toy", "train", data_dir=data_dir, builder_options=options, fields=("flow",))[1]
    np.testing.assert_array_equal(record.flow, np.full((8, 8, 2), 2, np.float32))
    np.testing.assert_array_equal(record.flow_valid, np.eye(8, dtype=bool))


@pytest.mark.parametrize(
    "field, message",
    [
        ("flow", "toy holds no optical flow; open it without the field 'flow'"),
        ("instances", "toy holds no instances; build it with the option instances=True"),
        ("instance", "records have no field 'instance'. Did you mean 'instances'"),
    ],
)
def test_fields_that_are_not_there(data_dir, field, message):
    with pytest.raises(UserError, match=message):
        open_source("toy", "train", data_dir=data_dir, fields=(field,))


def test_pickles_and_reads_from_threads(data_dir):
    source = open_source("toy", "train", data_dir=data_dir, labelled_only=False)
    source[0]
    again = pickle.loads(pickle.dumps(source))
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(lambda i: again[i % 6].image, range(60)))
    for i, image in enumerate(images):
        np.testing.assert_array_equal(image, expected_image(i % 6))


def test_damaged_build_says_how_to_repair(package, tmp_path):
    folder = build_dataset("toy", data_dir=tmp_path)
    shard = next(folder.glob("toy-train.array_record*"))
    shard.write_bytes(shard.read_bytes()[:200])
    with pytest.raises(UserError, match="delete the folder .*, it is built again"):
        TfdsSource(folder, "train")[0]
    shard.unlink()
    with pytest.raises(UserError, match="delete the folder .*, it is built again"):
        TfdsSource(folder, "train")[0]
