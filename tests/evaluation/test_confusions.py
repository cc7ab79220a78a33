"""The matrix of a data set against numpy, whatever the batches, padding and devices; the worst images."""

import csv
import gc

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from rich.console import Console

from segjax.errors import UserError
from segjax.evaluation import evaluate, print_scores, write_report
from segjax.evaluation.report import ROWS_PER_SHEET

K = 4
NAMES = ("road", "sky", "car", "tree")
PALETTE = np.array([(128, 64, 128), (70, 130, 180), (0, 0, 142), (107, 142, 35)], np.uint8)


def by_value(images):
    """The class is written in the red channel."""
    return jnp.asarray(images)[..., 0] % K


@pytest.fixture(scope="module")
def records():
    """21 images; image i is wrong in about i of 24 pixels; void in the truth here and there."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(21):
        label = rng.integers(0, K, (12, 16)).astype(np.uint8)
        image = np.repeat(label[..., None], 3, -1).copy()
        wrong = rng.random((12, 16)) < i / 24
        image[wrong] = (image[wrong] + 1) % K
        label[rng.random((12, 16)) < 0.1] = 255
        found.append((image, label))
    return found


def batches(records, size):
    """Batches of one size; padding rows at the end say nonsense and weigh nothing."""
    for start in range(0, len(records), size):
        chosen = list(range(start, min(start + size, len(records))))
        rows = chosen + [0] * (size - len(chosen))
        yield {
            "image": np.stack([records[i][0] for i in rows]),
            "label": np.stack([records[i][1] for i in rows]),
            "weight": np.array([1.0] * len(chosen) + [0.0] * (size - len(chosen)), np.float32),
            "record": np.array(rows, np.int32),
        }


def numpy_matrix(pairs):
    matrix = np.zeros((K, K), np.int64)
    for image, label in pairs:
        valid = label != 255
        np.add.at(matrix, (label[valid], image[..., 0][valid] % K), 1)
    return matrix


def numpy_miou(matrix):
    union = matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
    return (np.diag(matrix)[union > 0] / union[union > 0]).mean()


@pytest.mark.parametrize("size", [1, 4, 7, 32])
def test_every_image_counts_once_in_batches_of_any_size(records, size):
    result = evaluate(by_value, batches(records, size), num_classes=K)
    np.testing.assert_array_equal(result.matrix, numpy_matrix(records))
    assert result.matrix.dtype == np.int64 and result.images == len(records) and result.worst == ()
    assert result.scores["miou"] == pytest.approx(numpy_miou(result.matrix))


def test_logits_and_class_ids_give_the_same_matrix(records):
    logits = evaluate(lambda x: jax.nn.one_hot(by_value(x), K), batches(records, 4), num_classes=K)
    np.testing.assert_array_equal(logits.matrix, numpy_matrix(records))


@pytest.mark.parametrize(
    "axes, height",
    [({"data": 8}, 12), ({"data": 4, "space": 2}, 12), ({"data": 2, "space": 4}, 11)],  # 11 rows cannot be split
)
def test_rows_on_eight_devices_give_the_same_result(records, axes, height):
    if len(jax.devices()) < 8:
        pytest.skip("needs 8 devices")
    records = [(image[:height], label[:height]) for image, label in records]
    mesh = jax.make_mesh(tuple(axes.values()), tuple(axes), axis_types=(jax.sharding.AxisType.Auto,) * len(axes))
    spread = NamedSharding(mesh, PartitionSpec(*axes))
    one = evaluate(by_value, batches(records, 8), num_classes=K, worst=3)
    seen = {}
    watch = lambda record, *maps: seen.setdefault(record, maps)  # noqa: E731
    many = evaluate(jax.jit(by_value), batches(records, 8), num_classes=K, worst=3, sharding=spread, observe=watch)
    assert list(seen) == list(range(len(records)))
    for (image, label), maps in zip(records, seen.values()):
        np.testing.assert_array_equal(maps, (image[..., 0] % K, label))
        assert maps[0].dtype == maps[1].dtype == np.uint8
    np.testing.assert_array_equal(one.matrix, many.matrix)
    assert [score.record for score in one.worst] == [score.record for score in many.worst]
    for a, b in zip(one.worst, many.worst):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.prediction, b.prediction)


@pytest.mark.parametrize("worst", [1, 5, 100])
def test_the_worst_images_are_kept_worst_first(records, worst):
    mious = [numpy_miou(numpy_matrix([record])) for record in records]
    want = sorted(range(len(records)), key=lambda i: (mious[i], i))[:worst]
    result = evaluate(by_value, batches(records, 4), num_classes=K, worst=worst)
    assert [score.record for score in result.worst] == want
    for score in result.worst:
        image, label = records[score.record]
        assert score.miou == pytest.approx(mious[score.record])
        valid = label != 255
        assert score.pixel_accuracy == pytest.approx((image[..., 0] == label)[valid].mean())
        np.testing.assert_array_equal(score.image, image)
        np.testing.assert_array_equal(score.label, label)
        np.testing.assert_array_equal(score.prediction, image[..., 0])


def test_an_image_without_a_valid_pixel_is_no_candidate(records):
    void = (records[0][0], np.full((12, 16), 255, np.uint8))
    result = evaluate(by_value, batches([void, records[20]], 2), num_classes=K, worst=5)
    assert [score.record for score in result.worst] == [1] and result.images == 2


@pytest.mark.parametrize("worst", [0, 2])
def test_memory_is_constant(records, worst):
    """While a batch is read, only the one before it and the worst images are kept."""
    gc.collect()
    before, alive = len(jax.live_arrays()), []

    def watched():
        for batch in batches(records * 4, 4):
            gc.collect()
            alive.append(len(jax.live_arrays()) - before)
            yield batch

    assert evaluate(by_value, watched(), num_classes=K, worst=worst).images == 84
    # a batch: image, label, weight, record, prediction and three counted; a worst image: three pictures
    assert alive[0] == 0 and max(alive) <= 8 + 3 * worst


def test_a_second_evaluation_compiles_nothing(records):
    compiled = []

    def listen(event, seconds, **_):
        if "backend_compile" in event:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    run = jax.jit(lambda images: images[..., 0] % K)
    evaluate(run, batches(records, 4), num_classes=K, worst=2)
    assert compiled  # the listener hears compilations
    compiled.clear()
    evaluate(run, batches(records, 4), num_classes=K, worst=2)
    assert not compiled


def test_progress_counts_images(records):
    seen = []
    evaluate(by_value, batches(records, 8), num_classes=K, progress=seen.append)
    assert seen == [8, 16, 21]


def test_report_files(tmp_path, records):
    result = evaluate(by_value, batches(records, 4), num_classes=K, worst=ROWS_PER_SHEET + 1)
    paths = write_report(
        result, tmp_path / "report", class_names=NAMES, palette=PALETTE, names=lambda i: f"drive/frame_{i}", title="val"
    )
    assert [p.name for p in paths] == ["classes.csv", "confusion.csv", "confusion.png", "worst_1.png", "worst_2.png"]
    rows = {row["class"]: row for row in csv.DictReader((tmp_path / "report/classes.csv").open())}
    assert float(rows["mean"]["iou"]) == pytest.approx(result.scores["miou"], abs=1e-6)
    assert float(rows["car"]["recall"]) == pytest.approx(result.matrix[2, 2] / result.matrix[2].sum(), abs=1e-6)
    table = list(csv.reader((tmp_path / "report/confusion.csv").open()))
    np.testing.assert_array_equal(np.array([row[1:] for row in table[1:]], int), result.matrix)
    for path in paths[2:]:
        assert cv2.imread(str(path)) is not None


def test_table_shows_percent_and_a_dash_for_absent_classes():
    matrix = np.array([[90, 10, 0, 0], [0, 50, 0, 0], [0, 0, 30, 20], [0, 0, 0, 0]])
    matrix[2, 3] = 0
    console = Console(width=100)
    with console.capture() as capture:
        print_scores(matrix, NAMES, title="validation", console=console)
    lines = capture.get().splitlines()
    cells = {line.split("│")[1].strip(): [c.strip() for c in line.split("│")[2:6]] for line in lines if "│" in line}
    assert cells["road"] == ["90.0", "90.0", "100.0", "55.6"]
    assert cells["tree"] == ["-", "-", "-", "0.0"]
    assert cells["mean"][0] == f"{100 * (0.9 + 50 / 60 + 1) / 3:.1f}"


def test_a_report_that_cannot_be_written(tmp_path, records):
    result = evaluate(by_value, batches(records[:2], 2), num_classes=K)
    (tmp_path / "report").write_text("a file")
    with pytest.raises(UserError, match="cannot be written"):
        write_report(result, tmp_path / "report", class_names=NAMES, palette=PALETTE)
